"""Pictures that are not square: where a lesion lies in the square, and where what is found there lies outside of it."""

from __future__ import annotations

import numpy as np
import pytest

from dermprompt.data.fit import fit_image, fit_mask, frame, unframe

FITS = ("squeeze", "crop", "pad")


def off_centre(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose lesion lies right below the middle, and its mask."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 : 3 * height // 4, width // 2 : width // 2 + height // 4] = 1
    return np.repeat(mask[..., None] * np.uint8(200), 3, -1), mask


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (65, 97), (96, 96)])
@pytest.mark.parametrize("size", [32, 48, 128])
def test_a_lesion_stays_under_its_mask(fit: str, shape: tuple[int, int], size: int) -> None:
    image, mask = off_centre(*shape)
    small, outline = fit_image(image, size, fit), fit_mask(mask, size, fit)
    assert (small.shape, outline.shape) == ((size, size, 3), (size, size))
    assert outline.any()
    assert ((small[..., 0] >= 100) != outline).mean() < 0.03


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (65, 98), (96, 96)])
def test_what_is_found_in_the_square_goes_back_to_its_place(fit: str, shape: tuple[int, int]) -> None:
    _, mask = off_centre(*shape)
    _, _, tall, wide = frame(*shape, fit)
    whole = fit_mask(mask, max(tall, wide), fit) if tall == wide else mask
    expected = mask.copy()
    if fit == "crop":  # of a tall picture the crop cuts the lesion's lower half off
        expected[: shape[0] // 2 - wide // 2] = expected[shape[0] // 2 + wide // 2 :] = 0
    np.testing.assert_array_equal(unframe(whole, shape, fit), expected)


def test_shapes_keep_their_proportions_but_where_they_are_squeezed() -> None:
    image, _ = off_centre(64, 256)
    wide = [np.ptp(np.nonzero(fit_image(image, 64, fit)[..., 0] > 100), axis=1) + 1 for fit in FITS]
    assert [tuple(one) for one in wide] == [(16, 4), (16, 16), (4, 4)]
