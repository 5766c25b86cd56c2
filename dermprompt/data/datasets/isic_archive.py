"""An export of the ISIC Archive: images with a table of metadata, and masks for some images or none."""

from __future__ import annotations

from pathlib import Path

from dermprompt.data.datasets.archive_labels import ARCHIVE
from dermprompt.data.folders import named, pictures
from dermprompt.data.labels import Source, read_sources
from dermprompt.data.pairs import Files

LAYOUT = (
    "ROOT/ISIC_XXXXXXX.jpg (or in ROOT/images), ROOT/metadata.csv, and perhaps ROOT/masks/ISIC_XXXXXXX_segmentation.png"
)
SUFFIXES = ("_segmentation", "_mask", "")


def find_isic_archive(root: Path, labels: Path) -> Files:
    """Find the images in ``root`` or ``root/images``, and their masks.

    Raises:
        ValueError: there are no images.
    """
    images = [one for folder in (named(root, "images") or [root]) for one in pictures(folder)]
    masks = [one for folder in named(root, "masks", "segmentations") for one in pictures(folder)]
    if not images:
        raise ValueError(f"no images; expected {LAYOUT}")
    tables = tuple(ARCHIVE.files(labels))
    return Files(tuple(images), tuple(masks), tables, SUFFIXES, unlabelled=True)


def read_isic_archive_labels(labels: Path) -> list[Source]:
    """Read the metadata: diagnosis, age, sex, site, lesion_id, patient_id."""
    return read_sources(labels, {"ISIC Archive": ARCHIVE})
