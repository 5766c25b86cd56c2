"""The authors' recipe for automatic masks, restated word for word with elasticdeform and OpenCV.

Taken from their released numbers (`shape_generating/draw_irr_circle.py`), one mask a try; but for a generator of
its own instead of NumPy's global state.
"""

from __future__ import annotations

import cv2
import elasticdeform
import numpy as np


def attempt(rng: np.random.Generator) -> np.ndarray | None:
    """One try: a mask uint8 (512, 512) in {0, 1}, or None when it is not one component."""
    canvas = cv2.GaussianBlur(np.zeros((512, 512), np.uint8), (0, 0), 5)  # blurs a blank canvas
    centre = rng.integers(236, 286, size=2)
    radius = int(rng.integers(15, min(centre)))
    cv2.circle(canvas, (int(centre[1]), int(centre[0])), radius, 255, -1)
    displacement = rng.normal(0, 25, size=(2, 100, 100))  # what deform_random_grid draws
    canvas = elasticdeform.deform_grid(canvas, displacement, order=0)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (radius // 2, radius // 2))
    canvas = cv2.morphologyEx(canvas, cv2.MORPH_OPEN, ellipse)
    canvas = cv2.morphologyEx(canvas, cv2.MORPH_CLOSE, ellipse)
    number, _ = cv2.connectedComponents(canvas)
    return (canvas > 0).astype(np.uint8) if number == 2 else None


def draw(number: int, seed: int) -> tuple[list[np.ndarray], int]:
    """The first ``number`` masks of a seed that are kept, and how many tries that took."""
    rng, kept, tries = np.random.default_rng(seed), [], 0
    while len(kept) < number:
        tries += 1
        mask = attempt(rng)
        if mask is not None:
            kept.append(mask)
    return kept, tries
