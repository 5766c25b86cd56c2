from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dermprompt.evaluation.labels import Question, auc, questions_of, score_question
from dermprompt.lesion import Lesion

DIAGNOSIS = Question("diagnosis", ("BKL", "MEL", "NV"))
STREAKS = Question("streaks", ("absent", "present"))


def lesion(diagnosis: str | None, attributes: tuple[str, ...] | None) -> Lesion:
    return Lesion("a", Path("a"), Path("a"), diagnosis, attributes)


def sure(said: np.ndarray, classes: int) -> np.ndarray:
    """Log-probabilities that say so."""
    return np.log(np.where(np.eye(classes)[said] > 0, 0.9, 0.1 / (classes - 1)))


def test_what_encodes_the_label_is_found_and_exchanged_prompts_are_at_chance() -> None:
    answers = np.array([0] * 30 + [1] * 60 + [2] * 200)
    every, *codes = score_question(DIAGNOSIS, sure(answers, 3), answers, seed=0)
    assert (every.label, every.measure, every.n, every.positives) == ("diagnosis", "balanced accuracy", 290, None)
    assert every.accuracy is not None
    assert (every.accuracy.mean, every.accuracy.low, every.accuracy.high) == (1, 1, 1)
    assert every.shuffled is not None
    assert every.shuffled.mean == pytest.approx(1 / 3, abs=0.01)
    assert every.shuffled.low < 1 / 3 < every.shuffled.high
    assert [(one.label, one.positives) for one in codes] == [
        ("diagnosis BKL", 30),
        ("diagnosis MEL", 60),
        ("diagnosis NV", 200),
    ]
    for one in codes:
        assert one.accuracy is not None
        assert one.auc is not None
        assert one.shuffled is not None
        assert one.accuracy.mean == one.auc.mean == 1
        assert one.shuffled.mean == pytest.approx(one.positives / 290, abs=0.01)


def test_what_is_said_by_chance_lies_at_one_half() -> None:
    rng = np.random.default_rng(0)
    answers = rng.integers(2, size=4000)
    (one,) = score_question(STREAKS, np.log(rng.dirichlet((1, 1), 4000)), answers, seed=0)
    for interval in (one.accuracy, one.shuffled, one.auc):
        assert interval is not None
        assert interval.mean == pytest.approx(0.5, abs=0.02)
        assert interval.low < 0.5 < interval.high


def test_balanced_accuracy_by_hand() -> None:
    """Of 20 present 15 are found, of 80 absent 72."""
    answers = np.array([1] * 20 + [0] * 80)
    said = np.array([1] * 15 + [0] * 5 + [0] * 72 + [1] * 8)
    (one,) = score_question(STREAKS, sure(said, 2), answers, seed=0)
    assert one.accuracy is not None
    assert one.accuracy.mean == pytest.approx((15 / 20 + 72 / 80) / 2)
    std = np.sqrt(0.75 * 0.25 / 20 + 0.9 * 0.1 / 80) / 2
    assert one.accuracy.high - one.accuracy.low == pytest.approx(2 * 1.96 * std, rel=0.1)
    assert (one.n, one.positives) == (100, 20)


def test_unknown_answers_do_not_count() -> None:
    answers = np.array([1] * 20 + [0] * 30)
    given = score_question(STREAKS, sure(answers, 2), answers, seed=0)
    wrong = sure(1 - answers, 2)
    both = np.concatenate([answers, np.full(50, -1)])
    assert score_question(STREAKS, np.concatenate([sure(answers, 2), wrong]), both, seed=0) == given


@pytest.mark.parametrize("positives", [0, 9, 91, 100])
def test_too_few_images_get_no_number(positives: int) -> None:
    answers = np.array([1] * positives + [0] * (100 - positives))
    (one,) = score_question(STREAKS, sure(answers, 2), answers, seed=0)
    assert (one.accuracy, one.shuffled, one.auc, one.positives) == (None, None, None, positives)


def test_the_area_counts_ties_half_and_is_that_of_order_alone() -> None:
    positive, negative = np.array([3.0, 1.0]), np.array([1.0, 0.0])
    assert auc(positive, negative, 0).mean == (1 + 1 + 0.5 + 1) / 4
    assert auc(positive**3, negative**3, 0).mean == auc(positive, negative, 0).mean
    rng = np.random.default_rng(0)
    wide, narrow = (auc(rng.normal(1, 1, n), rng.normal(0, 1, n), 0) for n in (20, 500))
    assert narrow.mean == pytest.approx(0.76, abs=0.04)
    assert narrow.low < 0.76 < narrow.high
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_what_can_be_asked_is_what_ten_images_of_each_answer_show() -> None:
    lesions = [lesion("NV", ("net",))] * 20 + [lesion("MEL", ())] * 10 + [lesion("DF", ("net", "dots"))] * 9
    asked = questions_of([*lesions, lesion(None, None)])
    assert asked == (Question("diagnosis", ("MEL", "NV")), Question("net", ("absent", "present")))
    answers = [list(one.answers([lesions[0], lesions[20], lesions[30], lesion(None, None)])) for one in asked]
    assert answers == [[1, 0, -1, -1], [1, 0, 1, -1]]
    assert questions_of([lesion(None, None)] * 30) == ()
    assert questions_of([lesion("NV", None)] * 30) == ()
