"""Which synthetic images are copies of images that the generator was trained on.

A sample counts as memorised where its distance to the nearest training image is below the threshold of
:func:`calibrate`. Images are uint8 NHW3 RGB; the sizes of two sets may differ.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Values = NDArray[np.float32]

_SIZE = 16
# A high-pass at an eighth of the thumbnail: vignettes and a lesion's mere presence say nothing of copying.
_SIGMA = 2.0


def nearest(images: Images, references: Images) -> tuple[Values, NDArray[np.int64]]:
    """Distance and index of each image's nearest reference, after Dar et al. (2024, arXiv 2402.01054).

    With thumbnails in place of learnt features, the distance is one minus the correlation of high-pass 16x16
    thumbnails, the smallest over the eight mirrorings and quarter turns of the image. Returns distances
    (N, in [0, 2]) and indices (N). An image of one colour has a distance of 1 to all.
    """
    flat = _unit(_thumbnails(references))
    correlation = np.full((len(images), len(references)), -1, np.float32)
    for view in _symmetries(_thumbnails(images)):
        np.maximum(correlation, _unit(view) @ flat.T, out=correlation)
    indices = correlation.argmax(axis=1)
    return np.clip(1 - correlation.max(axis=1), 0, 2), indices


def calibrate(held_out: Images, references: Images, quantile: float) -> float:
    """Threshold from unseen real images, after Dar et al. (2024): a low quantile of their distances.

    ``held_out`` are real images that the generator was not trained on, ``references`` those that it was.
    A share ``quantile`` of unseen images would wrongly count as memorised.
    Raises ValueError unless 0 < quantile < 1.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile={quantile}: allowed is 0 < quantile < 1")
    return float(np.quantile(nearest(held_out, references)[0], quantile))


def _thumbnails(images: Images) -> Values:
    return np.stack([_high_pass(image.astype(np.float32)) for image in images])


def _high_pass(image: Values) -> Values:
    small = cv2.resize(image, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    return (small - cv2.GaussianBlur(small, (0, 0), _SIGMA)).astype(np.float32, copy=False)


def _symmetries(thumbnails: Values) -> list[Values]:
    mirrored = thumbnails[:, :, ::-1]
    return [np.rot90(view, k, axes=(1, 2)) for view in (thumbnails, mirrored) for k in range(4)]


def _unit(thumbnails: Values) -> Values:
    flat = thumbnails.reshape(len(thumbnails), -1)
    # Less than 1/100 grey level of contrast per value is rounding, not a pattern.
    floor = 0.01 * np.sqrt(flat.shape[1])
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > floor, flat / np.maximum(length, floor), 0).astype(np.float32)
