"""Rows measured by several jobs: each once, told apart where they differ, and over all folds."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import fields, replace
from itertools import compress
from typing import Any, TypeVar

from dermprompt.results import Job, Results, Segmentation

T = TypeVar("T")
Row = TypeVar("Row")

_FLOAT = re.compile(r"\d+\.\d+(e[+-]\d+)?")


def distinct(values: Iterable[T]) -> tuple[T, ...]:
    """Drop repetitions, and keep the order and the first of each; ``as_shown`` decides what is equal."""
    return tuple(distinct_by(values, as_shown))


def distinct_by(values: Iterable[T], key: Callable[[T], Hashable]) -> list[T]:
    """The first value of each key, in order."""
    first: dict[Hashable, T] = {}
    for value in values:
        first.setdefault(key(value), value)
    return [*first.values()]


def as_shown(value: Any) -> str:
    """The value's repr with numbers of six digits: what no table tells apart is equal, also NaN and dictionaries."""
    return _FLOAT.sub(lambda found: f"{float(found[0]):.6g}", repr(value))


def without_jobs(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> tuple[Row, ...]:
    """The rows, of dataclasses with a ``job``, which is empty where the key alone identifies the row."""
    counts = Counter(key(row) for row in rows)
    return tuple(row if counts[key(row)] > 1 else replace(row, job="") for row in rows)  # type: ignore[type-var]


def names_that_tell(parts: Sequence[Sequence[str]], jobs: Sequence[str]) -> list[str]:
    """Names made of the first part and the other parts that differ, and of the job's name if two are still equal."""
    telling = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    names = [" · ".join([one[0], *compress(one[1:], telling[1:])]) for one in parts]
    return [f"{name} · {job}" if names.count(name) > 1 else name for name, job in zip(names, jobs, strict=True)]


def fold_of(results: Results) -> int | None:
    """The fold of S that a job tests; None if S is not rotated."""
    return next((cell.fold for cell in results.segmentation), None)


def over_folds(
    rows: Sequence[tuple[int | None, Row]], get: Callable[[Row], T], put: Callable[[Row, T], Row]
) -> list[Row]:
    """Rows with their folds, each once; if each fold has one, a single row with the mean over all folds' images.

    ``get`` and ``put``: a row's measurement, a dataclass with ``n``.
    """
    once = distinct_by(rows, lambda row: as_shown(get(row[1])))
    folds = [fold for fold, _ in once]
    if None in folds or len(folds) == 1 or len({*folds}) < len(folds):
        return [row for _, row in once]
    return [put(once[0][1], _pooled([get(row) for _, row in once]))]


def _pooled(rows: Sequence[Any]) -> Any:
    """One measurement of the images of all rows: numbers are means weighted by ``n``."""
    numbers = [row.n for row in rows]

    def mean(values: Sequence[Any]) -> Any:
        if isinstance(values[0], dict):
            return {key: mean([one[key] for one in values]) for key in values[0]}
        if not all(isinstance(one, float) for one in values):
            return values[0]
        return math.fsum(n * one for n, one in zip(numbers, values, strict=True)) / sum(numbers)

    named = {one.name: mean([getattr(row, one.name) for row in rows]) for one in fields(rows[0])}
    return replace(rows[0], **{**named, "n": sum(numbers)})


def tell_apart(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, where an arm that was trained in several ways is named with the overrides that tell these apart.

    Two ways with the same overrides have the hash of their first job in their names as well.
    """
    # By arm, then by seed and fold: the first job of each way, which is known by its scores.
    found: dict[tuple[Any, ...], dict[tuple[Any, ...], dict[str, Job]]] = {}
    for job in jobs:
        for cell in job[1].segmentation:
            ways = found.setdefault(_trained_as(job[1], cell), {}).setdefault((cell.seed, cell.fold), {})
            ways.setdefault(_scored(cell), job)

    # The overrides that all ways of an arm share, if it has several.
    shared = {
        arm: set.intersection(*(set(_overrides(job)) for ways in trainings.values() for job in ways.values()))
        for arm, trainings in found.items()
        if any(len(ways) > 1 for ways in trainings.values())
    }

    def named(results: Results, cell: Segmentation) -> Segmentation:
        arm = _trained_as(results, cell)
        if arm not in shared:
            return cell
        ways = found[arm][cell.seed, cell.fold]
        first = ways[_scored(cell)]
        telling = [one for one in _overrides(first) if one not in shared[arm]]
        if [_overrides(job) for job in ways.values()].count(_overrides(first)) > 1:
            telling.append(first[0].name.rpartition("-")[2])
        return replace(cell, arm=" ".join([cell.label, *telling]))

    return [
        (path, replace(results, segmentation=tuple(named(results, cell) for cell in results.segmentation)))
        for path, results in jobs
    ]


def _overrides(job: Job) -> tuple[str, ...]:
    """A job's overrides but those of the segmenter's seed and the fold, over which an arm is averaged."""
    words = shlex.split(job[1].command)[3:]
    return tuple(one for one in words if not one.startswith(("segmenter.seed=", "data.split.fold=")))


def _scored(cell: Segmentation) -> str:
    return repr((cell.dice.mean, cell.measures))


def _trained_as(results: Results, cell: Segmentation) -> tuple[Any, ...]:
    setting = (results.dataset, results.image_size, cell.segmenter, cell.num_real, cell.world)
    return (*setting, cell.label, cell.count)
