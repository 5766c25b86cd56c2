from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from dermprompt.masks.morphology import (
    all_in_blocks,
    is_one_component,
    open_and_close,
    open_and_close_exactly,
    squared_distance,
)


def blobs(number: int, size: int, sigma: float, level: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma) for _ in range(number)]
    return np.stack([field > level * field.std() for field in fields])


@pytest.mark.parametrize("reach", [1, 5, 20, 60])
def test_distances_are_scipys(reach: int) -> None:
    targets = blobs(6, 90, 4, 1.5)
    found = squared_distance(torch.from_numpy(targets), reach).numpy()
    exact = np.stack([ndimage.distance_transform_edt(~one) ** 2 for one in targets]).round()
    near = exact <= reach**2
    np.testing.assert_array_equal(found[near], exact[near])
    assert (found[~near] > reach**2).all()


def test_without_targets_everything_is_far() -> None:
    assert (squared_distance(torch.zeros(1, 8, 8, dtype=torch.bool), 5) > 25).all()


def test_opening_and_closing_are_opencvs() -> None:
    """Discs, by their offsets: a structuring element of cv2's own rounds its rows."""
    masks, radius = blobs(8, 128, 4, 0.3), 6
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (y * y + x * x <= radius * radius).astype(np.uint8)
    found, distance = open_and_close(torch.from_numpy(masks), torch.full((8,), float(radius)))
    for mask, ours in zip(masks.astype(np.uint8), found.numpy(), strict=True):
        theirs = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc), cv2.MORPH_CLOSE, disc)
        # Two dilations by a disc of pixels fall short of one by twice its radius, here and there by a pixel.
        assert (theirs != ours).mean() < 0.01
    np.testing.assert_array_equal(found, distance > radius)


@pytest.mark.parametrize("diameter", [3, 4, 7, 16, 33, 70, 131, 142])
def test_one_mask_is_opened_and_closed_as_by_opencv_to_the_pixel(diameter: int) -> None:
    """Also where it touches the frame."""
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    changed = 0
    for level in (-0.3, 0.0, 0.3):
        mask = blobs(1, 256, max(2, diameter / 4), level)[0].astype(np.uint8)
        theirs = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, ellipse), cv2.MORPH_CLOSE, ellipse)
        np.testing.assert_array_equal(open_and_close_exactly(mask, diameter), theirs)
        changed += int((mask != theirs).sum())
    assert changed


def test_small_masks_of_any_shape_are_opened_and_closed_as_by_opencv() -> None:
    """Widths around a word of 64 bits, ellipses larger than the mask, empty and full masks."""
    rng, found = np.random.default_rng(0), []
    for _ in range(1000):
        height, width, diameter = (int(one) for one in rng.integers((1, 1, 1), (40, 140, 20)))
        mask = (rng.random((height, width)) < rng.choice([0.0, 0.8, 0.97, 1.0])).astype(np.uint8)
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
        theirs = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, ellipse), cv2.MORPH_CLOSE, ellipse)
        found.append(open_and_close_exactly(mask, diameter))
        np.testing.assert_array_equal(found[-1], theirs, str((height, width, diameter)))
    assert sum(mask.any() and not mask.all() for mask in found) > 100


def test_every_mask_has_its_own_radius() -> None:
    masks = torch.from_numpy(blobs(3, 64, 4, 0.0))
    radii = torch.tensor([2.0, 7.0, 4.0])
    together, _ = open_and_close(masks, radii)
    for number in range(3):
        alone, _ = open_and_close(masks[[number]], radii[[number]])
        assert torch.equal(together[number], alone[0])


@pytest.mark.parametrize("level", [-0.5, 0.5, 2.0])
def test_components_are_scipys(level: float) -> None:
    masks = np.concatenate([blobs(70, 40, 6, level), blobs(30, 40, 2, level, seed=1)])
    expected = [ndimage.label(mask)[1] == 1 for mask in masks]
    assert is_one_component(torch.from_numpy(masks)).tolist() == expected
    assert 0 < sum(expected) < 100


def test_a_winding_component_and_empty_masks() -> None:
    snake = np.zeros((3, 33, 33), bool)
    snake[0, ::2] = True
    snake[0, 1::4, -1] = snake[0, 3::4, 0] = True
    snake[1, 0, 0] = snake[1, 1, 1] = True  # joined by a corner alone
    assert is_one_component(torch.from_numpy(snake)).tolist() == [True, False, False]


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_block_needs_all_its_pixels(factor: int) -> None:
    masks = np.random.default_rng(0).random((3, 32, 32)) < 0.9
    expected = masks.reshape(3, 32 // factor, factor, 32 // factor, factor).all((2, 4))
    np.testing.assert_array_equal(all_in_blocks(torch.from_numpy(masks), factor), expected)
