"""The shape of a mask in five figures, to compare drawn masks with real ones."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Shape:
    """Figures of a mask's foreground, independent of the resolution.

    ``area``: share of the image, in (0, 1]. ``eccentricity``: of the ellipse with the same second moments,
    in [0, 1), 0 for a circle. ``solidity``: area by the area of the convex hull, in (0, 1].
    ``centre_y`` and ``centre_x``: the centroid as fractions of height and width, in (0, 1).
    ``touches_border``: whether a pixel of the outermost rows or columns is foreground.
    """

    area: float
    eccentricity: float
    solidity: float
    centre_y: float
    centre_x: float
    touches_border: bool


def measure(mask: np.ndarray) -> Shape:
    """Measure all foreground of a uint8 (H, W) mask in {0, 1} together.

    Raises ValueError for a mask without foreground: it has no shape.
    """
    moments = cv2.moments(mask, binaryImage=True)
    area = moments["m00"]
    if area == 0:
        raise ValueError(f"the mask of {mask.shape[0]} x {mask.shape[1]} pixels is empty; it has no shape")
    height, width = mask.shape
    return Shape(
        area=area / mask.size,
        eccentricity=_eccentricity(moments["mu20"] / area, moments["mu02"] / area, moments["mu11"] / area),
        solidity=area / _hull_area(mask),
        centre_y=(moments["m01"] / area + 0.5) / height,
        centre_x=(moments["m10"] / area + 0.5) / width,
        touches_border=bool(mask[[0, -1]].any() or mask[:, [0, -1]].any()),
    )


def is_one_component(mask: np.ndarray) -> bool:
    """Whether the foreground of a uint8 (H, W) mask is one 8-connected component, and not empty."""
    num_labels, _ = cv2.connectedComponents(mask, connectivity=8)
    return num_labels == 2


def _eccentricity(xx: float, yy: float, xy: float) -> float:
    """Eccentricity of the ellipse with these central second moments (eigenvalues of the covariance)."""
    mean, spread = (xx + yy) / 2, float(np.hypot((xx - yy) / 2, xy))
    return float(np.sqrt(2 * spread / (mean + spread))) if mean > 0 else 0.0


def _hull_area(mask: np.ndarray) -> int:
    """Pixels of the convex hull. Counted: the polygon's area leaves out half of each edge pixel."""
    hull = cv2.convexHull(cv2.findNonZero(mask))
    return int(cv2.fillConvexPoly(np.zeros_like(mask), hull, 1).sum())
