"""Thousands of damaged files: whatever comes in, pixels or a verdict come out, and nothing is silent."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from examples import examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from dermprompt.data.decode import BadPicture, Decoded, decode_image
from dermprompt.data.findings import ACCEPTED, BAD
from dermprompt.data.masks import decode_mask
from dermprompt.data.reading import PLAIN
from dermprompt.data.tables import flags, read_table

# Pillow speaks of damaged metadata; what counts is the verdict.
pytestmark = pytest.mark.filterwarnings("ignore::Warning:PIL")

FORMATS = ("JPEG", "PNG", "BMP", "TIFF")
# The same cases every time, so that a failure can be looked at.
many = settings(max_examples=examples(1200), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def encode(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


_RNG = np.random.default_rng(0)
_PIXELS = _RNG.integers(0, 256, (24, 20, 3), dtype=np.uint8)
_MASK = np.where(_RNG.random((24, 20)) < 0.5, 255, 0).astype(np.uint8)
IMAGE_FILES = {kind: encode(_PIXELS, kind) for kind in FORMATS} | {
    "progressive": encode(_PIXELS, "JPEG", progressive=True)
}
MASK_FILES = {kind: encode(_MASK, kind) for kind in FORMATS}


def damage(data: bytes, seed: int, how: str) -> bytes:
    """Flip bits, cut, insert, remove, repeat or overwrite, here and there."""
    rng, changed = random.Random(seed), bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(changed) + 1)
        if how == "flip" and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << rng.randrange(8)
        elif how == "cut":
            del changed[at:]
        elif how == "insert":
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif how == "remove":
            del changed[at : at + rng.randrange(1, 9)]
        elif how == "repeat":
            changed[at:at] = changed[max(0, at - 40) : at]
        elif how == "overwrite":
            changed[at : at + 8] = b"\xff" * 8
    return bytes(changed)


HOWS = st.sampled_from(("flip", "cut", "insert", "remove", "repeat", "overwrite"))
SEEDS = st.integers(0, 2**32)


def pixels_or_verdict(decode: Callable[[bytes], Decoded], data: bytes) -> np.ndarray | None:
    try:
        decoded = decode(data)
    except BadPicture as bad:
        assert bad.verdict in BAD  # noqa: PT017
        return None
    assert all(verdict in ACCEPTED for verdict, _ in decoded.notes)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.size > 0
    return decoded.pixels


@many
@given(st.sampled_from(list(IMAGE_FILES)), SEEDS, HOWS, st.sampled_from((None, 4)))
def test_a_damaged_image_gives_pixels_or_a_verdict(kind: str, seed: int, how: str, size: int | None) -> None:
    pixels = pixels_or_verdict(lambda data: decode_image(data, size), damage(IMAGE_FILES[kind], seed, how))
    assert pixels is None or (pixels.ndim == 3 and pixels.shape[2] == 3)


@many
@given(st.sampled_from(list(MASK_FILES)), SEEDS, HOWS, st.sampled_from((None, 128)))
def test_a_damaged_mask_gives_pixels_or_a_verdict(kind: str, seed: int, how: str, threshold: int | None) -> None:
    pixels = pixels_or_verdict(
        lambda data: decode_mask(data, replace(PLAIN, mask_threshold=threshold)), damage(MASK_FILES[kind], seed, how)
    )
    assert pixels is None or (pixels.ndim == 2 and pixels.max() == 1)


@many
@given(SEEDS)
def test_no_flipped_bit_of_a_png_is_silent(seed: int) -> None:
    pixels = pixels_or_verdict(decode_image, damage(IMAGE_FILES["PNG"], seed, "flip"))
    # The two flips may undo each other, or hit what is no part of the picture.
    assert pixels is None or np.array_equal(pixels, _PIXELS)


@many
@given(st.sampled_from(list(IMAGE_FILES)), st.integers(0, 10_000))
def test_no_truncation_is_silent(kind: str, length: int) -> None:
    data = IMAGE_FILES[kind]
    pixels = pixels_or_verdict(decode_image, data[: length % len(data)])
    assert pixels is None or np.array_equal(pixels, pixels_or_verdict(decode_image, data))


@many
@given(
    st.binary(max_size=200), st.sampled_from((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*"))
)
def test_bytes_that_are_no_picture(data: bytes, start: bytes) -> None:
    for decode in (decode_image, decode_mask):
        assert pixels_or_verdict(decode, start + data) is None


def forged(kind: str, width: int, height: int) -> bytes:
    """A small file that claims to be large."""
    if kind == "BMP":
        data = bytearray(IMAGE_FILES["BMP"])
        data[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
        return bytes(data)
    if kind == "JPEG":
        data = bytearray(IMAGE_FILES["JPEG"])
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = min(height, 65500).to_bytes(2, "big") + min(width, 65500).to_bytes(2, "big")
        return bytes(data)
    import zlib

    data = bytearray(IMAGE_FILES["PNG"])
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("kind", ["BMP", "JPEG", "PNG"])
@pytest.mark.parametrize("side", [12_000, 60_000, 2**30])
def test_a_file_that_claims_to_be_huge_is_refused(kind: str, side: int) -> None:
    with pytest.raises(BadPicture) as raised:
        decode_image(forged(kind, side, side))
    assert raised.value.verdict in ("too_large", "unreadable")


COLUMNS = ("red", "large")
TABLE = b"id,red,large\n" + b"".join(b"case%d,%d,%d\n" % (i, i % 2, i % 3 == 0) for i in range(12))


def read(data: bytes) -> tuple[int, int, list[str]]:
    """Rows, rows taken, and verdicts of a table."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        path.write_bytes(data)
        table = read_table(path, "id", COLUMNS, lambda row: {"attributes": tuple(flags(row, COLUMNS))})
    assert all(one.verdict in BAD or one.verdict in ACCEPTED for one in table.findings)
    return table.num_rows, len(table.rows), [one.verdict for one in table.findings]


@many
@given(SEEDS, HOWS)
def test_every_row_of_a_damaged_table_is_taken_or_said(seed: int, how: str) -> None:
    rows, taken, verdicts = read(damage(TABLE, seed, how))
    said = sum(verdicts.count(name) for name in ("bad_row", "swallowed_rows", "duplicate_row", "repeated_row"))
    assert rows == taken + said
    assert rows or verdicts or how in ("cut", "remove")


CELLS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["0", "1", "", "nan", "1e999", '"', "case1"]
)


@many
@given(st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
@example([['"'], ["", "", '"', '"'], ["", "", '"']], "\n")  # two cells of one row swallow others
def test_a_table_of_anything(rows: list[list[str]], end: str) -> None:
    text = end.join(["id,red,large", *(",".join(row) for row in rows)])
    number, taken, verdicts = read(text.encode())
    said = sum(verdicts.count(name) for name in ("bad_row", "swallowed_rows", "duplicate_row", "repeated_row"))
    assert number == taken + said
