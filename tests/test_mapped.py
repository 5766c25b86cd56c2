"""Rows of a mapped array: what is indexed is what the array holds, and nothing else is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dermprompt.mapped import Rows, slices

ARRAY = np.arange(60, dtype=np.uint8).reshape(10, 3, 2)
ORDER = np.array([7, 0, 9, 3])
ROWS = Rows(ARRAY, ORDER)


@pytest.mark.parametrize("index", [2, -1, slice(1, 3), slice(None), [3, 0, 0], np.array([True, False, True, False])])
def test_an_index_gives_what_the_rows_would_in_memory(index: object) -> None:
    np.testing.assert_array_equal(ROWS[index], ARRAY[ORDER][index])  # type: ignore[index]


def test_some_of_the_rows_are_still_unread(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", ARRAY)
    mapped = Rows(np.load(tmp_path / "array.npy", mmap_mode="r"), ORDER)
    some = mapped.only(slice(1, None))
    assert isinstance(some.array, np.memmap)
    np.testing.assert_array_equal(np.asarray(some), ARRAY[ORDER[1:]])
    assert some.shape == (3, 3, 2)


def test_one_after_the_other() -> None:
    np.testing.assert_array_equal(np.stack(list(ROWS)), ARRAY[ORDER])
    assert [list(range(10))[part] for part in slices(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
