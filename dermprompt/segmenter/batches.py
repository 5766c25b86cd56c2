"""Training data of the segmenters: pairs as uint8, converted to floats on the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dermprompt.mapped import Arrays


class SegmentationBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batches of images uint8 NSS3 in [0, 255] and masks uint8 NSS in {0, 1}, from concatenated sets of pairs."""

    def __init__(self, *pairs: tuple[Arrays, Arrays]) -> None:
        self.pairs, self.ends = pairs, np.cumsum([len(images) for images, _ in pairs])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        sets = np.searchsorted(self.ends, rows, "right")
        # Indices are negative: they count from the end of a set.
        picked = [(self.pairs[k], row - self.ends[k]) for k, row in zip(sets, rows, strict=True)]
        images, masks = (np.stack([pair[part][row] for pair, row in picked]) for part in (0, 1))
        return torch.from_numpy(images), torch.from_numpy(masks)


def ordered_loader(data: SegmentationBatches, batch_size: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """A loader of all pairs in order; the last batch may be smaller."""
    batches = [list(range(len(data)))[start : start + batch_size] for start in range(0, len(data), batch_size)]
    return DataLoader(data, sampler=batches, batch_size=None)  # type: ignore[arg-type]


class MixedOrder(Sampler[list[int]]):
    """Batches that mix real pairs, the first ``num_real`` rows, and samples, with a fixed share at each step.

    Half of every batch is real; with ``fading_steps``, the share of samples starts at their share of all rows and falls
    to 0 over that many steps. An epoch has as many batches as if every row occurred once; in an epoch, the counts of
    rows of one kind differ by at most one. The order of epoch e depends on (seed, e) alone.
    """

    def __init__(
        self,
        num_rows: int,
        num_real: int,
        batch_size: int,
        seed: int,
        fading_steps: int | None = None,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        assert 0 < num_real < num_rows, (num_real, num_rows)
        self.num_rows, self.num_real, self.seed, self.epoch = num_rows, num_real, seed, 0
        self.batch_size, self.fading_steps = min(batch_size, num_rows), fading_steps
        self.rank, self.num_processes = rank, num_processes

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_rows // self.batch_size

    def _num_real_of_batches(self) -> np.ndarray:
        """How many pairs of each batch of this epoch are real."""
        if self.fading_steps is None:
            return np.full(len(self), self.batch_size // 2)
        left = 1 - (self.epoch * len(self) + np.arange(len(self))) / self.fading_steps
        drawn = self.batch_size * (1 - self.num_real / self.num_rows) * np.clip(left, 0, 1)
        return self.batch_size - np.round(drawn).astype(int)

    def __iter__(self) -> Iterator[list[int]]:
        rng, ends = np.random.default_rng([self.seed, self.epoch]), self._num_real_of_batches().cumsum()
        real = _cycled(rng, self.num_real, ends[-1])
        drawn = _cycled(rng, self.num_rows - self.num_real, len(self) * self.batch_size - ends[-1]) + self.num_real
        others = self.batch_size * np.arange(1, len(self)) - ends[:-1]
        for parts in zip(np.split(real, ends[:-1]), np.split(drawn, others), strict=True):
            yield np.concatenate(parts)[self.rank :: self.num_processes].tolist()


def _cycled(rng: np.random.Generator, number: int, length: int) -> np.ndarray:
    """``length`` indices below ``number``: consecutive random permutations of all."""
    return np.concatenate([rng.permutation(number) for _ in range(max(1, -(-length // number)))])[:length]
