"""The split: G trains generators; S is segmentation, in train, val and test (paper, section 3.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

PARTS = ("generator", "train", "val", "test")
MIN_IMAGES = 8


@dataclass(frozen=True)
class Split:
    """Four disjoint sets of ids, each sorted, and the seed that they were drawn with."""

    generator: tuple[str, ...]
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    seed: int

    @property
    def hash(self) -> str:
        """The sha256 (hex) of the ids of the four parts."""
        return hashlib.sha256(json.dumps([getattr(self, part) for part in PARTS]).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write ids, seed and hash as JSON; :func:`load_split` reads it back."""
        path.write_text(json.dumps({**asdict(self), "hash": self.hash}, indent=1) + "\n")


def draw_split(ids: Iterable[str], seed: int, sizes: tuple[int, int, int, int] = (1594, 700, 100, 200)) -> Split:
    """Draw G and S's train, val and test at random from the set of ``ids``, whatever their order.

    The parts have exactly ``sizes`` where there are ids enough, and G gets what is left over. With fewer
    ids they keep the proportions of ``sizes``, and no part is empty.

    Raises:
        ValueError: a size under 1, or fewer than ``MIN_IMAGES`` ids.
    """
    if min(sizes) < 1:
        raise ValueError(f"split sizes are {sizes}; each must be at least 1")
    pool = sorted(set(ids))
    counts = _counts(len(pool), sizes)
    order = np.random.default_rng([seed, 0]).permutation(len(pool))
    parts = np.split(order, np.cumsum(counts)[:-1])
    generator, train, val, test = (tuple(pool[i] for i in sorted(part)) for part in parts)
    return Split(generator, train, val, test, seed)


def load_split(path: Path) -> Split:
    """Read what :meth:`Split.save` wrote.

    Raises:
        ValueError: the file is no split, or its ids do not fit its hash.
    """
    try:
        raw = json.loads(path.read_text())
        generator, train, val, test = (tuple(raw[part]) for part in PARTS)
        split, stored = Split(generator, train, val, test, raw["seed"]), raw["hash"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a split file: {error!r}") from None
    if stored != split.hash:
        raise ValueError(f"{path} was edited: its ids hash to {split.hash}, its hash is {stored}")
    return split


def _counts(num_ids: int, sizes: tuple[int, ...]) -> list[int]:
    if num_ids < MIN_IMAGES:
        raise ValueError(f"{num_ids} images are too few to split in four; at least {MIN_IMAGES} are needed")
    if num_ids >= sum(sizes):
        return [num_ids - sum(sizes[1:]), *sizes[1:]]
    share = num_ids / sum(sizes)
    counts = [1] * len(sizes)
    while sum(counts) < num_ids:
        deficits = [size * share - count for size, count in zip(sizes, counts, strict=True)]
        counts[int(np.argmax(deficits))] += 1
    return counts
