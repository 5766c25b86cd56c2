from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dermprompt.evaluation.scores import MEASURES, load_scores, pooled, save_scores, score

PRED = np.array([[1, 1, 1], [0, 0, 0], [0, 0, 0]], np.uint8)
TARGET = np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0]], np.uint8)


def test_a_case_by_hand() -> None:
    """Two pixels of both, three each; one of the six others is predicted; IoU 2/4 is below 0.65."""
    found = score(PRED, TARGET)
    assert found.dice == pytest.approx(2 / 3)
    assert (found.iou, found.jaccard65) == (0.5, 0)
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.specificity == pytest.approx(5 / 6)
    assert (found.common, found.total) == (2, 6)


@pytest.mark.parametrize(("iou", "kept"), [(13 / 20, 13 / 20), (12 / 20, 0)])
def test_the_jaccard_of_the_challenge(iou: float, kept: float) -> None:
    target = np.zeros((5, 4), np.uint8) + 1
    pred = (np.arange(20).reshape(5, 4) < round(iou * 20)).astype(np.uint8)
    assert score(pred, target).jaccard65 == pytest.approx(kept)


def test_nothing_predicted_where_nothing_is() -> None:
    found = score(PRED * 0, TARGET * 0)
    assert [getattr(found, name) for name in MEASURES] == [1, 1, 1, 1, 1, 0, 1]


def test_nothing_predicted_where_something_is() -> None:
    found = score(PRED * 0, TARGET)
    assert [getattr(found, name) for name in MEASURES] == [0, 0, 0, 0, 1, 1, 0]


def test_pooled_weighs_by_area() -> None:
    large = np.ones((10, 10), np.uint8)
    scores = [score(large, large), score(PRED * 0, TARGET)]
    assert pooled(scores) == pytest.approx(200 / 203)
    assert pooled([]) == 1
    assert pooled([score(TARGET * 0, TARGET * 0)]) == 1


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) pixels .* \(3, 3\)"):
        score(PRED[:2], TARGET)


def test_scores_come_back(tmp_path: Path) -> None:
    scores = {"a": score(PRED, TARGET), "b": score(PRED * 0, TARGET)}
    save_scores(scores, tmp_path / "scores.csv")
    assert load_scores(tmp_path / "scores.csv") == scores
