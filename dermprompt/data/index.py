"""The index of a data set: one :class:`~dermprompt.lesion.Lesion` per image, with its labels, and all findings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dermprompt.data.datasets.folder import find_folder, read_folder_labels
from dermprompt.data.datasets.ham10000 import find_ham10000, read_ham10000_labels
from dermprompt.data.datasets.isic import find_isic
from dermprompt.data.datasets.isic_archive import find_isic_archive, read_isic_archive_labels
from dermprompt.data.datasets.isic_labels import read_isic_labels
from dermprompt.data.datasets.ph2 import find_ph2, read_ph2_labels
from dermprompt.data.findings import Finding
from dermprompt.data.folders import subfolders, tree
from dermprompt.data.labels import Coverage, Source, join
from dermprompt.data.pairs import Files, pair
from dermprompt.files import joined, json_array, read_json, sha256, stamp, write_pieces
from dermprompt.lesion import Lesion

# How each kind of data set is found on disk, and where its labels come from.
LOADERS: dict[str, tuple[Callable[[Path, Path], Files], Callable[[Path], list[Source]]]] = {
    "isic": (find_isic, read_isic_labels),
    "ham10000": (find_ham10000, read_ham10000_labels),
    "ph2": (find_ph2, read_ph2_labels),
    "isic_archive": (find_isic_archive, read_isic_archive_labels),
    "folder": (find_folder, read_folder_labels),
    "sample": (find_isic, read_isic_labels),
    "phantom": (find_isic, read_isic_labels),
}

# One task per file would take more memory than the hashes.
_HASHED_AT_ONCE = 64


@dataclass(frozen=True)
class Index:
    """The pairs, sorted by id, and the ``pool``: images without a mask, if they are used.

    ``contents``: sha256 (hex) of image and mask file by id; the mask's is empty in the pool.
    """

    lesions: tuple[Lesion, ...]
    contents: dict[str, tuple[str, str]]
    num_images: int
    num_masks: int
    coverages: tuple[Coverage, ...]
    findings: tuple[Finding, ...]
    pool: tuple[Lesion, ...] = ()

    @property
    def every(self) -> tuple[Lesion, ...]:
        """The pairs, then the pool."""
        return (*self.lesions, *self.pool)

    @property
    def digest(self) -> str:
        """Hash (16 hex digits) of contents, labels and findings; it does not depend on where the files are."""
        text = hashlib.sha256()
        found = (asdict(one) for one in self.findings)
        parts = [json_array(map(_said_of, self.lesions)), [json.dumps(self.contents)], json_array(found)]
        if self.pool:
            parts.append(json_array(map(_said_of, self.pool)))
        for piece in joined("[", parts, "]"):
            text.update(piece.encode())
        return text.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write as JSON; :func:`load_index` reads it back."""
        long = ("lesions", "findings", "pool")
        rest = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in long}
        rest["coverages"] = [asdict(one) for one in self.coverages]
        named = [
            *(joined(f'"{name}": ', [json_array(map(asdict, getattr(self, name)))], "") for name in long),
            *([f"{json.dumps(name)}: {json.dumps(value)}"] for name, value in rest.items()),
        ]
        write_pieces(path, (piece.encode() for piece in joined("{", named, "}")))


def read_index(
    kind: str,
    root: Path,
    labels: Path,
    on_conflict: str = "error",
    suffix: str | None = None,
    without_mask: str = "leave_out",
) -> Index:
    """Read names, labels and contents of a data set; no image is decoded.

    ``kind``: a key of ``LOADERS``; ``suffix``: what a mask's name adds to its image's, None to detect it;
    ``without_mask``: ``pool`` for an index with a pool.

    Raises:
        ValueError: a folder is missing, there are no images, label sources disagree while ``on_conflict`` is
            ``error``, or images for the pool are missing or cannot be told from masks.
    """
    files, pooled = find_files(kind, root, labels), without_mask == "pool"
    if pooled and files.together:
        raise ValueError(
            "data.without_mask=pool: images and masks lie in one folder, where a mask without its image would pass for "
            "an image; move them to images/ and masks/"
        )
    found, findings = pair(files, suffix, pooled)
    alone = sum(one.mask is None for one in found)
    if pooled and not alone:
        raise ValueError("data.without_mask=pool: there is no image without a mask; allowed is leave_out")
    if (files.unlabelled or pooled) and alone == len(found):
        raise ValueError(
            f"none of the {len(files.images)} images has a mask, which segmenters and generators learn from; an "
            "export of the ISIC Archive without masks gives labels: data=isic data.labels=ITS FOLDER"
        )
    every, coverages, odd = join(found, LOADERS[kind][1](labels), on_conflict)
    contents = _contents(every)
    lesions, pool = (tuple(one for one in every if (one.mask is None) is unmasked) for unmasked in (False, True))
    said = (*findings, *odd, *_repeated(contents))
    return Index(lesions, contents, len(files.images), len(files.masks), tuple(coverages), said, pool)


