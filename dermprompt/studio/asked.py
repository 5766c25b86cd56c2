"""The requests of version 1 of the API, validated before anything else happens."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dermprompt.config.generators import Sampler
from dermprompt.data.decode import FORMATS, BadPicture, decode_image, upright
from dermprompt.data.fit import fit_mask
from dermprompt.data.masks import decode_mask
from dermprompt.data.reading import Reading
from dermprompt.studio.desk import ID

# Limits for the body of an image upload, for any other body, and for the pixels of a decoded image.
MAX_IMAGE_BYTES, MAX_BODY_BYTES = 20 * 2**20, 256 * 2**10
MAX_PIXELS = 40_000_000
# Grey values of an imported mask are foreground from here on; the client is told.
THRESHOLD = 128
SIZES = {"ge": 32, "le": 1024, "multiple_of": 16}

MaskSource = Literal["realistic", "transform", "paper_code", "paper_text"]
Id = Annotated[str, Field(pattern=f"^{ID}$")]
Name = Annotated[str, Field(pattern=r"^[\w.-]{1,120}$")]
Word = Annotated[str, Field(min_length=1, max_length=80)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


class Asked(BaseModel):
    """A JSON body: no other keys, no values of other types."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Named(Asked):
    """What an image should show. ``text``: free text instead of diagnosis and attributes; without any, no prompt."""

    generator: Name
    text: Annotated[str, Field(max_length=2000)] | None = None
    diagnosis: Word | None = None
    attributes: Annotated[list[Word], Field(max_length=20)] | None = None


class Drawing(Named):
    """A request for an image; sampler settings that are absent default to the generator's."""

    mask: Id
    seed: Seed = 0
    sampler: Literal["ddim", "dpm", "unipc"] | None = None
    num_steps: Annotated[int, Field(ge=1, le=200)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=30)] | None = None
    conditioning_scale: Annotated[float, Field(ge=0, le=5)] | None = None
    eta: Annotated[float, Field(ge=0, le=1)] | None = None
    guidance_start: Annotated[float, Field(ge=0, le=1)] | None = None
    guidance_end: Annotated[float, Field(ge=0, le=1)] | None = None
    cache_interval: Annotated[int, Field(ge=1, le=200)] | None = None

    def sampling(self) -> dict[str, Any]:
        """The sampler settings that are given."""
        chosen = {one.name: getattr(self, one.name) for one in fields(Sampler)}
        return {key: value for key, value in chosen.items() if value is not None}


class Roll(Asked):
    """A request for a randomly drawn mask."""

    masks: MaskSource
    seed: Seed = 0
    size: Annotated[int, Field(**SIZES)] = 128


class PictureSet(Asked):
    """The images of a set, in order."""

    pictures: Annotated[list[Id], Field(min_length=1, max_length=500)]


def read(model: type[Model], body: bytes) -> Model:
    """Parse and validate a body.

    Raises:
        ValueError: names the first wrong key, and why it is wrong.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


def check_image(data: bytes) -> None:
    """Check the header of an image before anything is decoded.

    Raises:
        ValueError: it is not an image of a known format, or has too many pixels.
    """
    try:
        width, height = Image.open(io.BytesIO(data), formats=FORMATS).size
    except Image.DecompressionBombError:
        width = height = MAX_PIXELS
    except Exception:  # Pillow's plugins raise whatever their parsers raise
        raise ValueError(f"this is no image that can be read; {', '.join(FORMATS)} can") from None
    if width * height > MAX_PIXELS:
        raise ValueError(f"the image has more than {MAX_PIXELS // 10**6} million pixels; make it smaller first")


def read_mask(data: bytes, size: int) -> tuple[np.ndarray, list[str]]:
    """A mask from a file, uint8 (size, size) in {0, 1}, and notes on how it was converted.

    Raises:
        ValueError: it is not an image, is damaged, has several colours, is too large, or is empty.
    """
    decoded = _decoded(data, lambda: decode_mask(data, Reading(mask_threshold=THRESHOLD)))
    mask, notes = fit_mask(decoded.pixels, size, "squeeze"), []
    if decoded.size != (size, size):
        squeezed = ", squeezed to a square" if decoded.size[0] != decoded.size[1] else ""
        notes.append(f"resized from {decoded.size[1]}×{decoded.size[0]} to {size}×{size}{squeezed}")
    if any(verdict == "thresholded_mask" for verdict, _ in decoded.notes):
        notes.append(f"grey values were cut at {THRESHOLD}")
    if not mask.any():
        raise ValueError(_REFUSED["empty_mask"])
    return mask, notes


def read_photograph(data: bytes) -> np.ndarray:
    """A photograph, uint8 HW3, upright.

    Raises:
        ValueError: it is not an image, is damaged, has an unsupported format, or is too large.
    """
    decoded = _decoded(data, lambda: decode_image(data))
    return upright(decoded.pixels, decoded.orientation)


def _decoded(data: bytes, decode: Callable[[], T]) -> T:
    check_image(data)
    try:
        return decode()
    except BadPicture as error:
        raise ValueError(_REFUSED.get(error.verdict, f"the image cannot be used: {error}")) from None


_REFUSED = {
    "unreadable": "the image is damaged and cannot be read",
    "empty_mask": "the mask is empty: at this size no pixel of it is foreground",
    "colour_mask": "this image has colours; a mask has black and white alone",
    "cmyk": "the image is in CMYK; save it as RGB",
    "sixteen_bit": "the image has more than 8 bits a channel; save it with 8",
    "transparent": "the image is transparent in places; save it without an alpha channel",
}
