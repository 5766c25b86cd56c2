"""Images that two data sets share, whatever their names, sizes and formats."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dermprompt.curation.memorisation import nearest
from dermprompt.data.cache import load_cache, read_findings
from dermprompt.data.findings import listed
from dermprompt.data.index import load_index
from dermprompt.distributed.processes import Runtime
from dermprompt.files import read_json, sha256, write_json
from dermprompt.lesion import Lesion
from dermprompt.stages.prepare import usable_lesions
from dermprompt.stages.settings import Usable
from dermprompt.store.artifacts import makes

# Two versions of one photograph (resolution, format) are at most 0.033 apart; in ISIC 2018, photographs that are not
# near-duplicates are at least 0.075 apart.
SAME_PICTURE = 0.05
# Side in pixels of the thumbnails between which the distance is measured.
_SIDE = 32


@dataclass(frozen=True)
class Shared:
    """An image of the other data set that is also in ours; ``by``: same ``id``, ``file``, ``pixels`` or ``picture``."""

    theirs: str
    ours: str
    by: str


@makes("overlap.json")
def find_overlap(
    settings: Usable, runtime: Runtime, indexed: Path, cache: Path, other: Path, other_cache: Path, folder: Path
) -> None:
    """Write ``overlap.json``: the images of an ``other`` data set that are in this one too.

    Raises:
        ValueError: the other data set has bad files that may not be skipped.
    """
    bad = {one.id for one in read_findings(cache) if one.bad}
    ours = [one for one in load_index(indexed / "index.json").every if one.id not in bad]
    theirs = usable_lesions(settings, other, other_cache)
    found = {
        **_pictures(ours, cache, theirs, other_cache),
        **_same(_ids(theirs), _ids(ours), "id"),
        **_same(_files(other), _files(indexed), "file"),
    }
    write_json(folder / "overlap.json", [vars(found[one.id]) for one in theirs if one.id in found])


def check_overlap(overlap: Path, where: str, ways: tuple[str, ...], remedy: str) -> None:
    """Raise ValueError, naming the images, if any are shared in one of these ``ways``."""
    every = [Shared(**row) for row in read_json(overlap / "overlap.json")]
    shared = [one for one in every if one.by in ways]
    if shared:
        named = listed(f"{one.theirs} is {one.ours} (the same {one.by})" for one in shared)
        raise ValueError(f"{where}: {len(shared)} images are images of data.root too: {named}; {remedy}")


def _same(theirs: dict[str, str], ours: dict[str, str], by: str) -> dict[str, Shared]:
    """Images with equal values in both data sets, by their id in the other."""
    known = {value: id for id, value in ours.items()}
    return {id: Shared(id, known[value], by) for id, value in theirs.items() if value in known}


def _ids(lesions: list[Lesion]) -> dict[str, str]:
    """Ids that are unique across data sets: those of the ISIC archive."""
    return {one.id: one.id.upper() for one in lesions if re.fullmatch(r"(?i)ISIC_\d{7}", one.id)}


def _files(indexed: Path) -> dict[str, str]:
    return {id: image for id, (image, _) in load_index(indexed / "index.json").contents.items()}


def _pictures(ours: list[Lesion], cache: Path, theirs: list[Lesion], other_cache: Path) -> dict[str, Shared]:
    known, pixels = _thumbnails(ours, cache)
    others, other_pixels = _thumbnails(theirs, other_cache)
    distances, rows = nearest(others, known)
    alike = {
        one.id: Shared(one.id, ours[row].id, "picture")
        for one, distance, row in zip(theirs, distances, rows, strict=True)
        if distance < SAME_PICTURE
    }
    return {**alike, **_same(other_pixels, pixels, "pixels")}


def _thumbnails(lesions: list[Lesion], cache: Path) -> tuple[np.ndarray, dict[str, str]]:
    """Thumbnails uint8 (N, 32, 32, 3), and a hash of each image's pixels by id; read one by one to save memory."""
    pictures = load_cache(cache, [one.id for one in lesions])
    small, hashes = np.empty((len(lesions), _SIDE, _SIDE, 3), np.uint8), {}
    for i in range(len(lesions)):
        image = pictures.images[i]
        small[i], hashes[lesions[i].id] = (
            cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA),
            sha256(image.tobytes()),
        )
    return small, hashes
