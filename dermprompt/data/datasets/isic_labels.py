"""Diagnoses, dermoscopic attributes and metadata from the label files of the ISIC challenges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from dermprompt.data.datasets.archive_labels import ARCHIVE
from dermprompt.data.findings import Finding
from dermprompt.data.folders import unnest
from dermprompt.data.labels import Source, Tables, read_sources
from dermprompt.data.tables import Fields, Table, flags, number, only_flag, read_table

DIAGNOSES = ("MEL", "NV", "BKL", "BCC", "AK", "DF", "VASC", "SCC")
ATTRIBUTES = ("globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks")


def read_isic_labels(folder: Path) -> list[Source]:
    """Read every known label file directly in ``folder``; none of them is required.

    Diagnoses come from ISIC 2017 part 3 (melanoma is MEL, seborrheic keratosis BKL, neither NV) and ISIC 2019;
    attributes from ISIC 2018 task 2; age, sex, site and lesion from ISIC 2019. An export of the ISIC Archive gives
    all of these except attributes.

    Raises:
        ValueError: the folder does not exist.
    """
    if not folder.is_dir():
        raise ValueError(f"labels folder {folder} does not exist; name one, which may hold no label files")
    return read_sources(folder, _SOURCES)


def isic_label_files(folder: Path) -> Iterator[Path]:
    """Yield every file that :func:`read_isic_labels` reads in ``folder``, sorted within each source."""
    for tables in _SOURCES.values():
        for path in tables.files(folder):
            yield from _attribute_files(path) if path.is_dir() else (path,)


def _read_challenge_table(
    path: Path,
    key: str,
    columns: tuple[str, ...],
    parse: Callable[[Mapping[str, str]], Fields | None],
    known: tuple[str, ...] = (),
) -> Table:
    """Read a table, dropping ``_downsampled`` from ids: ISIC 2019 adds it to 2,074 ids, but to no file name."""
    table = read_table(path, key, columns, parse, known)
    return replace(table, rows={re.sub("_downsampled$", "", id): row for id, row in table.rows.items()})


def _read_2017(path: Path) -> Table:
    classes = {"melanoma": "MEL", "seborrheic_keratosis": "BKL"}

    def parse(row: Mapping[str, str]) -> Fields:
        present = flags(row, tuple(classes))
        if len(present) > 1:
            raise ValueError(f"columns {' and '.join(present)} are both 1")
        return {"diagnosis": classes[present[0]] if present else "NV"}

    return _read_challenge_table(path, "image_id", tuple(classes), parse)


def _read_2019(path: Path) -> Table:
    columns = (*DIAGNOSES, "UNK")

    def parse(row: Mapping[str, str]) -> Fields | None:
        present = only_flag(row, columns)
        return None if present == "UNK" else {"diagnosis": present}

    return _read_challenge_table(path, "image", columns, parse)


def _read_metadata(path: Path) -> Table:
    columns = {"sex": "sex", "anatom_site_general": "site", "lesion_id": "lesion_id"}

    def parse(row: Mapping[str, str]) -> Fields:
        age = {"age": number(row, "age_approx")} if row["age_approx"] else {}
        return {**age, **{field: row[column] for column, field in columns.items() if row[column]}}

    return _read_challenge_table(path, "image", ("age_approx", *columns), parse)


def _read_attribute_table(path: Path) -> Table:
    def parse(row: Mapping[str, str]) -> Fields:
        return {"attributes": tuple(sorted(flags(row, ATTRIBUTES)))}

    return _read_challenge_table(path, "image_id", ATTRIBUTES, parse)


def _attribute_files(folder: Path) -> list[Path]:
    return sorted(unnest(folder).glob("*_attribute_*.png"))


def _read_attribute_masks(folder: Path) -> Table:
    """Read which attribute masks (0 or 255, ``ISIC_XXXXXXX_attribute_NAME.png``) have any foreground pixel."""
    files = _attribute_files(folder)
    masks: dict[str, dict[str, bool | None]] = {}
    with ThreadPoolExecutor() as pool:
        for path, present in zip(files, pool.map(_any_pixel, files), strict=True):
            id, name = path.stem.split("_attribute_", maxsplit=1)
            masks.setdefault(id, {})[name] = present
    rows: dict[str, Fields] = {}
    findings = []
    for id, names in masks.items():
        damaged = [f"{id}_attribute_{name}.png" for name in names if names[name] is None]
        if damaged:
            findings += [Finding("unreadable", name) for name in damaged]
        # A missing file must not count as an absent attribute.
        elif set(names) != set(ATTRIBUTES):
            detail = f"{', '.join(sorted(names))}; needed are {', '.join(ATTRIBUTES)}"
            findings.append(Finding("incomplete_attributes", id, detail))
        else:
            rows[id] = {"attributes": tuple(sorted(name for name in names if names[name]))}
    return Table(rows, len(masks), tuple(findings))


def _any_pixel(path: Path) -> bool | None:
    # Imported here so that the rest of this module loads quickly.
    from dermprompt.data.decode import BadPicture
    from dermprompt.data.masks import decode_mask
    from dermprompt.data.reading import Reading

    try:
        return bool(decode_mask(path.read_bytes(), Reading(mask_threshold=None, empty_masks="keep")).pixels.any())
    except BadPicture:
        return None


_SOURCES = {
    "ISIC 2017 diagnosis": Tables(("ISIC-2017_*_Part3_GroundTruth.csv",), _read_2017),
    "ISIC 2019 diagnosis": Tables(("ISIC_2019_Training_GroundTruth.csv",), _read_2019),
    "ISIC 2019 metadata": Tables(("ISIC_2019_Training_Metadata.csv",), _read_metadata),
    "ISIC 2018 attribute table": Tables(("ISIC2018_Task2_Training_image_attributes.csv",), _read_attribute_table),
    "ISIC 2018 attribute masks": Tables(("ISIC2018_Task2_Training_GroundTruth_v3",), _read_attribute_masks),
    "ISIC Archive": ARCHIVE,
}
