from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from dermprompt.evaluation.boundary import hd95, surface_dice


def _square(top: int, left: int, side: int, size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def _distances(pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each pixel of one outline to the nearest of the other, both ways, by SciPy."""
    edges = [mask.astype(bool) & ~ndimage.binary_erosion(mask) for mask in (pred, target)]
    to = [ndimage.distance_transform_edt(~edge) for edge in edges]
    return to[1][edges[0]], to[0][edges[1]]


def _blob(seed: int, size: int = 80) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 6)
    return (noise > 0.02).astype(np.uint8)


def test_a_shifted_square_by_hand() -> None:
    """Moved by 3 pixels: the sides that moved away lie 3 from the other's, and no pixel lies farther."""
    assert hd95(_square(20, 20, 16), _square(20, 23, 16)) == pytest.approx(3 / math.hypot(64, 64))
    assert surface_dice(_square(20, 20, 16), _square(20, 23, 16), tolerance=3 / math.hypot(64, 64)) == 1


@pytest.mark.parametrize("seed", range(6))
def test_equals_scipys_distance_transform(seed: int) -> None:
    pred, target = _blob(seed), _blob(seed + 100)
    there, back = _distances(pred, target)
    want = max(np.percentile(there, 95), np.percentile(back, 95)) / math.hypot(80, 80)
    assert hd95(pred, target) == pytest.approx(want, rel=1e-5)
    near = [(distances <= 0.03 * math.hypot(80, 80)).sum() for distances in (there, back)]
    assert surface_dice(pred, target, 0.03) == pytest.approx(sum(near) / (len(there) + len(back)), abs=1e-6)


def test_masks_that_touch_the_border() -> None:
    pred, target = _square(0, 0, 30), _square(0, 0, 33)
    there, back = _distances(pred, target)
    assert hd95(pred, target) == pytest.approx(
        max(np.percentile(there, 95), np.percentile(back, 95)) / math.hypot(64, 64)
    )


def test_equal_masks_are_perfect_and_the_order_is_free() -> None:
    pred, target = _blob(1), _blob(2)
    assert (hd95(pred, pred), surface_dice(pred, pred)) == (0, 1)
    assert hd95(pred, target) == hd95(target, pred)
    assert surface_dice(pred, target) == pytest.approx(surface_dice(target, pred))


@pytest.mark.parametrize(
    ("pred", "target", "distance", "surface"),
    [(0, 0, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0)],
    ids=["both", "pred", "target"],
)
def test_empty_masks(pred: int, target: int, distance: float, surface: float) -> None:
    masks = [_square(10, 10, 8) * filled for filled in (pred, target)]
    assert (hd95(*masks), surface_dice(*masks)) == (distance, surface)


def test_the_image_size_does_not_count() -> None:
    large = [np.kron(_square(20, left, 16), np.ones((4, 4), np.uint8)) for left in (20, 23)]
    assert hd95(*large) == pytest.approx(hd95(_square(20, 20, 16), _square(20, 23, 16)))
