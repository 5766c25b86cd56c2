"""Label tables as people save them: read where they are clear, and every row accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from dermprompt.data.datasets.folder import read_folder_labels
from dermprompt.data.labels import join
from dermprompt.data.tables import Table, read_table
from dermprompt.lesion import Lesion

TEXT = "id,diagnosis,note\na,MEL,x\nb,NV,y\n"


def read(path: Path, data: bytes | str) -> Table:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_table(path, "id", ("diagnosis",), lambda row: {"diagnosis": row["diagnosis"]}, ("lesion_id", "note"))


CLEAR = {
    "semicolons": (TEXT.replace(",", ";").encode(), ["delimiter"]),
    "tabs": (TEXT.replace(",", "\t").encode(), ["delimiter"]),
    "bars": (TEXT.replace(",", "|").encode(), ["delimiter"]),
    "byte order mark": (b"\xef\xbb\xbf" + TEXT.encode(), ["byte_order_mark"]),
    "utf-16": (TEXT.encode("utf-16"), ["utf_16"]),
    "excel's unicode text": (
        TEXT.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),
        ["utf_16", "crlf", "delimiter"],
    ),
    "upper-case header": (TEXT.replace("id,diagnosis", "ID, Diagnosis").encode(), ["header_case"]),
    "quoted": (TEXT.replace("a,MEL,x", '"a","MEL","x, or y"').encode(), []),
    "quoted newline": (TEXT.replace("MEL,x", 'MEL,"x\ny"').encode(), ["multiline_cell"]),
    "blank lines": (("\n" + TEXT + "\n\n").encode(), []),
}


@pytest.mark.parametrize("case", CLEAR)
def test_what_is_clear_is_read_and_said(case: str, tmp_path: Path) -> None:
    data, said = CLEAR[case]
    table = read(tmp_path / "t.csv", data)
    assert {id: row["diagnosis"] for id, row in table.rows.items()} == {"a": "MEL", "b": "NV"}
    assert [one.verdict for one in table.findings] == said


UNCLEAR = {
    "a column twice": ("id,diagnosis,diagnosis\na,MEL,NV\n", "duplicate_columns", "diagnosis"),
    "a group twice": ("id,diagnosis,lesion_id,Lesion_ID\na,MEL,1,2\n", "duplicate_columns", "lesion_id"),
    "an open quote": ('id,diagnosis,note\na,MEL,"x\nb,NV,y\nc,NV,z\n', "bad_row", "never closed"),
    "a late quote": ('id,diagnosis,note\na,MEL,"x\nb,NV,y\nc,NV,z"\nd,NV,\n', "swallowed_rows", "column note, 3 lines"),
    "fewer cells": ("id,diagnosis,note\na,MEL\n", "bad_row", "2 cells under 3 columns"),
    "latin-1": (b"id,diagnosis\na,M\xe9lanome\n", "unreadable_table", "save it in UTF-8"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_no_label_changes_or_vanishes_in_silence(case: str, tmp_path: Path) -> None:
    data, verdict, message = UNCLEAR[case]
    table = read(tmp_path / "t.csv", data)
    bad = [one for one in table.findings if one.bad]
    assert verdict in [one.verdict for one in bad]
    assert message in " ".join(one.detail for one in bad)
    assert "a" not in table.rows


def lesions(*ids: str) -> list[Lesion]:
    return [Lesion(id, Path(f"{id}.jpg"), Path(f"{id}.png")) for id in ids]


def labelled(folder: Path, table: str, *ids: str) -> tuple[list[str | None], list[str], str]:
    """Diagnoses, verdicts, and all details."""
    (folder / "labels.csv").write_text(table)
    joined, _, findings = join(lesions(*ids), read_folder_labels(folder), "error")
    details = " ".join(f"{one.what} {one.detail}" for one in findings)
    return [one.diagnosis for one in joined], [one.verdict for one in findings], details


@pytest.mark.parametrize("form", ["{}.jpg", "{}.JPG", "images/{}.png", "C:\\data\\{}.tif"])
def test_ids_with_paths_and_endings(form: str, tmp_path: Path) -> None:
    rows = "".join(f"{form.format(id)},{code}\n" for id, code in (("a 1", "MEL"), ("b.2", "NV")))
    found, verdicts, _ = labelled(tmp_path, "id,diagnosis\n" + rows, "a 1", "b.2")
    assert (found, verdicts) == (["MEL", "NV"], ["id_form"])


def test_an_id_that_ends_as_a_file_stays_as_it_is(tmp_path: Path) -> None:
    found, verdicts, _ = labelled(tmp_path, "id,diagnosis\na.jpg,MEL\na,NV\n", "a.jpg", "a")
    assert (found, verdicts) == (["MEL", "NV"], [])


def test_two_spellings_of_one_id_that_disagree(tmp_path: Path) -> None:
    found, verdicts, details = labelled(tmp_path, "id,diagnosis\na,MEL\nA.png,NV\n", "a")
    assert (found, verdicts) == ([None], ["duplicate_row"])
    assert "was {'diagnosis': 'MEL'}, now {'diagnosis': 'NV'}" in details


def test_a_table_of_other_images_warns_with_three_ids_of_each_side(tmp_path: Path) -> None:
    rows = "".join(f"case{n},MEL\n" for n in range(9))
    found, verdicts, details = labelled(tmp_path, "id,diagnosis\n" + rows, *(f"polyp{n}" for n in range(9)))
    assert (set(found), verdicts) == ({None}, ["few_matches"])
    assert "0 of 9 images; images without a row: polyp0, polyp1, polyp2; rows without an image: case0, case1" in details


def test_a_pipe_with_the_name_of_a_table_is_a_verdict(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "labels.csv")
    (source,) = read_folder_labels(tmp_path)
    assert [(one.verdict, one.what) for one in source.findings] == [("unreadable_table", "labels.csv")]
