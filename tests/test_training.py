"""One way to train: what diverges is stopped, and costs no good checkpoint."""

from __future__ import annotations

from pathlib import Path

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dermprompt.training import fit


class Diverging(lightning.LightningModule):
    """One weight, whose loss is no number from a step on."""

    def __init__(self, last_good: int) -> None:
        super().__init__()
        self.layer, self.last_good = nn.Linear(1, 1), last_good

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.layer(batch).square().mean()
        if self.global_step >= self.last_good:
            loss = loss * torch.nan
        self.log("toy/train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def make_trainer(**settings: object) -> lightning.Trainer:
    return lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, **settings)  # type: ignore


def test_a_loss_that_is_no_number_stops_before_a_checkpoint(tmp_path: Path) -> None:
    loader = DataLoader(torch.ones(4, 1), batch_size=1)
    with pytest.raises(ValueError, match=r"step 10: toy/train/loss nan\. .* lower its learning rate"):
        fit(Diverging(9), loader, make_trainer, tmp_path, seed=0, max_steps=40)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 8
    assert all(weight.isfinite().all() for weight in saved["state_dict"].values())


class Named(Diverging):
    """Batches that say which rows they are."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch["values"], batch_idx)


def test_the_batch_whose_loss_is_no_number_is_named(tmp_path: Path) -> None:
    rows = [{"values": torch.ones(2, 1), "rows": torch.tensor(pair)} for pair in ([0, 1], [2, 3])]
    loader = DataLoader(rows, batch_size=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"step 4: toy/train/loss nan on cc, dd\. "):
        fit(Named(3), loader, make_trainer, tmp_path, seed=0, max_steps=8, ids=("aa", "bb", "cc", "dd"))


class TooLarge(Diverging):
    """A step for which the device's memory is too small."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_too_little_memory_names_the_setting_to_lower(tmp_path: Path) -> None:
    loader = DataLoader(torch.ones(4, 1), batch_size=1)
    with pytest.raises(ValueError, match=r"^generator\.batch_size: .* lower it"):
        fit(TooLarge(9), loader, make_trainer, tmp_path, seed=0, max_steps=4, batch_key="generator.batch_size")
