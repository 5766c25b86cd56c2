"""The files of the ISIC challenges' segmentation task: 2018 (2,594 training images), 2017 (2,000) and 2016 (900)."""

from __future__ import annotations

from pathlib import Path

from dermprompt.data.datasets.isic_labels import isic_label_files
from dermprompt.data.findings import Finding
from dermprompt.data.folders import Picture, descend, named, pictures
from dermprompt.data.pairs import Files

PARTS = {"training": ("Training",), "validation": ("Validation",), "test": ("Test", "Test_v2")}
IMAGES = "ISIC2018_Task1-2_{}_Input"
MASKS = "ISIC2018_Task1_{}_GroundTruth"
# Folders of images and masks, the latest challenge first.
CHALLENGES = (
    (IMAGES, MASKS),
    ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth"),
    ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth"),
)
LAYOUT = (
    f"ROOT/{IMAGES.format('Training')}/ISIC_XXXXXXX.jpg (or .png) and "
    f"ROOT/{MASKS.format('Training')}/ISIC_XXXXXXX_segmentation.png"
)
SUFFIXES = ("_segmentation", "")


def find_isic(root: Path, labels: Path) -> Files:
    """Find the pairs below ``root`` in ISIC's layout, also if archives were extracted into folders of their own names.

    The validation and test folders may be absent. ``labels`` holds the label files.

    Raises:
        ValueError: no training folder, or images without masks or masks without images in validation or test.
    """
    every = [layout.format(name) for layouts in CHALLENGES for layout in layouts for name in PARTS["training"]]
    root = descend(root, *every)
    there = [layouts for layouts in CHALLENGES if any(_folders(root, one, "training") for one in layouts)]
    images: list[Picture] = []
    masks: list[Picture] = []
    for part in PARTS:
        for found, layout in zip((images, masks), there[0] if there else CHALLENGES[0], strict=True):
            folders = _folders(root, layout, part)
            found += [one for folder in folders for one in pictures(folder, part) if not _is_superpixels(one)]
        _check_both(root, there[0] if there else CHALLENGES[0], part)
    unused = [
        Finding("unused_folder", one.name) for layouts in there[1:] for one in _folders(root, layouts[0], "training")
    ]
    labelled = tuple(isic_label_files(labels))
    return Files(tuple(images), tuple(masks), labelled, SUFFIXES, findings=tuple(unused))


def _folders(root: Path, layout: str, part: str) -> list[Path]:
    return named(root, *(layout.format(name) for name in PARTS[part]))


def _check_both(root: Path, layouts: tuple[str, str], part: str) -> None:
    """Raise ValueError if only one of the image and mask folders exists, or neither for training."""
    there = [bool(_folders(root, layout, part)) for layout in layouts]
    if not all(there) and (part == "training" or any(there)):
        raise ValueError(f"no folder {layouts[there.index(False)].format(PARTS[part][0])}; expected {LAYOUT}")


def _is_superpixels(one: Picture) -> bool:
    return one.id.endswith("_superpixels")
