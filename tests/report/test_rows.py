"""Rows of several jobs are listed once, told apart where they differ, and taken over all folds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dermprompt.report.rows import distinct, names_that_tell, over_folds
from dermprompt.results import MaskFidelity


def test_names_say_what_differs_and_the_job_only_where_nothing_does():
    parts = [("S + 64", "U-Net", "seed 0"), ("S + 64", "U-Net", "seed 1"), ("S + 1K", "U-Net", "seed 1")]
    assert names_that_tell(parts, ["a", "b", "c"]) == ["S + 64 · seed 0", "S + 64 · seed 1", "S + 1K · seed 1"]
    assert names_that_tell(parts[:1] * 2, ["a", "b"]) == ["S + 64 · a", "S + 64 · b"]
    assert names_that_tell([], []) == []


def test_what_no_table_tells_apart_is_listed_once() -> None:
    assert distinct([("a", 0.1 + 0.2), ("a", 0.3), ("a", 0.30001), ("a", float("nan")), ("a", float("nan"))]) == (
        ("a", 0.1 + 0.2),
        ("a", 0.30001),
        pytest.approx(("a", float("nan")), nan_ok=True),
    )


@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        ((0, 1), [0.5]),  # (30 · 0.4 + 10 · 0.8) / 40
        ((0, 0), [0.4, 0.8]),  # a setting differs
        ((None, None), [0.4, 0.8]),
        ((None, 1), [0.4, 0.8]),
    ],
)
def test_folds_are_averaged_by_their_images(folds: tuple[int | None, ...], expected: list[float]) -> None:
    first = MaskFidelity(real=0.4, generated=0.4, shuffled=0.1, n=30)
    rows = [*zip(folds, (first, replace(first, real=0.8, n=10)), strict=True)]
    found = over_folds([*rows, rows[0]], lambda row: row, lambda _, pooled: pooled)
    assert [row.real for row in found] == pytest.approx(expected)
    assert sum(row.n for row in found) == 40
