"""Detection of synthetic images that are copies of the generator's training images.

Whether a sample counts as memorised is decided by :func:`copies`, from its distance to the nearest training image.
Images are uint8 NHW3 RGB; two sets may have different sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from dermprompt.mapped import Arrays, slices

Values = NDArray[np.float32]
# From images to one row of features each.
Embed = Callable[[Arrays], Values]

NUM_HALVES = 10000
_SIZE = 16
# Images in memory at a time.
_AT_ONCE = 256
# High-pass at an eighth of the thumbnail, because vignettes and the mere presence of a lesion are no sign of copying.
_SIGMA = 2.0


def thumbnails(images: Arrays) -> Values:
    """High-pass 16x16 thumbnails as features: insensitive to brightness and image size, but not to large details."""
    return np.stack([_high_pass(image.astype(np.float32)) for image in images]).reshape(len(images), -1)


def nearest(images: Arrays, references: Arrays, embed: Embed = thumbnails) -> tuple[Values, NDArray[np.int64]]:
    """Distance and index of each image's nearest reference, after Dar et al. (2024, arXiv 2402.01054).

    The distance is one minus the correlation of features, minimised over the image's eight mirrorings and quarter
    turns. Returns distances (N, in [0, 2]) and indices (N). The thumbnail of a uniform image has distance 1 to all
    others.
    """
    return nearest_known(images, embed(references), embed)


def nearest_known(images: Arrays, known: Values, embed: Embed = thumbnails) -> tuple[Values, NDArray[np.int64]]:
    """Like :func:`nearest`, with references given as features ``known`` from :data:`Embed`."""
    centre = known.mean(axis=0) if embed is not thumbnails else np.float32(0)
    flat = _unit(known - centre)
    correlation = np.full((len(images), len(known)), -1, np.float32)
    for part in slices(len(images), _AT_ONCE):
        for view in symmetries(images[part]):
            np.maximum(correlation[part], _unit(embed(view) - centre) @ flat.T, out=correlation[part])
    indices = correlation.argmax(axis=1)
    return np.clip(1 - correlation.max(axis=1), 0, 2), indices


def copies(distances: Values, held_out: Values, quantile: float) -> NDArray[np.bool_]:
    """Which samples count as copies, after Dar et al. (2024): nearer than a low quantile of unseen real images.

    ``distances``: of samples to the images that the generator has seen; ``held_out``: those of unseen real images,
    without which nothing counts as a copy. A share ``quantile`` of unseen images would wrongly count as copies.
    """
    threshold = copy_threshold(held_out, quantile)
    return np.zeros(len(distances), bool) if threshold is None else np.asarray(distances) < threshold


def copy_threshold(held_out: Values, quantile: float) -> float | None:
    """The distance below which a sample counts as a copy, see :func:`copies`; None without unseen images."""
    return float(np.quantile(held_out, quantile)) if len(held_out) else None


def nearer_share(
    images: Arrays, seen: Arrays, unseen: Arrays, embed: Embed = thumbnails
) -> tuple[float, tuple[float, float]]:
    """The share of images nearer to the seen real images than to an equal number of unseen ones, and its chance range.

    An image is nearer to the set that has its nearest neighbour. Some real images are the nearest of many, so without
    memorisation the share is 0.5 only on average. The range covers 95 % of the shares that result if a random half of
    both sets takes the place of the seen images.
    """
    assert len(seen) == len(unseen), (len(seen), len(unseen))
    rows = nearest_known(images, np.concatenate([embed(unseen), embed(seen)]), embed)[1]
    counts = np.bincount(rows, minlength=2 * len(seen)) / len(images)
    rng = np.random.default_rng(0)
    halves = (rng.permutation(counts)[: len(seen)].sum() for _ in range(NUM_HALVES))
    low, high = np.quantile(np.fromiter(halves, float, NUM_HALVES), [0.025, 0.975])
    return float(counts[len(unseen) :].sum()), (float(low), float(high))


def symmetries(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The eight mirrorings and quarter turns of square images."""
    for view in (images, images[:, :, ::-1]):
        for turns in range(4):
            yield np.ascontiguousarray(np.rot90(view, turns, axes=(1, 2)))


def _high_pass(image: Values) -> Values:
    small = cv2.resize(image, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    return (small - cv2.GaussianBlur(small, (0, 0), _SIGMA)).astype(np.float32, copy=False)


def _unit(features: Values) -> Values:
    # Contrast of less than 1/100 grey level per value is rounding, not a pattern.
    floor = 0.01 * np.sqrt(features.shape[1])
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.where(length > floor, features / np.maximum(length, floor), 0).astype(np.float32)
