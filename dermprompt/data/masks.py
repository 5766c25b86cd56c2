"""Decodes the bytes of a mask file, saved in any mode, to a binary mask or to a verdict."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from PIL import Image

from dermprompt.data.decode import BadPicture, Decoded, has_alpha, is_deep, load, open_picture
from dermprompt.data.reading import PLAIN, Reading

# Values that mean foreground in a mask whose other value is 0: true, and white at 8, 16 and 32 bits.
_ONE, _WHITES = 1, (255, 65535, 2**31 - 1, 2**32 - 1)
# A mask with more values is not taken for a class map.
_MOST_CLASSES = 12

Note = tuple[str, str]


def decode_mask(data: bytes, reading: Reading = PLAIN) -> Decoded:
    """Decode a mask to uint8 HW in {0, 1}.

    Two values are background and foreground if they are 0 and 1, or 0 and white at any bit depth. They may be grey
    levels, palette indices, equal channels of a colour image, or the alpha channel of an image of uniform colour.

    Raises:
        BadPicture: the mask is unreadable, too large or empty, or has several frames, differing channels, an alpha
            channel that contradicts the colour, or other values without ``mask_threshold`` or ``mask_classes``.
    """
    opened = open_picture(data, reading.max_megapixels)
    values, notes = _values(opened, data)
    mask, more = _two_valued(values, reading, opened.format == "JPEG")
    notes += more
    if not mask.any():
        if reading.empty_masks == "error":
            raise BadPicture("empty_mask")
        notes.append(("negative", ""))
    return Decoded(mask, (opened.height, opened.width), tuple(notes))


def _values(opened: Image.Image, data: bytes) -> tuple[np.ndarray, list[Note]]:
    """The value of each pixel, HW, and notes on how it was found."""
    if opened.mode in ("CMYK", "YCCK", "LAB", "HSV"):
        raise BadPicture("colour_mask", f"mode {opened.mode}")
    notes: list[Note] = []
    if is_deep(opened) and len(opened.getbands()) > 1:
        return _equal_channels(_deep_channels(data)), [("deep_mask", "16 bits a channel")]
    loaded = load(opened)
    if loaded.mode == "1":
        return np.asarray(loaded.convert("L")), notes
    if loaded.mode == "P":
        return _palette(loaded)
    if has_alpha(loaded):
        return _colour_or_alpha(np.asarray(loaded.convert("RGBA")))
    values = np.asarray(loaded)
    if values.dtype != np.uint8:
        notes.append(("deep_mask", f"mode {opened.mode}"))
    return (_equal_channels(values) if values.ndim == 3 else values), notes


def _palette(image: Image.Image) -> tuple[np.ndarray, list[Note]]:
    """The colours if they are black and white, otherwise the palette's indices, which then number classes."""
    pixels = np.asarray(image.convert("RGBA"))
    colours = np.unique(pixels[..., :3].reshape(-1, 3), axis=0)
    if set(map(tuple, colours.tolist())) <= {(0, 0, 0), (255, 255, 255)}:
        return _colour_or_alpha(pixels)
    numbers = np.asarray(image)
    return numbers, [("palette_mask", f"{len(np.unique(numbers))} numbers")]


def _deep_channels(data: bytes) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise BadPicture("unreadable", "16 bits a channel, damaged")
    return decoded


def _equal_channels(pixels: np.ndarray) -> np.ndarray:
    """One of the equal channels of HWC. Raises BadPicture if channels differ."""
    if np.any(pixels != pixels[..., :1]):
        differing = pixels[np.any(pixels != pixels[..., :1], axis=-1)][0].tolist()
        raise BadPicture("colour_mask", f"such as the colour {tuple(differing)}")
    return np.ascontiguousarray(pixels[..., 0])


def _colour_or_alpha(pixels: np.ndarray) -> tuple[np.ndarray, list[Note]]:
    """The grey values of uint8 HW4, or alpha if only alpha varies."""
    alpha = pixels[..., 3]
    if alpha.min() == alpha.max():
        return _equal_channels(pixels[..., :3]), []
    if (pixels[..., :3] == pixels[:1, :1, :3]).all():
        return np.ascontiguousarray(alpha), [("alpha_mask", "")]
    visible = np.where(alpha[..., None] > 0, pixels[..., :3], 0)
    if np.array_equal(visible > 0, np.broadcast_to(alpha[..., None] > 0, visible.shape)):
        return _equal_channels(visible), []
    raise BadPicture("alpha_and_colour")


def _two_valued(values: np.ndarray, reading: Reading, is_jpeg: bool) -> tuple[np.ndarray, list[Note]]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadPicture("grey_mask", "values that are no numbers")
    found = np.unique(values)
    if reading.mask_classes is not None:
        return _merged(values, found, {int(key): name for key, name in reading.mask_classes.items()})
    positive = [one for one in found.tolist() if one]
    if len(positive) == 0:
        return np.zeros(values.shape, np.uint8), []
    if len(positive) == 1 and positive[0] in (_ONE, *_WHITES):
        one = positive[0] == _ONE and values.dtype == np.uint8
        return (values > 0).astype(np.uint8), [("zero_one_mask", "")] if one else []
    if reading.mask_threshold is None:
        raise BadPicture("grey_mask", _remedy(values, found, is_jpeg))
    mask = _cut(values, found, reading.mask_threshold)
    return mask, [("thresholded_mask", f"{len(found)} values, cut at {reading.mask_threshold}")]


def _merged(values: np.ndarray, found: np.ndarray, classes: Mapping[int, str]) -> tuple[np.ndarray, list[Note]]:
    unnamed = [one for one in found.tolist() if one and one not in classes]
    if unnamed:
        raise BadPicture("unnamed_class", f"{_listed(unnamed)}; data.mask_classes names {_listed([*classes])}")
    lesion = [one for one, name in classes.items() if name == "lesion"]
    return np.isin(values, lesion).astype(np.uint8), []


def _cut(values: np.ndarray, found: np.ndarray, threshold: int) -> np.ndarray:
    """Foreground where values are at least ``threshold`` of 255; white is 65535 for 16 bits, 1 for floats up to 1."""
    white = 255 if values.dtype == np.uint8 else 65535
    if values.dtype.kind == "f":
        white = 1 if found[-1] <= 1 else 255
    return (values >= threshold * (white / 255)).astype(np.uint8)


def _remedy(values: np.ndarray, found: np.ndarray, is_jpeg: bool) -> str:
    """The values found, and the settings that say what they mean."""
    share = f"data.mask_threshold=128 would take {_cut(values, found, 128).mean():.1%} of it as foreground"
    if is_jpeg:
        return f"{len(found)} values, for JPEG blurs what was two-valued; {share}"
    whole = (found == np.floor(found)).all()
    if len(found) > _MOST_CLASSES or not whole:
        return f"{len(found)} values, such as {found[len(found) // 2]:g}; {share}"
    named = ", ".join(f"{one:g}: lesion" for one in found if one)
    return f"values {_listed(found.tolist())}; data.mask_classes='{{{named}}}' names those of the lesion, or {share}"


def _listed(values: list[float]) -> str:
    return ", ".join(f"{one:g}" for one in values)
