"""Callbacks: stop when a loss is NaN or infinite or time is up; count epochs; write curves; show progress."""

from __future__ import annotations

import csv
import functools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, TQDMProgressBar
from torch.utils.data import DataLoader

from dermprompt.progress import INTERVAL, time_left
from dermprompt.training.checkpoints import LAST
from dermprompt.upstream import count_begun_epoch


class StopOnNonFiniteLoss(Callback):
    """Stops when a loss is NaN or infinite, before the weights reach a checkpoint.

    Lightning calls it before ModelCheckpoint, whatever their order.
    """

    def __init__(self, folder: Path, ids: Sequence[str] = ()) -> None:
        self.folder, self.ids = folder, ids

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the losses that the step has logged."""
        losses = {name: value for name, value in trainer.callback_metrics.items() if "/train/" in name}
        if losses and not torch.stack([value.detach().float() for value in losses.values()]).isfinite().all():
            shown = ", ".join(f"{name} {float(value):g}" for name, value in losses.items())
            rows = batch["rows"].tolist() if self.ids else []
            seen = f" on {', '.join(self.ids[row] for row in rows)}" if rows else ""
            broken = _not_finite(module)
            if broken is not None:
                raise ValueError(
                    f"step {trainer.global_step}: {shown}. Weights that are not trained are NaN or infinite, such as "
                    f"{broken}: the base, or the file that it came from, is damaged"
                )
            raise ValueError(
                f"step {trainer.global_step}: {shown}{seen}. The training diverged; lower its learning rate, or train "
                f"with trainer.precision=32-true. Its last good checkpoint is in {self.folder}"
            )


def _not_finite(module: lightning.LightningModule) -> str | None:
    """The name of a frozen pretrained tensor with a NaN or infinite value, or None."""
    kept = [*module.named_parameters(), *module.named_buffers()]
    frozen = ((name, one) for name, one in kept if name.startswith(("base.", "perceptual.")) and not one.requires_grad)
    return next((name for name, one in frozen if not one.isfinite().all()), None)


@functools.cache
def first_training() -> float:
    """When this process began to train (monotonic seconds).

    Time limits count from here, not from the start of the process: if preparation alone took longer than the limit,
    repeated calls would make no progress.
    """
    return time.monotonic()


class StopInTime(Checkpoint):
    """Stops at the end of an epoch, before the trainings of this process together take ``seconds``.

    A training resumes exactly only from the end of an epoch; the first training gets at least one epoch. It is a
    Checkpoint so that Lightning calls it after all other callbacks, whose state then is in the checkpoint too.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.epoch_start, self.stopping = 0.0, False

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Train nothing if earlier trainings have used up the time."""
        # Lightning does not call on_train_epoch_start when it resumes from a checkpoint.
        now = self.epoch_start = time.monotonic()
        trainer.should_stop = self._ends(trainer, now - first_training() > self.seconds)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Start the epoch's clock."""
        self.epoch_start = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *args: Any) -> None:
        """After an epoch's last step, decide whether another epoch fits; save a checkpoint if not."""
        if not trainer.is_last_batch:
            return
        now = time.monotonic()
        next_end = now - first_training() + now - self.epoch_start
        self.stopping = self._ends(trainer, next_end > self.seconds)
        if self.stopping:
            trainer.save_checkpoint(self.folder / LAST)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Stop, after the epoch's validation."""
        trainer.should_stop = trainer.should_stop or self.stopping

    def _ends(self, trainer: lightning.Trainer, late: bool) -> bool:
        """Whether all ranks must stop, by the first rank's clock; not at the last step, where training ends anyway."""
        return trainer.strategy.broadcast(late) and trainer.global_step < trainer.estimated_stepping_batches


class CountedEpochs(Callback):
    """Counts the epoch with which a resumed training begins, so that no epoch's order of batches is repeated."""

    def __init__(self, loader: DataLoader) -> None:
        self.order = loader.sampler

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Set the sampler's epoch; Lightning does so only after the loader's workers have begun the first epoch."""
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] + 1
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epochs)

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Print the step from which a training resumes."""
        if trainer.global_step and trainer.is_global_zero:
            print(f"   resumes from step {trainer.global_step}", flush=True)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """See :func:`~dermprompt.upstream.count_begun_epoch`."""
        count_begun_epoch(checkpoint)


class Curves(Callback):
    """Appends logged metrics to a csv file: step, metric, value. A resumed training continues the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Cut off an incomplete last line, which a full disk may have left."""
        if trainer.is_global_zero and self.path.exists():
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write the metrics of the epoch."""
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        rows = [(trainer.global_step, name, float(metrics[name])) for name in sorted(metrics) if name.count("/") == 2]
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerows(rows)
        # Otherwise metrics measured every few epochs would be repeated after each, but not in a resumed training.
        metrics.clear()


def read_curves(path: Path) -> dict[str, tuple[tuple[int, ...], tuple[float, ...]]]:
    """Steps and values of each metric; if an interrupted training wrote a step twice, the later value counts."""
    points: dict[str, dict[int, float]] = {}
    with open(path, newline="") as file:
        for step, name, value in csv.reader(file):
            points.setdefault(name, {})[int(step)] = float(value)
    return {name: (tuple(sorted(at)), tuple(at[k] for k in sorted(at))) for name, at in points.items()}


def training_progress() -> Callback:
    """A callback that shows training progress: a bar in a terminal, occasional lines in a log file."""
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
        """Print a line when due."""
        now = time.monotonic()
        if now - self.last < INTERVAL or not trainer.is_global_zero:
            return
        self.last = now
        total, done = int(trainer.estimated_stepping_batches), trainer.global_step - self.first
        left = time_left(done, total - self.first, now - self.start)
        values = "  ".join(f"{k.split('/')[-1]} {float(v):.4g}" for k, v in trainer.callback_metrics.items())
        print(f"   step {trainer.global_step}/{total}, {left}  {values}", flush=True)
