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


def write_json(path: Path, value: Any) -> None:
    """Write JSON as :func:`write_bytes` does."""
    write_bytes(path, json.dumps(value, indent=1).encode())


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())
