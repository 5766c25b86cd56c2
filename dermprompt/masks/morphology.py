"""Opening and closing, and tests for a single component.

On a CPU, a mask is opened and closed with OpenCV's ellipse, exact to the pixel, in a fifth of OpenCV's time: pixels
are bits, and each row of the ellipse is a run of pixels grown from the next shorter one. On a GPU, batches are opened
and closed with discs: any radius takes one distance transform, so every mask of a batch can have its own.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

Run = tuple[int, int]


def open_and_close_exactly(mask: np.ndarray, diameter: int) -> np.ndarray:
    """Open, then close a bool or uint8 mask (H, W) in {0, 1}, W a multiple of 64, by ``cv2.MORPH_ELLIPSE``; uint8."""
    packed = np.packbits(mask, axis=1, bitorder="little").view("<u8").T
    margin = -(-(diameter // 2) // 64)
    inside = np.pad(np.full_like(packed, ~np.uint64(0)), ((margin, margin), (0, 0)))
    bits = np.pad(packed, ((margin, margin), (0, 0)))
    bits = ~_dilate(~bits & inside, diameter) & inside
    bits = _dilate(_dilate(bits, diameter) & inside, diameter) & inside
    bits = ~_dilate(~bits & inside, diameter) & inside
    rows = np.ascontiguousarray(bits[margin : len(bits) - margin].T).view(np.uint8)
    return np.unpackbits(rows, axis=1, bitorder="little")


def _dilate(bits: np.ndarray, diameter: int) -> np.ndarray:
    """Dilate a mask packed as words of 64 pixels of a row, uint64 (words, rows)."""
    dilated, height = np.zeros_like(bits), bits.shape[1]
    run, (first, last) = bits, (0, 0)
    for (low, high), rows in _runs(diameter):
        while (first, last) != (low, high):
            length = last - first + 1  # one step extends a run by at most its own length on each side
            left, right = max(low, first - length) - first, min(high, last + length) - last
            wider = run | _shifted(run, left) if left else run
            run = wider | _shifted(run, right) if right else wider
            first, last = first + left, last + right
        for y in rows:
            dilated[:, max(0, -y) : height - max(0, y)] |= run[:, max(0, y) : height - max(0, -y)]
    return dilated


@lru_cache(maxsize=512)
def _runs(diameter: int) -> list[tuple[Run, list[int]]]:
    """The ellipse's runs of columns, shortest first, with the rows in which each occurs, relative to the centre."""
    middle, found = diameter // 2, dict[Run, list[int]]()
    for y, row in enumerate(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))):
        columns = np.flatnonzero(row)
        found.setdefault((int(columns[0]) - middle, int(columns[-1]) - middle), []).append(y - middle)
    return sorted(found.items(), key=lambda item: item[0][1] - item[0][0])


def _shifted(bits: np.ndarray, by: int) -> np.ndarray:
    """Shift to the left by ``by`` columns: each pixel gets the value ``by`` columns to its right."""
    words, rest = divmod(abs(by), 64)
    shifted, number = np.zeros_like(bits), len(bits) - words
    if by > 0:
        shifted[:number] = bits[words:] >> np.uint64(rest)
        if rest:
            shifted[: number - 1] |= bits[words + 1 :] << np.uint64(64 - rest)
    else:
        shifted[words:] = bits[:number] << np.uint64(rest)
        if rest:
            shifted[words + 1 :] |= bits[: number - 1] >> np.uint64(64 - rest)
    return shifted


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
