"""Masks in every mode that programs save: two values, or a verdict that names the setting that decides."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from dermprompt.data.decode import BadPicture, decode_image
from dermprompt.data.masks import decode_mask
from dermprompt.data.reading import PLAIN

SHAPE = np.zeros((8, 8), np.uint8)
SHAPE[2:5, 3:6] = 1
WHITE = np.full((8, 8), 255, np.uint8)


def saved(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def layers(*channels: np.ndarray) -> np.ndarray:
    return np.stack(channels, -1)


def palette(colours: list[int], numbers: np.ndarray = SHAPE) -> Image.Image:
    image = Image.fromarray(numbers, "P")
    image.putpalette(colours)
    return image


def deep(pixels: np.ndarray, ending: str = ".png") -> bytes:
    return cv2.imencode(ending, pixels)[1].tobytes()


GREY = SHAPE * 255
TWO_VALUED: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "0 and 255": (lambda: saved(GREY), []),
    "0 and 1": (lambda: saved(SHAPE), ["zero_one_mask"]),
    "bits": (lambda: saved(Image.fromarray(GREY).convert("1")), []),
    "bits in tiff": (lambda: saved(Image.fromarray(SHAPE.astype(bool)), "TIFF"), []),
    "webp": (lambda: saved(layers(GREY, GREY, GREY), "WEBP", lossless=True), []),
    "equal channels": (lambda: saved(layers(GREY, GREY, GREY)), []),
    "equal channels, opaque": (lambda: saved(layers(GREY, GREY, GREY, WHITE)), []),
    "grey and alpha": (lambda: saved(layers(GREY, WHITE)), []),
    "white, shape in alpha": (lambda: saved(layers(WHITE, WHITE, WHITE, GREY)), ["alpha_mask"]),
    "grey white, shape in alpha": (lambda: saved(layers(WHITE, GREY)), ["alpha_mask"]),
    "cut out": (lambda: saved(layers(GREY, GREY, GREY, GREY)), []),
    "palette by number": (lambda: saved(palette([0, 0, 0, 128, 0, 0])), ["palette_mask", "zero_one_mask"]),
    "palette in black and white": (lambda: saved(palette([255, 255, 255, 0, 0, 0], 1 - SHAPE)), []),
    "palette of greys": (lambda: saved(Image.fromarray(GREY).convert("P")), []),
    "16 bits": (lambda: deep(SHAPE.astype(np.uint16) * 65535), ["deep_mask"]),
    "16 bits, 0 and 1": (lambda: deep(SHAPE.astype(np.uint16)), ["deep_mask"]),
    "16 bits of colour": (lambda: deep(layers(*[SHAPE.astype(np.uint16) * 65535] * 3)), ["deep_mask"]),
    "floats": (lambda: saved(SHAPE.astype(np.float32), "TIFF"), ["deep_mask"]),
    "32 bits": (lambda: saved(SHAPE.astype(np.int32), "TIFF"), ["deep_mask"]),
}


@pytest.mark.parametrize("case", TWO_VALUED)
def test_two_values_in_any_mode(case: str) -> None:
    data, said = TWO_VALUED[case]
    found = decode_mask(data())
    np.testing.assert_array_equal(found.pixels, SHAPE)
    assert found.pixels.dtype == np.uint8
    assert [verdict for verdict, _ in found.notes] == said


def jpeg() -> bytes:
    return saved(cv2.resize(GREY, (60, 60), interpolation=cv2.INTER_NEAREST), "JPEG", quality=50)


def frames(kind: str) -> bytes:
    return saved(Image.fromarray(GREY), kind, save_all=True, append_images=[Image.fromarray(255 - GREY)])


REFUSED: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "three classes": (
        lambda: saved(SHAPE + np.eye(8, dtype=np.uint8)),
        "grey_mask",
        r"values 0, 1, 2; data.mask_classes",
    ),
    "one odd value": (lambda: saved(SHAPE * 128), "grey_mask", r"values 0, 128; data.mask_classes='{128: lesion}'"),
    "jpeg": (jpeg, "grey_mask", r"JPEG blurs .* data.mask_threshold=128 would take 14\.\d% of it as foreground"),
    "many greys": (lambda: saved(np.arange(64, dtype=np.uint8).reshape(8, 8)), "grey_mask", r"data.mask_threshold=128"),
    "no number": (lambda: saved(np.full((8, 8), np.nan, np.float32), "TIFF"), "grey_mask", "no numbers"),
    "colours": (lambda: saved(layers(GREY, GREY, SHAPE)), "colour_mask", r"such as the colour \(255, 255, 1\)"),
    "two shapes": (lambda: saved(layers(GREY, np.flip(GREY))), "alpha_and_colour", "alpha"),
    "empty": (lambda: saved(SHAPE * 0), "empty_mask", "empty"),
    "empty bits": (lambda: saved(Image.fromarray(SHAPE * 0).convert("1")), "empty_mask", "empty"),
    "pages": (lambda: frames("TIFF"), "several_frames", "2 frames"),
    "animation": (lambda: frames("PNG"), "several_frames", "2 frames"),
    "no picture": (lambda: b"GIF89a", "unreadable", "no JPEG, PNG, BMP, TIFF or WebP"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_two_valued_names_the_finding_and_the_setting(case: str) -> None:
    data, verdict, message = REFUSED[case]
    with pytest.raises(BadPicture, match=message) as error:
        decode_mask(data())
    assert error.value.verdict == verdict
    assert "object at" not in error.value.detail


@pytest.mark.parametrize("data", [frames("TIFF"), frames("PNG")], ids=["TIFF", "PNG"])
def test_images_of_several_frames_are_bad(data: bytes) -> None:
    with pytest.raises(BadPicture, match="several_frames"):
        decode_image(data)


def test_classes_are_picked_and_merged() -> None:
    classes = SHAPE + 2 * np.eye(8, dtype=np.uint8)
    merged = replace(PLAIN, mask_classes={1: "lesion", 3: "lesion", 2: "background"})
    np.testing.assert_array_equal(decode_mask(saved(classes), merged).pixels, SHAPE)
    with pytest.raises(BadPicture, match=r"unnamed_class: 2; data.mask_classes names 1, 3"):
        decode_mask(saved(classes), replace(PLAIN, mask_classes={1: "lesion", 3: "lesion"}))


@pytest.mark.parametrize(
    "data", [saved(SHAPE * 200), deep(SHAPE.astype(np.uint16) * 40000), saved(SHAPE * np.float32(0.7), "TIFF")]
)
def test_a_threshold_is_of_255_in_every_depth(data: bytes) -> None:
    cut = replace(PLAIN, mask_threshold=128)
    np.testing.assert_array_equal(decode_mask(data, cut).pixels, SHAPE)
    with pytest.raises(BadPicture, match="empty_mask"):
        decode_mask(data, replace(PLAIN, mask_threshold=255))


def test_empty_masks_are_kept_where_it_is_asked() -> None:
    found = decode_mask(saved(SHAPE * 0), replace(PLAIN, empty_masks="keep"))
    assert (found.pixels.any(), found.notes) == (False, (("negative", ""),))


def test_large_pictures_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(np.zeros((1000, 1001), np.uint8))
    monkeypatch.setattr("dermprompt.data.masks.load", lambda _: pytest.fail("decoded"))
    with pytest.raises(BadPicture, match=r"too_large: 1001 × 1000 pixels; data.max_megapixels=1"):
        decode_mask(data, replace(PLAIN, max_megapixels=1))
    with pytest.raises(BadPicture, match="too_large"):
        decode_image(data, 64, max_megapixels=1)
