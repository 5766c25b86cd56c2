"""A study's published scores of every image, and the tables that anyone can recompute from them.

``python -m dermprompt.sweep.published FOLDER …`` (``make verify-tables``) recomputes and compares them; ``--rewrite``
writes tables and charts again, for example after a change of the rule by which they are computed.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gzip
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from dermprompt.entry import in_words
from dermprompt.evaluation.scores import Scores
from dermprompt.evaluation.statistics import DICE, mean_interval
from dermprompt.files import read_json, reading, write_csv, write_json
from dermprompt.results import ArmTable
from dermprompt.sweep.comparison import ArmId, Record, Setting, arm_tables

SCORES, TABLES = "scores.csv.gz", "tables.json"
_PLACE = ("seed", "fold", "id")
# Columns whose empty cells mean None.
_OPTIONAL = ("num_real", "steps_of", "fold")
_RECORD = TypeAdapter(Record)


def publish(records: Sequence[Record], primary: Mapping[str, Any], folder: Path) -> tuple[ArmTable, ...]:
    """Write ``scores.csv.gz``, with a row per image and training, and ``tables.json``, computed from it."""
    tables = arm_tables(records, primary)
    kinds = (Setting, ArmId, Scores)
    setting, arm, scores = ([field.name for field in dataclasses.fields(kind)] for kind in kinds)
    rows = (
        {**vars(one.setting), **vars(one.arm), **{name: getattr(one, name) for name in _PLACE}, **vars(one.scores)}
        for one in records
    )
    write_csv(folder / SCORES, [*setting, *arm, *_PLACE, *scores], rows)
    write_json(folder / TABLES, {"primary": dict(primary), **_numbers(tables, records)})
    return tables


def _numbers(tables: Sequence[ArmTable], records: Sequence[Record]) -> dict[str, Any]:
    """All numbers of ``tables.json``: the comparisons of arms, and every training's Dice and gain."""
    numbers = {"tables": [dataclasses.asdict(one) for one in tables], "trainings": trainings(records)}
    return json.loads(json.dumps(numbers))


def trainings(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each training's mean Dice over test images, and its gain over S only with the same seed and fold."""
    found: dict[tuple[Setting, ArmId, int, int | None], dict[str, float]] = {}
    for one in records:
        found.setdefault((one.setting, one.arm, one.seed, one.fold), {})[one.id] = one.scores.dice
    only = {(s, seed, fold): dice for (s, arm, seed, fold), dice in found.items() if arm.name == "s_only"}
    rows = []
    for (setting, arm, seed, fold), dice in found.items():
        base, gain = only.get((setting, seed, fold)), None
        if arm.name != "s_only" and base is not None and base.keys() == dice.keys():
            gain = mean_interval(np.array([[dice[id] - base[id] for id in dice]]))
        interval = mean_interval(np.array([[*dice.values()]]), within=DICE)
        where = {**vars(setting), **vars(arm), "seed": seed, "fold": fold}
        rows.append({**where, "dice": vars(interval), "gain": vars(gain) if gain else None})
    return rows


def load_records(path: Path) -> list[Record]:
    """Read what :func:`publish` wrote.

    Raises:
        ValueError: a column is missing, a cell is not a number, an image of a training has two rows, or there is no
            row; names the file and the line.
    """
    records: dict[Any, Record] = {}
    with reading(path), gzip.open(path, "rt", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            given = {**row, **{name: row[name] or None for name in _OPTIONAL if name in row}}
            try:
                one = _RECORD.validate_python({**given, "setting": given, "arm": given, "scores": given})
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"{path}, line {number}: {first['loc'][-1]}: {first['msg']}") from None
            place = one.setting, one.arm, one.seed, one.fold, one.id
            if place in records:
                raise ValueError(f"{path}, line {number}: {one.id} of this training is in an earlier line too")
            records[place] = one
    if not records:
        raise ValueError(f"{path}: no scores in it")
    return list(records.values())


def verify(folder: Path) -> list[str]:
    """The numbers of ``tables.json`` that ``scores.csv.gz`` does not reproduce; empty if all are reproduced."""
    with reading(folder / TABLES):
        published = read_json(folder / TABLES, dict)
        primary = published.pop("primary")
        records = load_records(folder / SCORES)
        again = _numbers(arm_tables(records, primary), records)
    want, got = dict(_leaves(published)), dict(_leaves(again))
    missing = [f"{key}: on one side only" for key in sorted(want.keys() ^ got.keys())]
    both = want.keys() & got.keys()
    return missing + [
        f"{key}: {want[key]} there, {got[key]} here" for key in sorted(both) if not _same(want[key], got[key])
    ]


def rewrite(folder: Path) -> None:
    """Recompute ``tables.json`` from ``scores.csv.gz``, and redraw those charts that exist.

    The primary comparison stays as declared.
    """
    from dermprompt.report.page import comparison_charts, save_charts

    primary = json.loads((folder / TABLES).read_text())["primary"]
    charts = comparison_charts(publish(load_records(folder / SCORES), primary, folder))
    save_charts({name: chart for name, chart in charts.items() if (folder / f"{name}.svg").exists()}, folder)


def _leaves(node: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for name, value in items:
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))
    return one == other


@in_words
def main() -> None:
    """Verify the folders named on the command line."""
    parser = argparse.ArgumentParser(description="Recompute published tables from the scores of every image.")
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--rewrite", action="store_true", help="write tables and charts again")
    options = parser.parse_args()
    if options.rewrite:
        for folder in options.folders:
            rewrite(Path(folder))
    differences = {folder: verify(Path(folder)) for folder in options.folders}
    for folder, found in differences.items():
        print("\n  ".join([f"{folder}: {'differs' if found else 'every number is reproduced'}", *found]))
    if any(differences.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
