"""Shape statistics of a mask, for comparing drawn masks with real ones."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Shape:
    """Statistics of a mask's foreground; all except ``roughness`` are independent of the resolution.

    ``area``: share of the image, in (0, 1]. ``eccentricity``: of the ellipse with the same second moments,
    in [0, 1), 0 for a circle. ``solidity``: area divided by the convex hull's area, in (0, 1].
    ``centre_y`` and ``centre_x``: the centroid as fractions of height and width, in (0, 1).
    ``roughness``: the outline's length divided by the convex hull's, at least 1; it grows with the resolution.
    ``border_share``: share of foreground in the outermost rows and columns, in [0, 1];
    ``touches_border``: whether there is any.
    """

    area: float
    eccentricity: float
    solidity: float
    centre_y: float
    centre_x: float
    roughness: float
    border_share: float
    touches_border: bool


def measure(mask: np.ndarray) -> Shape:
    """Measure all foreground of a mask uint8 (H, W) in {0, 1} together.

    Raises ValueError for a mask without foreground.
    """
    moments = cv2.moments(mask, binaryImage=True)
    area = moments["m00"]
    if area == 0:
        raise ValueError(f"the mask of {mask.shape[0]} x {mask.shape[1]} pixels is empty; it has no shape")
    height, width = mask.shape
    hull = cv2.convexHull(cv2.findNonZero(mask))
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return Shape(
        area=area / mask.size,
        eccentricity=_eccentricity(moments["mu20"] / area, moments["mu02"] / area, moments["mu11"] / area),
        solidity=area / _hull_area(mask, hull),
        centre_y=(moments["m01"] / area + 0.5) / height,
        centre_x=(moments["m10"] / area + 0.5) / width,
        roughness=_outline_length(mask) / max(cv2.arcLength(hull, True), 1.0),
        border_share=float(border.mean()),
        touches_border=bool(border.any()),
    )


def is_one_component(mask: np.ndarray) -> bool:
    """Whether the foreground of a mask uint8 (H, W) is exactly one 8-connected component."""
    num_labels, _ = cv2.connectedComponents(mask, connectivity=8)
    return num_labels == 2


def _eccentricity(xx: float, yy: float, xy: float) -> float:
    """Eccentricity of the ellipse with these central second moments (eigenvalues of the covariance)."""
    mean, spread = (xx + yy) / 2, float(np.hypot((xx - yy) / 2, xy))
    return float(np.sqrt(2 * spread / (mean + spread))) if mean > 0 else 0.0


def _outline_length(mask: np.ndarray) -> float:
    """Total length of the outer outlines, at least 1."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(sum(cv2.arcLength(one, True) for one in outlines), 1.0)


def _hull_area(mask: np.ndarray, hull: np.ndarray) -> int:
    """Number of pixels in the convex hull; the polygon's area would leave out half of each edge pixel."""
    return int(cv2.fillConvexPoly(np.zeros_like(mask), hull, 1).sum())
