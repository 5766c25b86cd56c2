"""The training loop: Lightning's, with checkpoints to resume from, progress, and curves of all metrics."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader

from dermprompt.store.artifacts import Unfinished
from dermprompt.training.callbacks import CountedEpochs, Curves, StopOnNonFiniteLoss, first_training, training_progress
from dermprompt.training.checkpoints import LAST, RoomForCheckpoints, SafeCheckpoints, WriteAtEpochEnd
from dermprompt.upstream import quiet_lightning, rank_environment

# Builds a Trainer from the settings of a training.
MakeTrainer = Callable[..., lightning.Trainer]


SAME_IN_ALL = {"num_sanity_val_steps": 0, "enable_model_summary": False, "use_distributed_sampler": False}


def fit(
    module: lightning.LightningModule,
    loader: DataLoader,
    make_trainer: MakeTrainer,
    folder: Path,
    seed: int,
    max_steps: int,
    validation: DataLoader | None = None,
    validate_every: int = 1,
    callbacks: tuple[Callback, ...] = (),
    accumulate_grad_batches: int = 1,
    ids: Sequence[str] = (),
    batch_key: str = "batch_size",
) -> None:
    """Train ``module`` in place, resuming from the last checkpoint in ``folder`` if there is one.

    Writes about twenty checkpoints, at the ends of epochs (:mod:`dermprompt.training.checkpoints`), and ``curves.csv``.

    Args:
        accumulate_grad_batches: batches whose gradients are accumulated into one step.
        ids: names of a batch's rows, for the message if a loss is not finite.
        batch_key: the setting to lower if the device's memory is too small.

    Raises:
        OSError: the disk is too small for the checkpoints (raised before the first step), or is full.
        ValueError: a loss is NaN or infinite (names step and batch), or the device's memory is too small.
        Unfinished: a callback stopped it before the last step (:class:`~dermprompt.training.callbacks.StopInTime`).
        RuntimeError: it ended at another step than the last for any other reason.
    """
    quiet_lightning()
    folder.mkdir(parents=True, exist_ok=True)
    assert len(loader), "a training without batches"
    steps_an_epoch = -(-len(loader) // accumulate_grad_batches)
    epochs = -(-max_steps // steps_an_epoch)
    # Augmentation libraries and dropout use torch's global generator, which is fixed here whatever ran before.
    lightning.seed_everything(seed, verbose=False)
    checkpoints = SafeCheckpoints()
    trainer = make_trainer(
        max_epochs=epochs,
        max_steps=max_steps,
        callbacks=[
            _checkpoints(folder, epochs, max_steps, steps_an_epoch),
            RoomForCheckpoints(folder),
            training_progress(),
            StopOnNonFiniteLoss(folder, ids),
            CountedEpochs(loader),
            Curves(folder / "curves.csv"),
            *callbacks,
            WriteAtEpochEnd(checkpoints),
        ],
        accumulate_grad_batches=accumulate_grad_batches,
        check_val_every_n_epoch=validate_every,
        log_every_n_steps=max(1, min(50, len(loader))),
        plugins=[checkpoints, rank_environment()],
        **SAME_IN_ALL,
    )
    with _failures_in_words(batch_key):
        trainer.fit(module, loader, validation, ckpt_path=checkpoints.newest(folder), weights_only=True)
    _see_that_it_ended(trainer, max_steps)


@contextmanager
def _failures_in_words(batch_key: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{batch_key}: out of memory on the device; lower it") from error
    except SystemExit as error:
        # Lightning turns Ctrl-C into a failing exit, and ignores further ones.
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise error.__context__ from None


def _see_that_it_ended(trainer: lightning.Trainer, num_steps: int) -> None:
    """Raise Unfinished for a training that was stopped, and RuntimeError for one that ended early by itself."""
    if not trainer.should_stop:
        if trainer.global_step != num_steps:
            raise RuntimeError(f"the training ended at step {trainer.global_step} of {num_steps}")
        return
    if trainer.is_global_zero:
        minutes = (time.monotonic() - first_training()) / 60
        print(
            f"stopped after {minutes:.1f} min at step {trainer.global_step} of {num_steps}; the same command continues"
        )
    raise Unfinished(trainer.global_step, num_steps)


def _checkpoints(folder: Path, epochs: int, max_steps: int, steps_an_epoch: int) -> ModelCheckpoint:
    """Checkpoints after the last step of an epoch, counted in steps: Lightning resumes exactly from these, but not from
    checkpoints that it saves at the end of an epoch.
    """
    interval = max(1, epochs // 20) * steps_an_epoch
    return ModelCheckpoint(
        folder,
        filename=Path(LAST).stem,
        every_n_train_steps=min(interval, max_steps),
        enable_version_counter=False,
    )
