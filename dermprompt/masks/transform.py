"""New lesion masks from real ones: resized, rotated, elastically deformed (paper, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dermprompt.masks.automatic import MAX_ATTEMPTS, check_elastic, deform_elastically


@dataclass(frozen=True, eq=False)
class TransformedMasks:
    """An unlimited source of masks (S, S) of one connected component each.

    ``masks``: the real ones, uint8 (N, S, S) in {0, 1}. ``max_rotation``: degrees to either side.
    ``scale_range``: lowest and highest magnification, about the image's middle.
    ``elastic_sigma`` (fraction of the side) and ``elastic_points``: as in the automatic source.

    The released code crops at random instead of resizing; the paper's text is followed here.
    Raises ValueError for settings out of range, or without any real mask.
    """

    masks: np.ndarray
    seed: int
    max_rotation: float = 180.0
    scale_range: Sequence[float] = (0.8, 1.25)
    elastic_sigma: Sequence[float] = (0.02,)
    elastic_points: Sequence[int] = (5,)

    def __post_init__(self) -> None:
        """Check the settings and the real masks."""
        assert self.masks.ndim == 3, self.masks.shape
        assert self.masks.shape[1] == self.masks.shape[2], self.masks.shape
        assert self.masks.dtype == np.uint8, self.masks.dtype
        assert self.masks.max(initial=0) <= 1, self.masks.max()
        if not self.masks.any():
            raise ValueError(f"none of the {len(self.masks)} real masks has any foreground; nothing to transform")
        low, high = self.scale_range
        if not 0 < low <= high:
            raise ValueError(f"scale_range is {[low, high]}; allowed is 0 < lowest <= highest")
        check_elastic(self.elastic_sigma, self.elastic_points)

    def draw(self, index: int) -> np.ndarray:
        """Draw mask ``index``, uint8 (S, S) in {0, 1}, a function of the settings, the seed and ``index``.

        Of several components the largest stays: a fifth of ISIC's masks, the most ragged ones, have specks,
        and to reject them would leave out just those. Raises ValueError after 100 empty attempts.
        """
        for attempt in range(MAX_ATTEMPTS):
            mask = self._attempt(np.random.default_rng([self.seed, index, attempt]))
            if mask.any():
                return _largest_component(mask)
        raise ValueError(
            f"mask {index} was empty in {MAX_ATTEMPTS} attempts with seed={self.seed}, "
            f"max_rotation={self.max_rotation}, scale_range={list(self.scale_range)}, "
            f"elastic_sigma={list(self.elastic_sigma)}, elastic_points={list(self.elastic_points)} "
            f"and {len(self.masks)} real masks"
        )

    def _attempt(self, rng: np.random.Generator) -> np.ndarray:
        mask = self.masks[rng.integers(len(self.masks))].astype(np.float32)
        angle = rng.uniform(-self.max_rotation, self.max_rotation)
        low, high = self.scale_range
        mask = _rotate_and_scale(mask, angle, rng.uniform(low, high))
        mask = deform_elastically(mask, self.elastic_sigma, self.elastic_points, rng, beyond="nearest")
        return (mask > 0.5).astype(np.uint8)


def _rotate_and_scale(mask: np.ndarray, angle: float, scale: float) -> np.ndarray:
    """Rotate by ``angle`` degrees and magnify about the middle."""
    size, margin = len(mask), len(mask) // 2
    middle = margin + (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    matrix[:, 2] -= margin
    return cv2.warpAffine(_continue(mask, margin), matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)


def _continue(mask: np.ndarray, margin: int) -> np.ndarray:
    """Continue a lesion that the frame cuts, or the frame would show as a straight outline after rotation.

    The border's pixels are repeated and blurred, so that a ragged outline does not draw rays.
    """
    wide = cv2.copyMakeBorder(mask, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(wide, (0, 0), 0.03 * len(mask))
    soft[margin:-margin, margin:-margin] = mask
    return soft


def _largest_component(mask: np.ndarray) -> np.ndarray:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    largest = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    return (labels == largest).astype(np.uint8)
