"""Images and masks of one id, from the names of files alone."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dermprompt.data.findings import Finding
from dermprompt.lesion import Lesion

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Picture:
    """A file that by its name is the image or the mask of an id, in a part of its data set."""

    id: str
    path: Path
    part: str = "training"


@dataclass(frozen=True)
class Files:
    """All files of a data set, found by their names."""

    images: tuple[Picture, ...]
    masks: tuple[Picture, ...]
    labels: tuple[Path, ...]


def pictures(folder: Path, suffix: str = "", part: str = "training") -> list[Picture]:
    """The pictures directly in ``folder`` whose stem ends in ``suffix``, without it, sorted by name."""
    found = []
    for name in sorted(os.listdir(folder)):
        stem, ending = os.path.splitext(name)
        if ending.lower() in ENDINGS and stem.endswith(suffix):
            found.append(Picture(stem.removesuffix(suffix), folder / name, part))
    return found


def unnest(folder: Path) -> Path:
    """Return ``folder/<its name>`` where an archive was extracted into a folder of its own name."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def pair(files: Files) -> tuple[list[Lesion], list[Finding]]:
    """One lesion for each id with one image and one mask, sorted by id; ids meet whatever their case.

    The id is the image's. Ids with several files of a kind, or none of one, are bad.
    """
    images, masks = _by_id(files.images), _by_id(files.masks)
    lesions: list[Lesion] = []
    findings: list[Finding] = []
    for key in sorted(images.keys() | masks.keys()):
        problem = _problem(images[key], masks[key])
        if problem is not None:
            findings.append(problem)
            continue
        (image,), (mask,) = images[key], masks[key]
        if image.id != mask.id:
            findings.append(Finding("id_case", mask.path.name, f"taken for {image.id}"))
        lesions.append(Lesion(image.id, image.path, mask.path, part=image.part))
    return sorted(lesions, key=lambda one: one.id), findings


def _by_id(pictures: Iterable[Picture]) -> defaultdict[str, list[Picture]]:
    groups: defaultdict[str, list[Picture]] = defaultdict(list)
    for one in pictures:
        groups[one.id.casefold()].append(one)
    return groups


def _problem(images: list[Picture], masks: list[Picture]) -> Finding | None:
    id = (images or masks)[0].id
    for several in (images, masks):
        if len(several) > 1:
            return Finding("duplicate_id", id, " and ".join(one.path.name for one in several), id)
    if not masks:
        return Finding("no_mask", images[0].path.name, id=id)
    if not images:
        return Finding("no_image", masks[0].path.name)
    return None
