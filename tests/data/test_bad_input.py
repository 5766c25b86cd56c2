"""Everything that data sets get wrong, by name: what the coverage report says of it, and what becomes of it."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from miniature import compose
from PIL import Image

from dermprompt.config.schema import take
from dermprompt.data.datasets.phantom import write_phantom
from dermprompt.data.findings import DECODER
from dermprompt.data.reading import Reading
from dermprompt.distributed.processes import Runtime
from dermprompt.stages.prepare import cache_pictures, index_data, report_coverage, split_data
from dermprompt.stages.settings import CachePictures, IndexData, Nothing, SplitData

IMAGES, MASKS = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"
DIAGNOSES, ATTRIBUTES = "ISIC_2019_Training_GroundTruth.csv", "ISIC2018_Task2_Training_image_attributes.csv"
ID = "ISIC_0000003"
NUM_IMAGES = 24


class Data:
    """A good data set in which one thing goes wrong."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.image, self.mask = root / IMAGES / f"{ID}.jpg", root / MASKS / f"{ID}_segmentation.png"

    def pixels(self) -> Image.Image:
        return Image.open(self.image).convert("RGB")

    def foreground(self) -> np.ndarray:
        return np.asarray(Image.open(self.mask))

    def replace_image(self, image: Image.Image, ending: str = ".png", **options: object) -> None:
        self.image.unlink()
        image.save(self.image.with_suffix(ending), **options)

    def cut(self, path: Path, share: float = 0.6) -> None:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    def edit(self, table: str, change: Callable[[str], str]) -> None:
        path = self.root / table
        path.write_bytes(change(path.read_text()).encode())


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def flip_png(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)


