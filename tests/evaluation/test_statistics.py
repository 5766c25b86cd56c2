from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dermprompt.evaluation.statistics import (
    bootstrap_mean,
    compare,
    crossed_error,
    crossed_interval,
    holm,
    paired_gain,
    verdict,
)
from dermprompt.results import Interval


def test_constant_values_have_no_width() -> None:
    assert bootstrap_mean(np.full(10, 0.25), seed=0) == Interval(0.25, 0.25, 0.25, 10)


def test_two_values_by_hand() -> None:
    """The mean of a resample of (0, 1) is 0, 1/2 or 1 with chances 1/4, 1/2 and 1/4."""
    assert bootstrap_mean(np.array([0.0, 1.0]), seed=0) == Interval(0.5, 0, 1, 2)


def test_width_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap_mean(values, seed=0, num=5000)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)


def test_coverage_on_simulated_normals() -> None:
    draws = np.random.default_rng(0).normal(3, 2, size=(200, 50))
    intervals = [bootstrap_mean(values, seed=k, num=500) for k, values in enumerate(draws)]
    coverage = np.mean([interval.low <= 3 <= interval.high for interval in intervals])
    assert 0.90 <= coverage <= 0.99


def test_the_seed_decides() -> None:
    values = np.random.default_rng(0).random(30)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_pairing_removes_what_both_share() -> None:
    rng = np.random.default_rng(0)
    baseline = rng.normal(0.8, 0.1, 200)
    gain = paired_gain(baseline + 0.01 + rng.normal(0, 0.01, 200), baseline, seed=0)
    assert 0 < gain.low < 0.01 < gain.high < 0.02
    assert gain.n == 200
    alone = bootstrap_mean(baseline, seed=0)
    assert gain.high - gain.low < 0.2 * (alone.high - alone.low)


def test_a_gain_and_its_inverse_mirror_each_other() -> None:
    values, baseline = np.random.default_rng(0).random((2, 40))
    gain, loss = paired_gain(values, baseline, seed=5), paired_gain(baseline, values, seed=5)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((-loss.mean, -loss.high, -loss.low))


@pytest.mark.parametrize("values", [[], [0.5, np.nan], [[0.5]]])
def test_unusable_values_do_not_pass(values: list) -> None:
    with pytest.raises(AssertionError):
        bootstrap_mean(np.array(values), seed=0)


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


@pytest.mark.parametrize("spread", [(0.01, 0.03, 0.06), (0.03, 0.03, 0.06), (0.005, 0.08, 0.04)])
def test_intervals_over_seeds_and_images_hold_the_truth(spread: tuple[float, float, float]) -> None:
    rng, held = np.random.default_rng(0), []
    for k in range(1000):
        interval = crossed_interval(_scores(rng, *spread), seed=k, num=200)
        held.append(interval.low <= 0 <= interval.high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_an_interval_of_images_alone_misses_what_seeds_do() -> None:
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        scores = _scores(rng, 0.03, 0.03, 0.06)
        held.append(abs(scores.mean()) <= 1.96 * stats.sem(scores.mean(axis=0)))
    assert np.mean(held) < 0.7


def test_below_five_seeds_an_interval_is_of_images_and_says_so() -> None:
    scores = _scores(np.random.default_rng(0), 0.1, 0.01, 0.01, (4, 50))
    few, enough = crossed_interval(scores, 0), crossed_interval(np.vstack([scores, scores[:1]]), 0)
    assert (few.over, few.seeds, few.n) == ("images", 4, 50)
    assert (enough.over, enough.seeds, enough.n) == ("seeds and images", 5, 50)
    assert enough.high - enough.low > 5 * (few.high - few.low)


def test_a_comparison_by_hand() -> None:
    """Differences of 1 and 3 on two images: mean 2, deviation √2, standard error 1 with one degree of freedom."""
    found = compare(np.array([[2.0, 4.0]]), np.array([[1.0, 1.0]]), seed=0)
    assert found.gain.mean == 2
    assert found.effect == pytest.approx(2 / 2**0.5)
    assert found.p == pytest.approx(2 * (0.5 - np.arctan(2) / np.pi))  # Student's t of one degree is Cauchy's
    assert found.smallest == pytest.approx(np.tan(np.pi * 0.475) + np.tan(np.pi * 0.3))


def test_the_smallest_effect_is_shown_four_times_in_five() -> None:
    rng, shown, spread = np.random.default_rng(0), [], (0.01, 0.03, 0.06)
    asked = [compare(_scores(rng, *spread), np.zeros((5, 80)), 0).smallest for _ in range(50)]
    for k in range(400):
        found = compare(_scores(rng, *spread) + np.mean(asked), np.zeros((5, 80)), k)
        shown.append(found.verdict == "better")
    assert 0.7 <= np.mean(shown) <= 0.9


def test_equal_arms_are_equivalent() -> None:
    scores = np.random.default_rng(0).random((3, 20))
    found = compare(scores, scores, seed=0)
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
    assert verdict(Interval((low + high) / 2, low, high, 10)) == said


def test_holm_on_the_worked_case() -> None:
    """Four tests: 0.005 · 4, 0.01 · 3, then 0.03 · 2, and 0.04 · 1 lifted to the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
