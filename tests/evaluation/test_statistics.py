from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dermprompt.evaluation.statistics import (
    DICE,
    compare,
    crossed_error,
    holm,
    mean_interval,
    share_interval,
    verdict,
)
from dermprompt.results import Interval
from dermprompt.sweep.published import load_records

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def test_constant_values_have_no_width() -> None:
    assert mean_interval(np.full((1, 10), 0.25)) == Interval(0.25, 0.25, 0.25, 10)


def test_two_values_by_hand() -> None:
    """Mean 1/2, standard error 1/2, and Student's t of one degree of freedom is Cauchy's."""
    found, reach = mean_interval(np.array([[0.0, 1.0]])), np.tan(np.pi * 0.475) / 2
    assert (found.low, found.high) == pytest.approx((0.5 - reach, 0.5 + reach))
    within = mean_interval(np.array([[0.0, 1.0]]), within=DICE)
    assert (within.mean, within.low, within.high) == (0.5, 0, 1)


def test_of_one_image_only_its_score_is_known() -> None:
    assert mean_interval(np.array([[0.7]])) == Interval(0.7, 0.7, 0.7, 1)


def test_the_interval_of_one_training_is_that_of_a_t_test() -> None:
    values = np.random.default_rng(0).normal(size=30)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.99)
    found = mean_interval(values[None], 0.99)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_pairing_removes_what_both_share() -> None:
    rng = np.random.default_rng(0)
    baseline = rng.normal(0.8, 0.1, (1, 200))
    gain = mean_interval(baseline + 0.01 + rng.normal(0, 0.01, (1, 200)) - baseline)
    assert 0 < gain.low < 0.01 < gain.high < 0.02
    alone = mean_interval(baseline)
    assert gain.high - gain.low < 0.2 * (alone.high - alone.low)


@pytest.mark.parametrize("values", [[[]], [[0.5, np.nan]], [0.5]])
def test_unusable_values_do_not_pass(values: list) -> None:
    with pytest.raises(AssertionError):
        mean_interval(np.array(values))


def _scores(rng: np.random.Generator, seeds: float, images: float, rest: float, shape=(5, 80)) -> np.ndarray:
    """Scores of mean 0 whose seeds, images and the rest vary by so much."""
    rows, columns = rng.normal(0, seeds, (shape[0], 1)), rng.normal(0, images, (1, shape[1]))
    return rows + columns + rng.normal(0, rest, shape)


def test_error_of_two_seeds_and_two_images_by_hand() -> None:
    """Mean squares: seeds 2 · var(0, 3) = 9, images 2 · var(1, 2) = 1, rest 0; all in: (9 + 1 - 0) / 4."""
    error = crossed_error(np.array([[-0.5, 0.5], [2.5, 3.5]]))
    assert error.value == pytest.approx((10 / 4) ** 0.5)
    assert error.df == pytest.approx(10**2 / (9**2 + 1))


def test_error_of_one_seed_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).random((1, 30))
    assert crossed_error(values).value == pytest.approx(stats.sem(values[0]))
    assert crossed_error(values).df == 29


def test_what_all_seeds_share_is_no_error_of_seeds() -> None:
    values = np.random.default_rng(0).random(30)
    assert crossed_error(np.tile(values, (5, 1))).value == pytest.approx(stats.sem(values))


# Of one comparison, and of each of 25 that hold together.
LEVELS = (0.95, 0.998)


