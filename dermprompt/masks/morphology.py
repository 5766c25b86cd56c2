"""Opening and closing, and tests for a single component.

On a CPU, a mask is opened and closed with OpenCV's ellipse, exact to the pixel, in a fifteenth of OpenCV's time:
pixels are bits, and each row of the ellipse consists of one or a few runs whose length is a power of two. On a GPU,
batches are opened and closed with discs: any radius takes one distance transform, so every mask of a batch can have
its own.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

# Pixels are bits of words of this many; also the longest run.
_WORD = 64


def open_and_close_exactly(mask: np.ndarray, diameter: int) -> np.ndarray:
    """Open, then close a bool or uint8 mask (H, W) in {0, 1} by ``cv2.MORPH_ELLIPSE``; uint8."""
    mask, opened, closed = mask.view(np.uint8), np.zeros(mask.shape, np.uint8), np.zeros(mask.shape, np.uint8)
    part = _around(mask, 1)
    opened[part] = _erode(mask[part], diameter)
    part = _around(opened, 2 * (diameter // 2) + 1)
    closed[part] = _erode(_dilate(_dilate(opened[part], diameter), diameter), diameter)
    return closed


def _around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The rows and columns that hold a mask's foreground, with a margin as far as the frame allows."""
    x, y, width, height = cv2.boundingRect(mask)
    return slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)


def _erode(mask: np.ndarray, diameter: int) -> np.ndarray:
    """Erode a mask uint8 (H, W) in {0, 1}; what lies beyond it counts as foreground."""
    return 1 - _dilate(1 - mask, diameter)


def _dilate(mask: np.ndarray, diameter: int) -> np.ndarray:
    """Dilate a mask uint8 (H, W) in {0, 1}, packed as one row of bits after another, with zeros between the rows."""
    # Zeros as far as the ellipse reaches, and 7 more for the shift by bits.
    (height, width), edge = mask.shape, diameter // 2 + 8
    stride = -(-(width + edge) // _WORD) * 8
    padded = np.zeros((height + 2 * edge, 8 * stride), np.uint8)
    padded[edge : edge + height, :width] = mask
    # runs[k]: whether one of the 2 ** k pixels from here on is set.
    runs = [np.packbits(padded, bitorder="little")]
    for k in range(min(diameter, _WORD).bit_length() - 1):
        runs.append(runs[k] | _later(runs[k], 2**k))
    # A shift by whole bytes is a slice; runs with the same shift by 0 to 7 bits are combined before it.
    parts = np.zeros((8, height * stride), np.uint8)
    for y, k, byte, bit in _runs(diameter):
        start = (edge + y) * stride + byte
        parts[bit] |= runs[k][start : start + height * stride]
    dilated = np.bitwise_or.reduce([_later(part, bit) for bit, part in enumerate(parts)])
    return np.unpackbits(dilated.reshape(height, stride), axis=1, count=width, bitorder="little")


@lru_cache(maxsize=512)
def _runs(diameter: int) -> list[tuple[int, int, int, int]]:
    """Runs of 2 ** k pixels that make up the ellipse: row, k, and first column in bytes and bits, from the centre."""
    middle, runs = diameter // 2, []
    for y, row in enumerate(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))):
        columns = (np.flatnonzero(row) - middle).tolist()
        k = min(len(columns), _WORD).bit_length() - 1
        # The last run ends with the row and may overlap the one before.
        firsts = {*columns[: -(2**k) : 2**k], columns[-(2**k)]}
        runs += [(y - middle, k, *divmod(first, 8)) for first in firsts]
    return runs


def _later(bits: np.ndarray, by: int) -> np.ndarray:
    """Each pixel gets the value ``by`` pixels later, for ``by`` below 64."""
    words = bits.view("<u8")
    later = words >> np.uint64(by)
    later[:-1] |= words[1:] << np.uint64(_WORD - by)
    return later.view(np.uint8)


