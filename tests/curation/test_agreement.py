from __future__ import annotations

import numpy as np

from dermprompt.curation.agreement import decide


def test_three_ways_with_their_borders() -> None:
    scores = np.array([1.0, 0.8, 0.7999, 0.6, 0.5999, 0.0])
    assert decide(scores, keep=0.8, relabel=0.6) == ["keep", "keep", "relabel", "relabel", "drop", "drop"]


def test_equal_thresholds_never_relabel() -> None:
    assert decide(np.array([0.9, 0.7, 0.1]), keep=0.7, relabel=0.7) == ["keep", "keep", "drop"]


def test_thresholds_of_zero_keep_all() -> None:
    assert decide(np.array([0.0, 1.0]), keep=0.0, relabel=0.0) == ["keep", "keep"]
