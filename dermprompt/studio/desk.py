"""The studio's files: masks and images by id, and the page's settings.

They are in one folder: ``masks/ID.png``, ``pictures/ID.{png,jpg,json}``, ``photographs/ID`` and ``settings.json``. An
id is the beginning of a sha256 (hex), so that no path comes from a request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dermprompt.files import read_json, sha256, write_bytes, write_json

ID = r"[0-9a-f]{16}"
# The oldest images and masks beyond this number are deleted; all take about 50 MB.
MOST = 1000


class Unknown(ValueError):
    """No file has this id."""


@dataclass(frozen=True)
class Desk:
    """The studio's files below ``root``."""

    root: Path

    def __post_init__(self) -> None:
        """Create the folders."""
        for name in ("masks", "pictures", "photographs"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def save_mask(self, mask: np.ndarray) -> str:
        """Save a mask, uint8 HW in {0, 1}; return its id."""
        data = cv2.imencode(".png", mask * 255)[1].tobytes()
        return self._save("masks", data, ".png")

    def mask_file(self, id: str) -> Path:
        """The path of a mask. Raises Unknown."""
        return self._known("masks", id, ".png", "mask")

    def load_mask(self, id: str) -> np.ndarray:
        """A mask, uint8 HW in {0, 1}. Raises Unknown."""
        return np.asarray(cv2.imread(str(self.mask_file(id)), cv2.IMREAD_GRAYSCALE)) // 255

    def save_photograph(self, data: bytes) -> str:
        """Save a photograph unchanged, until it is segmented; return its id."""
        return self._save("photographs", data, "")

    def load_photograph(self, id: str) -> bytes:
        """The unchanged bytes of a photograph. Raises Unknown."""
        return self._known("photographs", id, "", "photograph").read_bytes()

    def picture_file(self, id: str, ending: str) -> Path:
        """The path of an image's ``.png``, ``.jpg``, ``.json`` or ``.nearest.png``. Raises Unknown."""
        return self._known("pictures", id, ending, "picture")

    def save_picture(self, id: str, files: dict[str, bytes]) -> None:
        """Save an image's files, given by extension."""
        for ending, data in files.items():
            write_bytes(self.root / "pictures" / f"{id}{ending}", data)
        self._prune("pictures")

    def record(self, id: str) -> dict[str, Any]:
        """An image's record. Raises Unknown."""
        return read_json(self.picture_file(id, ".json"))

    def amend(self, id: str, **more: Any) -> None:
        """Add entries to an image's record."""
        write_json(self.picture_file(id, ".json"), {**self.record(id), **more})

    def settings(self) -> dict[str, Any]:
        """The page's settings; empty if they cannot be read."""
        try:
            return read_json(self.root / "settings.json")
        except (OSError, ValueError):
            return {}

    def remember(self, settings: dict[str, Any]) -> None:
        """Save the page's settings."""
        write_json(self.root / "settings.json", settings)

    def _save(self, kind: str, data: bytes, ending: str) -> str:
        id = sha256(data)[:16]
        write_bytes(self.root / kind / f"{id}{ending}", data)
        self._prune(kind)
        return id

    def _known(self, kind: str, id: str, ending: str, noun: str) -> Path:
        path = self.root / kind / f"{id}{ending}"
        if not re.fullmatch(ID, id) or not path.is_file():
            raise Unknown(f"{noun} {id[:40]!r} is not known here, or no longer: of each kind the last {MOST} are kept")
        return path

    def _prune(self, kind: str) -> None:
        """Delete the oldest files; an image has up to four files, and photographs are large."""
        most = {"pictures": 4 * MOST, "masks": MOST, "photographs": 8}[kind]
        files = [path for path in (self.root / kind).iterdir() if path.suffix != ".tmp"]
        if len(files) > most:
            for path in sorted(files, key=lambda one: one.stat().st_mtime)[: len(files) - most]:
                path.unlink(missing_ok=True)
