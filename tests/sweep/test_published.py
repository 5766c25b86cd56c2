"""Published scores: what is wrong with damaged ones is said, and a study's verdicts do not depend on chance."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniature import CONF

from dermprompt.evaluation.scores import Scores
from dermprompt.sweep.comparison import ArmId, Record, Setting, arm_tables
from dermprompt.sweep.published import load_records, publish

RECORDS = [
    Record(Setting("isic", 64, "unet", None), ArmId("open", "b", 5, None), 0, None, f"i{k}", Scores(dice, *[0.0] * 10))
    for k, dice in enumerate((0.5, 0.7))
]

DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "Compressed file ended": lambda packed: packed[: len(packed) // 2],
    "Not a gzipped file": gzip.decompress,
    "line 2: fold": lambda packed: gzip.compress(gzip.decompress(packed).replace(b",fold,", b",folds,")),
    "line 2: dice": lambda packed: gzip.compress(gzip.decompress(packed).replace(b",0.5,", b",half,", 1)),
    "line 3: i0 of this training is in an earlier": lambda packed: gzip.compress(twice(gzip.decompress(packed))),
    "no scores in it": lambda packed: gzip.compress(b""),
}


def twice(text: bytes) -> bytes:
    """The table with its first row twice."""
    head, first, rest = text.split(b"\n", 2)
    return b"\n".join([head, first, first, rest])


@pytest.mark.parametrize("said", DAMAGED)
def test_damaged_published_scores_are_named(said: str, tmp_path: Path) -> None:
    publish(RECORDS, {}, tmp_path)
    scores = tmp_path / "scores.csv.gz"
    scores.write_bytes(DAMAGED[said](scores.read_bytes()))
    with pytest.raises(ValueError, match=rf"{scores}.*{said}"):
        load_records(scores)


STUDIES = sorted(path.parent for path in (CONF.parent / "experiments").rglob("tables.json"))


@pytest.mark.parametrize("orders", [2, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_published_verdicts_do_not_depend_on_chance(folder: Path, orders: int) -> None:
    """Nothing is drawn: in random orders of the scores every verdict and interval is the published one."""
    published = json.loads((folder / "tables.json").read_text())
    records, rng = load_records(folder / "scores.csv.gz"), np.random.default_rng(0)
    wanted = _verdicts(published["tables"])
    assert wanted
    for _ in range(orders):
        mixed = [records[k] for k in rng.permutation(len(records))]
        tables = [asdict(table) for table in arm_tables(mixed, published["primary"])]
        found = _verdicts(tables)
        assert {key: verdict for key, (verdict, *_) in found.items()} == {k: v for k, (v, *_) in wanted.items()}
        for key, (_, low, high) in found.items():
            assert (low, high) == pytest.approx(wanted[key][1:])


def _verdicts(tables: list[dict[str, Any]]) -> dict[tuple[Any, ...], tuple[str, float, float]]:
    found = {}
    for table in tables:
        setting = tuple(table[key] for key in ("segmenter", "num_real", "world"))
        for kind in ("rows", "pairs", "purposes"):
            for row in filter(lambda row: row["against"], table[kind]):
                pair = frozenset((row["arm"], row.get("control") or row.get("other")))
                gain = row["against"]["gain"]
                key = (*setting, kind, row.get("purpose"), row["arm"] if kind != "pairs" else pair)
                sign = 1 if kind != "pairs" or row["arm"] == min(pair) else -1
                low, high = sorted((sign * gain["low"], sign * gain["high"]))
                said = row["against"]["verdict"]
                if sign < 0:
                    said = {"better": "worse", "worse": "better"}.get(said, said)
                found[key] = (said, low, high)
    return found
