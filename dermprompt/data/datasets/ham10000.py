"""HAM10000: 10,015 images with their masks (Tschandl et al., 2018 and 2020).

Written after the published layout; not tried on a copy of the 10,015 images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dermprompt.data.labels import Source, source_of
from dermprompt.data.pairs import Files, pictures, unnest
from dermprompt.data.tables import Fields, number, read_table

IMAGES = ("HAM10000_images_part_1", "HAM10000_images_part_2", "HAM10000_images")
MASKS = "HAM10000_segmentations_lesion_tschandl"
TABLES = ("HAM10000_metadata.csv", "HAM10000_metadata")
LAYOUT = f"ROOT/{IMAGES[0]} and ROOT/{IMAGES[1]} (ISIC_XXXXXXX.jpg), ROOT/{MASKS} (ISIC_XXXXXXX_segmentation.png)"
# Actinic keratosis and intraepithelial carcinoma are one class there.
DIAGNOSES = {"akiec": "AK", "bcc": "BCC", "bkl": "BKL", "df": "DF", "mel": "MEL", "nv": "NV", "vasc": "VASC"}


def find_ham10000(root: Path, labels: Path) -> Files:
    """Find the pairs below ``root``, whose images are in two folders or in one.

    Raises:
        ValueError: no folder of images, or none of masks.
    """
    folders = [unnest(root / name) for name in IMAGES if (root / name).is_dir()]
    if not folders or not (root / MASKS).is_dir():
        raise ValueError(f"no folder {MASKS if folders else IMAGES[0]} in data root {root}; expected {LAYOUT}")
    images = [one for folder in folders for one in pictures(folder)]
    return Files(tuple(images), tuple(pictures(unnest(root / MASKS), "_segmentation")), tuple(_tables(labels)))


def read_ham10000_labels(labels: Path) -> list[Source]:
    """Read the metadata: diagnosis, age, sex, site and lesion_id; ``unknown`` and an age of 0 say unknown."""
    columns = ("lesion_id", "dx", "age", "sex", "localization")
    tables = {
        path.name: read_table(path, "image_id", columns, _parse, ("dx_type", "dataset")) for path in _tables(labels)
    }
    return [source_of("HAM10000 metadata", tables)] if tables else []


def _tables(labels: Path) -> list[Path]:
    return [labels / name for name in TABLES if (labels / name).is_file()][:1]


def _parse(row: Mapping[str, str]) -> Fields:
    if row["dx"] not in DIAGNOSES:
        raise ValueError(f"column dx is {row['dx']!r}; allowed are {', '.join(DIAGNOSES)}")
    named = {"sex": row["sex"], "site": row["localization"], "lesion_id": row["lesion_id"]}
    fields: Fields = {field: value for field, value in named.items() if value and value != "unknown"}
    age = number(row, "age") if row["age"] else 0
    return {"diagnosis": DIAGNOSES[row["dx"]], **fields, **({"age": age} if age else {})}
