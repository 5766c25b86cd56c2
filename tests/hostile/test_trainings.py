"""A training is done when it took all its steps, on this program's own ranks, and its weights and pictures are some."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from miniature import miniature, run
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dermprompt.distributed import make
from dermprompt.distributed.processes import forget_ranks, rank_and_size
from dermprompt.distributed.slurm import rendezvous
from dermprompt.lesion import find_faults, images_to_uint8
from dermprompt.store.artifacts import batch_record, makes
from dermprompt.synthesis.draw import draw_batches
from dermprompt.synthesis.samples import Condition
from dermprompt.training.fit import fit

LEFT = {
    "torchrun": {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "TORCHELASTIC_RUN_ID": "x"},
    "Kubeflow": {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"},
    "Lightning": {"NODE_RANK": "1", "LOCAL_RANK": "1", "PL_TRAINER_MAX_STEPS": "1", "PL_TRAINER_FAST_DEV_RUN": "1"},
    "MPI": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "JSM_NAMESPACE_RANK": "1"},
    "nonsense": {"RANK": "first", "WORLD_SIZE": "", "GROUP_RANK": "x", "ROLE_RANK": "x", "LOCAL_WORLD_SIZE": "x"},
}


@pytest.mark.parametrize("launcher", LEFT)
def test_ranks_that_another_program_left_do_not_count(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEFT[launcher].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_PROCID", "0")
    forget_ranks()
    assert rank_and_size() == (0, 1)
    assert not set(LEFT[launcher]) & set(os.environ)
    assert os.environ["SLURM_PROCID"] == "0"


def test_a_job_forgets_them_before_all_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEFT["Kubeflow"].items():
        monkeypatch.setenv(name, value)
    run(tmp_path, *miniature("none", "synthesis.count=0", "stage=plan"))
    assert not set(LEFT["Kubeflow"]) & set(os.environ)


def test_ranks_of_one_machine_find_each_other_without_its_name() -> None:
    assert "--local-addr=127.0.0.1" in rendezvous(1)


class Toy(lightning.LightningModule):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight(batch[0]).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("limit", [{"limit_train_batches": 0}, {"fast_dev_run": True}, {"max_steps": 1}])
def test_a_training_that_ends_early_is_no_training(
    limit: dict[str, Any], make_trainer: Callable[..., lightning.Trainer], tmp_path: Path
) -> None:
    def make_shorter(**settings: Any) -> lightning.Trainer:
        return make_trainer(**{**settings, **limit})

    loader = DataLoader([torch.zeros(1, 1)] * 4, batch_size=2)
    with pytest.raises((RuntimeError, lightning.fabric.utilities.exceptions.MisconfigurationException)):
        fit(Toy(), loader, make_shorter, tmp_path, 0, max_steps=6)


class OnBase(Toy):
    """A weight on a base that is damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(1, 1).requires_grad_(False)
        self.base.bias.fill_(torch.nan)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.base(self.weight(batch)).mean()
        self.log("toy/train/loss", loss)
        return loss


def test_of_a_damaged_base_the_base_is_blamed(make_trainer: Callable[..., lightning.Trainer], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"such as base\.bias: the base, or the file that it came from, is damaged"):
        fit(OnBase(), DataLoader([torch.zeros(1, 1)] * 4), make_trainer, tmp_path, 0, max_steps=2)


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_training_is_interrupted(
    make_trainer: Callable[..., lightning.Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(Toy(), DataLoader([torch.zeros(1, 1)] * 4), make_trainer, tmp_path, 0, max_steps=6)


@makes("network.safetensors")
def forgets(folder: Path) -> None:
    """Makes nothing."""


def test_no_record_of_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make.pkgutil, "resolve_name", lambda name: forgets)
    with pytest.raises(RuntimeError, match=r"has not made network\.safetensors"):
        make._checked("x", forgets)(tmp_path)
    (tmp_path / "network.safetensors").touch()
    make._checked("x", forgets)(tmp_path)


def picture(fault: str) -> Tensor:
    image = torch.rand(3, 8, 8) * 2 - 1
    if fault in ("nan", "inf"):
        image[1, 2, 3] = float(fault)
    return image if fault != "black" else torch.full((3, 8, 8), -7.0)


class Painter:
    """Draws one image of each kind."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults

    def generate(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        return torch.stack([picture(fault) for fault in self.faults])


@pytest.mark.parametrize(("fault", "said"), [("nan", "NaN"), ("inf", "NaN or infinite"), ("black", "of one colour")])
def test_what_is_no_picture_is_not_written(fault: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "batches").mkdir()
    painter, mask = Painter(["fine", fault]), np.ones((8, 8), np.uint8)
    with pytest.raises(ValueError, match=f"SYN_0000007 is {said}"):
        draw_batches(
            painter, lambda i: Condition(mask, str(i)), [3], 2, 0, tmp_path, lambda n: batch_record(tmp_path, n), "g"
        )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_pictures_are_looked_at_before_they_are_whole_numbers() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        images_to_uint8(picture("nan")[None])
    images = torch.stack([picture(fault) for fault in ("fine", "nan", "inf", "black")])
    assert find_faults(images, images_to_uint8(images.nan_to_num())).tolist() == [0, 1, 1, 2]
