"""A user's own images and masks, in two folders or in one, with an optional table of labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dermprompt.data.findings import Finding
from dermprompt.data.folders import Picture, named, pictures
from dermprompt.data.labels import Source, Tables, read_sources
from dermprompt.data.pairs import Files
from dermprompt.data.tables import Fields, Table, number, read_table

TABLE = "labels.csv"
IMAGES = ("images", "image", "imgs", "img")
MASKS = ("masks", "mask", "segmentations", "segmentation", "labels", "annotations", "ground_truth", "groundtruth", "gt")
PARTS = {
    "training": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
LAYOUT = (
    "ROOT/images/ID.jpg and ROOT/masks/ID.png (or ID_mask.png), or both in ROOT, or each in ROOT/train, ROOT/val and "
    f"ROOT/test; and perhaps LABELS/{TABLE}"
)


def layout_of(root: Path) -> str:
    """Which kind of data set a folder of pairs is: ``isic`` if it holds ISIC's folders, otherwise ``folder``."""
    return "isic" if any(root.glob("ISIC2018_Task1*")) else "folder"


def find_folder(root: Path, labels: Path) -> Files:
    """Find the pairs in ``ROOT/images`` and ``ROOT/masks``, in ROOT itself, or in either layout per part.

    Raises:
        ValueError: a folder of images without one of masks or vice versa, or no images.
    """
    tables = _TABLES.files(labels)
    other = sorted(set(labels.glob("*.csv")) - set(tables)) if labels.is_dir() else []
    unread = tuple(Finding("unread_table", one.name, f"call it {TABLE}") for one in other)
    both = named(root, *IMAGES), named(root, *MASKS)
    parts = [(folder, part) for part, names in PARTS.items() for folder in named(root, *names)]
    if any(both):
        for folders, name in zip(both, ("images", "masks"), strict=True):
            if not folders:
                raise ValueError(f"no folder {name}; expected {LAYOUT}")
        return Files(_in_parts(both[0]), _in_parts(both[1]), tuple(tables), findings=unread)
    if any(named(folder, *IMAGES) for folder, _ in parts):
        images, masks = (
            tuple(one for folder, part in parts for inner in named(folder, *names) for one in pictures(inner, part))
            for names in (IMAGES, MASKS)
        )
        return Files(images, masks, tuple(tables), findings=unread)
    every = tuple(one for folder, part in (parts or [(root, "training")]) for one in pictures(folder, part))
    if not every:
        raise ValueError(f"no pictures; expected {LAYOUT}")
    return Files(every, every, tuple(tables), together=True, findings=unread)


def _in_parts(folders: list[Path]) -> tuple[Picture, ...]:
    """The images in folders, and in their subfolders for training, validation and test."""
    own = [one for folder in folders for one in pictures(folder)]
    inner = [
        one
        for folder in folders
        for part, names in PARTS.items()
        for place in named(folder, *names)
        for one in pictures(place, part)
    ]
    return (*own, *inner)


def read_folder_labels(labels: Path) -> list[Source]:
    """Read ``labels.csv``: ``id``, and any of diagnosis, attributes, age, sex, site, lesion_id, patient_id and part.

    An empty cell means unknown. ``attributes`` are separated by semicolons; ``none`` means that all are absent.
    ``lesion_id`` and ``patient_id`` are equal for images that belong together; ``part`` is training, validation or
    test, for ``data/split=official``.
    """
    return read_sources(labels, {TABLE: _TABLES})


def _read(path: Path) -> Table:
    return read_table(path, "id", (), _parse, tuple(_COLUMNS))


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


def _word(column: str) -> Callable[[str], str]:
    """A reader that returns a cell unchanged. It raises ValueError if the cell has several lines."""

    def read(cell: str) -> str:
        if "\n" in cell or "\r" in cell:
            raise ValueError(f"column {column} is {cell!r}: of several lines")
        return cell

    return read


_COLUMNS: dict[str, Callable[[str], Any]] = {
    "diagnosis": _word("diagnosis"),
    "attributes": _attributes,
    "age": lambda cell: number({"age": cell}, "age"),
    "sex": _word("sex"),
    "site": _word("site"),
    "lesion_id": _word("lesion_id"),
    "patient_id": _word("patient_id"),
    "part": _part,
}
_TABLES = Tables(tuple(f"labels{end}" for end in (".csv", ".tsv", ".tab", ".txt")), _read)
