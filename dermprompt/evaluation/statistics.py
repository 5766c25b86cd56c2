"""Intervals and tests for means over test images and trainings.

A table of scores has one row per training seed and one column per test image. Both are random samples; an interval
that resamples images alone says nothing about another training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dermprompt.results import Comparison, Interval

Values = NDArray[np.float64]

# With fewer trainings their variance cannot be estimated; the interval then covers images alone, and says so.
MIN_SEEDS = 5
# Two arms within this of each other are called equivalent: one point of Dice.
MARGIN = 0.01
POWER = 0.8
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Error:
    """The standard error of a table's mean and its degrees of freedom."""

    value: float
    df: float

    def quantile(self, level: float) -> float:
        """Student's t of a two-sided interval."""
        return float(stats.t.ppf((1 + level) / 2, self.df))


def bootstrap_mean(values: Values, seed: int, num: int = NUM_RESAMPLES) -> Interval:
    """95 % percentile bootstrap of the mean, Efron (1979), over ``num`` resamples of the N values."""
    n = len(values)
    assert n > 0, values.shape
    assert values.ndim == 1, values.shape
    assert np.isfinite(values).all(), values
    means = values[np.random.default_rng(seed).integers(n, size=(num, n))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high), n=n)


def paired_gain(values: Values, baseline: Values, seed: int) -> Interval:
    """Paired bootstrap, Efron (1979), of the mean gain of ``values`` over ``baseline`` on the same N images.

    The interval covers test images, not trainings.
    """
    assert values.shape == baseline.shape, (values.shape, baseline.shape)
    return bootstrap_mean(values - baseline, seed)


def crossed_error(table: Values) -> Error:
    """Standard error of the mean of KN scores, K seeds crossed with N images, each a random effect.

    The variance is that of the two-way layout, σ²(seed) / K + σ²(image) / N + σ²(rest) / KN, from the mean
    squares (Searle, Casella and McCulloch 1992, section 4.3), an estimate below 0 taken as 0; the degrees of
    freedom are Satterthwaite's (1946). With one seed: of the images alone.
    """
    num_seeds, num_images = table.shape
    if num_seeds == 1:
        return Error(float(table.std(ddof=1)) / num_images**0.5, num_images - 1)
    by_seed, by_image = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_image[None] + table.mean()
    squares = np.array(
        [
            num_images * by_seed.var(ddof=1),
            num_seeds * by_image.var(ddof=1),
            (rest**2).sum() / ((num_seeds - 1) * (num_images - 1)),
        ]
    )
    freedom = np.array([num_seeds - 1, num_images - 1, (num_seeds - 1) * (num_images - 1)])
    shown = squares[:2] > squares[2]  # an effect whose mean square is below the rest's is taken as 0
    signs = np.array([*shown, 1 - shown.sum()])
    total = float(signs @ squares)
    df = total**2 / ((signs * squares) ** 2 @ (1 / freedom)) if total > 0 else freedom[2]
    return Error((max(total, 0.0) / table.size) ** 0.5, max(float(df), 1.0))


def crossed_interval(table: Values, seed: int, level: float = 0.95, num: int = NUM_RESAMPLES) -> Interval:
    """Bootstrap interval of the mean of KN scores that resamples seeds and images, crossed (Owen 2007).

    Plain percentiles of five seeds' resamples are too narrow: a resample of K has (K - 1) / K of the variance,
    and Student's t of few is wide. So the resamples give the shape, and :func:`crossed_error` the width. Below
    five seeds only the images are resampled, with each image's mean over the seeds, and ``over`` says so.
    """
    assert np.isfinite(table).all(), "scores that are no numbers"
    over_seeds = len(table) >= MIN_SEEDS
    used = table if over_seeds else table.mean(axis=0, keepdims=True)
    error, mean = crossed_error(used), float(used.mean())
    shape = _resampled(used, seed, num) - mean
    tails = np.quantile(shape, [(1 - level) / 2, (1 + level) / 2])
    normal = float(stats.norm.ppf((1 + level) / 2)) * shape.std()
    widths = tails * (error.quantile(level) * error.value / normal if normal > 0 else 0.0)
    over = "seeds and images" if over_seeds else "images"
    return Interval(mean, mean + float(widths[0]), mean + float(widths[1]), table.shape[1], over, len(table))


def _resampled(table: Values, seed: int, num: int) -> Values:
    """Means of ``num`` tables, each of rows and columns drawn with replacement."""
    rng = np.random.default_rng(seed)
    rows = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), num) / len(table)
    if len(table) == 1:
        rows = np.ones((num, 1))
    columns = rng.multinomial(table.shape[1], np.full(table.shape[1], 1 / table.shape[1]), num) / table.shape[1]
    return np.einsum("rk,ri,ki->r", rows, columns, table, optimize=True)


def compare(ours: Values, theirs: Values, seed: int, level: float = 0.95) -> Comparison:
    """Compare two arms' scores KN of the same seeds and images.

    The verdict stands by the interval of the mean difference: ``better`` or ``worse`` where it leaves out 0,
    ``equivalent`` where it lies within one point of Dice, else ``unresolved``. ``effect`` is the difference in
    standard deviations over images; ``smallest`` the one that these seeds and images would have shown with 80 %
    power; ``wilcoxon`` the p of Wilcoxon's signed ranks, which asks another question: whether more images gain
    than lose.
    """
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    difference = ours - theirs
    interval = crossed_interval(difference, seed, level)
    per_image = difference.mean(axis=0)
    used = difference if interval.over != "images" else per_image[None]
    error, std = crossed_error(used), float(per_image.std(ddof=1))
    statistic = abs(interval.mean) / error.value if error.value > 0 else np.inf * abs(interval.mean)
    return Comparison(
        gain=interval,
        verdict=verdict(interval),
        effect=interval.mean / std if std > 0 else 0.0,
        smallest=(error.quantile(level) + float(stats.t.ppf(POWER, error.df))) * error.value,
        p=float(2 * stats.t.sf(statistic, error.df)) if np.isfinite(statistic) else 1.0 - float(interval.mean != 0),
        wilcoxon=float(stats.wilcoxon(per_image).pvalue) if per_image.any() else 1.0,
    )


def verdict(interval: Interval, margin: float = MARGIN) -> str:
    """``better``, ``worse``, ``equivalent`` or ``unresolved``, by an interval of a mean difference.

    A difference that is shown and within the margin is called by its sign, for the interval is there to read.
    """
    if interval.low > 0:
        return "better"
    if interval.high < 0:
        return "worse"
    return "equivalent" if max(-interval.low, interval.high) < margin else "unresolved"


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p of a family of tests, Holm (1979), in their order."""
    order, number = np.argsort(p_values, kind="stable"), len(p_values)
    adjusted, highest = [0.0] * number, 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (number - rank) * p_values[k]))
        adjusted[k] = highest
    return adjusted
