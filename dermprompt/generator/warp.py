"""A baseline without a network: real images, each warped so that its lesion fills another mask.

It gives new shapes without new appearance; a generator should at least beat it.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from dermprompt.files import reading
from dermprompt.lesion import images_to_float
from dermprompt.tensors import load_arrays

Floats = NDArray[np.float32]

PAIRS = "pairs.safetensors"
_NUM_ANGLES = 360


def save_pairs(images: NDArray[np.uint8], masks: NDArray[np.uint8], folder: Path, best: int | None = None) -> None:
    """Write the pairs to warp, uint8 NSS3 RGB and NSS in {0, 1}, and among how many best pairs to choose."""
    pairs = {"images": np.ascontiguousarray(images), "masks": np.ascontiguousarray(masks)}
    save_file(pairs | ({} if best is None else {"best": np.array(best)}), folder / PAIRS)


def load_warp(folder: Path) -> WarpGenerator:
    """Open what :func:`save_pairs` wrote."""
    with reading(folder):
        pairs = load_arrays(folder / PAIRS)
        return WarpGenerator(pairs["images"], pairs["masks"], int(pairs["best"]) if "best" in pairs else None)


class WarpGenerator(nn.Module):
    """Real pairs with the interface of all generators; the seed chooses the pair, and text is ignored.

    ``best``: how many pairs to choose from, namely those whose outlines need the least stretching (mean absolute
    logarithm over all directions); None: all.
    """

    def __init__(self, images: NDArray[np.uint8], masks: NDArray[np.uint8], best: int | None = None) -> None:
        super().__init__()
        self.images, self.masks, self.best = images, masks, best
        self.outlines = None if best is None else np.stack([_log_outline(mask) for mask in masks])

    def generate(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Images N3SS in [-1, 1] for masks N1SS in {0, 1}."""
        wanted = (masks[:, 0] > 0.5).cpu().numpy().astype(np.uint8)
        rows = [self._choose(mask, seed) for mask, seed in zip(wanted, seeds, strict=True)]
        warped = [warp(self.images[k], self.masks[k], mask) for k, mask in zip(rows, wanted, strict=True)]
        return images_to_float(torch.from_numpy(np.stack(warped)))

    def _choose(self, wanted: NDArray[np.uint8], seed: int) -> int:
        rng = np.random.default_rng(seed)
        if self.outlines is None:
            return int(rng.integers(len(self.images)))
        stretch = np.abs(self.outlines - _log_outline(wanted)).mean(axis=1)
        return int(rng.choice(np.argsort(stretch, kind="stable")[: self.best]))


def _log_outline(mask: NDArray[np.uint8]) -> Floats:
    return np.log(_outline(mask, _centre(mask)))


def warp(image: NDArray[np.uint8], mask: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Warp ``image`` (uint8 SS3), whose lesion is ``mask`` (SS in {0, 1}), so that the lesion fills ``wanted``.

    Along each ray from the centre, outline maps to outline and border to border, linearly in between. This is exact
    if both masks are star-shaped about their centres; otherwise only the outermost part of the outline counts. An
    empty ``wanted``, which S.test may contain, leaves the image unchanged.
    """
    assert mask.any(), "a mask without foreground has no outline"
    if not wanted.any():
        return image
    size = wanted.shape[0]
    source, target = _centre(mask), _centre(wanted)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    dy, dx = y - target[0], x - target[1]
    radius, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
    near, far = (_along(_outline(one, centre), angle) for one, centre in ((mask, source), (wanted, target)))
    edge_near, edge_far = (np.maximum(_edge(angle, centre, size), 1e-3) for centre in (source, target))
    # An outline this close to the border is a lesion that the border cuts off, so beyond it there is more lesion.
    near = np.where(edge_near - near < 1.5, edge_near, near)
    far = np.where(edge_far - far < 1.5, edge_far, far)
    outside = near + (radius - far) * (edge_near - near) / np.maximum(edge_far - far, 1e-3)
    reach = np.where(radius <= far, radius * near / far, outside)
    rows, columns = source[0] + reach * np.sin(angle), source[1] + reach * np.cos(angle)
    limits = np.float32(size - 1)
    rows, columns = (np.clip(one, 0, limits).astype(np.float32) for one in (rows, columns))
    return np.asarray(cv2.remap(image, columns, rows, cv2.INTER_LINEAR), np.uint8)


def _centre(mask: NDArray[np.uint8]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())


def _outline(mask: NDArray[np.uint8], centre: tuple[float, float]) -> Floats:
    """The outermost foreground pixel's distance in each direction; directions without one are interpolated."""
    rows, columns = np.nonzero(mask)
    dy, dx = rows - centre[0], columns - centre[1]
    direction = np.round(np.arctan2(dy, dx) / (2 * np.pi) * _NUM_ANGLES).astype(int) % _NUM_ANGLES
    outermost = np.zeros(_NUM_ANGLES, np.float32)
    np.maximum.at(outermost, direction, (np.hypot(dy, dx) + 0.5).astype(np.float32))
    known = np.flatnonzero(outermost)
    return np.interp(np.arange(_NUM_ANGLES), known, outermost[known], period=_NUM_ANGLES).astype(np.float32)


def _along(outline: Floats, angle: Floats) -> Floats:
    """The outline's distance at each angle, in radians."""
    place = (angle / (2 * np.pi) * _NUM_ANGLES) % _NUM_ANGLES
    return np.interp(place, np.arange(_NUM_ANGLES + 1), np.append(outline, outline[0])).astype(np.float32)


def _edge(angle: Floats, centre: tuple[float, float], size: int) -> Floats:
    """The distance from the centre to the image's border at each angle."""
    sine, cosine = np.sin(angle), np.cos(angle)
    with np.errstate(divide="ignore", invalid="ignore"):
        down = np.where(sine > 0, (size - 0.5 - centre[0]) / sine, (-0.5 - centre[0]) / sine)
        across = np.where(cosine > 0, (size - 0.5 - centre[1]) / cosine, (-0.5 - centre[1]) / cosine)
    return np.fmin(np.abs(down), np.abs(across)).astype(np.float32)
