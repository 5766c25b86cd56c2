"""The controls of a filter: as many by chance, as many by quotas."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dermprompt.curation.controls import keep_at_random, keep_by_quotas


@given(total=st.integers(0, 50), seed=st.integers(0, 5), data=st.data())
def test_as_many_by_chance(total: int, seed: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, total))
    decisions = keep_at_random(number, total, seed)
    assert Counter(decisions) == Counter(keep=number, drop=total - number)
    assert decisions == keep_at_random(number, total, seed)


@given(strata=st.lists(st.sampled_from("abc"), max_size=40), data=st.data())
def test_quotas_keep_the_make_up(strata: list[str], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(strata)))
    scores = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(strata), max_size=len(strata))))
    decisions = keep_by_quotas(scores, strata, number)
    assert decisions.count("keep") == number
    for stratum, size in Counter(strata).items():
        rows = [i for i, one in enumerate(strata) if one == stratum]
        kept = [scores[i] for i in rows if decisions[i] == "keep"]
        dropped = [scores[i] for i in rows if decisions[i] == "drop"]
        assert abs(len(kept) - number * size / len(strata)) < 1
        assert not kept or not dropped or min(kept) >= max(dropped)


def test_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.1, 0.2])
    assert keep_by_quotas(scores, ["large", "large", "large", "small", "small"], 3) == [
        *("keep", "keep", "drop"),
        *("drop", "keep"),
    ]
