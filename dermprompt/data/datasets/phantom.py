"""A painted data set in ISIC's official layout, for demos and tests, and the rule that reads its diagnoses.

Its images show no person, and nothing learnt from them says anything about skin. It is useful because everything is
known exactly: the mask, the diagnosis (the lesion's colour) and the attributes (the lesion's structures).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dermprompt.data.datasets.phantom_paint import SKIN_TONES, STRUCTURES, Array, paint

IMAGES = "ISIC2018_Task1-2_Training_Input"
MASKS = "ISIC2018_Task1_Training_GroundTruth"
DIAGNOSIS_TABLE = "ISIC_2019_Training_GroundTruth.csv"
METADATA_TABLE = "ISIC_2019_Training_Metadata.csv"
ATTRIBUTE_TABLE = "ISIC2018_Task2_Training_image_attributes.csv"

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
METADATA = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
SITES = ("anterior torso", "posterior torso", "lower extremity", "upper extremity", "head/neck", "")

PREVALENCE = {"NV": 0.50, "MEL": 0.25, "BKL": 0.25}
MEAN_AGE = {"NV": 42, "MEL": 60, "BKL": 66}

# How often each diagnosis shows each attribute, in the order of STRUCTURES: globules, milia-like cysts,
# negative network, pigment network, streaks. Close to ISIC's shares, but rare ones are raised so that a few
# hundred images include them all.
ATTRIBUTE_PREVALENCE = {
    "NV": (0.28, 0.12, 0.08, 0.60, 0.06),
    "MEL": (0.30, 0.10, 0.22, 0.55, 0.18),
    "BKL": (0.12, 0.60, 0.06, 0.22, 0.03),
}


@dataclass(frozen=True)
class Phantom:
    """One image (uint8 HW3, RGB) with its mask (uint8 HW in {0, 1}) and labels; "" means not recorded."""

    id: str
    image: Array
    mask: Array
    diagnosis: str
    attributes: tuple[str, ...]
    age: str
    site: str
    lesion_id: str
    sex: str


def make_phantom(seed: int, index: int, size: int) -> Phantom:
    """Draw and paint image ``index``, a function of the three arguments alone.

    The labels and the lesion's shape are the same at every ``size``.
    """
    rng = np.random.default_rng([seed, index])
    diagnosis = str(rng.choice(list(PREVALENCE), p=list(PREVALENCE.values())))
    shown = rng.random(len(STRUCTURES)) < ATTRIBUTE_PREVALENCE[diagnosis]
    attributes = tuple(name for name, is_shown in zip(STRUCTURES, shown, strict=True) if is_shown)
    age = 5 * round(rng.normal(MEAN_AGE[diagnosis], 14) / 5)
    site, sex = str(rng.choice(SITES)), str(rng.choice(["female", "male", ""], p=[0.48, 0.48, 0.04]))
    age_known, lesion_known = rng.random(2) < (0.95, 0.5)
    image, mask = paint(diagnosis, attributes, size, rng)
    return Phantom(
        id=f"ISIC_{index:07d}",
        image=image,
        mask=mask,
        diagnosis=diagnosis,
        attributes=attributes,
        age=str(min(max(age, 5), 85)) if age_known else "",
        site=site,
        lesion_id=f"PHANTOM_{index:07d}" if lesion_known else "",
        sex=sex,
    )


def write_phantom(root: Path, num_images: int, size: int, seed: int) -> None:
    """Write ``num_images`` phantoms of ``size`` pixels below ``root``, in the layout in which ISIC publishes.

    It has JPEG images and {0, 255} PNG masks as in ISIC 2018 Task 1, the diagnosis and metadata tables of
    ISIC 2019, and a table of the Task 2 attributes. The attribute table is written last: if it exists, the set
    is complete.

    Raises:
        FileExistsError: ``root`` already holds any of these, so that nobody's images are lost.
    """
    for name in (IMAGES, MASKS, DIAGNOSIS_TABLE, METADATA_TABLE, ATTRIBUTE_TABLE):
        if (root / name).exists():
            raise FileExistsError(f"{root / name} exists; write the phantom to a folder without it")
    (root / IMAGES).mkdir(parents=True)
    (root / MASKS).mkdir()
    rows = [_write_pair(root, make_phantom(seed, index, size)) for index in range(num_images)]
    diagnoses, metadata, attributes = zip(*rows, strict=True)
    _write_table(root / DIAGNOSIS_TABLE, ("image", *CLASSES), diagnoses)
    _write_table(root / METADATA_TABLE, METADATA, metadata)
    _write_table(root / ATTRIBUTE_TABLE, ("image_id", *STRUCTURES), attributes)


Row = Sequence[str | float]


def _write_pair(root: Path, phantom: Phantom) -> tuple[Row, Row, Row]:
    """Write the image and the mask; return the rows of the diagnosis, metadata and attribute tables."""
    image_path = root / IMAGES / f"{phantom.id}.jpg"
    Image.fromarray(phantom.image).save(image_path, quality=95, subsampling=0)
    Image.fromarray(phantom.mask * np.uint8(255)).save(root / MASKS / f"{phantom.id}_segmentation.png")
    return (
        (phantom.id, *(float(name == phantom.diagnosis) for name in CLASSES)),
        (phantom.id, phantom.age, phantom.site, phantom.lesion_id, phantom.sex),
        (phantom.id, *(int(name in phantom.attributes) for name in STRUCTURES)),
    )


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_diagnosis(image: Array, mask: Array) -> str:
    """Read a phantom's diagnosis from the colour of its lesion relative to the skin around it.

    The rule is fixed, not learnt, so it can be applied to generated images. Relative to the skin, black and blue-grey
    MEL absorbs no more blue than green; of the others, brown NV absorbs clearly more green than red, and yellow BKL
    about the same. Only hue counts: darkness also depends on the light and on the number of dark or pale structures.

    Args:
        image: uint8 HW3 in [0, 255], RGB.
        mask: uint8 HW in {0, 1}, 1 on the lesion. If it leaves no skin, the mean skin tone of phantoms is used.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("the mask is empty; reading a diagnosis needs a lesion of at least one pixel")
    red, green, blue = np.log(_lesion_over_skin(image, mask))
    if green - blue < 0.06:
        return "MEL"
    return "NV" if red - green > 0.19 else "BKL"


def _lesion_over_skin(image: Array, mask: Array) -> Array:
    """The ratio of the lesion's median colour to that of a ring of skin around it, one value per channel."""
    step = max(1, round(len(mask) / 32))  # stays clear of the soft border
    inner = _grow(1 - mask, step) == 0
    lesion = inner if inner.any() else mask > 0  # a lesion of a few pixels has no interior
    ring = _grow(mask, 6 * step) > _grow(mask, step)
    skin = np.median(image[ring], axis=0) if ring.any() else SKIN_TONES.mean(axis=0)
    return (np.median(image[lesion], axis=0) + 1) / (skin + 1)


def _grow(mask: Array, pixels: int) -> Array:
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2))
