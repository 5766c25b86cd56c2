"""What a segmenter trains on: pairs in memory as uint8, which the module turns to floats on the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class SegmentationBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batches of images uint8 NSS3 in [0, 255] and masks uint8 NSS in {0, 1}."""

    def __init__(self, images: Tensor, masks: Tensor) -> None:
        self.images, self.masks = images, masks

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        return self.images[rows], self.masks[rows]


def ordered_loader(data: SegmentationBatches, batch_size: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """All pairs in their order, the last batch smaller."""
    batches = [list(range(len(data)))[start : start + batch_size] for start in range(0, len(data), batch_size)]
    return DataLoader(data, sampler=batches, batch_size=None)  # type: ignore[arg-type]


class HalfRealOrder(Sampler[list[int]]):
    """Batches of which one half are real pairs, the first ``num_real`` rows, and the other samples.

    An epoch has as many batches as if all rows came once; the real rows come as often as that takes, each as
    often as the others to within one. Epoch e's order is a function of (seed, e) alone.
    """

    def __init__(
        self, num_rows: int, num_real: int, batch_size: int, seed: int, rank: int = 0, num_processes: int = 1
    ) -> None:
        assert 0 < num_real < num_rows, (num_real, num_rows)
        self.num_rows, self.num_real, self.seed, self.epoch = num_rows, num_real, seed, 0
        self.batch_size = min(batch_size, num_rows)
        self.rank, self.num_processes = rank, num_processes

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_rows // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        rng, half = np.random.default_rng([self.seed, self.epoch]), self.batch_size // 2
        real = _cycled(rng, self.num_real, len(self) * half)
        drawn = _cycled(rng, self.num_rows - self.num_real, len(self) * (self.batch_size - half)) + self.num_real
        for parts in zip(np.split(real, len(self)), np.split(drawn, len(self)), strict=True):
            yield np.concatenate(parts)[self.rank :: self.num_processes].tolist()


def _cycled(rng: np.random.Generator, number: int, length: int) -> np.ndarray:
    """So many of 0 … number-1: one seeded order of all after another."""
    return np.concatenate([rng.permutation(number) for _ in range(-(-length // number))])[:length]


def half_real_loader(
    data: SegmentationBatches, num_real: int, batch_size: int, seed: int, rank: int = 0, num_processes: int = 1
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of which one half are the first ``num_real`` pairs."""
    order = HalfRealOrder(len(data), num_real, batch_size, seed, rank, num_processes)
    return DataLoader(data, sampler=order, batch_size=None)  # type: ignore[arg-type]
