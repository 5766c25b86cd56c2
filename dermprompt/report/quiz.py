"""The reader quiz (paper, Figure 1): a page on which a reader tells real images from synthetic ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dermprompt.files import write_bytes
from dermprompt.report.page import templates

# Smaller images are enlarged by an integer factor.
MIN_SIDE = 320
JPEG_QUALITY = 92


@dataclass(frozen=True, eq=False)
class Question:
    """An image uint8 HW3 RGB, whether it is synthetic, and its diagnosis or the prompted one."""

    image: np.ndarray
    synthetic: bool
    diagnosis: str | None


def write_quiz(questions: Sequence[Question], seed: int, title: str, path: Path) -> None:
    """Write a self-contained page with the questions in a seeded order, all images in the same encoding.

    It needs no server, and no name in it reveals an answer. At the end it shows the score with its 95 % interval
    (Wilson 1927), also by diagnosis, and the answers as JSON.

    Raises:
        ValueError: there are no real or no synthetic images.
    """
    if len({one.synthetic for one in questions}) < 2:
        raise ValueError("a quiz needs real and synthetic images")
    order = np.random.default_rng(seed).permutation(len(questions))
    shown = [_entry(questions[i]) for i in order]
    page = templates().get_template("quiz.html").render(title=title, questions=json.dumps(shown))
    write_bytes(path, page.encode())


def _entry(question: Question) -> dict[str, str]:
    scale = max(1, -(-MIN_SIDE // min(question.image.shape[:2])))
    large = cv2.resize(question.image[..., ::-1], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    file = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    # Encoded, though not encrypted, so that a glance at the source reveals nothing.
    answer = base64.b64encode(json.dumps(["synthetic" if question.synthetic else "real", question.diagnosis]).encode())
    return {"image": base64.b64encode(file.tobytes()).decode(), "key": answer.decode()}
