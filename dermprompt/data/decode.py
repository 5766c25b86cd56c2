"""Decodes the bytes of an image file to pixels, or to a verdict: no damaged or ambiguous file counts as good.

JPEG is decoded by libjpeg-turbo in its strict mode, where a warning about damaged data is an error; all other
formats by Pillow, after verifying the format's checksums, if it has any. No decoder can detect a flipped bit that
leaves a JPEG well-formed; the content hashes of a split reveal it later. Masks are read in
:mod:`dermprompt.data.masks`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from dermprompt.data.reading import MAX_MEGAPIXELS

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_ORIENTATION = 0x0112


class BadPicture(ValueError):
    """An image or mask cannot be used; ``verdict`` is a key of :data:`~dermprompt.data.findings.BAD`."""

    def __init__(self, verdict: str, detail: str = "") -> None:
        super().__init__(f"{verdict}: {detail}")
        self.verdict, self.detail = verdict, detail


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pixels, the file's full size (H, W), accepted oddities (verdict, detail), and EXIF's orientation."""

    pixels: np.ndarray
    size: tuple[int, int]
    notes: tuple[tuple[str, str], ...] = ()
    orientation: int = 1


def decode_image(data: bytes, size: int | None = None, max_megapixels: int = MAX_MEGAPIXELS) -> Decoded:
    """Decode an image to uint8 HW3, RGB.

    With ``size``, a JPEG is decoded at 1/2, 1/4 or 1/8 of its scale if that leaves at least twice ``size`` pixels
    along each side; this takes a sixth of the time for the largest images. After resizing, single pixels differ from
    those of the fully decoded image by up to 7 grey levels.

    Raises:
        BadPicture: the image is unreadable or too large, has several frames, CMYK colour or more than 8 bits, or is
            transparent.
    """
    opened = open_picture(data, max_megapixels)
    notes = []
    if opened.mode in ("CMYK", "YCCK"):
        raise BadPicture("cmyk")
    if is_deep(opened) or opened.mode in ("LAB", "HSV"):
        raise BadPicture("sixteen_bit", f"mode {opened.mode}")
    if opened.mode in ("1", "L"):
        notes.append(("grey_image", ""))
    if opened.format in ("JPEG", "MPO"):
        pixels = _decode_jpeg(data, size)
    else:
        loaded = load(opened)
        if has_alpha(loaded):
            if np.asarray(loaded.convert("RGBA"))[..., 3].min() < 255:
                raise BadPicture("transparent")
            notes.append(("alpha", ""))
        pixels = np.asarray(loaded.convert("RGB"))
    return Decoded(pixels, (opened.height, opened.width), tuple(notes), _orientation(opened))


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn uint8 pixels upright according to EXIF's ``orientation``; values unknown to EXIF change nothing."""
    image = Image.fromarray(pixels)
    image.getexif()[_ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def open_picture(data: bytes, max_megapixels: int) -> Image.Image:
    """Verify checksums and open the header; no pixel is decoded.

    Raises:
        BadPicture: the file is unreadable, or has more than ``max_megapixels`` million pixels or several frames.
    """
    try:
        Image.open(io.BytesIO(data), formats=FORMATS).verify()
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
        # The previews that a camera stores with its photograph (MPO) do not count as frames.
        frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
    except Image.DecompressionBombError as error:
        raise BadPicture("too_large", str(error)) from None
    except Exception as error:  # Pillow's plugins raise whatever their parsers raise
        raise BadPicture("unreadable", _first_line(error)) from None
    if opened.width * opened.height > max_megapixels * 1_000_000:
        allowed = f"{opened.width} × {opened.height} pixels; data.max_megapixels={max_megapixels}"
        raise BadPicture("too_large", allowed)
    if frames > 1:
        raise BadPicture("several_frames", f"{frames} frames")
    return opened


def load(opened: Image.Image) -> Image.Image:
    """Decode the pixels. Raises BadPicture if they are damaged."""
    try:
        opened.load()
    except Exception as error:
        raise BadPicture("unreadable", _first_line(error)) from None
    return opened


def is_deep(opened: Image.Image) -> bool:
    """Whether a channel has more than 8 bits."""
    # Pillow reads 16-bit colour as RGB; only its decoder's raw mode still tells.
    raw = " ".join(str(tile[3]) for tile in getattr(opened, "tile", ()))
    return opened.mode.startswith(("I", "F")) or "16" in raw


def _decode_jpeg(data: bytes, size: int | None) -> np.ndarray:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        factor = 1 if size is None else next((f for f in (8, 4, 2) if min(height, width) // f >= 2 * size), 1)
        scaled = {"min_height": -(-height // factor), "min_width": -(-width // factor)} if factor > 1 else {}
        return simplejpeg.decode_jpeg(data, "RGB", **scaled)
    except ValueError as error:
        raise BadPicture("unreadable", _first_line(error)) from None


def has_alpha(image: Image.Image) -> bool:
    """Whether pixels may be transparent."""
    return "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info


def _orientation(opened: Image.Image) -> int:
    try:
        return int(opened.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _first_line(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its message names our buffer
        return "no JPEG, PNG, BMP, TIFF or WebP"
    return (str(error) or type(error).__name__).splitlines()[0]
