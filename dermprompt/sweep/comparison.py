"""Compares the arms of a sweep, paired by image and seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, combinations, product
from typing import Any

import numpy as np

from dermprompt.config.schema import CONTROLS, PURPOSES
from dermprompt.evaluation.scores import Scores, load_scores
from dermprompt.evaluation.statistics import DICE, compare, holm, mean_interval, share_interval
from dermprompt.report.rows import tell_apart
from dermprompt.results import ArmPair, ArmRow, ArmTable, Comparison, Job, PurposeRow

ALPHA = 0.05
DIGITS = 6
# In a world without the intended control: the arms to compare with instead, and the note about it.
FALLBACKS = {"open": ("s_plus_g", "s_only"), "closed": ("s_only",)}
NO_REAL_PAIRS = "No arm with G's real pairs was run: what the generator has seen may explain a difference by itself."
REAL_PAIRS = "s_plus_g"

# Dice by seed, then by (fold, id).
Scored = dict[int, dict[tuple[int | None, str], float]]


@dataclass(frozen=True)
class Setting:
    """What two arms must share to be compared, besides their world."""

    dataset: str
    image_size: int
    segmenter: str
    num_real: int | None


@dataclass(frozen=True)
class ArmId:
    """An arm of a setting. ``world`` is empty for arms such as S only, which belong to both."""

    world: str
    name: str
    count: int
    steps_of: int | None

    @property
    def steps(self) -> int:
        """The number of samples for whose steps it trains; 0 for those of its real images alone."""
        return self.steps_of or self.count


@dataclass(frozen=True)
class Record:
    """One training's scores on one image of S.test."""

    setting: Setting
    arm: ArmId
    seed: int
    fold: int | None
    id: str
    scores: Scores


def records_of(jobs: Sequence[Job]) -> list[Record]:
    """The scores of all jobs; those that jobs share occur once, and different trainings of one arm are renamed."""
    found: dict[tuple[Any, ...], Record] = {}
    for folder, results in tell_apart(jobs):
        for cell in results.segmentation:
            setting = Setting(results.dataset, results.image_size, cell.segmenter, cell.num_real)
            arm = ArmId(cell.world or "", cell.label, cell.count, cell.steps_of)
            for id, one in load_scores(folder / cell.scores).items():
                found[setting, arm, cell.seed, cell.fold, id] = Record(
                    setting, arm, cell.seed, cell.fold, id, _rounded(one)
                )
    return list(found.values())


def _rounded(scores: Scores) -> Scores:
    """Scores rounded as published, so that the published scores reproduce all tables."""
    values = {name: round(value, DIGITS) for name, value in vars(scores).items() if isinstance(value, float)}
    return replace(scores, **values)  # type: ignore[arg-type]


def primary_of(jobs: Sequence[Job]) -> dict[str, Any]:
    """The primary comparison that all jobs declared before S.test was read; none if they differ."""
    named = [results.primary for _, results in jobs]
    agreed = len({one.get("hash") for one in named}) == 1 and all(one.get("declared", True) for one in named)
    return dict(named[0]) if agreed else {**named[0], "ours": None}


def arm_tables(records: Iterable[Record], primary: Mapping[str, Any]) -> tuple[ArmTable, ...]:
    """Compare every arm with its control, and every pair of arms, in each setting and world with at least two arms.

    Arms without a world, such as S only, belong to both worlds; if there are no others, to the closed one.
    """
    found: dict[Setting, list[Record]] = {}
    for one in records:
        found.setdefault(one.setting, []).append(one)
    tables = []
    for setting, rows in found.items():
        for world in sorted({one.arm.world for one in rows} - {""}) or ["closed"]:
            arms = _scored([one for one in rows if one.arm.world in ("", world)])
            tables += [_table(setting, world, arms, primary)] if len(arms) > 1 else []
    return tuple(tables)


def _scored(records: Sequence[Record]) -> dict[ArmId, Scored]:
    """Dice of each arm; if S was rotated, only of the folds, which together have each image once."""
    rotated = any(one.fold is not None for one in records)
    arms: dict[ArmId, Scored] = {}
    for one in records:
        if not rotated or one.fold is not None:
            arms.setdefault(one.arm, {}).setdefault(one.seed, {})[one.fold, one.id] = one.scores.dice
    return arms


def _table(setting: Setting, world: str, arms: Mapping[ArmId, Scored], primary: Mapping[str, Any]) -> ArmTable:
    numbers = primary.get("num_real") or [None]
    purpose = PURPOSES.get(primary.get("purpose", ""))
    decides = purpose and (purpose.world, primary["segmenter"]) == (world, setting.segmenter)
    ours = primary.get("ours") if decides and setting.num_real in numbers else None
    main = next((arm.count for arm in arms if arm.name == ours), max(arm.count for arm in arms))
    prefix = purpose.control if purpose and purpose.world == world else CONTROLS[world]
    # With several numbers of real images, their comparisons must hold jointly.
    level = 1 - ALPHA / len(numbers)
    rows = []
    for arm in arms:
        control = control_of(arm, list(arms), prefix, world, main)
        exact = control.name.startswith(f"{prefix}_")
        rows.append(_row(arm, control, arms, level, primary=arm.name == ours and exact))
    note = "" if world == "closed" or any(REAL_PAIRS in arm.name for arm in arms) else NO_REAL_PAIRS
    return ArmTable(
        **vars(setting),
        world=world,
        rows=_adjusted(rows, arms),
        pairs=_pairs(rows, arms),
        note=note,
        purposes=_purposes(world, arms),
    )


