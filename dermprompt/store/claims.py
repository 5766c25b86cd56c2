"""Processes that need the same batches of a growing set at the same time divide them among themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from dermprompt.progress import progress
from dermprompt.store.artifacts import batch_record

# Seconds between checks of batches that other processes make.
PATIENCE = 0.2


def share_out(folder: Path, numbers: Sequence[int], work: Callable[[Iterator[int]], None], what: str) -> int:
    """Let ``work`` make the batches of a set that no other process is making, until all of ``numbers`` exist.

    Each batch is claimed by its own lock, so the claims of a dead process are taken over, and it does not matter how
    many processes share the store, on which machines, or when they started. ``work`` may still be writing a batch when
    it asks for the next; its claims are released when it returns or fails.

    Args:
        folder: the set's, in a store.
        numbers: the requested batches.
        work: called with a lazy iterator of this process's numbers; commits each batch (:func:`batch_record`).
        what: what is made, for the progress bar.

    Returns:
        How many of them were made here.
    """
    wanted: Iterable[int] = progress(numbers, what, "batches")
    ours: set[int] = set()
    while True:
        held: dict[int, FileLock] = {}
        try:
            work(_claimed(folder, wanted, held, ours))
        finally:
            for lock in held.values():
                lock.release()
        wanted = [number for number in numbers if not batch_record(folder, number).exists()]
        if not wanted:
            return len(ours)
        time.sleep(PATIENCE)


def _claimed(folder: Path, numbers: Iterable[int], held: dict[int, FileLock], ours: set[int]) -> Iterator[int]:
    """The free batches, each claimed first and noted in ``ours``; a claim is released when its batch is complete."""
    for number in numbers:
        for complete in [one for one in held if batch_record(folder, one).exists()]:
            held.pop(complete).release()
        lock = _lock(folder, number)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        held[number] = lock
        # Check again under the lock: another process may have completed it a moment ago.
        if not batch_record(folder, number).exists():
            ours.add(number)
            yield number


def _lock(folder: Path, number: int) -> FileLock:
    path = folder.parents[1] / ".locks" / f"{folder.parent.name}-{folder.name}" / f"{number:05d}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)
