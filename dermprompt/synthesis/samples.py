"""A synthetic set on disk: ISIC's folders, and a record per batch with every sample's provenance.

A batch counts if its record exists; the record is written last. Samples are JPEG like the real images, with a comment
that says that they are synthetic.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dermprompt.files import check_name, read_json, reading, sha256, write_bytes

IMAGES = "ISIC2018_Task1-2_Training_Input"
MASKS = "ISIC2018_Task1_Training_GroundTruth"
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Condition:
    """What a sample is generated from: a mask uint8 SS in {0, 1} with its id, and the prompt with its labels.

    ``source_mask_id``: the image whose mask was transformed into this one, if any.
    """

    mask: np.ndarray
    mask_id: str
    source_mask_id: str | None = None
    prompt: str = ""
    diagnosis: str | None = None
    attributes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Sample:
    """A row of the index: a sample's provenance, and the hashes of its files."""

    id: str
    prompt: str
    diagnosis: str | None
    attributes: list[str] | None
    seed: int
    mask_id: str
    source_mask_id: str | None
    generator: str
    image_sha256: str
    mask_sha256: str


def sample_id(index: int) -> str:
    """The name of sample ``index``."""
    return f"SYN_{index:07d}"


def sample_index(id: str) -> int:
    """The inverse of :func:`sample_id`."""
    return int(id.removeprefix("SYN_"))


def image_path(folder: Path, id: str) -> Path:
    """The path of a sample's image."""
    return folder / IMAGES / f"{id}.jpg"


def mask_path(folder: Path, id: str) -> Path:
    """The path of a sample's mask."""
    return folder / MASKS / f"{id}_segmentation.png"


def write_batch(
    folder: Path,
    record: Path,
    samples: Sequence[tuple[int, int, Condition, np.ndarray]],
    generator: str,
    maker: str = "dermprompt",
) -> None:
    """Write a batch of (index, seed, condition, image uint8 SS3): images, masks, and last the record."""
    for name in (IMAGES, MASKS):
        (folder / name).mkdir(exist_ok=True)
    rows = [_write_sample(folder, *sample, generator, maker) for sample in samples]
    write_bytes(record, json.dumps([asdict(row) for row in rows], indent=1).encode())


def read_file(path: Path, expected: str) -> bytes:
    """The content of a sample's file. Raises ValueError if it does not match the sha256 (hex) in its record."""
    data = path.read_bytes()
    if sha256(data) != expected:
        raise ValueError(
            f"{path}: changed since it was written; delete the record of its batch in batches/ to draw it again"
        )
    return data


def read_records(folder: Path, count: int) -> list[Sample]:
    """The first ``count`` samples of a set."""
    rows: list[Sample] = []
    for record in _records(folder):
        if len(rows) >= count:
            break
        rows += _read_record(record)
    assert len(rows) >= count, (folder, count, len(rows))
    return rows[:count]


def read_all_records(folder: Path) -> list[Sample]:
    """All existing samples of a set."""
    return [row for record in _records(folder) for row in _read_record(record)]


def _records(folder: Path) -> list[Path]:
    return sorted((folder / "batches").glob("*.json"))


def _read_record(record: Path) -> list[Sample]:
    with reading(record, "delete it to draw its batch again"):
        rows = [Sample(**row) for row in read_json(record, list)]
        for row in rows:
            check_name("the id", row.id)
        return rows


def _write_sample(
    folder: Path, index: int, seed: int, condition: Condition, image: np.ndarray, generator: str, maker: str
) -> Sample:
    id = sample_id(index)
    jpeg = encode(image, said_of(generator, index, maker))
    png = cv2.imencode(".png", condition.mask * 255)[1].tobytes()
    write_bytes(image_path(folder, id), jpeg)
    write_bytes(mask_path(folder, id), png)
    attributes = None if condition.attributes is None else list(condition.attributes)
    hashes = [sha256(data) for data in (jpeg, png)]
    origin = condition.mask_id, condition.source_mask_id, generator
    return Sample(id, condition.prompt, condition.diagnosis, attributes, seed, *origin, *hashes)


def said_of(generator: str, index: int, maker: str = "dermprompt") -> str:
    """The comment in a sample's file."""
    return f"synthetic image by {maker}, generator {generator}, sample {index}"


def encode(image: np.ndarray, comment: str) -> bytes:
    """Encode uint8 HW3 as a sample's JPEG."""
    buffer = io.BytesIO()
    settings = {"quality": JPEG_QUALITY, "subsampling": 0, "comment": comment}
    Image.fromarray(image).save(buffer, "JPEG", **settings)
    return buffer.getvalue()
