"""The files of ISIC 2018 Task 1: 2,594 training, 100 validation and 1,000 test images."""

from __future__ import annotations

from pathlib import Path

from dermprompt.data.datasets.isic_labels import isic_label_files
from dermprompt.data.pairs import Files, Picture, pictures, unnest

PARTS = {"training": "Training", "validation": "Validation", "test": "Test"}
IMAGES = "ISIC2018_Task1-2_{}_Input"
MASKS = "ISIC2018_Task1_{}_GroundTruth"
LAYOUT = (
    f"ROOT/{IMAGES.format('Training')}/ISIC_XXXXXXX.jpg (or .png) and "
    f"ROOT/{MASKS.format('Training')}/ISIC_XXXXXXX_segmentation.png"
)


def find_isic(root: Path, labels: Path) -> Files:
    """Find the pairs below ``root`` in ISIC's own layout, also where an archive was extracted into a folder of
    its own name; the folders of validation and test may be absent. ``labels`` holds the label files.

    Raises:
        ValueError: no such root, no training folder, or one folder of a validation or test without the other.
    """
    if not root.is_dir():
        raise ValueError(f"data root {root} does not exist; expected {LAYOUT}")
    images: list[Picture] = []
    masks: list[Picture] = []
    for part, name in PARTS.items():
        folders = [root / layout.format(name) for layout in (IMAGES, MASKS)]
        there = [folder.is_dir() for folder in folders]
        if part != "training" and not any(there):
            continue
        if not all(there):
            absent = folders[there.index(False)].name
            raise ValueError(f"no folder {absent} in data root {root}; expected {LAYOUT}")
        images += [one for one in pictures(unnest(folders[0]), part=part) if not one.id.endswith("_superpixels")]
        masks += pictures(unnest(folders[1]), "_segmentation", part)
    return Files(tuple(images), tuple(masks), tuple(isic_label_files(labels)))
