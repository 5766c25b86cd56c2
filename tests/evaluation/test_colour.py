"""Colours by region: figures by hand, and drift that is told from chance."""

from __future__ import annotations

import numpy as np
import pytest

from dermprompt.evaluation.colour import FIGURES, REGIONS, drifted, region_colours


def photographs(number: int, seed: int, shift: tuple[int, int, int] = (0, 0, 0), contrast: float = 1.0) -> np.ndarray:
    """Noise around a colour of its own each, uint8 (N, 8, 8, 3)."""
    rng = np.random.default_rng(seed)
    colours = rng.normal((180, 130, 110), 20, (number, 1, 1, 3)) + shift
    return (colours + rng.normal(0, 12 * contrast, (number, 8, 8, 3))).clip(0, 255).astype(np.uint8)


def test_figures_by_hand() -> None:
    image, mask = np.zeros((1, 2, 2, 3), np.uint8), np.array([[[1, 1], [0, 0]]], np.uint8)
    image[0, 0, 0], image[0, 0, 1], image[0, 1] = (10, 20, 30), (30, 20, 10), (200, 100, 50)
    assert region_colours(image, mask, "inside").tolist() == [[20, 20, 20, 10, 0, 10]]
    assert region_colours(image, mask, "outside").tolist() == [[200, 100, 50, 0, 0, 0]]


def test_an_image_without_the_region_does_not_count() -> None:
    images, masks = photographs(3, 0), np.zeros((3, 8, 8), np.uint8)
    masks[0, :4] = 1
    assert [len(region_colours(images, masks, region)) for region in REGIONS] == [1, 3]
    masks[:] = 1
    assert region_colours(images, masks, "outside").shape == (0, len(FIGURES))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("number", [12, 40, 400])
def test_what_differs_by_chance_does_not_drift(number: int, seed: int) -> None:
    masks = np.ones((number, 8, 8), np.uint8)
    real, drawn = (region_colours(photographs(number, one), masks, "inside") for one in (2 * seed, 2 * seed + 1))
    assert drifted(drawn, real) == ()


@pytest.mark.parametrize(
    ("shift", "contrast", "said"),
    [
        ((-25, 0, 0), 1.0, ("mean of red",)),
        ((0, 0, 25), 1.0, ("mean of blue",)),
        ((0, 0, 0), 0.3, FIGURES[3:]),
    ],
)
def test_tints_and_dull_colours_drift(shift: tuple[int, int, int], contrast: float, said: tuple[str, ...]) -> None:
    masks = np.ones((60, 8, 8), np.uint8)
    real = region_colours(photographs(60, 0), masks, "inside")
    assert drifted(region_colours(photographs(60, 1, shift, contrast), masks, "inside"), real) == said


def test_of_few_images_nothing_is_known() -> None:
    few = region_colours(photographs(9, 0), np.ones((9, 8, 8), np.uint8), "inside")
    assert drifted(few, few + 100) == ()
