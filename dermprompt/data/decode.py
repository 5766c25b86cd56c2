"""From the bytes of a file to pixels, or to a verdict: nothing damaged or ambiguous passes for good.

JPEG is decoded by libjpeg-turbo in its strict mode, where a warning of damaged data is an error; everything
else by Pillow, after the checksums that a format has. A flipped bit that leaves a JPEG well-formed cannot be
seen by any decoder; the content hashes of a split notice it afterwards.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "TIFF")
_ORIENTATION = 0x0112
# EXIF's values that swap rows and columns, and what turns the pixels upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadPicture(ValueError):
    """A picture that cannot be used; ``verdict`` is a key of :data:`~dermprompt.data.findings.BAD`."""

    def __init__(self, verdict: str, detail: str = "") -> None:
        super().__init__(f"{verdict}: {detail}")
        self.verdict, self.detail = verdict, detail


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pixels, the full size (height, width) of the file, accepted oddities (verdict, detail), EXIF's orientation."""

    pixels: np.ndarray
    size: tuple[int, int]
    notes: tuple[tuple[str, str], ...] = ()
    orientation: int = 1


def decode_image(data: bytes, size: int | None = None) -> Decoded:
    """Decode an image to uint8 HW3, RGB.

    With ``size`` a JPEG is decoded at 1/2, 1/4 or 1/8 of its scale when that leaves at least twice ``size``
    pixels along each side: a sixth of the time for the largest, and the same picture once it is resized.

    Raises:
        BadPicture: unreadable, CMYK, more than 8 bits, or transparent.
    """
    opened = _open(data)
    notes = []
    if opened.mode in ("CMYK", "YCCK"):
        raise BadPicture("cmyk")
    _check_depth(opened)
    if opened.mode in ("1", "L"):
        notes.append(("grey_image", ""))
    if opened.format == "JPEG":
        pixels = _decode_jpeg(data, size)
    else:
        loaded = _load(opened)
        if _alpha(loaded):
            if np.asarray(loaded.convert("RGBA"))[..., 3].min() < 255:
                raise BadPicture("transparent")
            notes.append(("alpha", ""))
        pixels = np.asarray(loaded.convert("RGB"))
    return Decoded(pixels, (opened.height, opened.width), tuple(notes), _orientation(opened))


def decode_mask(data: bytes, threshold: int | None = None) -> Decoded:
    """Decode a mask to uint8 HW in {0, 1}: 0 and 255 in the file, or 0 and 1 (``zero_one_mask``).

    With ``threshold``, in [1, 255], grey values from there on are foreground (``thresholded_mask``).

    Raises:
        BadPicture: unreadable, more than 8 bits, channels that differ, grey values without a threshold, empty.
    """
    opened = _open(data)
    _check_depth(opened)
    grey = _one_channel(_load(opened))
    values = np.flatnonzero(np.bincount(grey.ravel(), minlength=256)).tolist()
    size, notes = (opened.height, opened.width), []
    if set(values) <= {0, 1} and 1 in values:
        notes.append(("zero_one_mask", ""))
        mask = grey
    elif set(values) <= {0, 255}:
        mask = grey // 255
    elif threshold is None:
        raise BadPicture("grey_mask", f"{len(values)} values, such as {values[len(values) // 2]}")
    else:
        notes.append(("thresholded_mask", f"{len(values)} values, cut at {threshold}"))
        mask = (grey >= threshold).astype(np.uint8)
    if not mask.any():
        raise BadPicture("empty_mask")
    return Decoded(mask, size, tuple(notes))


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn uint8 pixels as EXIF's ``orientation`` says."""
    return np.asarray(Image.fromarray(pixels).transpose(_TURNS[orientation]))


def _open(data: bytes) -> Image.Image:
    """Open the header, after checksums."""
    try:
        checked = Image.open(io.BytesIO(data), formats=FORMATS)
        checked.verify()
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadPicture("unreadable", str(error)) from None
    except Exception as error:  # Pillow's plugins raise what their parsers happen to raise
        raise BadPicture("unreadable", _first_line(error)) from None


def _load(opened: Image.Image) -> Image.Image:
    try:
        opened.load()
    except Exception as error:
        raise BadPicture("unreadable", _first_line(error)) from None
    return opened


def _check_depth(opened: Image.Image) -> None:
    # Pillow reads 16-bit colour as RGB, and keeps no word of it but in the raw mode of its decoder.
    raw = " ".join(str(tile[3]) for tile in getattr(opened, "tile", ()))
    if opened.mode.startswith(("I", "F")) or "16" in raw or opened.mode in ("LAB", "HSV"):
        raise BadPicture("sixteen_bit", f"mode {opened.mode}")


def _decode_jpeg(data: bytes, size: int | None) -> np.ndarray:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        factor = 1 if size is None else next((f for f in (8, 4, 2) if min(height, width) // f >= 2 * size), 1)
        scaled = {"min_height": -(-height // factor), "min_width": -(-width // factor)} if factor > 1 else {}
        return simplejpeg.decode_jpeg(data, "RGB", **scaled)
    except ValueError as error:
        raise BadPicture("unreadable", _first_line(error)) from None


def _alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _one_channel(image: Image.Image) -> np.ndarray:
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode == "L":
        return np.asarray(image)
    pixels = np.asarray(image.convert("RGB"))
    if np.any(pixels != pixels[..., :1]):
        raise BadPicture("colour_mask")
    return np.ascontiguousarray(pixels[..., 0])


def _orientation(opened: Image.Image) -> int:
    try:
        return int(opened.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def shrink_image(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 HW3 to (size, size, 3), by area where that shrinks it; not square is squeezed."""
    how = cv2.INTER_AREA if min(pixels.shape[:2]) >= size else cv2.INTER_LINEAR
    return cv2.resize(pixels, (size, size), interpolation=how)


def shrink_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 HW in {0, 1} to (size, size): foreground where at least half of a pixel's area is."""
    share = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return (share >= 0.5).astype(np.uint8)
