"""HAM10000: 10,015 images with masks (Tschandl et al., 2018 and 2020), named as on Dataverse, Kaggle or ISIC.

Written from the published layouts; not yet tested on a copy of the 10,015 images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dermprompt.data.folders import descend, named, pictures
from dermprompt.data.labels import Source, Tables, read_sources
from dermprompt.data.pairs import Files
from dermprompt.data.tables import Fields, Table, number, only_flag, read_table

IMAGES = (
    "HAM10000_images_part_1",
    "HAM10000_images_part_2",
    "HAM10000_images",
    "ISIC2018_Task3_Training_Input",
    "images",
)
MASKS = ("HAM10000_segmentations_lesion_tschandl", "HAM10000_segmentations", "segmentations", "masks")
TASK3 = "ISIC2018_Task3_Training_GroundTruth"
LAYOUT = (
    f"ROOT/{IMAGES[0]} and ROOT/{IMAGES[1]} (ISIC_XXXXXXX.jpg), ROOT/{MASKS[0]} (ISIC_XXXXXXX_segmentation.png) and "
    "ROOT/HAM10000_metadata.csv (or .tab)"
)
SUFFIXES = ("_segmentation", "", "_mask")
# HAM10000 has one class for actinic keratosis and intraepithelial carcinoma.
DIAGNOSES = {"akiec": "AK", "bcc": "BCC", "bkl": "BKL", "df": "DF", "mel": "MEL", "nv": "NV", "vasc": "VASC"}


def find_ham10000(root: Path, labels: Path) -> Files:
    """Find the pairs below ``root``; images may be in one or two folders.

    Raises:
        ValueError: there is no folder of images, or none of masks.
    """
    base = descend(root, *IMAGES)
    folders, masks = named(base, *IMAGES), named(base, *MASKS)
    if not folders or not masks:
        raise ValueError(f"no folder {MASKS[0] if folders else IMAGES[0]}; expected {LAYOUT}")
    images = [one for folder in folders for one in pictures(folder)]
    outlines = [one for folder in masks[:1] for one in pictures(folder)]
    tables = [path for folder in _places(labels) for one in _SOURCES.values() for path in one.files(folder)]
    return Files(tuple(images), tuple(outlines), tuple(tables), SUFFIXES)


def read_ham10000_labels(labels: Path) -> list[Source]:
    """Read diagnosis, age, sex, site and lesion_id; ``unknown`` and an age of 0 mean unknown."""
    return [source for folder in _places(labels) for source in read_sources(folder, _SOURCES)]


def _places(labels: Path) -> list[Path]:
    """The folder of the tables, and ISIC's subfolders that also hold tables."""
    base = descend(labels, *IMAGES)
    return [base, *named(base, TASK3, "ISIC2018_Task3_Training_LesionGroupings")] if base.is_dir() else []


def _read_metadata(path: Path) -> Table:
    columns = ("lesion_id", "dx", "age", "sex", "localization")
    return read_table(path, "image_id", columns, _parse, ("dx_type", "dataset"))


def _parse(row: Mapping[str, str]) -> Fields:
    if row["dx"] not in DIAGNOSES:
        raise ValueError(f"column dx is {row['dx']!r}; allowed are {', '.join(DIAGNOSES)}")
    named = {"sex": row["sex"], "site": row["localization"], "lesion_id": row["lesion_id"]}
    fields: Fields = {field: value for field, value in named.items() if value and value != "unknown"}
    age = number(row, "age") if row["age"] else 0
    return {"diagnosis": DIAGNOSES[row["dx"]], **fields, **({"age": age} if age else {})}


def _read_task3(path: Path) -> Table:
    """Read a table with one column per diagnosis, of which exactly one is 1."""
    columns = tuple(code.upper() for code in DIAGNOSES)

    return read_table(path, "image", columns, lambda row: {"diagnosis": DIAGNOSES[only_flag(row, columns).lower()]})


def _read_groups(path: Path) -> Table:
    return read_table(
        path, "image", ("lesion_id",), lambda row: {"lesion_id": row["lesion_id"]}, ("diagnosis_confirm_type",)
    )


_SOURCES = {
    "HAM10000 metadata": Tables(
        tuple(f"HAM10000_metadata{end}" for end in ("", ".csv", ".tab", ".tsv")), _read_metadata
    ),
    "HAM10000 diagnosis": Tables((f"{TASK3}.csv", "GroundTruth.csv"), _read_task3),
    "HAM10000 lesions": Tables(("ISIC2018_Task3_Training_LesionGroupings.csv",), _read_groups),
}
