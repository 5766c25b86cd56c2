"""Rows of an array that may be larger than memory, read from the disk when they are indexed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


class Rows:
    """``array[rows]`` of a memory-mapped array, not read before it is indexed.

    An index (a number, a slice, a list or an array) returns ``array[rows][index]`` as an array in memory;
    ``np.asarray`` returns all rows.
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray | None = None) -> None:
        self.array, self.rows = array, np.arange(len(array)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of ``array[rows]``."""
        return (len(self.rows), *self.array.shape[1:])

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self.array[self.rows[index]])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[k] for k in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def only(self, index: Any) -> Rows:
        """Select rows, without reading them."""
        return Rows(self.array, self.rows[index])


Arrays = Rows | np.ndarray


def slices(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of ``size`` rows that cover ``length`` rows."""
    return (slice(start, start + size) for start in range(0, length, size))