def squared_distance(targets: Tensor, reach: int) -> Tensor:
    """Squared distance, in pixels, of every pixel to the nearest True of ``targets`` (N, H, W), as int16.

    Distances are exact up to ``reach``; larger ones are some number above ``reach`` squared. ``reach`` is at most 120.
    There are no targets outside the mask.
    """
    assert reach <= 120, reach
    far = reach + 1
    rows = torch.where(targets, 0, far).to(torch.int16)
    step = 1
    while step <= reach:
        stepped = rows + step
        rows = rows.clone()
        rows[..., step:] = torch.minimum(rows[..., step:], stepped[..., :-step])
        rows[..., :-step] = torch.minimum(rows[..., :-step], stepped[..., step:])
        step *= 2
    squared = rows * rows
    nearest = squared.clone()
    for offset in range(1, min(reach, targets.shape[1] - 1) + 1):
        moved = squared + offset * offset
        torch.minimum(nearest[:, offset:], moved[:, :-offset], out=nearest[:, offset:])
        torch.minimum(nearest[:, :-offset], moved[:, offset:], out=nearest[:, :-offset])
    return nearest


def open_and_close(masks: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Open, then close bool masks (N, H, W) with discs of ``radii`` (N), in pixels.

    Returns the bool masks, and float32 distances to the background before the last erosion: the masks are where
    these exceed the radii, and between pixels they locate the outline. The dilations of opening and closing are
    combined into one, by twice the radius.
    """
    reach = int(radii.max().ceil()) + 1
    limit = radii[:, None, None]
    eroded = squared_distance(~masks, reach) > limit * limit
    dilated = squared_distance(eroded, 2 * reach) <= 4 * limit * limit
    distance = squared_distance(~dilated, reach).float().sqrt_()
    return distance > limit, distance


def all_in_blocks(masks: Tensor, factor: int) -> Tensor:
    """Whether all pixels of each block are True: bool (N, H, W) to (N, H / factor, W / factor), factor 1, 2 or 4."""
    if factor == 1:
        return masks
    # The bytes of each block in a row are compared as one integer.
    whole, kind = {2: (0x0101, torch.int16), 4: (0x01010101, torch.int32)}[factor]
    rows = masks.view(kind) == whole
    return torch.stack([rows[:, offset::factor] for offset in range(factor)]).all(0)


def is_one_component(masks: Tensor) -> Tensor:
    """Whether the foreground of each bool mask (N, H, W) is exactly one 4-connected component: bool (N).

    Masks are packed as the bits of one integer per pixel, so that a step of the flood fill costs the same for 1 and 62
    masks. The flood starts at each mask's first pixel and fills whole runs of rows and columns at a time, by a
    Kogge-Stone carry as in the ray fills of chess programs.
    """
    return torch.cat([_one_component(chunk) for chunk in masks.split(62)])


def _one_component(masks: Tensor) -> Tensor:
    number, height, width = masks.shape
    flat = masks.reshape(number, -1)
    bit = torch.ones(number, dtype=torch.int64, device=masks.device) << torch.arange(number, device=masks.device)
    land = (flat.t() * bit).sum(1).view(height, width)
    reached = torch.zeros(height * width, dtype=torch.int64, device=masks.device)
    reached.index_add_(0, flat.byte().argmax(1), bit * flat.any(1))
    reached = reached.view(height, width)
    while True:
        before = reached
        for turned in (False, True):
            reached = _fill_rows(reached.t(), land.t()).t() if turned else _fill_rows(reached, land)
        if torch.equal(before, reached):
            break
    missed = land & ~reached
    missing = torch.stack([(missed & one).any() for one in bit])
    return flat.any(1) & ~missing


def _fill_rows(reached: Tensor, land: Tensor) -> Tensor:
    """Spread along each row in both directions, up to the end of the foreground (``land``)."""
    for backwards in (False, True):
        reached, free = (reached.flip(1), land.flip(1)) if backwards else (reached.clone(), land.clone())
        step = 1
        while step < land.shape[1]:
            reached[:, step:] |= free[:, step:] & reached[:, :-step]
            free[:, step:] = free[:, step:] & free[:, :-step]
            step *= 2
        reached = reached.flip(1) if backwards else reached
    return reached
