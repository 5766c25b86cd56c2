from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from dermprompt.report.quiz import MIN_SIDE, Question, write_quiz


def _questions() -> list[Question]:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(6, 24, 24, 3), dtype=np.uint8)
    return [Question(image, k % 2 == 0, "mélanome|noir" if k < 3 else None) for k, image in enumerate(images)]


def _shown(page: str) -> list[dict[str, str]]:
    found = re.search(r"const questions = (\[.*?\]);", page)
    assert found
    return json.loads(found[1])


def test_the_page_needs_nothing_else_and_names_no_answer(tmp_path: Path) -> None:
    write_quiz(_questions(), 0, "Which <is> real?", tmp_path / "quiz.html")
    page = (tmp_path / "quiz.html").read_text()
    assert not re.search(r"https?://|src=\"(?!data:)", page)
    assert "Which &lt;is&gt; real?" in page
    assert '"synthetic' not in json.dumps(_shown(page))
    assert "lanome" not in json.dumps(_shown(page))


def test_all_images_and_answers_are_there_in_one_encoding(tmp_path: Path) -> None:
    write_quiz(_questions(), 0, "t", tmp_path / "quiz.html")
    shown = _shown((tmp_path / "quiz.html").read_text())
    answers = sorted(base64.b64decode(one["key"]).decode() for one in shown)
    named = r'"m\u00e9lanome|noir"'
    real, synthetic = [named, "null", "null"], [named, named, "null"]
    assert answers == [*(f'["real", {one}]' for one in real), *(f'["synthetic", {one}]' for one in synthetic)]
    for one in shown:
        file = base64.b64decode(one["image"])
        assert file[:3] == b"\xff\xd8\xff"
        image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
        assert min(image.shape[:2]) >= MIN_SIDE


def test_the_seed_decides_the_order(tmp_path: Path) -> None:
    pages = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_quiz(_questions(), seed, "t", tmp_path / name)
        pages.append((tmp_path / name).read_text())
    assert pages[0] == pages[1] != pages[2]
    assert sorted(map(str, _shown(pages[0]))) == sorted(map(str, _shown(pages[2])))


def test_a_quiz_of_one_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="real and synthetic"):
        write_quiz(_questions()[::2], 0, "t", tmp_path / "quiz.html")
