"""Diagnoses, dermoscopic attributes and metadata from the label files of the ISIC challenges."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

DIAGNOSES = ("MEL", "NV", "BKL", "BCC", "AK", "DF", "VASC", "SCC")
ATTRIBUTES = ("globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks")

T = TypeVar("T")


@dataclass(frozen=True)
class Metadata:
    """What ISIC 2019 says of the patient. ``age`` is in years, rounded to five by the source."""

    age: float | None
    sex: str | None
    site: str | None


@dataclass(frozen=True)
class Labels:
    """All labels found, by image id. An id that is missing from a table is unknown.

    ``diagnosis`` holds members of ``DIAGNOSES``; ``attributes`` sorted members of ``ATTRIBUTES``, an
    empty tuple where none is present. ``counts`` has the number of labelled ids of each source.
    """

    diagnosis: dict[str, str]
    attributes: dict[str, tuple[str, ...]]
    metadata: dict[str, Metadata]
    counts: dict[str, int]


def read_labels(folder: Path) -> Labels:
    """Read every known label file that lies directly in ``folder``; none of them is required.

    The diagnosis comes from ISIC 2017 part 3 (melanoma is MEL, seborrheic keratosis BKL, neither NV) and
    from ISIC 2019, the attributes from ISIC 2018 task 2, age, sex and site from ISIC 2019.

    Raises:
        ValueError: no such folder; a file with a missing column, a value that is no number or an
            unreadable or missing attribute mask; sources that disagree on an image.
    """
    if not folder.is_dir():
        raise ValueError(f"labels folder {folder} does not exist; name one, which may hold no label files")
    diagnosis = _read_sources(folder, _DIAGNOSIS_SOURCES)
    attributes = _read_sources(folder, _ATTRIBUTE_SOURCES)
    metadata = _read_sources(folder, _METADATA_SOURCES)
    counts = {source: len(table) for source, table in (diagnosis | attributes | metadata).items()}
    return Labels(
        diagnosis=_merge("diagnosis", diagnosis),
        attributes=_merge("attributes", attributes),
        metadata=_merge("metadata", metadata),
        counts=counts,
    )


def label_files(folder: Path) -> Iterator[Path]:
    """Yield every file that :func:`read_labels` reads in ``folder``, sorted within each source."""
    for pattern in (*_DIAGNOSIS_SOURCES, *_ATTRIBUTE_SOURCES, *_METADATA_SOURCES):
        for path in sorted(folder.glob(pattern)):
            yield from _attribute_files(path) if path.is_dir() else (path,)


def unnest(folder: Path) -> Path:
    """Return ``folder/<its name>`` where an archive was extracted into a folder of its own name."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def listed(items: list[str], separator: str = ", ") -> str:
    """Name the first five of ``items`` and say how many there are, for a message."""
    return separator.join(items[:5]) + (f"{separator}… ({len(items)} in all)" if len(items) > 5 else "")


def _read_sources(folder: Path, sources: Mapping[str, Callable[[Path], dict[str, T]]]) -> dict[str, dict[str, T]]:
    return {path.name: read(path) for pattern, read in sources.items() for path in sorted(folder.glob(pattern))}


def _merge(what: str, tables: dict[str, dict[str, T]]) -> dict[str, T]:
    merged: dict[str, T] = {}
    conflicts = []
    for source, table in tables.items():
        for id, value in table.items():
            if merged.setdefault(id, value) != value:
                conflicts.append(f"{id} ({merged[id]}; in {source} {value})")
    if conflicts:
        raise ValueError(f"label sources disagree on the {what} of {listed(conflicts)}")
    return merged


def _read_table(
    path: Path, key: str, columns: tuple[str, ...], parse: Callable[[dict[str, str]], T | None]
) -> dict[str, T]:
    """Parse each row of a csv, by the id in column ``key``; rows that parse to None are left out."""
    table: dict[str, T] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            missing = {key, *columns} - set(reader.fieldnames or ())
            if missing:
                raise ValueError(f"no column {', '.join(sorted(missing))}; found {reader.fieldnames}")
            for row in reader:
                _add(table, row[key].removesuffix("_downsampled"), parse(row))
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    return table


