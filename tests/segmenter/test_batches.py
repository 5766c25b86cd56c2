"""Pairs of several sets as one, of which a batch reads its own rows alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from dermprompt.mapped import Rows
from dermprompt.segmenter.batches import SegmentationBatches, ordered_loader


class Disk:
    """An array that counts how many of its rows were read at once."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.most = array, array.shape, 0

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.most = max(self.most, np.size(rows))
        return self.array[rows]


IMAGES = np.arange(7 * 2 * 2 * 3, dtype=np.uint8).reshape(7, 2, 2, 3)
MASKS = np.arange(7 * 2 * 2, dtype=np.uint8).reshape(7, 2, 2)
ORDER = np.array([4, 1, 3, 0])
DRAWN = np.array([2, 5, 6])


def both(images: Any) -> SegmentationBatches:
    """Four rows of a mapped array, and three in memory."""
    return SegmentationBatches((Rows(images, ORDER), Rows(MASKS, ORDER)), (IMAGES[DRAWN], MASKS[DRAWN]))


def test_rows_are_numbered_through_the_sets() -> None:
    data, order = both(IMAGES), np.concatenate([ORDER, DRAWN])
    assert len(data) == 7
    for rows in ([0], [6, 0, 3, 4], [2, 2]):
        images, masks = data[rows]
        np.testing.assert_array_equal(images, IMAGES[order[rows]])
        np.testing.assert_array_equal(masks, MASKS[order[rows]])


def test_no_more_is_read_than_a_batch() -> None:
    disk = Disk(IMAGES)
    assert sum(len(images) for images, _ in ordered_loader(both(disk), 3)) == 7
    assert 0 < disk.most <= 3
