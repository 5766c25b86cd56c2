"""Progress on long work: a bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from tqdm import tqdm

T = TypeVar("T")

# Seconds between two lines of a log.
INTERVAL = 20.0


def progress(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """Go through ``items`` and show how far; of several ranks the first does."""
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
            print(f"   {what}: {done}/{len(items)} {unit}, {_left(done, len(items), now - start)}", flush=True)


def training_progress() -> Callback:
    """The same for a training."""
    return TQDMProgressBar(refresh_rate=10) if sys.stderr.isatty() else ProgressLines()


class ProgressLines(Callback):
    """Prints step, time left and metrics at most every ``INTERVAL`` seconds."""

    def __init__(self) -> None:
        self.start, self.first, self.last = 0.0, 0, 0.0

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Start the clock."""
        self.start = self.last = time.monotonic()
        self.first = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *args: Any) -> None:
        """Print a line when it is time."""
        now = time.monotonic()
        if now - self.last < INTERVAL or not trainer.is_global_zero:
            return
        self.last = now
        total, done = int(trainer.estimated_stepping_batches), trainer.global_step - self.first
        left = _left(done, total - self.first, now - self.start)
        values = "  ".join(f"{k.split('/')[-1]} {float(v):.4g}" for k, v in trainer.callback_metrics.items())
        print(f"   step {trainer.global_step}/{total}, {left}  {values}", flush=True)


def _left(done: int, total: int, seconds: float) -> str:
    rate = done / max(seconds, 1e-9)
    return f"{rate:.2f}/s, {(total - done) / max(rate, 1e-9) / 60:.1f} min left"
