"""One way to train: Lightning's loop, checkpoints to go on from, progress, and the curve of every metric."""

from __future__ import annotations

import csv
import functools
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from torch.utils.data import DataLoader

from dermprompt.checkpoints import LAST, RoomForCheckpoints, SafeCheckpoints, WriteAtEpochEnd
from dermprompt.progress import training_progress
from dermprompt.store.artifacts import Unfinished
from dermprompt.tracking import close_run

# What builds a Trainer from the settings of this training.
MakeTrainer = Callable[..., lightning.Trainer]


SAME_IN_ALL = {"num_sanity_val_steps": 0, "enable_model_summary": False, "use_distributed_sampler": False}


def fit(
    module: lightning.LightningModule,
    loader: DataLoader,
    make_trainer: MakeTrainer,
    folder: Path,
    seed: int,
    max_epochs: int | None = None,
    max_steps: int = -1,
    validation: DataLoader | None = None,
    validate_every: int = 1,
    callbacks: tuple[Callback, ...] = (),
    accumulate: int = 1,
    ids: Sequence[str] = (),
    batch_key: str = "batch_size",
) -> None:
    """Train ``module`` in place, from the last checkpoint in ``folder`` when there is one.

    Writes about twenty checkpoints, at ends of epochs (:mod:`dermprompt.checkpoints`), and ``curves.csv``.

    Args:
        accumulate: batches whose gradients are gathered to one step.
        ids: names of the rows of a batch, for the message when a loss is no number.
        batch_key: the setting to lower when the device's memory is too small.

    Raises:
        OSError: the disk is too small for the checkpoints (said before the first step), or is full.
        ValueError: a loss is no number (names step and batch; the checkpoint before it stays), or memory is short.
        Unfinished: a callback stopped it before the last step (:class:`StopInTime`).
    """
    _quiet()
    folder.mkdir(parents=True, exist_ok=True)
    steps_an_epoch = -(-len(loader) // accumulate)
    epochs = max_epochs or -(-max_steps // steps_an_epoch)
    # Augmentation libraries and dropout draw from torch's global state: fixed here, whatever ran before.
    lightning.seed_everything(seed, verbose=False)
    checkpoints = SafeCheckpoints()
    trainer = make_trainer(
        max_epochs=epochs,
        max_steps=max_steps,
        callbacks=[
            _checkpoints(folder, epochs, max_steps, steps_an_epoch),
            RoomForCheckpoints(folder),
            training_progress(),
            StopAtNoNumber(folder, ids),
            CountedEpochs(loader),
            Curves(folder / "curves.csv"),
            *callbacks,
            WriteAtEpochEnd(checkpoints),
        ],
        accumulate_grad_batches=accumulate,
        check_val_every_n_epoch=validate_every,
        log_every_n_steps=max(1, min(50, len(loader))),
        plugins=[checkpoints, _environment()],
        **SAME_IN_ALL,
    )
    with _failures_in_words(batch_key):
        trainer.fit(module, loader, validation, ckpt_path=checkpoints.newest(folder), weights_only=True)
    if trainer.should_stop:
        raise _stopped(trainer, max_steps if max_steps > 0 else epochs * steps_an_epoch)


@contextmanager
def _failures_in_words(batch_key: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{batch_key}: the device's memory is too small for such batches; lower it") from error
    finally:
        # An open W&B run would swallow the next training's metrics.
        close_run()


def _stopped(trainer: lightning.Trainer, num_steps: int) -> Unfinished:
    """Say how far a stopped training came."""
    if trainer.is_global_zero:
        minutes = (time.monotonic() - _first_training()) / 60
        print(
            f"stopped after {minutes:.1f} min at step {trainer.global_step} of {num_steps}; the same command continues"
        )
    return Unfinished(trainer.global_step, num_steps)


def _checkpoints(folder: Path, epochs: int, max_steps: int, steps_an_epoch: int) -> ModelCheckpoint:
    """At the end of an epoch, but counted in steps: Lightning goes on exactly from such a checkpoint, not from one
    that it saves when the epoch ends.
    """
    interval = max(1, epochs // 20) * steps_an_epoch
    return ModelCheckpoint(
        folder,
        filename=Path(LAST).stem,
        every_n_train_steps=min(interval, max_steps) if max_steps > 0 else interval,
        enable_version_counter=False,
    )


def _environment() -> ClusterEnvironment:
    """Who starts the ranks: torch's launcher, or there is one.

    Lightning would find SLURM by itself, queue the job again a second time, and save for it in the middle of an epoch,
    from where no training goes on exactly.
    """
    return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()


def _quiet() -> None:
    """Keep what Lightning says of hardware, of its other products and of its own code off the screen."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        "Checkpoint directory",
        r".*LeafSpec",
        "Found .* in eval mode",
        "Using ModelCheckpoint with manual",
        "Default grid_sample and affine_grid",
        "You defined a `validation_step`",
        "The `srun` command is available",
    ):
        warnings.filterwarnings("ignore", message)


class StopAtNoNumber(Callback):
    """Stops a training whose losses are infinite or no numbers, before its weights reach a checkpoint.

    Lightning calls it before ModelCheckpoint, whatever their order.
    """

    def __init__(self, folder: Path, ids: Sequence[str] = ()) -> None:
        self.folder, self.ids = folder, ids

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what the step has logged."""
        losses = {name: value for name, value in trainer.callback_metrics.items() if "/train/" in name}
        if losses and not torch.stack([value.detach().float() for value in losses.values()]).isfinite().all():
            shown = ", ".join(f"{name} {float(value):g}" for name, value in losses.items())
            rows = batch["rows"].tolist() if self.ids else []
            seen = f" on {', '.join(self.ids[row] for row in rows)}" if rows else ""
            raise ValueError(
                f"step {trainer.global_step}: {shown}{seen}. The training diverged; lower its learning rate, or train "
                f"with trainer.precision=32-true. Its last good checkpoint is in {self.folder}"
            )


@functools.cache
def _first_training() -> float:
    """When this process began to train (monotonic seconds): preparing may take longer than a limit, and then
    no call would come further than the one before.
    """
    return time.monotonic()


class StopInTime(Checkpoint):
    """Stops before the trainings of this process together take ``seconds``, at the end of an epoch.

    Only from there a training goes on exactly; the first one gets an epoch in any case. A Checkpoint, so that
    Lightning calls it after all other callbacks: what they keep is in the checkpoint too.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.epoch_start, self.stopping = 0.0, False

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Train nothing when the trainings before have used up the time."""
        # Lightning does not say that an epoch starts when it goes on from a checkpoint.
        now = self.epoch_start = time.monotonic()
        trainer.should_stop = self._ends(trainer, now - _first_training() > self.seconds)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Start the epoch's clock."""
        self.epoch_start = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *args: Any) -> None:
        """After an epoch's last step decide whether another one fits, and save where none does."""
        if not trainer.is_last_batch:
            return
        now = time.monotonic()
        next_end = now - _first_training() + now - self.epoch_start
        self.stopping = self._ends(trainer, next_end > self.seconds)
        if self.stopping:
            trainer.save_checkpoint(self.folder / LAST)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Stop, after the epoch's validation."""
        trainer.should_stop = trainer.should_stop or self.stopping

    def _ends(self, trainer: lightning.Trainer, late: bool) -> bool:
        """Whether all ranks are to stop: the first one's clock decides. At its last step a training ends anyway."""
        return trainer.strategy.broadcast(late) and trainer.global_step < trainer.estimated_stepping_batches


class CountedEpochs(Callback):
    """Counts the epoch that a continued training begins with, which Lightning does not.

    From a checkpoint of that training it would go on with the epoch that is over, in whose order the batches
    would come again.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.order = loader.sampler

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Tell the order its epoch; Lightning does when a loader's workers have begun with the first one's."""
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] + 1
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epochs)

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Say where a training goes on."""
        if trainer.global_step and trainer.is_global_zero:
            print(f"   goes on from step {trainer.global_step}", flush=True)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the counts that a training which began with this epoch would have."""
        for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
            counts["ready"] = counts["started"] = counts["processed"] + 1


class Curves(Callback):
    """Appends logged metrics to a csv file: step, metric, value. A resumed training goes on in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Cut off half a line, which a full disk may have left."""
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
        # What is measured every few epochs would be written again after each, and not where a training goes on.
        metrics.clear()


def read_curves(path: Path) -> dict[str, tuple[tuple[int, ...], tuple[float, ...]]]:
    """Steps and values of each metric; where an interrupted training wrote a step twice, the later one."""
    points: dict[str, dict[int, float]] = {}
    with open(path, newline="") as file:
        for step, name, value in csv.reader(file):
            points.setdefault(name, {})[int(step)] = float(value)
    return {name: (tuple(sorted(at)), tuple(at[k] for k in sorted(at))) for name, at in points.items()}
