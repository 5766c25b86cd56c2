"""Lesion masks out of nothing: deformed circles (paper, section 2.3).

Every length is a fraction of the image's side, so that one setting gives the same shapes at any size.

The authors' released script departs from the paper's text, and from the defaults here:

- it blurs the blank canvas *before* it draws the circle, which does nothing; here the circle is blurred;
- its elastic grid has 100 points of sigma 25 / 512 (``elastic_sigma=[0.0488], elastic_points=[100]``), which
  shreds the outline into a speckle that opening then erodes to half the circle's area; its radius starts at
  15 / 512, its centre spreads by 25 / 512, its opening and closing use half the radius (``kernel=0.5``).
  Its masks cover 0.5, 15 and 44 % of the image (5, 50 and 95 % quantiles), median eccentricity 0.40 and
  solidity 0.97: rounder, smaller and more central than real lesions;
- it draws from NumPy's unseeded global state; here mask i is a function of the settings, the seed and i.

The defaults here deform twice: a coarse grid elongates, a fine one roughens the outline. They were chosen
by the shapes of ISIC 2018 (medians: area 0.19, eccentricity 0.62, solidity 0.95).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dermprompt.masks.shape import is_one_component

# Shapes are drawn at one resolution, so that the mask of an index is the same shape at every size.
CANVAS = 192
MAX_ATTEMPTS = 100


@dataclass(frozen=True)
class AutomaticMasks:
    """An unlimited source of masks (size, size) of one connected component each.

    ``centre_spread``: the centre lies within this distance of the middle, along each axis.
    ``min_radius``: the radius lies between this and the distance from the centre to the nearest edge.
    ``blur_sigma``: of the Gaussian blur. ``elastic_sigma`` and ``elastic_points``: one elastic deformation
    after the other, each by its displacements' standard deviation and its grid's points along a side;
    empty for none. ``kernel``: the ellipse of opening and closing, as a fraction of the *radius*.

    Raises ValueError for settings out of range.
    """

    size: int
    seed: int
    min_radius: float = 0.06
    centre_spread: float = 0.08
    blur_sigma: float = 0.01
    elastic_sigma: Sequence[float] = (0.05, 0.02)
    elastic_points: Sequence[int] = (4, 12)
    kernel: float = 0.15

    def __post_init__(self) -> None:
        """Check the settings."""
        largest = 0.5 - self.centre_spread
        if not 0 < self.min_radius < largest:
            raise ValueError(
                f"min_radius is {self.min_radius}; allowed is more than 0 and less than {largest:g} "
                f"(0.5 - centre_spread), the distance to the edge of the furthest centre"
            )
        if self.blur_sigma <= 0:
            raise ValueError(f"blur_sigma is {self.blur_sigma}; allowed is more than 0")
        check_elastic(self.elastic_sigma, self.elastic_points)

    def draw(self, index: int) -> np.ndarray:
        """Draw mask ``index``, uint8 (size, size) in {0, 1}: the first attempt with one component.

        Raises ValueError that names the settings after 100 attempts.
        """
        for attempt in range(MAX_ATTEMPTS):
            mask = self._attempt(np.random.default_rng([self.seed, index, attempt]))
            if is_one_component(mask):
                return mask
        raise ValueError(f"mask {index} had no single component in {MAX_ATTEMPTS} attempts with {self}")

    def _attempt(self, rng: np.random.Generator) -> np.ndarray:
        canvas, radius = self._circle(rng)
        canvas = cv2.GaussianBlur(canvas, (0, 0), self.blur_sigma * CANVAS)
        canvas = deform_elastically(canvas, self.elastic_sigma, self.elastic_points, rng)
        mask = (canvas > 0.5).astype(np.uint8)
        # An ellipse needs three pixels to differ from a square.
        side = max(3, round(self.kernel * radius * CANVAS))
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, ellipse)
        return _resize(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, ellipse), self.size)

    def _circle(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """A filled circle of 1.0 on a blank float32 canvas, and its radius."""
        y, x = rng.uniform(0.5 - self.centre_spread, 0.5 + self.centre_spread, size=2)
        radius = rng.uniform(self.min_radius, min(y, x, 1 - y, 1 - x))
        rows, columns = (np.mgrid[:CANVAS, :CANVAS] + 0.5) / CANVAS
        return (np.hypot(rows - y, columns - x) <= radius).astype(np.float32), float(radius)


def check_elastic(sigmas: Sequence[float], points: Sequence[int]) -> None:
    """Raise ValueError unless each deformation has a sigma and a grid of at least two points a side."""
    if len(sigmas) != len(points):
        raise ValueError(
            f"elastic_sigma has {len(sigmas)} values and elastic_points {len(points)}; they belong in pairs"
        )
    if any(count < 2 for count in points):
        raise ValueError(f"elastic_points is {list(points)}; a grid needs at least 2 points along a side")


def deform_elastically(
    image: np.ndarray,
    sigmas: Sequence[float],
    points: Sequence[int],
    rng: np.random.Generator,
    beyond: str = "constant",
) -> np.ndarray:
    """Deform a float32 (S, S) image by random grids, one after the other.

    Displacements are normal with standard deviation ``sigmas[k]`` (fraction of S) on a grid of
    ``points[k]`` x ``points[k]``, interpolated by cubic B-splines. ``beyond``: what the
    image is outside its border, ``constant`` for 0 or ``nearest``.
    Raises ImportError, with the cure, where elasticdeform does not load.
    """
    try:
        import elasticdeform
    except ImportError as error:  # the released wheels were built for NumPy 1
        raise ImportError(
            "elasticdeform does not load with this NumPy; build it from its source: "
            "pip install --force-reinstall --no-deps --no-binary elasticdeform elasticdeform"
        ) from error
    for sigma, count in zip(sigmas, points, strict=True):
        # Its deform_random_grid would draw from NumPy's global state.
        displacement = rng.normal(0, sigma * len(image), size=(2, count, count))
        image = elasticdeform.deform_grid(image, displacement, order=1, mode=beyond)
    return image


def _resize(mask: np.ndarray, size: int) -> np.ndarray:
    how = cv2.INTER_AREA if size < len(mask) else cv2.INTER_LINEAR
    return (cv2.resize(mask.astype(np.float32), (size, size), interpolation=how) > 0.5).astype(np.uint8)
