"""Validation of a generator during training: samples for fixed masks, and keeping the best weights, not just the last.

The masks are those of held-out images of G; the reference segmenter is not trained on them either.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from dermprompt.files import write_bytes
from dermprompt.lesion import images_to_uint8
from dermprompt.tensors import fill, load_tensors

BEST = "best.safetensors"
NUM_SHOWN = 8
AT_ONCE = 16
# Agreement this close to that of real images counts as equal: images keep improving while agreement fluctuates
# (experiments/box_128).
TOLERANCE = 0.05

Network = TypeVar("Network", bound=nn.Module)
# From images N3SS in [-1, 1] and masks N1SS to how well each image shows its mask, N numbers in [0, 1].
Agreement = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Conditions:
    """What is generated at every validation: masks N1SS in {0, 1}, each with a prompt and a seed."""

    masks: Tensor
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    def share(self, rank: int, processes: int) -> Conditions:
        """Every ``processes``-th condition, starting with number ``rank``."""
        return Conditions(self.masks[rank::processes], self.prompts[rank::processes], self.seeds[rank::processes])

    def batches(self) -> Iterator[tuple[Tensor, list[str], list[int]]]:
        """Masks, prompts and seeds in small batches."""
        for start in range(0, len(self.seeds), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            yield self.masks[part], list(self.prompts[part]), list(self.seeds[part])


class Validated(Protocol):
    """What a module must provide to be validated."""

    def sample(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Images N3SS in [-1, 1], generated with the weights of :meth:`ema_model`."""

    def ema_model(self) -> nn.Module:
        """The weights that would be kept if the training ended now."""


class ValidateGenerator(Callback):
    """Samples every ``every`` steps and at the end, and keeps the best weights in ``best.safetensors``.

    Logs ``generator/val/agreement``, writes ``samples/<step>.png`` (masks above, images below), and shows it in loggers
    that support images. The best weights have the highest agreement; values above that of real images, or less than
    ``TOLERANCE`` below it, count as equal, and later weights are then preferred. Each process generates its share.

    Args:
        agreement: measures how well images show their masks.
        goal: mean agreement of these masks' real images.
    """

    def __init__(self, conditions: Conditions, agreement: Agreement, goal: float, every: int, folder: Path) -> None:
        self.conditions, self.agreement, self.goal, self.every = conditions, agreement, goal, every
        self.folder, self.best, self.seen = folder, -1.0, 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate when due; batches accumulated into one step count once."""
        step = trainer.global_step
        if step == self.seen or (step % self.every and step != trainer.max_steps):
            return
        self.seen = step
        value, images = self._look(trainer, cast(Validated, module))
        module.log("generator/val/agreement", value, rank_zero_only=True)
        if trainer.is_global_zero:
            self._show(trainer, images, step)
            self._keep(cast(Validated, module).ema_model(), min(value, self.goal - TOLERANCE))

    def _look(self, trainer: lightning.Trainer, module: Validated) -> tuple[float, Tensor]:
        share = self.conditions.share(trainer.global_rank, trainer.world_size)
        with torch.random.fork_rng():  # validation must not change the training's random numbers
            images = torch.cat([module.sample(*batch) for batch in share.batches()])
            found = self.agreement(images, share.masks)
        total = torch.stack([found.sum(), found.new_tensor(len(found))])
        summed = trainer.strategy.reduce(total.to(trainer.strategy.root_device), reduce_op="sum")
        return float(summed[0] / summed[1]), images

    def _show(self, trainer: lightning.Trainer, images: Tensor, step: int) -> None:
        path = self.folder / "samples" / f"{step:07d}.png"
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, grid(self.conditions.share(0, trainer.world_size).masks[:NUM_SHOWN], images[:NUM_SHOWN]))
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(key="generator/val/samples", images=[str(path)])

    def _keep(self, network: nn.Module, value: float) -> None:
        if value >= self.best:
            self.best = value
            state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
            write_bytes(self.folder / BEST, save(state))

    def restore(self, network: Network) -> Network:
        """Load the best weights into a network."""
        return fill(network, load_tensors(self.folder / BEST), self.folder / BEST)

    @property
    def state_key(self) -> str:
        """The callback's name in checkpoints."""
        return "Watch"

    def state_dict(self) -> dict[str, Any]:
        """The best agreement and the last validated step, which a resumed training needs."""
        return {"best": self.best, "seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.best, self.seen = state_dict["best"], state_dict["seen"]


def grid(masks: Tensor, images: Tensor) -> bytes:
    """A PNG of masks N1SS, each above its image N3SS in [-1, 1]."""
    shown = images_to_uint8(images.float().cpu())
    above = (255 * masks).to(torch.uint8).movedim(1, -1).expand_as(shown)
    rows = [torch.cat(list(row), 1) for row in (above, shown)]
    buffer = io.BytesIO()
    Image.fromarray(torch.cat(rows).numpy()).save(buffer, "PNG")
    return buffer.getvalue()
