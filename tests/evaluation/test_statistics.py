from __future__ import annotations

import numpy as np
import pytest

from dermprompt.evaluation.statistics import bootstrap_mean, paired_gain
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
