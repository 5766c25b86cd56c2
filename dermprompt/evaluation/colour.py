"""Colours of images inside and outside their masks, per channel, to detect dull or tinted samples."""

from __future__ import annotations

import numpy as np

from dermprompt.mapped import Arrays

REGIONS = ("inside", "outside")
FIGURES = tuple(f"{figure} of {channel}" for figure in ("mean", "deviation") for channel in ("red", "green", "blue"))
# Drift: a shift of more than this share of the real images' std and this many standard errors, in this many images.
_FAR, _ERRORS, _FEW = 0.5, 4.0, 10


def region_colours(images: Arrays, masks: Arrays, region: str) -> np.ndarray:
    """:data:`FIGURES` of each image in its region, float64 (M, 6) in grey levels.

    ``images`` uint8 NSS3, RGB; ``masks`` uint8 NSS in {0, 1}; images without the region are omitted.
    """
    wanted = int(region == "inside")
    pixels = [image[mask == wanted] for image, mask in zip(images, masks, strict=True) if (mask == wanted).any()]
    return np.array([[*one.mean(0), *one.std(0)] for one in pixels]).reshape(-1, len(FIGURES))


def drifted(found: np.ndarray, real: np.ndarray) -> tuple[str, ...]:
    """Which of :data:`FIGURES` differ from those of real images by more than half of their spread and beyond chance."""
    if min(len(found), len(real)) < _FEW:
        return ()
    gap, spread = np.abs(found.mean(0) - real.mean(0)), real.std(0, ddof=1)
    error = np.sqrt(found.var(0, ddof=1) / len(found) + spread**2 / len(real))
    far = (gap > _FAR * spread) & (gap > _ERRORS * error)
    return tuple(name for name, one in zip(FIGURES, far, strict=True) if one)
