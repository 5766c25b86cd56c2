"""Shared by all packages: one image with its mask and labels, and the conventions for tensors.

- Images in networks are float32 N3HW in [-1, 1], RGB; on disk and in caches uint8 NHW3 in [0, 255].
- Masks in networks are float32 N1HW in {0, 1}; in caches uint8 NHW in {0, 1}; in files 0 and 255.
- Sizes are (height, width), in pixels.
- Metric names are ``stage/split/metric``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Lesion:
    """One image, its mask, and what is known about it. ``None`` means unknown, never absent; only an image of the pool
    (``data.without_mask``) has no known mask.

    ``lesion_id``: the same for all images of one lesion; ``patient_id``: the same for all images of one patient.
    ``negative``: the mask is empty because there is no lesion. ``part``: the folder in its data set, ``training``,
    ``validation`` or ``test``. ``age``: in years.
    """

    id: str
    image: Path
    mask: Path | None
    diagnosis: str | None = None
    attributes: tuple[str, ...] | None = None
    age: float | None = None
    sex: str | None = None
    site: str | None = None
    lesion_id: str | None = None
    part: str = "training"
    patient_id: str | None = None
    negative: bool = False


def images_to_float(images: Tensor) -> Tensor:
    """Convert uint8 NHW3 in [0, 255] to float32 N3HW in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def images_to_uint8(images: Tensor) -> Tensor:
    """Convert float N3HW in [-1, 1] (clipped) to uint8 NHW3 in [0, 255], rounded.

    Raises:
        ValueError: a value is NaN or infinite; checked only on the CPU, because a GPU would have to synchronise.
    """
    if images.device.type == "cpu" and not images.isfinite().all():
        raise ValueError("an image holds values that are NaN or infinite")
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous()


def find_faults(images: Tensor, pixels: Tensor) -> Tensor:
    """Check images float N3HW, with their ``pixels`` uint8 NHW3: for each image 1 if a value is NaN or infinite, 2 if
    all pixels are equal, else 0.
    """
    finite = images.flatten(1).isfinite().all(1)
    flat = pixels.flatten(1, 2)
    alike = (flat == flat[:, :1]).flatten(1).all(1)
    return (~finite).byte() + 2 * (finite & alike).byte()


def masks_to_float(masks: Tensor) -> Tensor:
    """Convert uint8 NHW in {0, 1} to float32 N1HW in {0, 1}."""
    return masks.unsqueeze(1).float()
