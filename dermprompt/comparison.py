"""From the jobs of a sweep to a comparison of its arms, image by image and seed by seed; and back from a csv file.

``python -m dermprompt.comparison FOLDER …`` computes the tables of published scores again and compares.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dermprompt.evaluation.scores import load_scores
from dermprompt.evaluation.statistics import compare, crossed_interval, holm, holm_levels
from dermprompt.files import write_bytes, write_json
from dermprompt.results import ArmRow, ArmTable, Comparison, Results

SEED = 0
SCORES, TABLES = "scores.csv", "tables.json"
DIGITS = 6

Job = tuple[Path, Results]
# Dice by seed, then by (fold, id).
Scored = dict[int, dict[tuple[int | None, str], float]]


# In a world without the control that was named: what an arm is judged against there.
FALLBACKS = {"open": ("s_plus_g", "s_only"), "closed": ("s_only",)}


@dataclass(frozen=True)
class Setting:
    """What two arms must share to be compared, beside their world."""

    dataset: str
    image_size: int
    segmenter: str
    num_real: int | None


@dataclass(frozen=True)
class Record:
    """The Dice of one image of S.test by one training; ``world`` is empty for S only, which belongs to both."""

    setting: Setting
    world: str
    arm: str
    count: int
    seed: int
    fold: int | None
    id: str
    dice: float


def records_of(jobs: Sequence[Job]) -> list[Record]:
    """The scores of all jobs, what several jobs share once."""
    found: dict[tuple[Any, ...], Record] = {}
    for folder, results in jobs:
        for cell in results.segmentation:
            setting = Setting(results.dataset, results.image_size, cell.segmenter, cell.num_real)
            key = (setting, cell.world or "", cell.label, cell.count, cell.seed, cell.fold)
            for id, one in load_scores(folder / cell.scores).items():
                found[*key, id] = Record(*key, id, round(one.dice, DIGITS))
    return list(found.values())


def arm_tables(records: Iterable[Record], primary: Mapping[str, Any]) -> tuple[ArmTable, ...]:
    """Compare every arm with its world's control, in each setting and world that has at least two arms.

    S only stands in both worlds, and where there is no other arm, in the closed one: it has seen S alone.
    """
    found: dict[Setting, list[Record]] = {}
    for one in records:
        found.setdefault(one.setting, []).append(one)
    tables = []
    for setting, rows in found.items():
        for world in sorted({one.world for one in rows} - {""}) or ["closed"]:
            arms = _scored(one for one in rows if one.world in ("", world))
            tables += [_table(setting, world, arms, primary)] if len(arms) > 1 else []
    return tuple(tables)


def _scored(records: Iterable[Record]) -> dict[tuple[str, int], Scored]:
    arms: dict[tuple[str, int], Scored] = {}
    for one in records:
        arms.setdefault((one.arm, one.count), {}).setdefault(one.seed, {})[one.fold, one.id] = one.dice
    return arms


def _table(
    setting: Setting, world: str, arms: Mapping[tuple[str, int], Scored], primary: Mapping[str, Any]
) -> ArmTable:
    names = [name for name, _ in arms]
    wanted = (primary.get("controls", {}).get(world), *FALLBACKS[world], names[0])
    control = next(name for name in wanted if name in names)
    ours = primary.get("ours") if (world, control) == (primary.get("world"), wanted[0]) else None
    against = next(scored for (name, _), scored in arms.items() if name == control)
    rows = [
        _row(name, count, scored, None if name == control else against, name == ours)
        for (name, count), scored in arms.items()
    ]
    return ArmTable(**vars(setting), world=world, control=control, rows=_simultaneous(rows, arms, against))


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


def publish(records: Sequence[Record], primary: Mapping[str, Any], folder: Path) -> tuple[ArmTable, ...]:
    """Write ``scores.csv``, a row an image and training, and ``tables.json``, what they come to."""
    tables = arm_tables(records, primary)
    text = io.StringIO()
    names = [field.name for field in (*dataclasses.fields(Setting), *dataclasses.fields(Record)[1:])]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**vars(one.setting), **{k: v for k, v in vars(one).items() if k != "setting"}} for one in records)
    write_bytes(folder / SCORES, text.getvalue().encode())
    write_json(folder / TABLES, {"primary": dict(primary), "tables": [dataclasses.asdict(one) for one in tables]})
    return tables


def load_records(path: Path) -> list[Record]:
    """Read what :func:`publish` wrote.

    Raises:
        ValueError: a column is missing or a cell is no number; names the file and the line.
    """
    records = []
    with path.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                real, fold = (int(row[name]) if row[name] else None for name in ("num_real", "fold"))
                setting = Setting(row["dataset"], int(row["image_size"]), row["segmenter"], real)
                place = (row["world"], row["arm"], int(row["count"]), int(row["seed"]), fold, row["id"])
                records.append(Record(setting, *place, float(row["dice"])))
            except (KeyError, ValueError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: {error!r}") from None
    return records


def verify(folder: Path) -> list[str]:
    """What of ``tables.json`` its ``scores.csv`` does not give; empty where all does."""
    published = json.loads((folder / TABLES).read_text())
    again = arm_tables(load_records(folder / SCORES), published["primary"])
    want, got = (dict(_leaves(one)) for one in (published["tables"], [dataclasses.asdict(one) for one in again]))
    missing = [f"{key}: on one side alone" for key in sorted(want.keys() ^ got.keys())]
    return missing + [
        f"{key}: {want[key]} there, {got[key]} here" for key in want if not _same(want[key], got.get(key))
    ]


def _leaves(node: Any, key: str = "tables") -> Iterable[tuple[str, Any]]:
    if isinstance(node, dict | list | tuple):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for name, value in items:
            yield from _leaves(value, f"{key}.{name}")
    else:
        yield key, node


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other


def main() -> None:
    """Verify the folders that the command line names."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m dermprompt.comparison FOLDER …   (make verify-tables)")
    differences = {folder: verify(Path(folder)) for folder in sys.argv[1:]}
    for folder, found in differences.items():
        print(f"{folder}: {'every number comes out again' if not found else ''}", *found, sep="\n  ")
    if any(differences.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
