"""New lesion masks from real ones, by scaling, rotation and elastic deformation (paper, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from dermprompt.masks.draw import MAX_ATTEMPTS, largest_component


@dataclass(frozen=True, eq=False)
class TransformedMasks:
    """An unlimited source of masks (S, S), each one connected component.

    ``masks``: the real ones, uint8 (N, S, S) in {0, 1}. ``max_rotation``: degrees in either direction.
    ``scale_range``: lowest and highest magnification about the image's centre.
    ``elastic_sigma`` and ``elastic_points``: consecutive elastic deformations, each by the standard deviation of its
    displacements, as a fraction of the side, and its grid points along a side; empty for none.

    The paper's released code crops randomly instead of scaling; this follows the paper's text.
    Raises ValueError if no real mask has foreground.
    """

    masks: np.ndarray
    seed: int
    max_rotation: float = 180.0
    scale_range: Sequence[float] = (0.8, 1.25)
    elastic_sigma: Sequence[float] = (0.02,)
    elastic_points: Sequence[int] = (5,)
    filled: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Find the masks that show something."""
        object.__setattr__(self, "filled", np.flatnonzero(self.masks.any((1, 2))))
        if not len(self.filled):
            raise ValueError(f"none of the {len(self.masks)} real masks has any foreground; nothing to transform")

    def sample(self, indices: Sequence[int]) -> np.ndarray:
        """Draw masks ``indices``, uint8 (N, S, S) in {0, 1}; each depends only on settings, seed and its index.

        Of several components, the largest is kept: a fifth of ISIC's masks, the most ragged ones, have specks, and
        rejection would exclude exactly these. Raises ValueError after 100 empty attempts.
        """
        return np.stack([self._draw(index) for index in indices])

    def row(self, index: int) -> int:
        """The row of the real mask that mask ``index`` is made from; it always has foreground."""
        return int(np.random.default_rng([self.seed, index]).choice(self.filled))

    def _draw(self, index: int) -> np.ndarray:
        real = self.masks[self.row(index)]
        for attempt in range(MAX_ATTEMPTS):
            mask = self._attempt(real, np.random.default_rng([self.seed, index, attempt + 1]))
            if mask.any():
                return largest_component(mask)
        raise ValueError(
            f"mask {index} was empty in {MAX_ATTEMPTS} attempts with seed={self.seed}, "
            f"max_rotation={self.max_rotation}, scale_range={list(self.scale_range)}, "
            f"elastic_sigma={list(self.elastic_sigma)}, elastic_points={list(self.elastic_points)} "
            f"from real mask {self.row(index)} of {len(self.masks)}"
        )

    def _attempt(self, real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        angle = rng.uniform(-self.max_rotation, self.max_rotation)
        low, high = self.scale_range
        mask = _rotate_and_scale(real.astype(np.float32), angle, rng.uniform(low, high))
        mask = deform_elastically(mask, self.elastic_sigma, self.elastic_points, rng)
        return (mask > 0.5).astype(np.uint8)


def _rotate_and_scale(mask: np.ndarray, angle: float, scale: float) -> np.ndarray:
    """Rotate by ``angle`` degrees and scale about the centre."""
    size, margin = len(mask), len(mask) // 2
    middle = margin + (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    matrix[:, 2] -= margin
    return cv2.warpAffine(_continue(mask, margin), matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)


def _continue(mask: np.ndarray, margin: int) -> np.ndarray:
    """Extend a lesion that the frame cuts; otherwise the frame would become a straight outline after rotation.

    Border pixels are repeated and blurred, so that a ragged outline does not leave rays.
    """
    wide = cv2.copyMakeBorder(mask, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(wide, (0, 0), 0.03 * len(mask))
    soft[margin:-margin, margin:-margin] = mask
    return soft


def deform_elastically(
    image: np.ndarray,
    sigmas: Sequence[float],
    points: Sequence[int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Deform a float32 (S, S) image by one random grid after another.

    Displacements are normal with standard deviation ``sigmas[k]`` (a fraction of S) on a grid of
    ``points[k]`` x ``points[k]``, interpolated by cubic B-splines; beyond the image its border continues.
    Raises ImportError, with a remedy, if elasticdeform cannot be loaded.
    """
    try:
        import elasticdeform
    except ImportError as error:  # the released wheels were built for NumPy 1
        raise ImportError(
            "elasticdeform does not load with this NumPy; build it from its source: "
            "pip install --force-reinstall --no-deps --no-binary elasticdeform elasticdeform"
        ) from error
    for sigma, count in zip(sigmas, points, strict=True):
        # elasticdeform's deform_random_grid would use NumPy's global random state.
        displacement = rng.normal(0, sigma * len(image), size=(2, count, count))
        image = elasticdeform.deform_grid(image, displacement, order=1, mode="nearest")
    return image