def find_files(kind: str, root: Path, labels: Path) -> Files:
    """All files of a data set.

    Raises:
        ValueError: there are none; says what was expected, what is there, and which ``data=`` fits.
    """
    for folder in (root, labels):
        if not folder.is_dir():
            raise ValueError(f"no such folder: {folder}")
    try:
        files = LOADERS[kind][0](root, labels)
        if files.images:
            return files
        problem = "no images"
    except ValueError as error:
        problem = str(error)
    raise ValueError(f"data={kind}: {problem}. In {root} there is: {tree(root)}{_nearest(kind, root, labels)}")


def _nearest(kind: str, root: Path, labels: Path) -> str:
    """A hint at the kinds of data set that the folder does hold."""
    fitting = []
    for other, (find, _) in LOADERS.items():
        try:
            if other != kind and other not in ("sample", "phantom") and find(root, labels).images:
                fitting.append(f"data={other}")
        except ValueError:
            continue
    if fitting:
        return f". Did you mean {' or '.join(fitting)}?"
    x, y = (next((one.name for one in subfolders(root) if one.name.lower().endswith(end)), None) for end in ("x", "y"))
    return f". Rename {x} to images and {y} to masks for data=folder" if x and y else ""


def _said_of(lesion: Lesion) -> dict[str, Any]:
    """The fields of a lesion that enter the digest; fields added in later versions only if they are set."""
    known = {**asdict(lesion), "image": "", "mask": ""}
    return {name: value for name, value in known.items() if value or name not in ("patient_id", "negative")}


def load_index(path: Path) -> Index:
    """Read what :meth:`Index.save` wrote."""
    from pydantic import TypeAdapter  # slow to import, and not needed to compose a configuration

    return TypeAdapter(Index).validate_python(json.loads(path.read_text()))


def fingerprint(files: Files, root: Path, labels: Path) -> str:
    """Hash (sha256, hex) of name, size and modification time of every file that :func:`read_index` uses.

    It shows in a fraction of a second whether files were changed, added or removed. Names are relative, so moving
    the whole folder with its time stamps does not change it.
    """
    pictures = dict.fromkeys(one.path for one in (*files.images, *files.masks) if one.problem is None)
    odd = [(str(one.path.relative_to(root)), one.problem) for one in (*files.images, *files.masks) if one.problem]
    found = [*odd, *(stamp(one, root) for one in pictures), *(stamp(one, labels) for one in files.labels)]
    entries = sorted(" ".join(map(str, one)) for one in found)
    return sha256("\n".join(entries))


def read_lesions(path: Path) -> list[Lesion]:
    """Lesions from a file of their rows in JSON."""
    from pydantic import TypeAdapter

    return TypeAdapter(list[Lesion]).validate_python(read_json(path, list))


def _contents(lesions: Sequence[Lesion]) -> dict[str, tuple[str, str]]:
    parts = [lesions[i : i + _HASHED_AT_ONCE] for i in range(0, len(lesions), _HASHED_AT_ONCE)]
    with ThreadPoolExecutor() as pool:
        return {id: pair for part in pool.map(_hashes, parts) for id, pair in part.items()}


def _hashes(lesions: Sequence[Lesion]) -> dict[str, tuple[str, str]]:
    return {one.id: (sha256(one.image), "" if one.mask is None else sha256(one.mask)) for one in lesions}


def _repeated(contents: dict[str, tuple[str, str]]) -> list[Finding]:
    first: dict[str, str] = {}
    found = []
    for id, (image, _) in contents.items():
        if first.setdefault(image, id) != id:
            found.append(Finding("duplicate_content", id, f"the same file as {first[image]}"))
    return found
