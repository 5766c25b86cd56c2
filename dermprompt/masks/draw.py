"""Rejection sampling of masks in batches: attempts are repeated until every index has a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from dermprompt.masks.noise import keys_of

# Shapes are drawn at this resolution, so that the mask of an index has the same shape at every size.
CANVAS = 512
MAX_ATTEMPTS = 100
_MASKS_AT_ONCE = 256

# From keys (N) to bool masks (N, CANVAS, CANVAS) and whether each is accepted (N).
Attempt = Callable[[Tensor], tuple[Tensor, Tensor]]


def draw_masks(
    attempt: Attempt, indices: Sequence[int], seed: int, size: int, device: str, settings: object
) -> np.ndarray:
    """Draw masks uint8 (N, size, size) in {0, 1}: for each index, the first attempt that is accepted.

    A mask depends only on ``attempt``, the seed and its index. Raises ValueError, naming ``settings``, after 100
    attempts.
    """
    if len(indices) > _MASKS_AT_ONCE:
        parts = (indices[i : i + _MASKS_AT_ONCE] for i in range(0, len(indices), _MASKS_AT_ONCE))
        return np.concatenate([draw_masks(attempt, part, seed, size, device, settings) for part in parts])
    drawn = np.empty((len(indices), size, size), np.uint8)
    wanted, places = torch.tensor(list(indices), dtype=torch.int64, device=device), np.arange(len(indices))
    for number in range(MAX_ATTEMPTS):
        masks, counts = attempt(keys_of(seed, wanted, number))
        kept = counts.cpu().numpy()
        shapes = masks.view(torch.uint8).cpu().numpy()
        for place, row in zip(places[kept], np.flatnonzero(kept), strict=True):
            drawn[place] = resize(shapes[row], size)
        wanted, places = wanted[~counts], places[~kept]
        if not len(places):
            return drawn
    raise ValueError(
        f"mask {int(wanted[0])} had no single component in {MAX_ATTEMPTS} attempts with {settings}; "
        "a smaller kernel, a larger radius or less deformation helps"
    )


def resize(mask: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 (S, S) in {0, 1}: a pixel is foreground if more than half of its area is; one component is kept.

    If a shape covers no pixel by half, the pixel with most of it is kept, so that no mask becomes empty.
    """
    if size != len(mask):
        how = cv2.INTER_AREA if size < len(mask) else cv2.INTER_LINEAR
        shares = cv2.resize(mask.astype(np.float32), (size, size), interpolation=how)
        mask = (shares > min(0.5, np.nextafter(shares.max(), np.float32(0)))).astype(np.uint8)
    return largest_component(mask)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 8-connected component of uint8 (S, S) in {0, 1}; an empty mask is unchanged."""
    # Statistics take seven times as long as counting, and most masks are one component.
    if cv2.connectedComponents(mask, connectivity=8)[0] <= 2:
        return mask
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    largest = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    return (labels == largest).astype(np.uint8)
