"""A lock between processes: one works while the others wait and report which process holds the lock.

The kernel releases a lock when its holder dies (on NFS 4 and Lustre, when the server notices), so the lock of a dead
process is simply taken over. The kernel cannot tell whether a living holder still makes progress, so the holder
touches a file next to the lock as a sign of life, and waiting processes watch that file for changes. Time stamps are
not compared between machines, because their clocks differ.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from dermprompt.files import read_json, write_json

# Seconds: between attempts; until waiting is reported; between signs of life; without a sign until waiting fails.
POLL = 0.5
SAY_AFTER = 5.0
BEAT = 30.0
LOCK_SILENCE = 600.0

# Flushed, so that it reaches a job's log file at once.
print_now = partial(print, flush=True)


@contextmanager
def hold(path: Path, what: str, say: Callable[[str], None] = print_now) -> Iterator[None]:
    """Hold a file lock; wait while another process holds it and shows signs of life.

    Args:
        path: the lock file; the holder's file is next to it.
        what: what is locked, for messages.
        say: called once, after some seconds, with a message naming the holder.

    Raises:
        TimeoutError: the holder has shown no sign of life for :data:`LOCK_SILENCE` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(path), path.with_suffix(".holder")
    _wait_for(lock, path, holder, what, say)
    try:
        with _signs_of_life(holder):
            yield
    finally:
        lock.release()


def _wait_for(lock: FileLock, path: Path, holder: Path, what: str, say: Callable[[str], None]) -> None:
    """Take the lock once it is free; report its holder once, and raise TimeoutError after too long without a sign."""
    start = heard = time.monotonic()
    sign, said = _sign(holder), False
    while not _is_free(lock):
        now, newest = time.monotonic(), _sign(holder)
        if newest != sign:
            sign, heard = newest, now
        if now - heard >= LOCK_SILENCE:
            raise TimeoutError(
                f"{what} is locked by {_who(holder)}, which has shown no sign of life for {LOCK_SILENCE / 60:g} min; "
                f"make sure that it does not run any more, delete {path} and give the same command again"
            )
        if now - start >= SAY_AFTER and not said:
            said = True
            say(f"   waits for {what}, locked by {_who(holder)}")
        time.sleep(POLL)


def _is_free(lock: FileLock) -> bool:
    """Take the lock if it is free; return whether it was."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


@contextmanager
def _signs_of_life(holder: Path) -> Iterator[None]:
    """Write who holds the lock to a file, and touch it at intervals from a thread that ends with the process."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    write_json(holder, {"host": socket.gethostname(), "pid": os.getpid(), "since": since})
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(holder, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        # The lock is still held, so this cannot be the next holder's file.
        holder.unlink(missing_ok=True)


def _beat(holder: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        # Touching works even on a full disk. A brief failure of the file system is ignored.
        with suppress(OSError):
            os.utime(holder)


def _sign(holder: Path) -> tuple[int, int] | None:
    """A value that changes with every sign of life and every new holder."""
    try:
        status = holder.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _who(holder: Path) -> str:
    try:
        known = read_json(holder, dict)
        return f"process {known['pid']} on {known['host']} since {known['since']}"
    except (KeyError, ValueError):
        return "an unknown process"
