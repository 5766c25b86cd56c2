"""Parts of the data as tensors: what the other stages train on and measure against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dermprompt.data.cache import load_cache
from dermprompt.lesion import Lesion
from dermprompt.prompts.template import compose
from dermprompt.stages.prepare import load_index


@dataclass(frozen=True)
class Part:
    """Lesions of one part of the split, images uint8 NSS3 and masks uint8 NSS in {0, 1}, in one order."""

    lesions: tuple[Lesion, ...]
    images: np.ndarray
    masks: np.ndarray

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Images and masks as tensors."""
        return torch.from_numpy(self.images), torch.from_numpy(self.masks)

    def prompts(self) -> tuple[str, ...]:
        """The prompt that describes each lesion."""
        return tuple(compose(one.diagnosis, one.attributes) for one in self.lesions)


def load_part(prepared: Path, cache: Path, name: str) -> Part:
    """Load ``generator``, ``train``, ``val`` or ``test``."""
    lesions, split = load_index(prepared)
    ids = getattr(split, name)
    pictures = load_cache(cache)
    rows = pictures.rows(ids)
    return Part(tuple(lesions[id] for id in ids), pictures.images[rows], pictures.masks[rows])
