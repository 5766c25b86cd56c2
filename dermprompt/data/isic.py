"""The index of an ISIC 2018 Task 1 folder: one :class:`~dermprompt.lesion.Lesion` per image."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dermprompt.data.labels import Metadata, label_files, listed, read_labels, unnest
from dermprompt.lesion import Lesion

IMAGES = "ISIC2018_Task1-2_Training_Input"
MASKS = "ISIC2018_Task1_Training_GroundTruth"
LAYOUT = f"ROOT/{IMAGES}/ISIC_XXXXXXX.jpg (or .png) and ROOT/{MASKS}/ISIC_XXXXXXX_segmentation.png"

_MASK_ENDING = "_segmentation.png"


def read_isic(root: Path, labels: Path) -> list[Lesion]:
    """List the image-mask pairs below ``root`` with their labels, sorted by id, without opening an image.

    ``root`` has ISIC's own layout (``LAYOUT``), also where an archive was extracted into a folder of its
    own name; ``labels`` is a folder for :func:`~dermprompt.data.labels.read_labels`.

    Raises:
        ValueError: a missing folder, no images, images without mask, masks without image, two images of
            one id, or what ``read_labels`` raises.
    """
    image_folder, mask_folder = _folder(root, IMAGES), _folder(root, MASKS)
    images, masks = _images(image_folder), _masks(mask_folder)
    _check_pairs(image_folder, set(images), mask_folder, set(masks))
    known, nothing = read_labels(labels), Metadata(None, None, None)
    lesions = []
    for id in sorted(images):
        metadata = known.metadata.get(id, nothing)
        diagnosis, attributes = known.diagnosis.get(id), known.attributes.get(id)
        personal = (metadata.age, metadata.sex, metadata.site)
        lesions.append(Lesion(id, images[id], masks[id], diagnosis, attributes, *personal))
    return lesions


def fingerprint(root: Path, labels: Path) -> str:
    """Hash (sha256, hex) name, size and time of change of every file that :func:`read_isic` uses.

    It tells in a fraction of a second whether anything was changed, added or removed since. Names are
    relative: moving the whole folder with its times does not alter it.

    Raises:
        ValueError: a missing image or mask folder, or no images.
    """
    files = [*_images(_folder(root, IMAGES)).values(), *_masks(_folder(root, MASKS)).values()]
    entries = sorted([*_stamps("root", root, files), *_stamps("labels", labels, label_files(labels))])
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


def coverage(lesions: list[Lesion]) -> dict[str, Any]:
    """Count images, images of each diagnosis and of none, and images with each attribute.

    ``with_attributes`` counts the images whose attributes are known, if only to be absent.
    """
    diagnoses = Counter(lesion.diagnosis for lesion in lesions if lesion.diagnosis is not None)
    attributes = Counter(name for lesion in lesions for name in lesion.attributes or ())
    return {
        "images": len(lesions),
        "diagnosis": dict(diagnoses.most_common()),
        "unknown_diagnosis": len(lesions) - diagnoses.total(),
        "attributes": dict(sorted(attributes.items())),
        "with_attributes": sum(lesion.attributes is not None for lesion in lesions),
    }


def _folder(root: Path, name: str) -> Path:
    if not root.is_dir():
        raise ValueError(f"data root {root} does not exist; expected {LAYOUT}")
    if not (root / name).is_dir():
        raise ValueError(f"no folder {name} in data root {root}; expected {LAYOUT}")
    return unnest(root / name)


def _images(folder: Path) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for name in sorted(os.listdir(folder)):
        id, ending = os.path.splitext(name)
        if ending.lower() not in (".jpg", ".png") or id.endswith("_superpixels"):
            continue
        if id in images:
            raise ValueError(f"{folder}: two images of one id, {images[id].name} and {name}")
        images[id] = folder / name
    if not images:
        raise ValueError(f"no .jpg or .png images in {folder}; expected {LAYOUT}")
    return images


def _masks(folder: Path) -> dict[str, Path]:
    names = os.listdir(folder)
    return {name.removesuffix(_MASK_ENDING): folder / name for name in names if name.endswith(_MASK_ENDING)}


def _check_pairs(image_folder: Path, images: set[str], mask_folder: Path, masks: set[str]) -> None:
    problems = []
    if images - masks:
        unmasked = sorted(images - masks)
        problems.append(f"{len(unmasked)} images have no ID{_MASK_ENDING} in {mask_folder}: {listed(unmasked)}")
    if masks - images:
        unpaired = sorted(masks - images)
        problems.append(f"{len(unpaired)} masks have no image in {image_folder}: {listed(unpaired)}")
    if problems:
        raise ValueError("; ".join(problems))


def _stamps(kind: str, base: Path, files: Iterable[Path]) -> Iterator[str]:
    for path in files:
        stat = os.stat(path)
        yield f"{kind}/{path.relative_to(base)} {stat.st_size} {stat.st_mtime_ns}"
