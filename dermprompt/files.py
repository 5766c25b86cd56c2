"""Files that are whole or absent, also after a power cut."""

from __future__ import annotations

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


def write_json(path: Path, value: Any) -> None:
    """Write JSON as :func:`write_bytes` does."""
    write_bytes(path, json.dumps(value, indent=1).encode())


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())
