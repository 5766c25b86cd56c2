"""Detailed tables of the report: every measure of every arm, and Dice by subgroup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dermprompt.report.rows import tell_apart
from dermprompt.report.tables import real_label, segmenter_label, setting_of
from dermprompt.results import Job, Segmentation

# Measure, heading.
MEASURES = (
    ("dice", "DSC ↑"),
    ("iou", "IoU ↑"),
    ("jaccard65", "IoU ≥ 0.65 ↑"),
    ("sensitivity", "Sensitivity ↑"),
    ("specificity", "Specificity ↑"),
    ("hd95", "HD95 ↓"),
    ("surface_dice", "NSD ↑"),
)


@dataclass(frozen=True)
class Detail:
    """All arms of one setting; ``measures``: a row per arm; ``groups``: rows (kind, name, images, Dice of each arm)."""

    title: str
    arms: tuple[str, ...]
    trainings: tuple[int, ...]
    measures: tuple[tuple[float, ...], ...]
    groups: tuple[tuple[str, str, int, tuple[float | None, ...]], ...]


def details(jobs: Sequence[Job]) -> tuple[Detail, ...]:
    """One detail for each data set, image size, segmenter and number of real images; means over seeds and folds."""
    found: dict[str, dict[str, dict[tuple[int, int | None], Segmentation]]] = {}
    for _, results in tell_apart(jobs):
        for cell in results.segmentation:
            title = f"{segmenter_label(cell.segmenter)}, {real_label(cell.num_real)}, {setting_of(results).label}"
            name = f"{cell.label} ({cell.count})" if cell.count else cell.label
            found.setdefault(title, {}).setdefault(name, {})[cell.seed, cell.fold] = cell
    return tuple(
        _detail(title, {name: [*cells.values()] for name, cells in arms.items()}) for title, arms in found.items()
    )


def _detail(title: str, arms: dict[str, list[Segmentation]]) -> Detail:
    keys = sorted({(g.kind, g.name) for cells in arms.values() for cell in cells for g in cell.groups})
    return Detail(
        title,
        tuple(arms),
        tuple(len(cells) for cells in arms.values()),
        tuple(tuple(_measure(cells, key) for key, _ in MEASURES) for cells in arms.values()),
        tuple((*key, _images(arms, key), tuple(_dice(cells, key) for cells in arms.values())) for key in keys),
    )


def _measure(cells: Iterable[Segmentation], name: str) -> float:
    return _mean((cell.measures.get(name, math.nan), cell.dice.n) for cell in cells)


def _dice(cells: Iterable[Segmentation], key: tuple[str, str]) -> float | None:
    values = [(g.dice.mean, g.dice.n) for cell in cells for g in cell.groups if (g.kind, g.name) == key]
    return _mean(values) if values else None


def _images(arms: dict[str, list[Segmentation]], key: tuple[str, str]) -> int:
    """The number of test images of a group, summed over folds."""
    sizes = {
        cell.fold: g.dice.n for cells in arms.values() for cell in cells for g in cell.groups if (g.kind, g.name) == key
    }
    return sum(sizes.values())


def _mean(weighted: Iterable[tuple[float, int]]) -> float:
    pairs = list(weighted)
    return sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
