"""Files that are whole or absent, also after a power cut."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file: beside its target, flushed to the disk, then put in its place."""
    staged = path.with_name(path.name + ".tmp")
    with open(staged, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staged, path)


def flush_folder(folder: Path) -> None:
    """Flush all files in a folder to the disk, and the folders' own lists of them."""
    for path in (*folder.rglob("*"), folder):
        if path.is_file() or path.is_dir():
            opened = os.open(path, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)


def sha256(content: bytes | str | Path) -> str:
    """The sha256 (hex) of bytes, of a text in UTF-8, or of what a file holds."""
    if isinstance(content, Path):
        with open(content, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def stamp(file: Path, root: Path) -> tuple[str, int, int]:
    """Name, size and time of change of a file; the name relative to ``root`` where it lies below it."""
    found = os.stat(file)
    return str(file.relative_to(root) if file.is_relative_to(root) else file), found.st_size, found.st_mtime_ns


def stamps(path: str) -> list[tuple[str, int, int]]:
    """The stamps of a local file or of the files in a folder; none where there is neither, as for a hub id."""
    assert path, "an empty path is the working directory"
    root = Path(path).expanduser()
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    return [stamp(file, root) for file in files]


def write_json(path: Path, value: Any) -> None:
    """Write JSON as :func:`write_bytes` does."""
    write_bytes(path, json.dumps(value, indent=1).encode())


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())
