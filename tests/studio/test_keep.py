"""What is kept: masks and pictures by id, downloaded sets, and overrides that say exactly what was asked."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydantic")

from dermprompt.config.compose import compose
from dermprompt.studio.asked import Drawing, read, read_mask, read_photograph
from dermprompt.studio.desk import MOST, Desk, Unknown
from dermprompt.studio.keep import _quoted, write_set


def disc(size: int = 64) -> np.ndarray:
    return (((np.mgrid[:size, :size] - size / 2) ** 2).sum(0) < (size / 4) ** 2).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_masks_come_back_by_the_id_of_their_content(tmp_path):
    desk = Desk(tmp_path)
    id = desk.save_mask(disc())
    assert desk.save_mask(disc()) == id
    np.testing.assert_array_equal(desk.load_mask(id), disc())


@pytest.mark.parametrize(
    "id", ["", "..", "../settings", "0" * 16, "0" * 15 + "G", "a" * 17, "/etc/passwd", "0" * 16 + "\n"]
)
def test_other_ids_are_unknown(tmp_path, id):
    with pytest.raises(Unknown, match="is not known here"):
        Desk(tmp_path).mask_file(id)


def test_old_masks_are_forgotten(tmp_path):
    desk = Desk(tmp_path)
    for number in range(MOST + 5):
        desk._save("masks", str(number).encode(), ".png")
    assert len(list((tmp_path / "masks").iterdir())) == MOST


def test_settings_that_are_broken_are_none(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    assert Desk(tmp_path).settings() == {}


def test_a_mask_of_another_size_with_grey_values_is_taken_and_that_is_said():
    mask, notes = read_mask(png(cv2.GaussianBlur(disc(100)[:80] * 255, (0, 0), 3)), 64)
    assert mask.shape == (64, 64)
    assert notes == ["resized from 100×80 to 64×64, squeezed to a square", "grey values were cut at 128"]


def test_a_photograph_is_turned_upright():
    image, buffer = Image.new("RGB", (40, 20)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif)
    assert read_photograph(buffer.getvalue()).shape == (40, 20, 3)


def test_what_is_asked_wrongly_names_the_key():
    with pytest.raises(ValueError, match=r"^seed: "):
        read(Drawing, json.dumps({"generator": "a", "mask": "0" * 16, "seed": "1"}).encode())


@pytest.mark.parametrize(
    "text",
    [
        "MEL",
        "null",
        "it's",
        "a\\b",
        "a\\'b",
        "{a: b}",
        "x=1, [y]",
        "${seed}",
        "\\${seed}",
        "\\",
        "it's ${a}\\\\",
        "true",
        "1e5",
        "ü — ”",
    ],
)
def test_text_reaches_the_configuration_unchanged(text):
    words = ["+experiment=studio", "prompts=fixed", "prompts.template=verbatim", f"prompts.diagnosis={_quoted(text)}"]
    assert compose(words).prompts.diagnosis == text


def pictured(desk: Desk, id: str, **drawing: object) -> None:
    image = png(np.full((64, 64, 3), 90, np.uint8))
    record = {
        "id": id,
        "drawing": {"mask": desk.save_mask(disc()), "seed": 3, **drawing},
        "generator": {"title": "ControlNet", "digest": "abc"},
        "prompt": "<b>",
        "maker": "controlnet",
        "sample_seed": 9,
        "size": 64,
    }
    desk.save_picture(id, {".png": image, ".jpg": image, ".json": json.dumps(record).encode()})


def test_a_set_holds_pairs_an_index_and_a_card(tmp_path: Path):
    desk = Desk(tmp_path)
    pictured(desk, "0" * 16, diagnosis="MEL", attributes=["streaks"], sampler="dpm")
    pictured(desk, "1" * 16)
    archive = zipfile.ZipFile(io.BytesIO(write_set(desk, ["1" * 16, "0" * 16])))
    rows = list(csv.DictReader(io.StringIO(archive.read("studio_set/samples.csv").decode())))
    assert [row["diagnosis"] for row in rows] == ["", "MEL"]
    assert rows[1]["attributes"] == "streaks"
    for row in rows:
        mask = cv2.imdecode(np.frombuffer(archive.read(f"studio_set/{row['mask']}"), np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, disc() * 255)
        assert b"synthetic image by dermprompt, generator controlnet" in archive.read(f"studio_set/{row['image']}")
    assert "# A set from the studio" in archive.read("studio_set/README.md").decode()
    with pytest.raises(Unknown):
        write_set(desk, ["2" * 16])
