"""Overlap measures: Dice, IoU, sensitivity, specificity. Masks are NHW, bool or uint8 in {0, 1}, of the same shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_] | NDArray[np.uint8]
Values = NDArray[np.float64]


def dice(pred: Masks, target: Masks) -> Values:
    """Dice similarity coefficient, Dice (1945), per image. Both empty: 1; one empty: 0."""
    both, total = _counts(pred, target)
    return _ratio(2 * both, total)


def iou(pred: Masks, target: Masks) -> Values:
    """Intersection over union, Jaccard (1901), per image. Both empty: 1; one empty: 0."""
    both, total = _counts(pred, target)
    return _ratio(both, total - both)


def sensitivity(pred: Masks, target: Masks) -> Values:
    """Share of lesion pixels that are predicted as lesion, per image; 1 if there are none."""
    both, _ = _counts(pred, target)
    return _ratio(both, _areas(target))


def specificity(pred: Masks, target: Masks) -> Values:
    """Share of background pixels that are predicted as background, per image; 1 if there are none."""
    return sensitivity(~pred.astype(bool), ~target.astype(bool))


def thresholded_jaccard(pred: Masks, target: Masks, threshold: float = 0.65) -> Values:
    """The score of ISIC 2018 Task 1 (Codella et al. 2019), per image: the IoU, or 0 if it is below 0.65."""
    values = iou(pred, target)
    return np.where(values >= threshold, values, 0.0)


def dice_matrix(pred: Masks, target: Masks, chunk: int = 64) -> Values:
    """Dice (1945) of each of N masks with each of M targets: float64 NM. ``chunk`` targets at a time limit memory."""
    assert pred.shape[1:] == target.shape[1:], (pred.shape, target.shape)
    # float32 counts exactly up to 2^24 pixels, a mask of 4096x4096, and has a fast matrix product.
    rows = pred.reshape(len(pred), -1).astype(np.float32)
    blocks = [target[k : k + chunk].reshape(-1, rows.shape[1]) for k in range(0, len(target), chunk)]
    both = np.concatenate([rows @ block.astype(np.float32).T for block in blocks], axis=1)
    total = _areas(pred)[:, None] + _areas(target)[None]
    return _ratio(2 * both.astype(np.float64), total)


def _areas(masks: Masks) -> NDArray[np.int64]:
    return np.count_nonzero(masks, axis=(1, 2))


def _counts(pred: Masks, target: Masks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    assert pred.shape == target.shape, (pred.shape, target.shape)
    return _areas(pred.astype(bool) & target.astype(bool)), _areas(pred) + _areas(target)


def _ratio(part: np.ndarray, whole: np.ndarray) -> Values:
    return np.where(whole == 0, 1.0, part / np.maximum(whole, 1))
