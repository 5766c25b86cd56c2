"""Given masks, repeated as often as needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class GivenMasks:
    """Masks uint8 (N, S, S) in {0, 1}, used cyclically."""

    masks: np.ndarray

    def sample(self, indices: Sequence[int]) -> np.ndarray:
        """Masks ``indices``, uint8 (M, S, S) in {0, 1}."""
        return self.masks[np.asarray(indices) % len(self.masks)]
