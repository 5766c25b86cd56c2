from __future__ import annotations

import numpy as np

from dermprompt.masks.draw import resize


def test_a_shape_smaller_than_a_pixel_is_one_pixel() -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[165:170, 246:249] = 1
    small = resize(mask, 64)
    assert np.argwhere(small).tolist() == [[20, 30]]
    assert not resize(np.zeros_like(mask), 64).any()


def test_otherwise_more_than_half_of_a_pixel_counts() -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[160:184, 240:260] = 1
    wanted = np.zeros((64, 64), np.uint8)
    wanted[20:23, 30:32] = 1
    np.testing.assert_array_equal(resize(mask, 64), wanted)
