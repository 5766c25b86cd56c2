"""The folder that an export is written to, which only an export may replace."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dermprompt.config.schema import Config
from dermprompt.files import flush_folder, read_json, write_json

# Lists the files that an export wrote, in the same folder.
MARKER = ".dermprompt-export.json"
NUMBER = 500  # nnU-Net reserves numbers from 500 on for users


def export_folder(config: Config, folder: Path) -> Path:
    """The folder below the run folder to which ``config.export`` is written."""
    return folder / (f"Dataset{NUMBER}_{config.arm.name}" if config.export == "nnunet" else config.export)


def check_replaceable(folder: Path) -> None:
    """Check that an export may replace ``folder``: it does not exist, or holds only what an export wrote.

    Raises:
        ValueError: it is a link, or holds something that no export wrote; names it.
    """
    if folder.is_symlink():
        raise ValueError(f"{folder} is a link, which no export follows; remove it")
    if not folder.exists():
        return
    if not folder.is_dir() or not (folder / MARKER).is_file():
        raise ValueError(f"{folder} was not written by an export, and is not replaced; move it, or choose another run")
    ours = set(read_json(folder / MARKER, list, f"move {folder}"))
    others = sorted(set(_contents(folder)) - ours)
    if others:
        raise ValueError(f"{folder / others[0]} was not written by the export there; move it before the next")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder for an export, which then replaces ``folder`` and any earlier export there.

    Raises:
        ValueError: see :func:`check_replaceable`.
    """
    check_replaceable(folder)
    staged = folder.with_name(f".{folder.name}-{secrets.token_hex(6)}")
    staged.mkdir(parents=True)
    try:
        yield staged
        write_json(staged / MARKER, sorted([*_contents(staged), MARKER]))
        flush_folder(staged)
        check_replaceable(folder)
        if folder.exists():
            old = staged.with_name(f"{staged.name}-old")
            os.rename(folder, old)
            os.rename(staged, folder)
            shutil.rmtree(old)
        else:
            os.rename(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def new_path(root: Path, path: Path) -> Path:
    """Check the path of a new file below an export, and create its folders.

    Raises:
        ValueError: it would be outside the export, or exists already.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{path}: a name that leads out of an export")
    if path.exists():
        raise ValueError(f"{path.relative_to(root)} would be written twice: two images have one name")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _contents(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
