"""A user's own images: ``ROOT/images``, ``ROOT/masks``, and a table of labels if there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dermprompt.data.labels import Source, source_of
from dermprompt.data.pairs import Files, pictures
from dermprompt.data.tables import Fields, number, read_table

TABLE = "labels.csv"
LAYOUT = f"ROOT/images/ID.jpg (or .png, .bmp, .tif), ROOT/masks/ID.png, and perhaps LABELS/{TABLE}"
PARTS = ("training", "validation", "test")


def layout_of(root: Path) -> str:
    """Which kind of data set a folder of pairs is: ``isic``, where ISIC's own folders are in it, else ``folder``."""
    return "isic" if any(root.glob("ISIC2018_Task1*")) else "folder"


def find_folder(root: Path, labels: Path) -> Files:
    """Find the pairs of ``ROOT/images`` and ``ROOT/masks`` by the names of their files.

    Raises:
        ValueError: no such folder.
    """
    for name in ("images", "masks"):
        if not (root / name).is_dir():
            raise ValueError(f"no folder {name} in data root {root}; expected {LAYOUT}")
    images, masks = pictures(root / "images"), pictures(root / "masks")
    table = labels / TABLE
    return Files(tuple(images), tuple(masks), (table,) if table.exists() else ())


def read_folder_labels(labels: Path) -> list[Source]:
    """Read ``labels.csv``: a column ``id`` and any of diagnosis, attributes, age, sex, site, lesion_id, part.

    ``attributes`` are separated by semicolons; ``none`` says that there are none, an empty cell that they are not
    known, as in every column. ``lesion_id`` is the same for images that belong together; ``part`` is training,
    validation or test, for ``data/split=official``.
    """
    table = labels / TABLE
    if not table.exists():
        return []
    return [source_of(TABLE, {TABLE: read_table(table, "id", (), _parse, tuple(_COLUMNS))})]


def _parse(row: Mapping[str, str]) -> Fields:
    cells = {column: (row.get(column) or "").strip() for column in _COLUMNS}
    return {column: _COLUMNS[column](cell) for column, cell in cells.items() if cell}


def _attributes(cell: str) -> tuple[str, ...]:
    names = {name.strip() for name in cell.split(";")} - {""}
    if "none" in names and len(names) > 1:
        raise ValueError(f"column attributes is {cell!r}: none, or names")
    return tuple(sorted(names - {"none"}))


def _part(cell: str) -> str:
    if cell not in PARTS:
        raise ValueError(f"column part is {cell!r}; allowed are {', '.join(PARTS)}")
    return cell


_COLUMNS: dict[str, Callable[[str], Any]] = {
    "diagnosis": str,
    "attributes": _attributes,
    "age": lambda cell: number({"age": cell}, "age"),
    "sex": str,
    "site": str,
    "lesion_id": str,
    "part": _part,
}
