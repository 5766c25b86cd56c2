"""Patches of other libraries, each with its issue; a test for each patch fails when it is no longer needed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dermprompt.files import new_file

if TYPE_CHECKING:
    from lightning import Trainer
    from lightning.fabric.plugins.environments import ClusterEnvironment
    from lightning.pytorch.core.optimizer import LightningOptimizer

# The beginnings of Lightning's warnings about hardware, its other products and its own code.
LIGHTNINGS_WARNINGS = (
    "Checkpoint directory",
    r".*LeafSpec",
    "Found .* in eval mode",
    "Using ModelCheckpoint with manual",
    "Default grid_sample and affine_grid",
    "You defined a `validation_step`",
    "The `srun` command is available",
)


def quiet_lightning() -> None:
    """Suppress Lightning's advice."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in LIGHTNINGS_WARNINGS:
        warnings.filterwarnings("ignore", message)


def step_uncounted(trainer: Trainer, optimizer: LightningOptimizer) -> None:
    """Step a second optimizer in one batch without counting it: Lightning's ``global_step`` counts every optimizer.

    https://github.com/Lightning-AI/pytorch-lightning/issues/17958
    """
    trainer.strategy.optimizer_step(optimizer.optimizer, lambda: None)


def count_begun_epoch(checkpoint: dict[str, Any]) -> None:
    """Correct a checkpoint's epoch counts, so that the epoch that has begun is counted.

    Lightning does not count the epoch with which a resumed training begins, so resuming from a checkpoint of that
    training would repeat a finished epoch. https://github.com/Lightning-AI/pytorch-lightning/issues/19815
    """
    for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        counts["ready"] = counts["started"] = counts["processed"] + 1


def rank_environment() -> ClusterEnvironment:
    """The cluster environment: torch's launcher, or a single rank.

    Lightning would detect SLURM by itself, requeue the job a second time, and save a checkpoint for it in the middle of
    an epoch, from which no training resumes exactly. https://github.com/Lightning-AI/pytorch-lightning/issues/6389
    """
    from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()


def save_to_disk(values: Any, path: Path) -> None:
    """``torch.save`` with a flush, replacing what a killed training left; if the disk is full, the file is removed.

    Raises:
        OSError: the disk's own error. If the disk is full, torch reports only an unexpected position.
            https://github.com/pytorch/pytorch/issues/10577
    """
    import torch

    path.unlink(missing_ok=True)
    try:
        with new_file(path) as file:
            torch.save(values, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


@contextmanager
def quiet_monai() -> Iterator[None]:
    """Suppress MONAI's warning about a deprecated option that only MONAI itself uses.

    https://github.com/Project-MONAI/MONAI/issues/9059
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
