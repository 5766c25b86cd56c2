"""Folders as users have them: names in any case, archives extracted into folders of their own name, other files."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# Image formats that are recognised but not read.
OTHER_ENDINGS = (".gif", ".heic", ".heif", ".avif", ".jp2", ".dcm", ".svg", ".npy", ".npz", ".mat", ".psd", ".nii")


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that its name marks as an id's image or mask, in a part of its data set.

    ``problem``: verdict and detail, if the file cannot be opened.
    """

    id: str
    path: Path
    part: str = "training"
    problem: tuple[str, str] | None = None


def pictures(folder: Path, part: str = "training") -> list[Picture]:
    """The image files directly in ``folder``, sorted by name, with their stems as ids; hidden files are ignored."""
    found = []
    for entry in sorted(_visible(folder), key=lambda one: one.name):
        stem, ending = os.path.splitext(entry.name)
        if ending.lower() in ENDINGS:
            problem = None if entry.is_file() else ("not_a_file", _kind(entry))
            found.append(Picture(stem, folder / entry.name, part, problem))
        elif ending.lower() in OTHER_ENDINGS and entry.is_file():
            found.append(Picture(stem, folder / entry.name, part, ("unknown_format", ending)))
    return found


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted by name."""
    return [folder / name for name in sorted(one.name for one in _visible(folder) if one.is_dir())]


def named(folder: Path, *names: str) -> list[Path]:
    """The folders in ``folder`` with these names, ignoring case, blanks and dashes, in the order of ``names``.

    If one holds a folder of its own name, as an extracted archive does, the inner one is returned.
    """
    there = subfolders(folder)
    return [unnest(one) for name in names for one in there if plain(one.name) == plain(name)]


def descend(root: Path, *names: str) -> Path:
    """``root``, or its only subfolder that holds a folder of these names if ``root`` itself does not."""
    if not root.is_dir() or named(root, *names):
        return root
    inner = [one for one in subfolders(root) if named(one, *names)]
    return inner[0] if len(inner) == 1 else root


def unnest(folder: Path) -> Path:
    """Return ``folder/<its name>`` if an archive was extracted into a folder of its own name, otherwise ``folder``."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def plain(name: str) -> str:
    """A name without case, and with blanks, dashes and underscores treated alike."""
    return re.sub(r"[\s_-]+", "_", fold(name))


def fold(name: str) -> str:
    """A name without case, and with accented letters as single characters, which macOS decomposes."""
    return unicodedata.normalize("NFC", name).casefold()


def tree(root: Path) -> str:
    """The contents of a folder and its subfolders on one line, for a message."""
    if not root.is_dir():
        return "no such folder"
    inner = (f"{one.name}/ ({', '.join([*_files(one), *_folders(one)]) or 'empty'})" for one in subfolders(root))
    there = [*_files(root), *inner]
    shown = there if len(there) <= 8 else [*there[:8], f"… ({len(there)} in all)"]
    return ", ".join(shown) or "nothing"


def _files(folder: Path) -> list[str]:
    """Counts of files by extension."""
    counts = Counter(f"*{os.path.splitext(one.name)[1].lower()}" for one in _visible(folder) if not one.is_dir())
    return [f"{number} {ending}" for ending, number in counts.most_common(4)]


def _folders(folder: Path) -> list[str]:
    inner = [one.name + "/" for one in subfolders(folder)]
    return [f"{len(inner)} folders such as {inner[0]}"] if len(inner) > 3 else inner


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (one for one in entries if not one.name.startswith("."))


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_dir():
        return "a folder"
    return "a broken link" if entry.is_symlink() and not os.path.exists(entry.path) else "no regular file"