@pytest.mark.parametrize("spread", [(0.01, 0.03, 0.06), (0.03, 0.03, 0.06), (0.005, 0.08, 0.04)])
def test_intervals_over_seeds_and_images_hold_the_truth(spread: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(0)
    held = _held((_scores(rng, *spread) for _ in range(2000)), 0.0)
    assert 0.94 <= held[0] <= 0.965
    assert 0.9945 <= held[1] <= 0.9995


def _held(tables: Iterable[np.ndarray], truth: float) -> list[float]:
    """At each level the share of intervals that hold the truth."""
    found = [[mean_interval(table, level) for level in LEVELS] for table in tables]
    return [float(np.mean([one[k].low <= truth <= one[k].high for one in found])) for k in range(len(LEVELS))]


@pytest.mark.parametrize("num_real", [70, None])
def test_intervals_of_published_differences_hold_the_truth(num_real: int | None) -> None:
    """Dice is skewed and has outliers: a study's own differences as the population, 200 of their images at a time."""
    records = load_records(EXPERIMENTS / "fair_arms_small/scores.csv.gz")
    dice = {
        name: np.array([one.scores.dice for one in records if (one.arm.name, one.setting.num_real) == (name, num_real)])
        for name in ("controlnet_1k", "s_plus_g_strong_1k")
    }
    population = (dice["controlnet_1k"] - dice["s_plus_g_strong_1k"]).reshape(3, -1).mean(axis=0)
    assert abs(stats.skew(population)) > 0.05
    rng = np.random.default_rng(0)
    held = _held((rng.choice(population, (1, 200)) for _ in range(2000)), float(population.mean()))
    assert 0.94 <= held[0] <= 0.965
    assert 0.993 <= held[1] <= 0.9995


def test_shares_of_a_gap_hold_the_truth() -> None:
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        base = _scores(rng, 0.01, 0.05, 0.03)
        ours, real = (base + gain + _scores(rng, 0.005, 0.02, 0.03) for gain in (0.03, 0.05))
        share = share_interval(ours - base, real - base)
        assert share is not None
        held.append(share.low <= 0.6 <= share.high)
    assert 0.91 <= np.mean(held) <= 0.98


def test_the_share_of_a_gap_that_is_not_shown_has_no_bounds() -> None:
    gap = np.random.default_rng(0).normal(0.001, 0.1, (5, 40))
    assert share_interval(gap * 0.5, gap) is None
    exact = share_interval(0.5 * (gap + 1), gap + 1)
    assert exact is not None
    assert (exact.low, exact.mean, exact.high) == pytest.approx((0.5, 0.5, 0.5))


def test_an_interval_of_images_alone_misses_what_seeds_do() -> None:
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        scores = _scores(rng, 0.03, 0.03, 0.06)
        held.append(abs(scores.mean()) <= 1.96 * stats.sem(scores.mean(axis=0)))
    assert np.mean(held) < 0.7


def test_below_five_seeds_an_interval_is_of_images_and_says_so() -> None:
    scores = _scores(np.random.default_rng(0), 0.1, 0.01, 0.01, (4, 50))
    few, enough = mean_interval(scores), mean_interval(np.vstack([scores, scores[:1]]))
    assert (few.over, few.seeds, few.n) == ("images", 4, 50)
    assert (enough.over, enough.seeds, enough.n) == ("seeds and images", 5, 50)
    assert enough.high - enough.low > 5 * (few.high - few.low)


def test_a_comparison_by_hand() -> None:
    """Differences of 1 and 3 on two images: mean 2, deviation √2, standard error 1 with one degree of freedom."""
    found = compare(np.array([[2.0, 4.0]]), np.array([[1.0, 1.0]]))
    assert found.gain.mean == 2
    assert found.effect == pytest.approx(2 / 2**0.5)
    assert found.p == pytest.approx(2 * (0.5 - np.arctan(2) / np.pi))  # Student's t of one degree is Cauchy's
    assert found.smallest == pytest.approx(np.tan(np.pi * 0.475) + np.tan(np.pi * 0.3))


def test_the_smallest_effect_is_shown_four_times_in_five() -> None:
    rng, shown, spread = np.random.default_rng(0), [], (0.01, 0.03, 0.06)
    asked = [compare(_scores(rng, *spread), np.zeros((5, 80))).smallest for _ in range(50)]
    for _ in range(400):
        found = compare(_scores(rng, *spread) + np.mean(asked), np.zeros((5, 80)))
        shown.append(found.verdict == "better")
    assert 0.7 <= np.mean(shown) <= 0.9


def test_equal_arms_are_equivalent() -> None:
    scores = np.random.default_rng(0).random((5, 20))
    found = compare(scores, scores)
    assert (found.verdict, found.effect, found.smallest, found.p, found.wilcoxon) == ("equivalent", 0, 0, 1, 1)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.05, "better"),
        (-0.05, -0.001, "worse"),
        (-0.009, 0.009, "equivalent"),
        (-0.009, 0.011, "unresolved"),
        (-0.011, 0.009, "unresolved"),
    ],
)
def test_verdicts(low: float, high: float, said: str) -> None:
    interval = Interval((low + high) / 2, low, high, 10, "seeds and images", 5)
    assert verdict(interval) == said
    assert verdict(replace(interval, over="images", seeds=4)) == "unresolved"


def test_holm_on_the_worked_case() -> None:
    """Four tests: 0.005 · 4, 0.01 · 3, then 0.03 · 2, and 0.04 · 1 lifted to the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
