"""How the images and masks of a data set are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CLASSES = ("lesion", "background")
MAX_MEGAPIXELS = 64


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The user's choices.

    ``mask_threshold``: the value, of 255, from which a grey mask is foreground. ``mask_classes``: ``lesion`` or
    ``background`` for each value of a class map; 0 is background. ``empty_masks``: whether a mask without foreground
    is an ``error``, or means an image without a lesion (``keep``). ``fit``: how images become square: ``squeeze``,
    centre ``crop`` or ``pad``. ``max_megapixels``: the largest image allowed, checked before decoding.
    """

    mask_threshold: int | None
    mask_classes: Mapping[int, str] | None = None
    empty_masks: str = "error"
    fit: str = "squeeze"
    max_megapixels: int = MAX_MEGAPIXELS


PLAIN = Reading(mask_threshold=None)
