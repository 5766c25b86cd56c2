from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from dermprompt.masks.noise import keys_of, normal, uniform

KEYS = keys_of(0, torch.arange(200), 0)


def test_numbers_depend_on_seed_index_attempt_and_stream() -> None:
    assert torch.equal(normal(keys_of(0, torch.tensor([7, 3]), 0), 10, 0), normal(KEYS, 10, 0)[[7, 3]])
    drawn = [
        normal(KEYS, 10, 0),
        normal(KEYS, 10, 1),
        normal(keys_of(1, torch.arange(200), 0), 10, 0),
        normal(keys_of(0, torch.arange(200), 1), 10, 0),
    ]
    assert len({values.numpy().tobytes() for values in drawn}) == 4
    assert len({row.numpy().tobytes() for values in drawn for row in values}) == 800


def test_normal_and_uniform_are_what_they_say() -> None:
    """Kolmogorov and Smirnov at the level of 0.1 %, and nothing between neighbours of any kind."""
    gauss, flat = normal(KEYS, 400, 0).numpy(), uniform(KEYS, 400, 1).numpy()
    assert stats.kstest(gauss.ravel(), "norm").pvalue > 0.001
    assert stats.kstest(flat.ravel(), "uniform").pvalue > 0.001
    assert flat.min() >= 0
    assert flat.max() < 1
    for one, other in ((gauss[:, :-1], gauss[:, 1:]), (gauss[:-1], gauss[1:]), (gauss[:, :200], gauss[:, 200:])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(one.size)


def test_the_finalizer_is_splitmix64s() -> None:
    """The first numbers of a SplitMix64 that starts at 0, as published."""
    from dermprompt.masks.noise import _GOLDEN, _mix

    found = _mix(torch.arange(1, 4) * _GOLDEN).numpy().astype(np.uint64)
    assert [hex(value) for value in found] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]
