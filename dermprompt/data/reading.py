"""How the pictures of a data set are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CLASSES = ("lesion", "background")
MAX_MEGAPIXELS = 64


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What its user decides.

    ``mask_threshold``: from which value on, of 255, a grey mask is foreground. ``mask_classes``: ``lesion`` or
    ``background`` for each value of a map of classes; 0 is background. ``empty_masks``: whether a mask without
    foreground is an ``error``, or stands for an image without a lesion (``keep``). ``fit``: how what is not square
    becomes so, by ``squeeze``, ``crop`` to the middle, or ``pad``. ``max_megapixels``: of a picture, seen before it is
    decoded.
    """

    mask_threshold: int | None
    mask_classes: Mapping[int, str] | None = None
    empty_masks: str = "error"
    fit: str = "squeeze"
    max_megapixels: int = MAX_MEGAPIXELS


PLAIN = Reading(mask_threshold=None)
