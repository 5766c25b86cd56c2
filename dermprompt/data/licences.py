"""Finds the licence files of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dermprompt.data.folders import unnest

_NAMES = ("licence", "license", "copying", "attribution")


def find_licences(folders: Iterable[Path]) -> list[Path]:
    """Files with the name of a licence in the folders and their subfolders, without repetition."""
    places = [place for folder in folders for place in (folder, *_inside(folder))]
    found = {path.resolve(): path for place in places for path in place.glob("*") if _is_licence(path)}
    return sorted(found.values())


def first_line(path: Path) -> str:
    """The first line that is not empty, usually the licence's name."""
    lines = path.read_text(errors="replace").splitlines()
    return next((line.strip() for line in lines if line.strip()), "empty")


def _inside(folder: Path) -> list[Path]:
    folders = [path for path in folder.iterdir() if path.is_dir()]
    return [*folders, *map(unnest, folders)]


def _is_licence(path: Path) -> bool:
    return path.name.lower().startswith(_NAMES) and path.is_file()