def _add(table: dict[str, T], id: str, value: T | None) -> None:
    if value is not None and table.setdefault(id, value) != value:
        raise ValueError(f"{id} stands twice, as {table[id]} and as {value}")


def _number(row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column] or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"column {column} is {row[column]!r}, not a number")
    return value


def _flags(row: dict[str, str], columns: tuple[str, ...]) -> list[str]:
    values = {column: _number(row, column) for column in columns}
    for column, value in values.items():
        if value not in (0, 1):
            raise ValueError(f"column {column} is {value:g}; allowed are 0 and 1")
    return [column for column, value in values.items() if value]


def _read_2017(path: Path) -> dict[str, str]:
    classes = {"melanoma": "MEL", "seborrheic_keratosis": "BKL"}

    def parse(row: dict[str, str]) -> str:
        flags = _flags(row, tuple(classes))
        if len(flags) > 1:
            raise ValueError(f"columns {' and '.join(flags)} are both 1")
        return classes[flags[0]] if flags else "NV"

    return _read_table(path, "image_id", tuple(classes), parse)


def _read_2019(path: Path) -> dict[str, str]:
    columns = (*DIAGNOSES, "UNK")

    def parse(row: dict[str, str]) -> str | None:
        flags = _flags(row, columns)
        if len(flags) != 1:
            raise ValueError(f"{len(flags)} of the columns {', '.join(columns)} are 1; exactly one must be")
        return None if flags == ["UNK"] else flags[0]

    return _read_table(path, "image", columns, parse)


def _read_metadata(path: Path) -> dict[str, Metadata]:
    def parse(row: dict[str, str]) -> Metadata:
        age = _number(row, "age_approx") if row["age_approx"] else None
        return Metadata(age, row["sex"] or None, row["anatom_site_general"] or None)

    return _read_table(path, "image", ("age_approx", "sex", "anatom_site_general"), parse)


def _read_attribute_table(path: Path) -> dict[str, tuple[str, ...]]:
    return _read_table(path, "image_id", ATTRIBUTES, lambda row: tuple(sorted(_flags(row, ATTRIBUTES))))


def _attribute_files(folder: Path) -> list[Path]:
    return sorted(unnest(folder).glob("*_attribute_*.png"))


def _read_attribute_masks(folder: Path) -> dict[str, tuple[str, ...]]:
    """Say which attribute masks (0 or 255, ``ISIC_XXXXXXX_attribute_NAME.png``) hold any pixel."""
    files = _attribute_files(folder)
    masks: dict[str, dict[str, bool | None]] = {}
    with ThreadPoolExecutor() as pool:
        for path, present in zip(files, pool.map(_any_pixel, files), strict=True):
            id, name = re.split("_attribute_", path.stem, maxsplit=1)
            masks.setdefault(id, {})[name] = present
    _check_attribute_masks(folder, masks)
    return {id: tuple(sorted(name for name in names if names[name])) for id, names in masks.items()}


def _check_attribute_masks(folder: Path, masks: dict[str, dict[str, bool | None]]) -> None:
    unreadable = [f"{id}_attribute_{n}.png" for id, names in masks.items() for n in names if names[n] is None]
    if unreadable:
        raise ValueError(f"{folder}: unreadable {listed(unreadable)}")
    # A file that is missing would otherwise pass for an attribute that is absent.
    partial = [f"{id} ({', '.join(sorted(n))})" for id, n in masks.items() if set(n) != set(ATTRIBUTES)]
    if partial:
        raise ValueError(f"{folder}: each id needs the masks {', '.join(ATTRIBUTES)}; not so {listed(partial)}")


def _any_pixel(path: Path) -> bool | None:
    # Here, because everything else in this module must start quickly.
    import cv2

    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return None if mask is None else bool(mask.any())


_DIAGNOSIS_SOURCES = {
    "ISIC-2017_*_Part3_GroundTruth.csv": _read_2017,
    "ISIC_2019_Training_GroundTruth.csv": _read_2019,
}
_ATTRIBUTE_SOURCES = {
    "ISIC2018_Task2_Training_image_attributes.csv": _read_attribute_table,
    "ISIC2018_Task2_Training_GroundTruth_v3": _read_attribute_masks,
}
_METADATA_SOURCES = {"ISIC_2019_Training_Metadata.csv": _read_metadata}
