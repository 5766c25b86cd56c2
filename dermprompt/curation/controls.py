"""Controls for a filter: the same number of samples chosen at random, or with the set's composition preserved."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from dermprompt.curation.agreement import Decision


def keep_at_random(number: int, total: int, seed: int) -> list[Decision]:
    """Keep ``number`` of ``total`` samples at random, and drop the others."""
    assert 0 <= number <= total, (number, total)
    chosen = set(np.random.default_rng(seed).permutation(total)[:number].tolist())
    return ["keep" if i in chosen else "drop" for i in range(total)]


def keep_by_quotas(scores: NDArray[np.float64], strata: Sequence[Hashable], number: int) -> list[Decision]:
    """Keep the best ``number`` samples such that every stratum keeps its share of the set, to within one sample."""
    assert len(scores) == len(strata), (len(scores), len(strata))
    members: dict[Hashable, list[int]] = {}
    for i, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(i)
    kept: set[int] = set()
    quotas = _quotas([len(rows) for rows in members.values()], number)
    for rows, quota in zip(members.values(), quotas, strict=True):
        kept |= set(sorted(rows, key=lambda i: -scores[i])[:quota])
    return ["keep" if i in kept else "drop" for i in range(len(scores))]


def _quotas(sizes: Sequence[int], number: int) -> list[int]:
    """Shares of ``number`` in proportion to ``sizes``, rounded by largest remainders."""
    exact = [number * size / max(1, sum(sizes)) for size in sizes]
    quotas = [int(share) for share in exact]
    order = sorted(range(len(sizes)), key=lambda k: quotas[k] - exact[k])
    for k in order[: number - sum(quotas)]:
        quotas[k] += 1
    return quotas
