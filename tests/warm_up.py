"""A training whose learning rate rises, on one device or on ranks, and which may die amid a group of batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from dermprompt.distributed.processes import rank_and_size
from dermprompt.files import write_json
from dermprompt.generator.batches import make_loader
from dermprompt.training.fit import fit


class Items(torch.utils.data.Dataset[Tensor]):
    def __len__(self) -> int:
        return 24

    def __getitem__(self, items: list[int]) -> Tensor:
        return torch.randn(24, 4, generator=torch.Generator().manual_seed(0))[items]


class Warm(lightning.LightningModule):
    """Fits y = 3x; its learning rate rises for five steps; its process dies in batch ``dies_at``."""

    def __init__(self, dies_at: int | None) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        nn.init.constant_(self.layer.weight, 0.1)
        nn.init.zeros_(self.layer.bias)
        self.dies_at, self.batches, self.rates = dies_at, 0, {}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self.batches == self.dies_at:
            raise KeyboardInterrupt
        self.batches += 1
        self.rates[self.global_step] = self.optimizers().param_groups[0]["lr"]
        loss = (self.layer(batch) - 3 * batch.sum(1, keepdim=True)).square().mean()
        self.log("toy/train/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), 0.1)
        rising = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 5))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rising, "interval": "step"}}


def fit_warm(folder: Path, dies_at: int | None = None) -> Warm:
    """Ten steps; an epoch has four batches in two steps, of three batches and of one."""
    rank, ranks = rank_and_size()
    alone = {"devices": ranks, "strategy": "ddp" if ranks > 1 else "auto"}

    def make_trainer(**settings: Any) -> lightning.Trainer:
        return lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, **alone, **settings)

    module, loader = Warm(dies_at), make_loader(Items(), 12 * ranks, 3 * ranks, 7, rank, ranks)
    fit(module, loader, make_trainer, folder, 0, max_steps=10, accumulate_grad_batches=3)
    return module


def train(settings: Any, runtime: Any, folder: Path, dies_at: int | None) -> None:
    """What a rank does: train, and say at which rates, and to which weights."""
    module = fit_warm(folder, dies_at)
    weights = [*module.layer.weight.flatten().tolist(), *module.layer.bias.tolist()]
    write_json(folder / f"trained-{rank_and_size()[0]}.json", {"rates": module.rates, "weights": weights})
