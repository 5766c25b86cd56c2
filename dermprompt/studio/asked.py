"""What a client may ask for, checked before anything else happens: version 1 of the API."""

from __future__ import annotations

import io
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

# Of a body that is an image, and of any other; of an image once decoded.
MAX_IMAGE_BYTES, MAX_BODY_BYTES = 20 * 2**20, 256 * 2**10
MAX_PIXELS = 40_000_000
# Grey values of an imported mask are foreground from here on, and that is said.
THRESHOLD = 128
SIZES = {"ge": 32, "le": 1024, "multiple_of": 16}

Id = Annotated[str, Field(pattern=f"^{ID}$")]
Name = Annotated[str, Field(pattern=r"^[\w.-]{1,120}$")]
Word = Annotated[str, Field(min_length=1, max_length=80)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Model = TypeVar("Model", bound=BaseModel)


class Asked(BaseModel):
    """A body in JSON: no key more than these, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Named(Asked):
    """What a picture is to show. ``text``: free words, in place of diagnosis and attributes; all absent: no prompt."""

    generator: Name
    text: Annotated[str, Field(max_length=2000)] | None = None
    diagnosis: Word | None = None
    attributes: Annotated[list[Word], Field(max_length=20)] | None = None


class Drawing(Named):
    """A picture; what is not said of the sampler is the generator's own."""

    mask: Id
    seed: Seed = 0
    sampler: Literal["ddim", "dpm", "unipc"] | None = None
    num_steps: Annotated[int, Field(ge=1, le=200)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=30)] | None = None
    conditioning_scale: Annotated[float, Field(ge=0, le=5)] | None = None
    eta: Annotated[float, Field(ge=0, le=1)] | None = None
    guidance_start: Annotated[float, Field(ge=0, le=1)] | None = None
    guidance_end: Annotated[float, Field(ge=0, le=1)] | None = None

    def sampling(self) -> dict[str, Any]:
        """What is set of the sampler."""
        chosen = {one.name: getattr(self, one.name) for one in fields(Sampler)}
        return {key: value for key, value in chosen.items() if value is not None}


class Roll(Asked):
    """A drawn mask."""

    masks: Literal["realistic", "paper_code", "paper_text", "transform"]
    seed: Seed = 0
    size: Annotated[int, Field(**SIZES)] = 128


class PictureSet(Asked):
    """The pictures of a set, in their order."""

    pictures: Annotated[list[Id], Field(min_length=1, max_length=500)]


def read(model: type[Model], body: bytes) -> Model:
    """A body as what it should be.

    Raises:
        ValueError: names the first key that is wrong, and why.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


def check_image(data: bytes) -> None:
    """Look at the header of an image before anything is decoded.

    Raises:
        ValueError: no image of the known formats, or more pixels than are taken.
    """
    try:
        width, height = Image.open(io.BytesIO(data), formats=FORMATS).size
    except Image.DecompressionBombError:
        width = height = MAX_PIXELS
    except Exception:  # Pillow's plugins raise what their parsers happen to raise
        raise ValueError(f"this is no image that can be read; {', '.join(FORMATS)} can") from None
    if width * height > MAX_PIXELS:
        raise ValueError(f"the image has more than {MAX_PIXELS // 10**6} million pixels; make it smaller first")


def read_mask(data: bytes, size: int) -> tuple[np.ndarray, list[str]]:
    """A mask from a file, uint8 (size, size) in {0, 1}, and what was changed to make it one.

    Raises:
        ValueError: no image, damaged, of several colours, too large, or empty.
    """
    check_image(data)
    try:
        decoded = decode_mask(data, Reading(mask_threshold=THRESHOLD))
    except BadPicture as error:
        raise ValueError(_REFUSED.get(error.verdict, f"the image cannot be used: {error}")) from None
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
        ValueError: no image, damaged, of an unusual kind, or too large.
    """
    check_image(data)
    try:
        decoded = decode_image(data)
    except BadPicture as error:
        raise ValueError(_REFUSED.get(error.verdict, f"the image cannot be used: {error}")) from None
    return upright(decoded.pixels, decoded.orientation) if decoded.orientation in range(2, 9) else decoded.pixels


_REFUSED = {
    "unreadable": "the image is damaged and cannot be read",
    "empty_mask": "the mask is empty: at this size no pixel of it is foreground",
    "colour_mask": "this image has colours; a mask has black and white alone",
    "cmyk": "the image is in CMYK; save it as RGB",
    "sixteen_bit": "the image has more than 8 bits a channel; save it with 8",
    "transparent": "the image is transparent in places; save it without an alpha channel",
}
