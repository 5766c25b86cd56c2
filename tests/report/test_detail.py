"""Means of every measure and group over seeds and folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dermprompt.report.detail import MEASURES, details
from dermprompt.results import Interval, Results, Segmentation, Subgroup


def cell(seed: int, fold: int | None, dice: float, n: int, groups: dict[str, tuple[float, int]]) -> Segmentation:
    named = tuple(Subgroup("diagnosis", k, Interval(v, 0, 1, m)) for k, (v, m) in groups.items())
    measures = {name: dice for name, _ in MEASURES}
    one = Segmentation("unet", None, 0, Interval(dice, 0, 1, n), None, dice, 0.0, "s_only")
    return replace(one, seed=seed, fold=fold, measures=measures, groups=named)


def test_by_hand() -> None:
    cells = [
        cell(0, 0, 0.8, 10, {"MEL": (0.6, 2), "NV": (0.85, 8)}),
        cell(0, 1, 0.9, 30, {"NV": (0.9, 30)}),
        cell(1, 0, 0.6, 10, {"MEL": (0.4, 2), "NV": (0.65, 8)}),
    ]
    jobs = [
        (Path(str(k)), Results("e", "", None, None, 0, "unet", one.seed, 64, "isic", None, {}, segmentation=(one,)))
        for k, one in enumerate([*cells, cells[0]])  # a cell that two jobs share counts once
    ]
    (found,) = details(jobs)
    assert (found.arms, found.trainings) == (("s_only",), (3,))
    assert found.measures[0][0] == pytest.approx((8 + 27 + 6) / 50)
    assert found.groups[0][:3] == ("diagnosis", "MEL", 2)
    assert found.groups[0][3] == (pytest.approx(0.5),)
    assert found.groups[1][:3] == ("diagnosis", "NV", 38)
    assert found.groups[1][3] == (pytest.approx((0.85 * 8 + 0.9 * 30 + 0.65 * 8) / 46),)
