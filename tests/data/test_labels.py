from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dermprompt.data.labels import Source, join
from dermprompt.lesion import Lesion

HERE = Path()
LESIONS = [Lesion(id, HERE, HERE) for id in ("a", "b", "c", "d")]


def source(name: str, rows: dict[str, dict[str, Any]]) -> Source:
    return Source(name, (f"{name}.csv",), rows, len(rows))


OLD = source("old", {"a": {"diagnosis": "MEL"}, "b": {"diagnosis": "NV"}, "x": {"diagnosis": "NV"}})
NEW = source("new", {"a": {"diagnosis": "NV", "age": 40.0}, "C": {"diagnosis": "BKL"}, "b": {"diagnosis": "NV"}})


def test_coverage_by_hand() -> None:
    _, (old, new), _ = join(LESIONS, [OLD, NEW], "first")
    assert (old.matched, old.unmatched, old.num_foreign, old.conflicting) == (("a", "b"), ("c", "d"), 1, ("a",))
    assert (new.matched, new.unmatched, new.num_foreign, new.conflicting) == (("a", "b", "c"), ("d",), 0, ("a",))
    assert (old.files, old.num_rows) == (("old.csv",), 3)


@pytest.mark.parametrize(("rule", "diagnosis"), [("first", "MEL"), ("last", "NV"), ("unknown", None)])
def test_a_rule_settles_a_conflict(rule: str, diagnosis: str | None) -> None:
    joined, _, _ = join(LESIONS, [OLD, NEW], rule)
    assert [one.diagnosis for one in joined] == [diagnosis, "NV", "BKL", None]
    assert joined[0].age == 40.0, "only the field in dispute is concerned"


def test_without_a_rule_a_conflict_stops_with_every_id() -> None:
    ids = [f"id{i}" for i in range(30)]
    one = source("one", {id: {"diagnosis": "MEL"} for id in ids})
    two = source("two", {id: {"diagnosis": "NV"} for id in ids})
    with pytest.raises(ValueError, match=r"disagree on the diagnosis of 30 images") as error:
        join([Lesion(id, HERE, HERE) for id in ids], [one, two], "error")
    assert all(f"{id} (one: MEL, two: NV)" in str(error.value) for id in ids)
    assert "data.on_conflict" in str(error.value)


def test_a_conflict_on_rows_without_image_does_not_matter() -> None:
    joined, coverages, _ = join(LESIONS[1:], [OLD, NEW], "error")
    assert [one.diagnosis for one in joined] == ["NV", "BKL", None]
    assert all(not one.conflicting for one in coverages)


def test_sources_that_agree_or_say_nothing_are_no_conflict() -> None:
    silent = source("silent", {"a": {"diagnosis": None}, "b": {}})
    joined, _, _ = join(LESIONS[:2], [silent, OLD, OLD], "error")
    assert [one.diagnosis for one in joined] == ["MEL", "NV"]


def test_ids_meet_whatever_their_case_and_it_is_said() -> None:
    joined, _, findings = join(LESIONS, [NEW], "error")
    assert joined[2].diagnosis == "BKL"
    assert [(one.verdict, one.what, one.detail) for one in findings] == [("id_case", "new", "C for c")]
