"""Thousands of folders, masks and tables as people have them: read rightly, or said; never lost, never a crash."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dermprompt.data.datasets.folder import find_folder
from dermprompt.data.decode import BadPicture
from dermprompt.data.findings import ACCEPTED, BAD
from dermprompt.data.folders import ENDINGS, fold
from dermprompt.data.masks import decode_mask
from dermprompt.data.pairs import SUFFIXES, pair
from dermprompt.data.reading import PLAIN, Reading
from dermprompt.data.tables import read_table

pytestmark = pytest.mark.filterwarnings("ignore::Warning:PIL")


def many(number: int) -> settings:
    return settings(
        max_examples=examples(number), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )


LETTERS = st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",))
STEMS = st.text(LETTERS, min_size=1, max_size=24) | st.sampled_from(
    ["a", "A", "a_mask", "a.b", "ISIC_0000001", "._a", "ß"]
)
NAMES = st.tuples(STEMS, st.sampled_from(SUFFIXES), st.sampled_from([*ENDINGS, ".JPG", ".heic", ".txt", ""])).map(
    "".join
)


def put(folder: Path, names: list[str]) -> None:
    folder.mkdir()
    for name in names:
        if name not in (".", ".."):
            (folder / name).write_text(f"{folder.name} {name}")


@many(3000)
@given(st.lists(NAMES, max_size=6), st.lists(NAMES, max_size=6), st.booleans(), st.sampled_from([None, "", "_mask"]))
def test_every_picture_is_paired_or_said(
    images: list[str], masks: list[str], together: bool, suffix: str | None
) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        put(root / ("all" if together else "images"), images)
        if together:
            root = root / "all"
        else:
            put(root / "masks", masks)
        try:
            files = find_folder(root, root)
        except ValueError:
            assert together
            assert not any(Path(name).suffix.lower() in ENDINGS for name in images if not name.startswith("."))
            return
        lesions, findings = pair(files, suffix)
    assert len({fold(one.id) for one in lesions}) == len(lesions)
    used = {path for one in lesions for path in (one.image, one.mask)}
    said = "\n".join(f"{one.what}\n{one.detail}" for one in findings)
    ids = {fold(one.id) for one in findings if one.id}
    for one in (*files.images, *files.masks):
        # A mask falls with its image, under that one's id.
        falls = any(fold(one.id).removeprefix(id) in map(fold, SUFFIXES) for id in ids)
        assert one.path in used or one.path.name in said or falls, (one, findings)


def saved(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


def palette(mask: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.fromarray(mask, "P")
    image.putpalette(colours)
    return image


LOSSLESS = ("PNG", "TIFF", "BMP")
WAYS: dict[str, Callable[[np.ndarray], bytes]] = {
    **{f"grey {kind}": lambda m, kind=kind: saved(m * 255, kind) for kind in LOSSLESS},
    **{f"ones {kind}": lambda m, kind=kind: saved(m, kind) for kind in LOSSLESS},
    **{f"bits {kind}": lambda m, kind=kind: saved(Image.fromarray(m * 255).convert("1"), kind) for kind in LOSSLESS},
    **{f"colour {kind}": lambda m, kind=kind: saved(np.dstack([m * 255] * 3), kind) for kind in LOSSLESS},
    "opaque": lambda m: saved(np.dstack([m * 255] * 3 + [m * 0 + 255]), "PNG"),
    "cut out": lambda m: saved(np.dstack([m * 255] * 4), "PNG"),
    "alpha": lambda m: saved(np.dstack([m * 0 + 255, m * 255]), "PNG"),
    "palette": lambda m: saved(palette(m, [0, 0, 0, 200, 30, 10]), "PNG"),
    "turned palette": lambda m: saved(palette(1 - m, [255, 255, 255, 0, 0, 0]), "PNG"),
    "16 bits": lambda m: cv2.imencode(".png", m.astype(np.uint16) * 65535)[1].tobytes(),
    "16 bits of colour": lambda m: cv2.imencode(".png", np.dstack([m.astype(np.uint16) * 65535] * 3))[1].tobytes(),
    "floats": lambda m: saved(m.astype(np.float32), "TIFF"),
    "webp": lambda m: saved(np.dstack([m * 255] * 3), "WEBP", lossless=True),
}
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))


def shape_of(height: int, width: int, seed: int) -> np.ndarray:
    mask = (np.random.default_rng(seed).random((height, width)) < 0.5).astype(np.uint8)
    mask[0, 0], mask[-1, -1] = 1, 0
    return mask


@many(3000)
@given(SHAPES, st.sampled_from(sorted(WAYS)))
def test_a_mask_is_the_same_however_it_is_saved(drawn: tuple[int, int, int], way: str) -> None:
    mask = shape_of(*drawn)
    if not mask.any():
        return
    found = decode_mask(WAYS[way](mask))
    np.testing.assert_array_equal(found.pixels, mask)
    assert all(verdict in ACCEPTED for verdict, _ in found.notes)


MODES = {"L": ("PNG", 1), "LA": ("PNG", 2), "RGB": ("BMP", 3), "RGBA": ("TIFF", 4)}


@many(2000)
@given(
    SHAPES,
    st.sampled_from(sorted(MODES)),
    st.lists(st.sampled_from([0, 1, 2, 127, 128, 254, 255]), min_size=1, max_size=4),
    st.sampled_from([None, 1, 128, 255]),
    st.sampled_from([None, {1: "lesion"}, {1: "lesion", 2: "lesion", 255: "background"}]),
    st.sampled_from(["error", "keep"]),
)
def test_any_values_give_two_or_a_verdict(
    drawn: tuple[int, int, int], mode: str, values: list[int], cut: int | None, classes: dict | None, empty: str
) -> None:
    kind, channels = MODES[mode]
    rng = np.random.default_rng(drawn[2])
    pixels = rng.choice(np.array(values, np.uint8), (*drawn[:2], channels))
    data = saved(pixels[..., 0] if channels == 1 else pixels, kind)
    reading = Reading(mask_threshold=cut, mask_classes=classes, empty_masks=empty)
    try:
        found = decode_mask(data, reading)
    except BadPicture as bad:
        assert bad.verdict in BAD  # noqa: PT017
        return
    assert set(np.unique(found.pixels)) <= {0, 1}
    assert found.pixels.shape == drawn[:2]
    assert found.pixels.any() == ("negative" not in [verdict for verdict, _ in found.notes])
    if reading == PLAIN and mode == "L":
        assert set(values) & set(np.unique(pixels).tolist()) <= {0, 1} or set(np.unique(pixels)) <= {0, 255}


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n", exclude_categories=("Cs",)), max_size=10)
NOTES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r,;\t|", exclude_categories=("Cs",)), max_size=10)


@many(2000)
@given(
    st.dictionaries(CELLS.map(str.strip).filter(bool), st.tuples(CELLS, NOTES), max_size=5),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from([str, str.upper, str.title]),
)
def test_a_table_says_the_same_in_every_dialect(
    rows: dict[str, tuple[str, str]], delimiter: str, quoting: int, end: str, encoding: str, spelt: Callable[[str], str]
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerow([spelt(name) for name in ("id", "diagnosis", "note")])
    writer.writerows((id, *cells) for id, cells in rows.items())
    with TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        path.write_bytes(text.getvalue().encode(encoding))
        table = read_table(path, "id", ("diagnosis",), lambda row: {"diagnosis": row["diagnosis"]}, ("note",))
    assert not [one for one in table.findings if one.bad]
    assert {id: row["diagnosis"] for id, row in table.rows.items()} == {id: cells[0] for id, cells in rows.items()}
