"""One growing set, many processes: those that want the same batches at the same time share them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from dermprompt.progress import progress
from dermprompt.store.artifacts import batch_record

# Seconds between two looks at batches that other processes make.
PATIENCE = 0.2


def share_out(folder: Path, numbers: Sequence[int], work: Callable[[Iterator[int]], None], what: str) -> int:
    """Have ``work`` make those batches of a set that no other process makes, until all of ``numbers`` are there.

    Returns how many of them were made here.

    A batch is claimed by a lock of its own, so what a dead process has left is taken over, and it does not matter
    how many processes there are, on which machines of one store, or when each began. ``work`` may still be writing
    a batch when it asks for the next; when it comes back or fails, its claims are given up.

    Args:
        folder: the set's, in a store.
        numbers: the batches that are wanted.
        work: called with the numbers that fall to this process, lazily; commits each (:func:`batch_record`).
        what: is made, for the progress.
    """
    wanted: Iterable[int] = progress(numbers, what, "batches")
    ours: set[int] = set()

    def claimed(held: dict[int, FileLock]) -> Iterator[int]:
        for number in _claimed(folder, wanted, held):
            ours.add(number)
            yield number

    while True:
        held: dict[int, FileLock] = {}
        try:
            work(claimed(held))
        finally:
            for lock in held.values():
                lock.release()
        wanted = [number for number in numbers if not batch_record(folder, number).exists()]
        if not wanted:
            return len(ours)
        time.sleep(PATIENCE)


def _claimed(folder: Path, numbers: Iterable[int], held: dict[int, FileLock]) -> Iterator[int]:
    """The batches that are free, each claimed; claims are given up when their batches are complete."""
    for number in numbers:
        for complete in [one for one in held if batch_record(folder, one).exists()]:
            held.pop(complete).release()
        lock = _lock(folder, number)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        held[number] = lock
        # Looked for behind the lock: another process may have completed it a moment ago.
        if not batch_record(folder, number).exists():
            yield number


def _lock(folder: Path, number: int) -> FileLock:
    path = folder.parents[1] / ".locks" / f"{folder.parent.name}-{folder.name}" / f"{number:05d}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)
