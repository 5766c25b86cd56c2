"""Validating a generator: the best weights are kept, pictures are written, a resumed training knows both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dermprompt.generator.validation import BEST, Conditions, ValidateGenerator, grid
from dermprompt.training.callbacks import read_curves
from dermprompt.training.fit import MakeTrainer, fit

MASKS = torch.zeros(20, 1, 4, 4)


class Counting(LightningModule):
    """Its one weight is the number of steps; it draws images of that value in hundredths."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.network.weight)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.network.weight.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.network.parameters(), lr=1.0)

    def sample(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        return self.network.weight.detach().reshape(1, 1, 1, 1).expand(len(masks), 3, 4, 4) / 100

    def ema_model(self) -> nn.Module:
        return self.network


def validated(
    folder: Path, agreements: dict[int, float], goal: float, make_trainer: MakeTrainer, steps: int
) -> ValidateGenerator:
    """A training of ``steps`` steps, looked at every second; agreements by the number of steps."""

    def agreement(images: Tensor, masks: Tensor) -> Tensor:
        return torch.full((len(masks),), agreements[round(float(100 * images[0, 0, 0, 0]))])

    conditions = Conditions(MASKS, ("",) * 20, tuple(range(20)))
    validation = ValidateGenerator(conditions, agreement, goal, 2, folder)
    loader = DataLoader(torch.zeros(8, 1), batch_size=2)
    fit(Counting(), loader, make_trainer, folder, seed=0, max_steps=steps, callbacks=(validation,))
    return validation


def kept_step(validation: ValidateGenerator) -> int:
    return round(float(validation.restore(nn.Linear(1, 1, bias=False)).weight.detach()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("agreements", "step"),
    [
        ({2: 0.5, 4: 0.7, 6: 0.6, 7: 0.65}, 4),
        ({2: 0.5, 4: 0.99, 6: 0.85, 7: 0.7}, 6),  # both reach the goal: the later weights count
        ({2: 0.5, 4: 0.85, 6: 0.76, 7: 0.74}, 6),  # 0.76 is close enough to the goal
    ],
)
def test_the_best_weights_are_kept(
    tmp_path: Path, make_trainer: MakeTrainer, agreements: dict[int, float], step: int
) -> None:
    assert kept_step(validated(tmp_path, agreements, 0.8, make_trainer, 7)) == step
    assert sorted(path.stem for path in (tmp_path / "samples").iterdir()) == [f"{k:07d}" for k in (2, 4, 6, 7)]


def test_a_resumed_training_knows_the_best(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    agreements = {2: 0.5, 4: 0.7, 6: 0.6, 8: 0.65}
    validated(tmp_path, agreements, 0.8, make_trainer, 4)
    (tmp_path / "samples" / "0000002.png").unlink()
    validation = validated(tmp_path, agreements, 0.8, make_trainer, 8)
    assert kept_step(validation) == 4
    assert not (tmp_path / "samples" / "0000002.png").exists()
    assert (tmp_path / BEST).exists()


def test_shares_cover_all_conditions_once() -> None:
    conditions = Conditions(torch.arange(7).view(7, 1, 1, 1), tuple("abcdefg"), tuple(range(7)))
    shares = [conditions.share(rank, 3) for rank in range(3)]
    assert sorted(seed for share in shares for seed in share.seeds) == list(range(7))
    assert all([int(mask) for mask in share.masks] == list(share.seeds) for share in shares)


def test_a_grid_has_each_mask_above_its_image(tmp_path: Path) -> None:
    masks = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    (tmp_path / "grid.png").write_bytes(grid(masks, torch.stack([torch.full((3, 4, 4), v) for v in (-1.0, 1.0)])))
    pixels = np.asarray(Image.open(tmp_path / "grid.png"))
    assert pixels.shape == (8, 8, 3)
    assert pixels[:, :4].max() == 0
    assert pixels[:, 4:].min() == 255


class Noisy(Counting):
    """Its training draws from the global generator of numbers, and so does its drawing."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -(self.network.weight * torch.rand(1)).sum()

    def sample(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        torch.rand(7)
        return super().sample(masks, prompts, seeds)


@pytest.mark.parametrize("every", [None, 1, 2])
def test_watching_a_training_changes_none_of_its_weights(
    every: int | None, tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    weights = []
    for folder, looks in (("unwatched", None), ("watched", every)):
        module, conditions = Noisy(), Conditions(MASKS, ("",) * 20, tuple(range(20)))
        place = tmp_path / folder
        watch = ValidateGenerator(conditions, lambda images, masks: torch.ones(len(masks)), 0.8, looks or 1, place)
        loader = DataLoader(torch.zeros(8, 1), batch_size=2)
        callbacks = (watch,) if looks else ()
        fit(module, loader, make_trainer, tmp_path / folder, seed=0, max_steps=7, callbacks=callbacks)
        assert module.network.training
        weights.append(module.network.weight.detach().clone())
    assert weights[0] == weights[1]


class Late(Counting):
    """Ignores its masks until the fifth step, and paints them from then on."""

    def sample(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        obeys = float(self.network.weight.detach()) >= 5
        return (2 * masks - 1 if obeys else torch.zeros_like(masks)).expand(-1, 3, -1, -1)


def test_the_jump_from_unconditioned_to_conditioned_is_seen(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    """In the curve and in the pictures; the weights from before it are not kept."""
    masks = (torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    conditions = Conditions(masks, ("",) * 20, tuple(range(20)))

    def agreement(images: Tensor, masks: Tensor) -> Tensor:
        return ((images[:, :1] > 0.5) == (masks > 0.5)).float().mean((1, 2, 3))

    validation = ValidateGenerator(conditions, agreement, 1.0, 2, tmp_path)
    loader = DataLoader(torch.zeros(8, 1), batch_size=2)
    fit(Late(), loader, make_trainer, tmp_path, seed=0, max_steps=10, callbacks=(validation,))
    logged = dict(zip(*read_curves(tmp_path / "curves.csv")["generator/val/agreement"], strict=True))
    assert {step: value == 1 for step, value in logged.items()} == {4: False, 8: True, 10: True}
    assert logged[4] < 0.7
    shown = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "samples").iterdir())]
    assert np.ptp(shown[1][4:]) == 0 < np.ptp(shown[2][4:])
    assert kept_step(validation) >= 6
