import cv2
import numpy as np
import pytest
from skimage.measure import label, regionprops

from dermprompt.masks.shape import is_one_component, measure


def _ellipse(axes: tuple[int, int], angle: float, size: int = 256) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    return cv2.ellipse(mask, (110, 130), axes, angle, 0, 360, 1, -1)


def _star() -> np.ndarray:
    angles = np.arange(10) * np.pi / 5
    points = 128 + np.stack([np.cos(angles), np.sin(angles)], 1) * np.tile([90, 40], 5)[:, None]
    return cv2.fillPoly(np.zeros((256, 200), np.uint8), [points.astype(np.int32)], 1)


@pytest.mark.parametrize("mask", [_ellipse((80, 30), 0), _ellipse((70, 50), 33), _ellipse((200, 40), 90), _star()])
def test_agrees_with_scikit_image(mask: np.ndarray) -> None:
    shape, (oracle,) = measure(mask), regionprops(mask)
    assert shape.area == oracle.area / mask.size
    assert shape.eccentricity == pytest.approx(oracle.eccentricity, abs=2e-3)
    assert shape.solidity == pytest.approx(oracle.solidity, abs=0.01)
    centre = (np.array(oracle.centroid) + 0.5) / mask.shape
    assert (shape.centre_y, shape.centre_x) == pytest.approx(tuple(centre))


def test_hand_worked_ellipse() -> None:
    shape = measure(_ellipse((100, 60), 45, size=512))
    assert shape.area == pytest.approx(np.pi * 100 * 60 / 512**2, rel=0.02)
    assert shape.eccentricity == pytest.approx(0.8, abs=0.005)  # 3-4-5: sqrt(1 - (60 / 100)^2)
    assert shape.solidity > 0.98
    assert (shape.centre_y, shape.centre_x) == pytest.approx((130.5 / 512, 110.5 / 512), abs=1e-3)


def test_square_fills_its_hull() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 1:5] = 1
    shape = measure(mask)
    assert (shape.area, shape.eccentricity, shape.solidity) == (0.25, 0, 1)
    assert (shape.centre_y, shape.centre_x) == (0.5, 0.375)


@pytest.mark.parametrize("pixels", [[(3, 3)], [(3, 3), (3, 4)], [(1, 1), (2, 2), (3, 3)]])
def test_degenerate_masks_are_measured(pixels: list[tuple[int, int]]) -> None:
    mask = np.zeros((8, 8), np.uint8)
    for pixel in pixels:
        mask[pixel] = 1
    shape = measure(mask)
    assert shape.area == len(pixels) / 64
    assert shape.eccentricity == pytest.approx(float(len(pixels) > 1))
    assert shape.solidity == 1


@pytest.mark.parametrize(
    ("row", "column", "touches"), [(0, 4, True), (7, 4, True), (4, 0, True), (4, 7, True), (1, 6, False)]
)
def test_touches_border(row: int, column: int, touches: bool) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[row, column] = 1
    assert measure(mask).touches_border is touches


def test_empty_mask_has_no_shape() -> None:
    with pytest.raises(ValueError, match="8 x 9 pixels is empty"):
        measure(np.zeros((8, 9), np.uint8))


def test_components_agree_with_scikit_image() -> None:
    rng = np.random.default_rng(0)
    noise = [cv2.GaussianBlur(rng.normal(size=(32, 32)), (0, 0), 6) for _ in range(60)]
    diagonal, empty = np.eye(32, dtype=np.uint8), np.zeros((32, 32), np.uint8)
    masks = [(field > 0).astype(np.uint8) for field in noise] + [diagonal, empty]
    expected = [label(mask, connectivity=2).max() == 1 for mask in masks]
    assert [is_one_component(mask) for mask in masks] == expected
    assert True in expected
    assert False in expected[:-2]
