"""Progress of long work: a bar in a terminal, occasional lines in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

# Seconds between two lines of a log.
INTERVAL = 20.0


def progress(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """Iterate over ``items`` and show progress; of several ranks, only the first shows it."""
    if os.environ.get("RANK", "0") != "0":
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, desc=f"   {what}", unit=f" {unit}")
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= INTERVAL or done == len(items):
            last = now
            print(f"   {what}: {done}/{len(items)} {unit}, {time_left(done, len(items), now - start)}", flush=True)


def time_left(done: int, total: int, seconds: float) -> str:
    """The rate, and the remaining minutes at this rate."""
    rate = done / max(seconds, 1e-9)
    return f"{rate:.2f}/s, {(total - done) / max(rate, 1e-9) / 60:.1f} min left"
