"""The studio's own files: masks and pictures by their ids, and what the page remembers.

Below one folder: ``masks/ID.png``, ``pictures/ID.{png,jpg,json}``, ``photographs/ID`` and ``settings.json``. An id is
the beginning of a sha256 (hex): no path comes from a request.
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
# Older pictures and masks make room for new ones: some 50 MB.
MOST = 1000


class Unknown(ValueError):
    """An id that nothing belongs to."""


@dataclass(frozen=True)
class Desk:
    """What lies below ``root``."""

    root: Path

    def __post_init__(self) -> None:
        """Make the folders."""
        for name in ("masks", "pictures", "photographs"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def save_mask(self, mask: np.ndarray) -> str:
        """Keep a mask, uint8 HW in {0, 1}, and return its id."""
        data = cv2.imencode(".png", mask * 255)[1].tobytes()
        return self._save("masks", data, ".png")

    def mask_file(self, id: str) -> Path:
        """Where a mask is. Raises Unknown."""
        return self._known("masks", id, ".png", "mask")

    def load_mask(self, id: str) -> np.ndarray:
        """A mask, uint8 HW in {0, 1}. Raises Unknown."""
        return np.asarray(cv2.imread(str(self.mask_file(id)), cv2.IMREAD_GRAYSCALE)) // 255

    def save_photograph(self, data: bytes) -> str:
        """Keep a photograph as it came until it is segmented, and return its id."""
        return self._save("photographs", data, "")

    def load_photograph(self, id: str) -> bytes:
        """A photograph as it came. Raises Unknown."""
        return self._known("photographs", id, "", "photograph").read_bytes()

    def picture_file(self, id: str, ending: str) -> Path:
        """Where a picture's ``.png``, ``.jpg``, ``.json`` or ``.nearest.png`` is. Raises Unknown."""
        return self._known("pictures", id, ending, "picture")

    def save_picture(self, id: str, files: dict[str, bytes]) -> None:
        """Keep a picture's files by their endings."""
        for ending, data in files.items():
            write_bytes(self.root / "pictures" / f"{id}{ending}", data)
        self._prune("pictures")

    def record(self, id: str) -> dict[str, Any]:
        """What is known of a picture. Raises Unknown."""
        return read_json(self.picture_file(id, ".json"))

    def amend(self, id: str, **more: Any) -> None:
        """Add to what is known of a picture."""
        write_json(self.picture_file(id, ".json"), {**self.record(id), **more})

    def settings(self) -> dict[str, Any]:
        """What the page remembers; nothing where that cannot be read."""
        try:
            return read_json(self.root / "settings.json")
        except (OSError, ValueError):
            return {}

    def remember(self, settings: dict[str, Any]) -> None:
        """Keep what the page remembers."""
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
        """Forget the oldest files; a picture has up to four, and photographs are large."""
        most = {"pictures": 4 * MOST, "masks": MOST, "photographs": 8}[kind]
        files = [path for path in (self.root / kind).iterdir() if path.suffix != ".tmp"]
        if len(files) > most:
            for path in sorted(files, key=lambda one: one.stat().st_mtime)[: len(files) - most]:
                path.unlink(missing_ok=True)
