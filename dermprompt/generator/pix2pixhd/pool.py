"""Earlier images for the discriminator (Shrivastava et al. 2017), as in the authors' release."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class ImagePool:
    """Keeps ``size`` fakes with their labels, and gives some of them back in the place of new ones.

    Until it is full every new fake is kept and used. From then on each is, with probability one half, exchanged for
    one of the pool drawn at random, whose place it takes. What is drawn is a function of (seed, step) alone.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self.pairs: list[Tensor] = []

    def exchange(self, pairs: Tensor, step: int) -> Tensor:
        """Labels and images NCHW, without a graph, for as many from the pool or as they came."""
        rng = np.random.default_rng([self.seed, step])
        return torch.stack([self._exchange(pair, rng) for pair in pairs])

    def _exchange(self, pair: Tensor, rng: np.random.Generator) -> Tensor:
        if len(self.pairs) < self.size:
            # A copy: a row of the batch would go into checkpoints with the whole batch.
            self.pairs.append(pair.clone())
            return pair
        if rng.random() < 0.5:
            return pair
        place = rng.integers(self.size)
        older, self.pairs[place] = self.pairs[place], pair.clone()
        return older
