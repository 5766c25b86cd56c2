"""How far a mean over test images can be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dermprompt.results import Interval

Values = NDArray[np.float64]


def bootstrap_mean(values: Values, seed: int, num: int = 2000) -> Interval:
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

    It says how the gain varies over test images, not over trainings.
    """
    assert values.shape == baseline.shape, (values.shape, baseline.shape)
    return bootstrap_mean(values - baseline, seed)
