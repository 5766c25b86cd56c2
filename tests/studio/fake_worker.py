"""A worker whose studio draws in no time and without networks: what the server does with it is the real one's.

The seed says what happens: 666 ends the process, 667 never ends, 668 fails in a way that nobody foresaw.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dermprompt.files import sha256
from dermprompt.studio.desk import Desk
from dermprompt.studio.worker import run
from dermprompt.synthesis.samples import encode, said_of

STEP_SECONDS = float(os.environ.get("FAKE_STEP_SECONDS", "0.005"))


class FakeStudio:
    def __init__(self, root: Path) -> None:
        self.desk = Desk(root)

    def draw(self, tell: Callable[[dict[str, Any]], None], offer: dict[str, Any], drawing: dict[str, Any]) -> None:
        if drawing["seed"] == 666:
            os._exit(9)
        while drawing["seed"] == 667:
            time.sleep(0.02)
            tell({})
        if drawing["seed"] == 668:
            raise KeyError("a secret of the inside")
        for step in range(4):
            time.sleep(STEP_SECONDS)
            tell({"step": step + 1, "of": 4})
        image = np.full((offer["image_size"],) * 2 + (3,), drawing["seed"] % 256, np.uint8)
        generator = {key: offer[key] for key in ("id", "kind", "title", "digest")}
        record = {"id": sha256(json.dumps(drawing))[:16], "generator": generator, "drawing": drawing, "maker": "fake"}
        record |= {"prompt": drawing.get("text") or "", "sample_seed": 5, "size": offer["image_size"], "unread": []}
        record |= {"seconds": 0.1, "command": "python -m dermprompt", "versions": {}}
        files = {".jpg": encode(image, said_of("fake", 0)), ".png": cv2.imencode(".png", image)[1].tobytes()}
        self.desk.save_picture(record["id"], {**files, ".json": json.dumps(record).encode()})
        tell({"picture": record})
        trust = {"mask": {"dice": 0.9, "outline": drawing["mask"]}, "copy": {"distance": None, "why": "none"}}
        tell({"trust": trust})

    def roll(self, tell: Callable[[dict[str, Any]], None], masks: str, seed: int, size: int) -> None:
        mask = np.zeros((size, size), np.uint8)
        mask[: size // 2] = 1
        tell({"mask": self.desk.save_mask(mask)})

    def segment(self, tell: Callable[[dict[str, Any]], None], photograph: str, segmenter: str, size: int) -> None:
        self.desk.load_photograph(photograph)
        self.roll(tell, "", 0, size)


if __name__ == "__main__":
    run(lambda: FakeStudio(Path(sys.argv[1])))
