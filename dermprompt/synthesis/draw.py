"""The sampling loop: aligned batches of one size, sample i always at the same place of the same batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dermprompt.lesion import images_to_uint8, masks_to_float
from dermprompt.synthesis.samples import Condition, write_batch


class Generator(Protocol):
    """Masks N1SS, prompts and seeds to images N3SS in [-1, 1]."""

    def generate(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Draw one image for each mask."""


def sample_seed(seed: int, index: int) -> int:
    """The seed of sample ``index``: 63 bits."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)


def draw_images(generator: Generator, conditions: list[Condition], seeds: list[int]) -> np.ndarray:
    """Images uint8 NSS3 of conditions."""
    masks = masks_to_float(torch.from_numpy(np.stack([one.mask for one in conditions])))
    images = generator.generate(masks, [one.prompt for one in conditions], seeds)
    return images_to_uint8(images.float().cpu()).numpy()


def draw_batches(
    generator: Generator,
    condition: Callable[[int], Condition],
    numbers: Iterable[int],
    batch_size: int,
    seed: int,
    folder: Path,
    record: Callable[[int], Path],
    name: str,
    total: int | None = None,
) -> None:
    """Draw the batches of the given numbers and write them.

    With ``total`` conditions in all, the last batch is padded with the last condition, and the padding is
    not written.
    """
    for number in numbers:
        wanted = range(number * batch_size, (number + 1) * batch_size)
        indices = [min(i, total - 1) if total else i for i in wanted]
        conditions = [condition(i) for i in indices]
        seeds = [sample_seed(seed, i) for i in indices]
        images = draw_images(generator, conditions, seeds)
        rows = zip(wanted, seeds, conditions, images, strict=True)
        kept = [row for row in rows if not total or row[0] < total]
        write_batch(folder, record(number), kept, name)
