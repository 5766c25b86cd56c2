from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from dermprompt.report import figures
from dermprompt.results import Curve, Interval


def saved(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def opened(picture: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(picture)))


def test_a_thumbnail_never_enlarges(tmp_path):
    small = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:48, None, None], (1, 64, 3))
    np.testing.assert_allclose(opened(figures.thumbnail(saved(tmp_path / "a.png", small))), small, atol=4)
    large = saved(tmp_path / "b.png", np.zeros((400, 800, 3), np.uint8))
    assert opened(figures.thumbnail(large, side=320)).shape == (160, 320, 3)


def test_a_mask_keeps_its_values(tmp_path):
    mask = 255 * np.random.default_rng([0, 0]).integers(0, 2, (48, 64), dtype=np.uint8)
    found = opened(figures.thumbnail(saved(tmp_path / "m.png", mask)))
    np.testing.assert_array_equal(found, np.repeat(mask[..., None], 3, -1))


def test_the_texture_is_the_middle_third_untouched(tmp_path):
    image = np.random.default_rng([0, 1]).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    crop = opened(figures.centre_crop(saved(tmp_path / "a.png", image)))
    np.testing.assert_array_equal(crop, image[30:60, 20:40])


def test_the_outline_changes_the_border_alone(tmp_path):
    image = saved(tmp_path / "a.png", np.full((64, 64, 3), 200, np.uint8))
    lesion = np.zeros((64, 64), np.uint8)
    lesion[16:48, 16:48] = 255
    drawn = opened(figures.outlined(image, saved(tmp_path / "m.png", lesion), side=320))
    changed = (np.abs(drawn.astype(int) - 200) > 20).any(-1)
    assert changed[80, 80:240].all()
    assert not changed[90:230, 90:230].any()
    assert not changed[:70].any()


def test_curves_of_one_training_and_metric_share_a_panel():
    loss = Curve("controlnet", "generator/train/loss", (0, 1, 2), (1.0, 0.5, 0.25))
    other = Curve("controlnet", "generator/train/loss", (0, 1, 2), (1.0, 0.5, 0.125))
    dice = Curve("unet", "segmenter/val/dice", (0, 1), (0.5, 0.75))
    svg = figures.curves_svg([loss, loss, other, dice])
    assert svg.count("last ") == 2
    assert ">last 0.25, 0.125<" in svg
    assert ">last 0.75<" in svg


@pytest.mark.parametrize("name", ["a $b$ c", "<script>x</script>", "x & y -- z", "$\\frac{"])
def test_a_users_name_is_text_in_a_chart(name):
    svg = figures.curves_svg([Curve(name, "m", (0, 1), (1.0, float("nan")))])
    svg += figures.gains_svg([(name, Interval(0.1, 0.0, 0.2, 9))], "gain")
    texts = [node.text or "" for node in ElementTree.fromstring(f"<page>{svg}</page>").iter()]
    assert sum(name in text for text in texts) == 2
    assert "<script" not in svg


def test_charts_are_the_same_every_time_and_hold_no_date():
    curve, gain = Curve("unet", "m", (0, 1, 2), (1.0, 2.0, 3.0)), ("S + 64", Interval(0.1, 0.0, 0.2, 9))
    assert figures.curves_svg([curve]) == figures.curves_svg([curve])
    assert figures.gains_svg([gain], "gain") == figures.gains_svg([gain], "gain")
    assert "dc:date" not in figures.gains_svg([gain], "gain")
    assert figures.INK not in figures.gains_svg([gain], "gain")
