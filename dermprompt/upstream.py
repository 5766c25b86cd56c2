"""Patches of other libraries, each with its issue; a test for each fails when the patch is no longer needed."""

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

# Lightning's warnings about hardware, its other products and its own code, by how they begin.
LIGHTNINGS_WARNINGS = (
    "Checkpoint directory",
    "Experiment logs directory",  # of the pieces before; the whole curve is in curves.csv
    r".*LeafSpec",
    "Found .* in eval mode",
    "Using ModelCheckpoint with manual",
    "Default grid_sample and affine_grid",
    "You defined a `validation_step`",
    "The `srun` command is available",
)


def quiet_lightning() -> None:
    """Keep Lightning's advice off the screen."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in LIGHTNINGS_WARNINGS:
        warnings.filterwarnings("ignore", message)


def step_uncounted(trainer: Trainer, optimizer: LightningOptimizer) -> None:
    """Step a second optimizer of one batch: Lightning's ``global_step`` would count each optimizer's steps.

    https://github.com/Lightning-AI/pytorch-lightning/issues/17958
    """
    trainer.strategy.optimizer_step(optimizer.optimizer, lambda: None)


def count_begun_epoch(checkpoint: dict[str, Any]) -> None:
    """Write into a checkpoint the counts that a training which began with this epoch would have.

    Lightning does not count the epoch that a continued training begins with: from a checkpoint of that training it
    would go on with the epoch that is over. https://github.com/Lightning-AI/pytorch-lightning/issues/19815
    """
    for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        counts["ready"] = counts["started"] = counts["processed"] + 1


def rank_environment() -> ClusterEnvironment:
    """Who starts the ranks: torch's launcher, or there is one rank.

    Lightning would find SLURM by itself, queue the job again a second time, and save for it in the middle of an epoch,
    from where no training goes on exactly. https://github.com/Lightning-AI/pytorch-lightning/issues/6389
    """
    from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()


def save_to_disk(values: Any, path: Path) -> None:
    """``torch.save``, flushed, over what a killed training left; where the disk is full, give its room back.

    Raises:
        OSError: the disk's own error. Of a full one torch says only that a position is unexpected.
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
    """Without MONAI's warning of a deprecated option that only MONAI itself uses.

    https://github.com/Project-MONAI/MONAI/issues/9059
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
