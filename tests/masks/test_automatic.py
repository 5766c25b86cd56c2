from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from dermprompt.masks.automatic import AutomaticMasks
from dermprompt.masks.shape import Shape, measure

elasticdeform = pytest.importorskip("elasticdeform")

CODE = AutomaticMasks(512, seed=0)
TEXT = replace(CODE, blur_sigma=5.0)


def num_components(mask: np.ndarray) -> int:
    return ndimage.label(mask, np.ones((3, 3)))[1]


@pytest.mark.parametrize("size", [64, 256, 512])
def test_one_component_at_every_size(size: int) -> None:
    masks = replace(CODE, size=size, seed=3).sample(range(24))
    assert (masks.shape, masks.dtype, masks.max()) == ((24, size, size), np.uint8, 1)
    assert [num_components(mask) for mask in masks] == [1] * 24


def test_a_mask_depends_on_settings_seed_and_index_alone() -> None:
    small = replace(CODE, size=64)
    together = small.sample(range(40))
    torch.manual_seed(1)
    np.testing.assert_array_equal(small.sample([7]), together[[7]])
    np.testing.assert_array_equal(small.sample([39, 3, 11]), together[[39, 3, 11]])
    assert not np.array_equal(replace(small, seed=1).sample([7]), together[[7]])
    assert not np.array_equal(replace(small, elastic_sigma=20.0).sample([7]), together[[7]])
    assert len({mask.tobytes() for mask in together}) == 40


def test_the_same_shape_at_every_size() -> None:
    small, large = (replace(CODE, size=size).sample(range(10)) for size in (128, 512))
    enlarged = small.repeat(4, 1).repeat(4, 2)
    overlap = 2 * (enlarged & large).sum((1, 2)) / (enlarged.sum((1, 2)) + large.sum((1, 2)))
    assert overlap.min() > 0.95


def test_without_deformation_a_circle_between_the_bounds() -> None:
    radii = []
    for mask in replace(CODE, elastic_sigma=0.0, min_radius=100, kernel=0.05).sample(range(40)):
        shape = measure(mask)
        radii.append(np.sqrt(mask.sum() / np.pi))
        assert shape.eccentricity < 0.1
        assert 236 - 1 < shape.centre_y * 512 < 286 + 1
        assert 236 - 1 < shape.centre_x * 512 < 286 + 1
    assert 99 < min(radii) < 115
    assert 220 < max(radii) < 286


def test_the_papers_blur_takes_a_little_off_small_circles() -> None:
    still = {"elastic_sigma": 0.0, "min_radius": 20}
    sharp, soft = (replace(source, **still).sample(range(30)).sum((1, 2)) for source in (CODE, TEXT))
    lost = np.sqrt(sharp / np.pi) - np.sqrt(soft / np.pi)
    # A disc's blurred edge is at half its height sigma^2 / 2r further in.
    assert lost.mean() == pytest.approx(np.mean(25 / (2 * np.sqrt(sharp / np.pi))), abs=0.15)


def restated(rng: np.random.Generator) -> np.ndarray | None:
    """The authors' recipe, one try."""
    canvas = np.zeros((512, 512), np.uint8)
    centre = rng.integers(236, 286, size=2)
    radius = int(rng.integers(15, min(centre)))
    cv2.circle(canvas, (int(centre[1]), int(centre[0])), radius, 255, -1)
    canvas = elasticdeform.deform_grid(canvas, rng.normal(0, 25, (2, 100, 100)), order=0)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (radius // 2, radius // 2))
    canvas = cv2.morphologyEx(cv2.morphologyEx(canvas, cv2.MORPH_OPEN, ellipse), cv2.MORPH_CLOSE, ellipse)
    return (canvas > 0).astype(np.uint8) if num_components(canvas) == 1 else None


@pytest.mark.parametrize(("number", "num_tries"), [(80, 50), pytest.param(200, 125, marks=pytest.mark.slow)])
def test_the_distribution_is_the_recipes(number: int, num_tries: int) -> None:
    """A test at the level of 0.1 %; ``benchmarks/mask_shapes.py`` compares 1,000."""
    rng = np.random.default_rng(0)
    tries = [restated(rng) for _ in range(num_tries)]
    theirs = [measure(mask) for mask in tries if mask is not None]
    ours = [measure(mask) for mask in CODE.sample(range(number))]

    def values(shapes: list[Shape], name: str) -> list[float]:
        return [getattr(shape, name) for shape in shapes]

    for name in ("area", "eccentricity", "solidity", "centre_y", "centre_x", "roughness"):
        assert stats.ks_2samp(values(ours, name), values(theirs, name)).pvalue > 0.001, name
    share = len(theirs) / num_tries
    std = np.sqrt(share * (1 - share) * (1 / num_tries + 1 / (2 * number)))
    assert CODE.acceptance(range(2 * number)) == pytest.approx(share, abs=4 * std)


def test_settings_that_leave_nothing_are_named() -> None:
    with pytest.raises(ValueError, match=r"mask 5 had no single component in 100 attempts with .*elastic_sigma=120"):
        replace(CODE, elastic_sigma=120.0, centre=(250, 250), min_radius=240).sample([5])
