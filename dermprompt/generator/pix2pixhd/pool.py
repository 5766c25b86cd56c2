"""Earlier images for the discriminator (Shrivastava et al. 2017), as in the authors' release."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class ImagePool:
    """Keeps ``size`` fakes with their labels, and returns some of them in place of new ones.

    Until the pool is full, every new fake is stored and used. After that, with probability one half, a new fake is
    swapped with a random one of the pool. The random choices are a function of (seed, step) alone.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self.pairs: list[Tensor] = []

    def exchange(self, pairs: Tensor, step: int) -> Tensor:
        """Exchange labels and images NCHW, without a graph, for an equal number, each from the pool or unchanged."""
        rng = np.random.default_rng([self.seed, step])
        return torch.stack([self._exchange(pair, rng) for pair in pairs])

    def _exchange(self, pair: Tensor, rng: np.random.Generator) -> Tensor:
        if len(self.pairs) < self.size:
            # A copy, because a view of a row would put the whole batch into checkpoints.
            self.pairs.append(pair.clone())
            return pair
        if rng.random() < 0.5:
            return pair
        place = rng.integers(self.size)
        older, self.pairs[place] = self.pairs[place], pair.clone()
        return older