def flip_jpeg(path: Path) -> None:
    """A marker amid the picture's data, which no encoder writes there."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\xd8"
    path.write_bytes(data)


def sixteen_bit(data: Data, channels: int) -> None:
    pixels = np.zeros((64, 64, channels), np.uint16) + 40000
    data.image.unlink()
    cv2.imwrite(str(data.image.with_suffix(".png")), pixels)


def with_alpha(data: Data, alpha: int) -> None:
    image = data.pixels()
    image.putalpha(alpha)
    data.replace_image(image)


def turned(data: Data) -> None:
    """A portrait stored lying, with its mask upright."""
    image = data.pixels().resize((64, 48))
    data.replace_image(image, ".jpg", exif=exif(6))
    mask = cv2.resize(data.foreground(), (48, 64), interpolation=cv2.INTER_NEAREST)
    Image.fromarray(mask).save(data.mask)


def save_mask(data: Data, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(data.mask)


def jpeg_mask(data: Data) -> None:
    buffer = io.BytesIO()
    Image.open(data.mask).save(buffer, "JPEG", quality=60)
    data.mask.write_bytes(buffer.getvalue())


def copy_under_another_id(data: Data) -> None:
    shutil.copy(data.image, data.image.with_name("ISIC_9.jpg"))
    shutil.copy(data.mask, data.mask.with_name("ISIC_9_segmentation.png"))


def rename_row(text: str) -> str:
    return text.replace(ID, ID.lower())


def repeat_row(text: str) -> str:
    return text + next(line for line in text.splitlines() if line.startswith(ID)) + "\n"


def contradict_row(text: str) -> str:
    """No phantom is a dermatofibroma."""
    return text + f"{ID},0,0,0,0,0,1,0,0,0\n"


def truncated_bmp(data: Data) -> None:
    data.replace_image(data.pixels(), ".bmp")
    data.cut(data.image.with_suffix(".bmp"))


def palette_with_a_hole(data: Data) -> None:
    image = data.pixels().convert("P")
    data.replace_image(image, transparency=int(np.bincount(np.asarray(image).ravel()).argmax()))


def coloured_mask(data: Data) -> None:
    foreground = data.foreground()
    save_mask(data, np.stack([foreground, foreground, np.zeros_like(foreground)], -1))


def extra_column(text: str) -> str:
    head, *rows = text.splitlines()
    return "\n".join([head + ",note", *(row + ",x" for row in rows)]) + "\n"


def several_pages(data: Data) -> None:
    data.replace_image(data.pixels(), ".tif", save_all=True, append_images=[data.pixels()])


def two_shapes(data: Data) -> np.ndarray:
    return np.stack([data.foreground(), np.roll(data.foreground(), 9, 0)], -1)


def swallow(text: str) -> str:
    """A note of which the quote that should close it stands two rows further down."""
    head, first, second, third, *rows = text.splitlines()
    quoted = [f'{first},"x', f"{second},y", f'{third},z"']
    return "\n".join([head + ",note", *quoted, *(row + ",x" for row in rows)]) + "\n"


def two_lines(text: str) -> str:
    head, first, *rows = text.splitlines()
    cells, last = first.rsplit(",", 1)
    return "\n".join([head, f'{cells},"\n{last}"', *rows]) + "\n"


def column_twice(text: str) -> str:
    head, *rows = text.splitlines()
    return "\n".join([head + ",MEL", *(row + ",0" for row in rows)]) + "\n"


BAD: dict[str, tuple[str, Callable[[Data], object]]] = {
    "empty image": ("unreadable", lambda d: d.image.write_bytes(b"")),
    "text called jpg": ("unreadable", lambda d: d.image.write_text("<html>not found</html>")),
    "truncated jpeg": ("unreadable", lambda d: d.cut(d.image)),
    "jpeg without its end": ("unreadable", lambda d: d.cut(d.image, 0.995)),
    "damaged jpeg": ("unreadable", lambda d: flip_jpeg(d.image)),
    "truncated png": ("unreadable", lambda d: (d.replace_image(d.pixels()), d.cut(d.image.with_suffix(".png")))),
    "flipped png": ("unreadable", lambda d: (d.replace_image(d.pixels()), flip_png(d.image.with_suffix(".png")))),
    "truncated bmp": ("unreadable", truncated_bmp),
    "truncated mask": ("unreadable", lambda d: d.cut(d.mask)),
    "flipped mask": ("unreadable", lambda d: flip_png(d.mask)),
    "cmyk jpeg": ("cmyk", lambda d: d.replace_image(d.pixels().convert("CMYK"), ".jpg")),
    "cmyk tiff": ("cmyk", lambda d: d.replace_image(d.pixels().convert("CMYK"), ".tif")),
    "16-bit grey": ("sixteen_bit", lambda d: sixteen_bit(d, 1)),
    "16-bit colour": ("sixteen_bit", lambda d: sixteen_bit(d, 3)),
    "transparent": ("transparent", lambda d: with_alpha(d, 128)),
    "transparent palette": ("transparent", palette_with_a_hole),
    "grey values": ("grey_mask", lambda d: save_mask(d, d.foreground() // 2 + 20)),
    "mask as jpeg": ("grey_mask", jpeg_mask),
    "coloured mask": ("colour_mask", coloured_mask),
    "empty mask": ("empty_mask", lambda d: save_mask(d, np.zeros((64, 64), np.uint8))),
    "mask of another size": ("size_mismatch", lambda d: save_mask(d, np.full((32, 64), 255, np.uint8))),
    "two endings": ("duplicate_id", lambda d: d.pixels().save(d.image.with_suffix(".png"))),
    "two cases": ("duplicate_id", lambda d: d.pixels().save(d.image.with_name(f"{ID.lower()}.jpg"))),
    "no mask": ("no_mask", lambda d: d.mask.unlink()),
    "pages": ("several_frames", several_pages),
    "folder called jpg": ("not_a_file", lambda d: (d.image.unlink(), d.image.mkdir())),
    "pipe called jpg": ("not_a_file", lambda d: (d.image.unlink(), os.mkfifo(d.image))),
    "pipe called png": ("not_a_file", lambda d: (d.mask.unlink(), os.mkfifo(d.mask))),
    "link to nothing": ("not_a_file", lambda d: (d.image.unlink(), d.image.symlink_to("nowhere"))),
    "format of a phone": ("unknown_format", lambda d: d.image.rename(d.image.with_suffix(".heic"))),
    "alpha and colour": ("alpha_and_colour", lambda d: save_mask(d, two_shapes(d))),
    "classes": ("grey_mask", lambda d: save_mask(d, d.foreground() // 255 + np.eye(64, dtype=np.uint8))),
}
BAD_ELSEWHERE: dict[str, tuple[str, Callable[[Data], object]]] = {
    "no image": ("no_image", lambda d: shutil.copy(d.mask, d.mask.with_name("ISIC_9_segmentation.png"))),
    "missing column": ("missing_columns", lambda d: d.edit(DIAGNOSES, lambda t: t.replace("VASC", "VAS"))),
    "empty table": ("missing_columns", lambda d: d.edit(DIAGNOSES, lambda t: "")),
    "latin-1 table": ("unreadable_table", lambda d: (d.root / DIAGNOSES).write_bytes(b"image,MEL\nna\xefve,1\n")),
    "too few cells": ("bad_row", lambda d: d.edit(ATTRIBUTES, lambda t: t + "ISIC_77,1\n")),
    "too many cells": ("bad_row", lambda d: d.edit(ATTRIBUTES, lambda t: t + "ISIC_77,1,0,0,0,0,0,0\n")),
    "no number": ("bad_row", lambda d: d.edit(ATTRIBUTES, lambda t: t + "ISIC_77,yes,0,0,0,0\n")),
    "zero bytes in a table": ("bad_row", lambda d: d.edit(ATTRIBUTES, lambda t: t + "ISIC_77,\0,0,0,0,0\n")),
    "a column twice": ("duplicate_columns", lambda d: d.edit(DIAGNOSES, column_twice)),
    "a quote too many": ("swallowed_rows", lambda d: d.edit(DIAGNOSES, swallow)),
    "rows that disagree": ("duplicate_row", lambda d: d.edit(DIAGNOSES, contradict_row)),
}
ACCEPTED: dict[str, tuple[str, Callable[[Data], object]]] = {
    "opaque alpha": ("alpha", lambda d: with_alpha(d, 255)),
    "grey jpeg": ("grey_image", lambda d: d.replace_image(d.pixels().convert("L"), ".jpg")),
    "orientation tag": ("rotated", lambda d: d.replace_image(d.pixels(), ".jpg", exif=exif(3))),
    "upright mask": ("rotated", turned),
    "0 and 1": ("zero_one_mask", lambda d: save_mask(d, d.foreground() // 255)),
    "one file under two ids": ("duplicate_content", copy_under_another_id),
    "mask in another case": ("id_case", lambda d: d.mask.rename(d.mask.with_name(f"{ID.lower()}_segmentation.png"))),
    "label in another case": ("id_case", lambda d: d.edit(DIAGNOSES, rename_row)),
    "same row twice": ("repeated_row", lambda d: d.edit(DIAGNOSES, repeat_row)),
    "byte order mark": ("byte_order_mark", lambda d: d.edit(DIAGNOSES, lambda t: "\ufeff" + t)),
    "utf-16": ("utf_16", lambda d: (d.root / DIAGNOSES).write_bytes((d.root / DIAGNOSES).read_text().encode("utf-16"))),
    "tabs": ("delimiter", lambda d: d.edit(DIAGNOSES, lambda t: t.replace(",", "\t"))),
    "upper-case header": ("header_case", lambda d: d.edit(DIAGNOSES, lambda t: t.replace("image,", "Image,"))),
    "ids with endings": ("id_form", lambda d: d.edit(DIAGNOSES, lambda t: t.replace(ID, f"{ID}.jpg"))),
    "cell of two lines": ("multiline_cell", lambda d: d.edit(DIAGNOSES, two_lines)),
    "few rows": ("few_matches", lambda d: d.edit(ATTRIBUTES, lambda t: "\n".join(t.split("\n")[:5]))),
    "image there twice": ("repeated_file", lambda d: shutil.copy(d.image, d.image.with_suffix(".JPG"))),
    "mask without an ending": ("mask_suffix", lambda d: d.mask.rename(d.mask.with_name(f"{ID}.png"))),
    "16-bit mask": ("deep_mask", lambda d: cv2.imwrite(str(d.mask), d.foreground().astype(np.uint16) * 257)),
    "shape in alpha": (
        "alpha_mask",
        lambda d: save_mask(d, np.dstack([np.full((64, 64, 3), 255, np.uint8), d.foreground()])),
    ),
    "windows line ends": ("crlf", lambda d: d.edit(DIAGNOSES, lambda t: t.replace("\n", "\r\n"))),
    "extra column": ("extra_columns", lambda d: d.edit(DIAGNOSES, extra_column)),
}
FINE: dict[str, Callable[[Data], object]] = {
    "progressive jpeg": lambda d: d.replace_image(d.pixels(), ".jpg", progressive=True),
    "palette png": lambda d: d.replace_image(d.pixels().convert("P")),
    "bmp": lambda d: d.replace_image(d.pixels(), ".bmp"),
    "tiff": lambda d: d.replace_image(d.pixels(), ".tif"),
    "upper-case ending": lambda d: d.image.rename(d.image.with_suffix(".JPG")),
    "1-bit mask": lambda d: Image.open(d.mask).convert("1").save(d.mask),
    "colour mask of one grey": lambda d: Image.open(d.mask).convert("RGB").save(d.mask),
}


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ground") / "isic"
    write_phantom(folder, NUM_IMAGES, 64, seed=0)
    return folder


@pytest.fixture
def data(ground: Path, tmp_path: Path) -> Data:
    shutil.copytree(ground, tmp_path / "isic")
    return Data(tmp_path / "isic")


def prepare(data: Data, *overrides: str) -> tuple[dict, str]:
    """The coverage report of the path that the job takes, as values and as text."""
    folder = data.root.parent
    keys = (f"data.root={data.root}", "image_size=32", "data.max_bad_fraction=0.1", *overrides)
    config = compose("data=isic", *keys)
    for name in ("indexed", "store", "split", "report"):
        shutil.rmtree(folder / name, ignore_errors=True)
    indexed, cache, split, report = (folder / name for name in ("indexed", "store/cache", "split", "report"))
    for place in (indexed, cache, split, report):
        place.mkdir(parents=True)
    settings, runtime = config.data, Runtime.of(config)
    index = IndexData("isic", str(data.root), str(data.root), settings.on_conflict)
    index_data(index, runtime, data.root, indexed)
    reading = CachePictures(**vars(take(Reading, settings)), size=32, decoder=DECODER)
    cache_pictures(reading, runtime, indexed, cache)
    drawn = SplitData(settings.on_bad, settings.max_bad_fraction, settings.split)
    split_data(drawn, runtime, indexed, cache, split)
    report_coverage(Nothing(), runtime, indexed, cache, split, report)
    return json.loads((report / "coverage.json").read_text()), (report / "coverage.txt").read_text()


def parts(report_folder: Path) -> set[str]:
    split = json.loads((report_folder / "split" / "split.json").read_text())
    return {id for part in split["parts"].values() for id in part}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_pair_stops_or_is_left_out(case: str, data: Data) -> None:
    verdict, spoil = BAD[case]
    spoil(data)
    with pytest.raises(ValueError, match=rf"1 × {verdict} \(.*{ID}.*data.on_bad=skip") as error:
        prepare(data)
    assert (ID in str(error.value)) or (ID.lower() in str(error.value))
    report, text = prepare(data, "data.on_bad=skip")
    bad = [one for one in report["findings"] if one["bad"]]
    assert [(one["verdict"], one["id"].upper()) for one in bad] == [(verdict, ID)]
    assert [id.upper() for id in report["skipped"]] == [ID]
    assert f"{verdict}: 1, left out" in text
    assert parts(data.root.parent) == {f"ISIC_{i:07d}" for i in range(NUM_IMAGES)} - {ID}
    with pytest.raises(ValueError, match=r"1 of 2\d images are bad, more than data.max_bad_fraction=0.01"):
        prepare(data, "data.on_bad=skip", "data.max_bad_fraction=0.01")


@pytest.mark.parametrize("case", BAD_ELSEWHERE)
def test_what_is_bad_but_no_pair_stops_or_is_said(case: str, data: Data) -> None:
    verdict, spoil = BAD_ELSEWHERE[case]
    spoil(data)
    with pytest.raises(ValueError, match=rf"1 × {verdict} \("):
        prepare(data)
    report, text = prepare(data, "data.on_bad=skip")
    assert [one["verdict"] for one in report["findings"] if one["bad"]] == [verdict]
    assert f"{verdict}: 1, left out" in text
    assert len(parts(data.root.parent)) == NUM_IMAGES


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_odd_is_accepted_and_said(case: str, data: Data) -> None:
    verdict, change = ACCEPTED[case]
    change(data)
    report, text = prepare(data)
    assert [one["verdict"] for one in report["findings"]] == [verdict]
    assert f"{verdict}: 1, accepted" in text
    assert ID in parts(data.root.parent)
    assert report["unknown_diagnosis"] == (1 if case == "one file under two ids" else 0)


@pytest.mark.parametrize("case", FINE)
def test_what_is_unusual_but_clear_needs_no_word(case: str, data: Data) -> None:
    FINE[case](data)
    report, text = prepare(data)
    assert report["findings"] == []
    assert "nothing odd in the files" in text
    assert ID in parts(data.root.parent)


def test_grey_masks_are_cut_where_it_is_configured(data: Data) -> None:
    jpeg_mask(data)
    report, _ = prepare(data, "data.mask_threshold=128")
    assert [one["verdict"] for one in report["findings"]] == ["thresholded_mask"]


def test_every_verdict_has_a_case() -> None:
    from dermprompt.data import findings

    covered = {verdict for cases in (BAD, BAD_ELSEWHERE, ACCEPTED) for verdict, _ in cases.values()}
    # Above, and in test_masks.py, test_fit.py, test_pairs.py, test_tables.py, test_isic.py and test_layouts.py.
    elsewhere = {"thresholded_mask", "incomplete_attributes", "too_large", "unnamed_class", "negative", "cropped_away"}
    elsewhere |= {"palette_mask", "unused_folder", "unread_table", "unlabelled", "unknown_diagnosis"}
    assert covered | elsewhere == findings.BAD.keys() | findings.ACCEPTED.keys()
