"""PH2: 200 images with masks, diagnoses and attributes (Mendonça et al., 2013).

Written from the published layout; not yet tested on a copy of the 200 images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dermprompt.data.findings import Finding
from dermprompt.data.folders import Picture, descend, named, pictures, subfolders
from dermprompt.data.labels import Source
from dermprompt.data.pairs import Files
from dermprompt.data.tables import Fields, put, read_text

IMAGE_FOLDER = "PH2 Dataset images"
TEXT, SHEET = "PH2_dataset.txt", "PH2_dataset.xlsx"
LAYOUT = (
    "ROOT/IMDxxx/IMDxxx_Dermoscopic_Image/IMDxxx.bmp and ROOT/IMDxxx/IMDxxx_lesion/IMDxxx_lesion.bmp, or ROOT/images "
    "and ROOT/masks"
)
SUFFIXES = ("_lesion", "", "_mask", "_segmentation")
DIAGNOSES = {"0": "NV", "1": "NV", "2": "MEL"}
# A: absent, AT: atypical, T: typical, P: present.
STATES = ("A", "AT", "T", "P")


def find_ph2(root: Path, labels: Path) -> Files:
    """Find the pairs in the subfolders of ``root`` or of ``root/PH2 Dataset images``, or in two flat folders.

    Raises:
        ValueError: there is no image.
    """
    top = _top(root)
    base = next(iter(named(top, IMAGE_FOLDER)), top)
    images: list[Picture] = []
    masks: list[Picture] = []
    for folder in subfolders(base):
        images += [one for inner in named(folder, f"{folder.name}_Dermoscopic_Image") for one in pictures(inner)]
        masks += [one for inner in named(folder, f"{folder.name}_lesion") for one in pictures(inner)]
    images += [one for folder in named(base, "images") for one in pictures(folder)]
    masks += [one for folder in named(base, "masks", "lesions") for one in pictures(folder)]
    if not images:
        raise ValueError(f"no image of PH2; expected {LAYOUT}")
    return Files(tuple(images), tuple(masks), tuple(_tables(labels)), SUFFIXES)


def _top(root: Path) -> Path:
    return descend(root, IMAGE_FOLDER)


def _tables(labels: Path) -> list[Path]:
    there = {one.name.casefold(): one for one in _top(labels).iterdir()} if labels.is_dir() else {}
    return [there[name.casefold()] for name in (TEXT, SHEET) if name.casefold() in there]


def read_ph2_labels(labels: Path) -> list[Source]:
    """Read diagnosis and attributes from the text table, the spreadsheet, or both.

    Common and atypical nevi are NV. Of PH2's attributes, those that ISIC also has are read: pigment network, dots or
    globules, and streaks, unless absent. PH2 does not record milia-like cysts or negative networks, so ``attributes``
    never has them.
    """
    readers = {".txt": _text_rows, ".xlsx": _sheet_rows}
    return [_source(path.name, readers[path.suffix.lower()](path)) for path in _tables(labels)]


# Id, diagnosis, pigment network, dots or globules, streaks; as written in the table.
Row = tuple[str, str, str, str, str]


def _source(name: str, rows: Iterator[Row]) -> Source:
    known: dict[str, Fields] = {}
    findings: list[Finding] = []
    every = list(rows)
    for id, *cells in every:
        try:
            findings += put(known, f"{name}, {id}", id, _parse(*cells))
        except ValueError as error:
            findings.append(Finding("bad_row", f"{name}, {id}", str(error)))
    if not every:
        findings.append(Finding("unreadable_table", name, "no row of an image"))
    return Source(name, (name,), known, len(every), tuple(findings))


def _parse(diagnosis: str, network: str, globules: str, streaks: str) -> Fields:
    if diagnosis not in DIAGNOSES:
        raise ValueError(f"clinical diagnosis is {diagnosis!r}; allowed are {', '.join(DIAGNOSES)}")
    states = {"pigment_network": network, "globules": globules, "streaks": streaks}
    for name, state in states.items():
        if state not in STATES:
            raise ValueError(f"{name} is {state!r}; allowed are {', '.join(STATES)}")
    return {
        "diagnosis": DIAGNOSES[diagnosis],
        "attributes": tuple(sorted(name for name, state in states.items() if state != "A")),
    }


def _text_rows(path: Path) -> Iterator[Row]:
    """Rows of cells separated by single or double bars, below a header with the columns' names."""
    try:
        lines = read_text(path)[0].splitlines()
    except UnicodeError:  # a table without rows is reported
        return
    header: list[str] = []
    for line in lines:
        cells = [" ".join(cell.split()) for cell in re.split(r"\|+", line.strip().strip("|"))]
        if cells[0] == "Name":
            header = cells
        elif cells[0].startswith("IMD"):
            named = dict(zip(header, cells, strict=False))
            yield cells[0], *(named.get(name, "") for name in ("Clinical Diagnosis", *_ATTRIBUTES))  # type: ignore[misc]


def _sheet_rows(path: Path) -> Iterator[Row]:
    """Rows below the header that starts with ``Image Name``; an X marks the column of the diagnosis."""
    import openpyxl

    try:
        sheet = openpyxl.load_workbook(path, read_only=True, data_only=True).active
    except Exception:  # whatever a damaged file raises; a table without rows is reported
        return
    rows = [[str(cell or "").strip() for cell in row] for row in sheet.iter_rows(values_only=True)]
    start = next((number for number, row in enumerate(rows) if row and row[0] == "Image Name"), len(rows))
    header = rows[start] if start < len(rows) else []
    for row in rows[start + 1 :]:
        if row[0].startswith("IMD"):
            yield row[0], _marked(header, row), *(_cell(header, row, name) for name in _ATTRIBUTES)  # type: ignore[misc]


_CLASSES = ("Common Nevus", "Atypical Nevus", "Melanoma")
_ATTRIBUTES = ("Pigment Network", "Dots/Globules", "Streaks")


def _marked(header: Sequence[str], row: Sequence[str]) -> str:
    marked = [str(number) for number, name in enumerate(_CLASSES) if _cell(header, row, name)]
    return marked[0] if len(marked) == 1 else ""


def _cell(header: Sequence[str], row: Sequence[Any], name: str) -> str:
    """The cell in the column whose title starts with ``name``; a title may have an explanation on a second line."""
    column = next((number for number, title in enumerate(header) if title.startswith(name)), None)
    return "" if column is None else str(row[column])
