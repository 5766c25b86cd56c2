"""Weights and images included in the package; the configuration calls the weights ``box``."""

from __future__ import annotations

import hashlib
from pathlib import Path

_WEIGHTS = Path(__file__).parent
# An autoencoder, and networks for 128 pixels that were trained on G of ISIC 2018.
TAEF2 = _WEIGHTS / "taef2"
BOX = _WEIGHTS / "isic_128"
SAMPLE = _WEIGHTS.parent / "data" / "sample"


def in_box(path: str, part: str) -> Path:
    """A folder of weights: for ``box`` the package's weights of ``part``, otherwise the given folder."""
    return BOX / part if path == "box" else Path(path).expanduser()


def digest(folder: Path) -> str:
    """The sha256 (hex) of names and contents of all files below a folder."""
    whole = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{file.relative_to(folder)}\n{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()
