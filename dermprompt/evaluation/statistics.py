"""Intervals and tests for means over test images and trainings.

A table of scores has one row per training seed and one column per test image. Seeds and images are both random
samples; an interval over images alone says nothing about another training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from dermprompt.results import Comparison, Interval

Values = NDArray[np.float64]

# With fewer trainings, their variance cannot be estimated; the interval then covers images alone, and says so.
MIN_SEEDS = 5
# Two arms within this of each other are called equivalent: one point of Dice.
MARGIN = 0.01
POWER = 0.8
# If the interval of a share reaches further than this, it is not reported.
MAX_SHARE = 1000.0
UNBOUNDED = (-np.inf, np.inf)
DICE = (0.0, 1.0)


@dataclass(frozen=True)
class Error:
    """The standard error of a table's mean and its degrees of freedom."""

    value: float
    df: float

    def quantile(self, level: float) -> float:
        """The quantile of Student's t for a two-sided interval."""
        return float(stats.t.ppf((1 + level) / 2, self.df))


def crossed_error(table: Values) -> Error:
    """Standard error of the mean of KN scores: K seeds crossed with N images, both random effects.

    The variance is that of the two-way layout, σ²(seed) / K + σ²(image) / N + σ²(rest) / KN, estimated from the mean
    squares (Searle, Casella and McCulloch 1992, section 4.3), with negative estimates set to 0; the degrees of
    freedom are Satterthwaite's (1946). With one seed, the error covers images alone.
    """
    num_seeds, num_images = table.shape
    if table.size == 1:
        return Error(0.0, 1)
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
    # MS(seed) + MS(image) - MS(rest). An effect whose mean square is below MS(rest) has variance 0 and drops out.
    shown = squares[:2] > squares[2]
    signs = np.array([*shown, 1 - shown.sum()])
    total = float(signs @ squares)
    df = total**2 / ((signs * squares) ** 2 @ (1 / freedom)) if total > 0 else freedom[2]
    return Error((max(total, 0.0) / table.size) ** 0.5, max(float(df), 1.0))


def mean_interval(table: Values, level: float = 0.95, within: tuple[float, float] = UNBOUNDED) -> Interval:
    """Student's t interval of the mean of KN scores, K seeds crossed with N images, from :func:`crossed_error`.

    Nothing is sampled, so a verdict has no Monte Carlo error. The tests simulate the coverage, also at the levels of
    simultaneous intervals. With fewer than five seeds, the interval covers images alone, using each image's mean over
    seeds, and ``over`` says so. ``within``: the range of possible means. For a single score the interval has no width.
    """
    assert table.size > 0, table.shape
    assert table.ndim == 2, table.shape
    assert np.isfinite(table).all(), "scores that are no numbers"
    used = _over_seeds(table)
    error, mean = crossed_error(used), float(used.mean())
    width = error.quantile(level) * error.value if error.value else 0.0
    low, high = np.clip([mean - width, mean + width], *within)
    over = "seeds and images" if len(used) > 1 else "images"
    return Interval(mean, float(low), float(high), table.shape[1], over, len(table))


def _over_seeds(table: Values) -> Values:
    """The scores KN, or with too few seeds each image's mean over them, 1N."""
    return table if len(table) >= MIN_SEEDS else table.mean(axis=0, keepdims=True)


def share_interval(gain: Values, gap: Values, level: float = 0.95) -> Interval | None:
    """The share of a gap that is closed: the ratio of two means of KN differences, for the same seeds and images.

    The interval is Fieller's (1954): all shares ρ for which the mean of ``gain`` - ρ ``gap`` does not differ
    significantly from 0. None if the gap itself is not significant, because its shares are then unbounded.
    """

    def shown(share: float) -> float:
        """How far the mean of the remainder exceeds its interval's half-width; if negative, the mean may be 0."""
        left = mean_interval(gain - share * gap, level)
        return abs(left.mean) - (left.high - left.mean)

    whole = mean_interval(gap, level)
    if whole.low <= 0 <= whole.high:
        return None
    mean, reach = float(gain.mean() / gap.mean()), 1.0
    while min(shown(mean - reach), shown(mean + reach)) <= 0 and reach < MAX_SHARE:
        reach *= 2
    if reach >= MAX_SHARE:
        return None
    low, high = brentq(shown, mean - reach, mean), brentq(shown, mean, mean + reach)
    return replace(whole, mean=mean, low=float(low), high=float(high))


def compare(ours: Values, theirs: Values, level: float = 0.95) -> Comparison:
    """Compare two arms' scores KN for the same seeds and images.

    The verdict follows from the interval of the mean difference over at least five seeds: ``better`` or ``worse`` if it
    excludes 0, ``equivalent`` if it lies within one point of Dice, otherwise ``unresolved``. ``effect`` is the
    difference in standard deviations over images; ``smallest`` is the smallest difference that these seeds and images
    would have shown with 80 % power; ``wilcoxon`` is the p-value of Wilcoxon's signed-rank test, which asks a different
    question: whether more images gain than lose.
    """
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    difference = ours - theirs
    interval = mean_interval(difference, level)
    per_image = difference.mean(axis=0)
    error, std = crossed_error(_over_seeds(difference)), float(per_image.std(ddof=1))
    if error.value > 0:
        p = float(2 * stats.t.sf(abs(interval.mean) / error.value, error.df))
    else:  # all differences are equal
        p = 0.0 if interval.mean else 1.0
    return Comparison(
        gain=interval,
        verdict=verdict(interval),
        effect=interval.mean / std if std > 0 else 0.0,
        smallest=(error.quantile(level) + float(stats.t.ppf(POWER, error.df))) * error.value,
        p=p,
        wilcoxon=float(stats.wilcoxon(per_image).pvalue) if per_image.any() else 1.0,
    )


def verdict(interval: Interval, margin: float = MARGIN) -> str:
    """``better``, ``worse``, ``equivalent`` or ``unresolved``, from the interval of a mean difference.

    A significant difference within the margin is called ``better`` or ``worse``; the interval shows that it is small.
    An interval over images alone resolves nothing, because two trainings of one arm differ as much as two arms do.
    """
    if interval.over == "images":
        return "unresolved"
    if interval.low > 0:
        return "better"
    if interval.high < 0:
        return "worse"
    return "equivalent" if max(-interval.low, interval.high) < margin else "unresolved"


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of a family of tests, Holm (1979), in the given order."""
    order, number = np.argsort(p_values, kind="stable"), len(p_values)
    adjusted, highest = [0.0] * number, 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (number - rank) * p_values[k]))
        adjusted[k] = highest
    return adjusted
