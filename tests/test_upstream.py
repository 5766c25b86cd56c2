"""Each mend of another library is still needed; where a test here fails, the mend and its test can go."""

from __future__ import annotations

import errno
import inspect
import io
import re
import warnings
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, slurm
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, model_checkpoint
from lightning.pytorch.loops import fit_loop
from lightning.pytorch.trainer import configuration_validator
from monai.metrics import compute_surface_dice
from torch import nn
from torch.nn import functional
from torch.utils import _pytree
from torch.utils.data import DataLoader

from dermprompt.upstream import (
    LIGHTNINGS_WARNINGS,
    count_begun_epoch,
    quiet_monai,
    rank_environment,
    save_to_disk,
    step_uncounted,
)

# Where the silenced warnings stand.
WARNERS = (model_checkpoint, _pytree, fit_loop, functional, configuration_validator, slurm)


class Two(lightning.LightningModule):
    """Two optimizers, which step after each batch; ``counted``: both by Lightning's own call."""

    def __init__(self, counted: bool) -> None:
        super().__init__()
        self.automatic_optimization, self.counted = False, counted
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        first, second = self.optimizers()
        self.manual_backward(self.layer(batch).sum())
        first.step()
        second.step() if self.counted else step_uncounted(self.trainer, second)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(self.parameters(), 0.1) for _ in range(2)]


@pytest.mark.parametrize(("counted", "steps"), [(True, 6), (False, 3)])
def test_lightning_counts_the_steps_of_each_optimizer(make_trainer, counted, steps):
    trainer = make_trainer(max_epochs=1, enable_checkpointing=False)
    trainer.fit(Two(counted), DataLoader(torch.ones(3, 1)))
    assert trainer.global_step == steps


class Mended(Callback):
    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        count_begun_epoch(checkpoint)


def epochs_in_a_checkpoint(make_trainer: Any, folder: Path, *pieces: int, mends: tuple[Callback, ...]) -> int:
    """How many epochs have begun, as the last checkpoint has it, after trainings up to these epochs."""
    path = None
    for epochs in pieces:
        keep = ModelCheckpoint(folder, filename=f"{len(mends)}-{pieces}-{{step}}", every_n_train_steps=3, save_top_k=-1)
        trainer = make_trainer(max_epochs=epochs, callbacks=[keep, *mends])
        trainer.fit(Two(False), DataLoader(torch.ones(3, 1)), ckpt_path=path, weights_only=True)
        path = keep.best_model_path
    progress = torch.load(path, weights_only=True)["loops"]["fit_loop"]["epoch_progress"]
    return progress["current"]["ready"]


def test_lightning_does_not_count_the_epoch_that_a_continued_training_begins_with(make_trainer, tmp_path):
    straight = epochs_in_a_checkpoint(make_trainer, tmp_path, 2, mends=())
    assert straight == 2
    assert epochs_in_a_checkpoint(make_trainer, tmp_path, 1, 2, mends=()) < straight
    assert epochs_in_a_checkpoint(make_trainer, tmp_path, 1, 2, mends=(Mended(),)) == straight


def test_lightning_takes_a_slurm_job_for_its_own(monkeypatch):
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "job", "SLURM_JOB_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    assert SLURMEnvironment.detect()
    assert isinstance(rank_environment(), LightningEnvironment)


class FullDisk(io.BytesIO):
    """Has room for small pieces alone."""

    def write(self, data: Any) -> int:
        if len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_torch_does_not_say_that_a_disk_is_full(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="unexpected pos") as theirs:
        torch.save(torch.ones(9999), FullDisk())
    assert "space" not in str(theirs.value)
    monkeypatch.setattr("builtins.open", lambda *_: FullDisk())
    with pytest.raises(OSError, match="No space left on device"):
        save_to_disk(torch.ones(9999), tmp_path / "any")


def test_monai_warns_of_its_own_option():
    mask = torch.ones(1, 1, 4, 4)
    with pytest.warns(FutureWarning, match="always_return_as_numpy"):
        compute_surface_dice(mask, mask, [1.0], include_background=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet_monai():
            compute_surface_dice(mask, mask, [1.0], include_background=True)


def test_each_mend_names_its_issue():
    for mend in (step_uncounted, count_begun_epoch, rank_environment, save_to_disk, quiet_monai):
        assert "https://github.com/" in inspect.getdoc(mend), mend


def test_each_silenced_warning_is_still_given():
    texts = [Path(inspect.getfile(one)).read_text() for one in WARNERS]
    for message in LIGHTNINGS_WARNINGS:
        words = re.sub(r"^\.\*|Found \.\* ", "", message)
        assert any(words in text for text in texts), message
