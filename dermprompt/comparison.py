"""From the jobs of a sweep to a comparison of its arms, image by image and seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dermprompt.evaluation.scores import load_scores
from dermprompt.evaluation.statistics import compare, crossed_interval, holm, holm_levels
from dermprompt.results import ArmRow, ArmTable, Comparison, Results, Segmentation

SEED = 0

Job = tuple[Path, Results]
# Dice by seed, then by (fold, id).
Scored = dict[int, dict[tuple[int | None, str], float]]


@dataclass(frozen=True)
class Setting:
    """What two arms must share to be compared."""

    dataset: str
    image_size: int
    segmenter: str
    num_real: int | None


def arm_tables(jobs: Sequence[Job]) -> tuple[ArmTable, ...]:
    """Compare every arm with the control, in each setting that has at least two arms."""
    found: dict[Setting, dict[tuple[str, int], Scored]] = {}
    named: dict[Setting, dict[str, str]] = {}
    for folder, results in jobs:
        for cell in results.segmentation:
            setting = Setting(results.dataset, results.image_size, cell.segmenter, cell.num_real)
            named.setdefault(setting, results.primary)
            arm = found.setdefault(setting, {}).setdefault((arm_name(cell), cell.count), {})
            scores = load_scores(folder / cell.scores)
            arm.setdefault(cell.seed, {}).update({(cell.fold, id): one.dice for id, one in scores.items()})
    return tuple(_table(setting, arms, named[setting]) for setting, arms in found.items() if len(arms) > 1)


def arm_name(cell: Segmentation) -> str:
    """The arm's own name, or what it was made of."""
    if cell.arm != "default":
        return cell.arm
    return f"{cell.generator}_{cell.count}" if cell.generator else "s_only"


def _table(setting: Setting, arms: Mapping[tuple[str, int], Scored], primary: dict[str, str]) -> ArmTable:
    names = [name for name, _ in arms]
    control = primary.get("control", "")
    if control not in names:
        control = "s_only" if "s_only" in names else names[0]
    against = next(scored for (name, _), scored in arms.items() if name == control)
    rows = [
        _row(name, count, scored, None if name == control else against, name == primary.get("ours"))
        for (name, count), scored in arms.items()
    ]
    return ArmTable(**vars(setting), control=control, rows=_simultaneous(rows, arms, against))


def _row(name: str, count: int, scored: Scored, control: Scored | None, primary: bool) -> ArmRow:
    dice = crossed_interval(shared(scored)[0], SEED)
    if control is None:
        return ArmRow(name, count, dice)
    return ArmRow(name, count, dice, _against(scored, control), primary=primary)


def _against(scored: Scored, control: Scored, level: float = 0.95) -> Comparison:
    ours, theirs = shared(scored, control)
    return compare(ours, theirs, SEED, level)


def _simultaneous(rows: list[ArmRow], arms: Mapping[tuple[str, int], Scored], control: Scored) -> tuple[ArmRow, ...]:
    """Widen the exploratory rows' intervals so that all of them hold together (Holm 1979)."""
    among = [i for i, row in enumerate(rows) if row.against and not row.primary]
    p_values = [row.against.p for row in rows if row.against and not row.primary]
    for i, level, adjusted in zip(among, holm_levels(p_values), holm(p_values), strict=True):
        scored = arms[rows[i].arm, rows[i].count]
        rows[i] = replace(rows[i], against=_against(scored, control, level), adjusted=adjusted)
    return tuple(sorted(rows, key=lambda row: (row.against is not None, not row.primary, row.count, row.arm)))


def shared(*arms: Scored) -> list[np.ndarray]:
    """Each arm's Dice, seeds × images, on the seeds and images that all of them have.

    Raises:
        ValueError: they share no seed or no image.
    """
    seeds = sorted(set.intersection(*(set(arm) for arm in arms)))
    images = sorted(set.intersection(*(set(arm[seed]) for arm in arms for seed in seeds)), key=str) if seeds else []
    if not images:
        raise ValueError(f"arms that share no seed and image cannot be compared; their seeds: {[*map(sorted, arms)]}")
    return [np.array([[arm[seed][image] for image in images] for seed in seeds]) for arm in arms]