def _purposes(world: str, arms: Mapping[ArmId, Scored]) -> tuple[PurposeRow, ...]:
    """Each arm with samples against its control for each purpose, as a separate family of tests."""
    found = []
    for name, purpose in PURPOSES.items():
        if purpose.world != world:
            continue
        # An arm with G's real pairs can only be compared with a control that has them too.
        ours = [arm for arm in arms if arm.count and (name == "instead" or not arm.name.startswith(REAL_PAIRS))]
        for arm, control in product(ours, arms):
            if _is_control(control, purpose.control, arm.steps) and shared(arms[arm], arms[control]):
                found.append((name, arm, control))
    level = 1 - ALPHA / max(1, len(found))
    return tuple(_purpose_row(*one, arms, level) for one in found)


def _purpose_row(purpose: str, arm: ArmId, control: ArmId, arms: Mapping[ArmId, Scored], level: float) -> PurposeRow:
    against, share = _against(arms[arm], arms[control], level), None
    assert against is not None
    alone = [one for one in arms if _is_control(one, PURPOSES["sharing"].control, arm.steps)]
    if purpose == "instead" and alone and (tables := shared(*(arms[one] for one in (arm, control, alone[0])))):
        ours, real, base = tables
        share = share_interval(ours - base, real - base, level)
    return PurposeRow(purpose, arm.name, control.name, against, share)


def _is_control(one: ArmId, prefix: str, steps: int) -> bool:
    return one.name.startswith(f"{prefix}_") and one.steps_of == steps and not one.count


def control_of(arm: ArmId, arms: Sequence[ArmId], prefix: str, world: str, main: int) -> ArmId:
    """The arm's control: the arm whose name begins with ``prefix`` and that trains for the same number of steps.

    ``main``: arms without samples are compared with the control for this number of samples.
    """
    steps = arm.steps or main
    if arm.count and arm.name.startswith(REAL_PAIRS):
        prefix = PURPOSES["instead"].control  # measures what samples add to all real pairs
    strong = [one for one in arms if _is_control(one, prefix, steps)]
    weaker = [one for name in FALLBACKS[world] for one in arms if one.name == name]
    return (*strong, *weaker, *sorted(arms, key=lambda one: one.name))[0]


def _row(arm: ArmId, control: ArmId, arms: Mapping[ArmId, Scored], level: float, primary: bool) -> ArmRow:
    own = shared(arms[arm])
    dice = mean_interval(own[0], within=DICE) if own else None
    if arm == control:
        return ArmRow(arm.name, arm.count, dice)
    against = _against(arms[arm], arms[control], level)
    return ArmRow(arm.name, arm.count, dice, control.name, against, primary=primary and against is not None)


def _against(ours: Scored, theirs: Scored, level: float = 1 - ALPHA) -> Comparison | None:
    """Compare two arms; None if they share no seed or fewer than two images."""
    tables = shared(ours, theirs)
    return compare(tables[0], tables[1], level) if tables else None


def _adjusted(rows: list[ArmRow], arms: Mapping[ArmId, Scored]) -> tuple[ArmRow, ...]:
    """Adjust exploratory rows: simultaneous intervals (Bonferroni), p-values by Holm (1979)."""
    among = [i for i, row in enumerate(rows) if row.against and not row.primary]
    scored = {(arm.name, arm.count): one for arm, one in arms.items()}
    named = {arm.name: one for arm, one in arms.items()}
    adjusted = holm([row.against.p for row in rows if row.against and not row.primary])
    for i, p in zip(among, adjusted, strict=True):
        ours, theirs = scored[rows[i].arm, rows[i].count], named[str(rows[i].control)]
        rows[i] = replace(rows[i], against=_against(ours, theirs, 1 - ALPHA / len(among)), adjusted=p)
    return tuple(sorted(rows, key=lambda row: (row.control is not None, not row.primary, row.count, row.arm)))


def _pairs(rows: Sequence[ArmRow], arms: Mapping[ArmId, Scored]) -> tuple[ArmPair, ...]:
    """All pairs except arms with their controls, as a separate family of tests."""
    controls = {(row.arm, row.control) for row in rows}
    pairs = [
        (a, b) for a, b in combinations(sorted(arms, key=str), 2) if not {(a.name, b.name), (b.name, a.name)} & controls
    ]
    compared = [(a, b, found) for a, b in pairs if (found := _against(arms[a], arms[b]))]
    adjusted = holm([found.p for _, _, found in compared])
    level = 1 - ALPHA / max(1, len(compared))
    widened = [(a, b, _against(arms[a], arms[b], level)) for a, b, _ in compared]
    return tuple(ArmPair(a.name, b.name, found, p) for (a, b, found), p in zip(widened, adjusted, strict=True) if found)


def shared(*arms: Scored) -> list[np.ndarray]:
    """Each arm's Dice, seeds × images, on the seeds and images that all arms share; empty for fewer than two images.

    If not all seeds were tested on the same images, as in an unfinished sweep, those are used that leave most scores.
    """
    tested = {seed: set.intersection(*(set(arm[seed]) for arm in arms)) for seed in set.intersection(*map(set, arms))}
    seeds = sorted(tested, key=lambda seed: (-len(tested[seed]), seed))
    common = list(accumulate((tested[seed] for seed in seeds), lambda some, more: some & more))
    number = max(range(len(seeds)), key=lambda k: ((k + 1) * len(common[k]), k), default=None)
    if number is None or len(common[number]) < 2:
        return []
    images = sorted(common[number], key=str)
    return [np.array([[arm[seed][image] for image in images] for seed in sorted(seeds[: number + 1])]) for arm in arms]
