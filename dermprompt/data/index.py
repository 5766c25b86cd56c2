"""The index of a data set: one :class:`~dermprompt.lesion.Lesion` an image, its labels, and what was odd."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dermprompt.data.datasets.folder import find_folder, read_folder_labels
from dermprompt.data.datasets.ham10000 import find_ham10000, read_ham10000_labels
from dermprompt.data.datasets.isic import find_isic
from dermprompt.data.datasets.isic_labels import read_isic_labels
from dermprompt.data.datasets.ph2 import find_ph2, read_ph2_labels
from dermprompt.data.findings import Finding
from dermprompt.data.labels import Coverage, Source, join
from dermprompt.data.pairs import Files, pair, stamps
from dermprompt.files import write_json
from dermprompt.lesion import Lesion

# How each kind of data set is found on disk, and where its labels come from.
LOADERS: dict[str, tuple[Callable[[Path, Path], Files], Callable[[Path], list[Source]]]] = {
    "isic": (find_isic, read_isic_labels),
    "ham10000": (find_ham10000, read_ham10000_labels),
    "ph2": (find_ph2, read_ph2_labels),
    "folder": (find_folder, read_folder_labels),
    "sample": (find_isic, read_isic_labels),
    "phantom": (find_isic, read_isic_labels),
}


@dataclass(frozen=True)
class Index:
    """The pairs, sorted by id, with ``contents``: sha256 (hex) of the image's and the mask's file by id."""

    lesions: tuple[Lesion, ...]
    contents: dict[str, tuple[str, str]]
    num_images: int
    num_masks: int
    coverages: tuple[Coverage, ...]
    findings: tuple[Finding, ...]

    @property
    def digest(self) -> str:
        """Hash (16 hex digits) of contents, labels and findings; where the files lie does not alter it."""
        known = [{**asdict(one), "image": "", "mask": ""} for one in self.lesions]
        found = [asdict(one) for one in self.findings]
        return hashlib.sha256(json.dumps([known, self.contents, found]).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write as JSON; :func:`load_index` reads it back."""
        write_json(path, json.loads(json.dumps(asdict(self), default=str)))


def read_index(kind: str, root: Path, labels: Path, on_conflict: str = "error") -> Index:
    """Read names, labels and contents of a data set; no picture is decoded.

    ``kind`` is a key of ``LOADERS``.

    Raises:
        ValueError: a missing folder, no images, or label sources that disagree while ``on_conflict`` is ``error``.
    """
    find, read_labels = LOADERS[kind]
    files = find(root, labels)
    if not files.images:
        raise ValueError(f"no images of data={kind} in {root}; README.md shows the layout that it expects")
    pairs, findings = pair(files)
    lesions, coverages, odd = join(pairs, read_labels(labels), on_conflict)
    contents = _contents(lesions)
    every = (*findings, *odd, *_repeated(contents))
    return Index(tuple(lesions), contents, len(files.images), len(files.masks), tuple(coverages), every)


def load_index(path: Path) -> Index:
    """Read what :meth:`Index.save` wrote."""
    raw = json.loads(path.read_text())
    return Index(
        lesions=tuple(lesion_of(row) for row in raw["lesions"]),
        contents={id: (image, mask) for id, (image, mask) in raw["contents"].items()},
        num_images=raw["num_images"],
        num_masks=raw["num_masks"],
        coverages=tuple(Coverage(**_tuples(row)) for row in raw["coverages"]),
        findings=tuple(Finding(**row) for row in raw["findings"]),
    )


def fingerprint(kind: str, root: Path, labels: Path) -> str:
    """Hash (sha256, hex) name, size and time of change of every file that :func:`read_index` uses.

    It tells in a fraction of a second whether anything was changed, added or removed since. Names are
    relative: moving the whole folder with its times does not alter it.

    Raises:
        ValueError: a missing folder.
    """
    files = LOADERS[kind][0](root, labels)
    pictures = [one.path for one in (*files.images, *files.masks)]
    entries = sorted([*stamps(root, pictures), *stamps(labels, files.labels)])
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


def lesion_of(row: dict[str, Any]) -> Lesion:
    """A lesion from its row in JSON."""
    return Lesion(**{**_tuples(row), "image": Path(row["image"]), "mask": Path(row["mask"])})


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


def _contents(lesions: Sequence[Lesion]) -> dict[str, tuple[str, str]]:
    with ThreadPoolExecutor() as pool:
        images = pool.map(_sha256, [one.image for one in lesions])
        masks = pool.map(_sha256, [one.mask for one in lesions])
        return {one.id: pair for one, pair in zip(lesions, zip(images, masks, strict=True), strict=True)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _repeated(contents: dict[str, tuple[str, str]]) -> list[Finding]:
    first: dict[str, str] = {}
    found = []
    for id, (image, _) in contents.items():
        if first.setdefault(image, id) != id:
            found.append(Finding("duplicate_content", id, f"the same file as {first[image]}"))
    return found
