"""Opening and closing by discs on batches, by distance; and which masks are one component.

A disc of any radius costs one distance transform, so that every mask of a batch can have its own.
"""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distance(targets: Tensor, reach: int) -> Tensor:
    """Squared distance, in pixels, of every pixel to the nearest True of ``targets`` (N, H, W), as int16.

    Exact up to ``reach``; larger ones are some number above ``reach`` squared. ``reach`` is at most 120.
    What lies outside the picture is no target.
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
    """Open and then close bool masks (N, H, W) by discs of ``radii`` (N), in pixels.

    Returns the bool masks, and float32 distances to what is no foreground before the last erosion: the masks are
    where these exceed the radii, and between pixels they say where the outline runs. The opening's dilation and
    the closing's are one, by twice the radius.
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
    # The bytes of a row's blocks read as one number.
    whole, kind = {2: (0x0101, torch.int16), 4: (0x01010101, torch.int32)}[factor]
    rows = masks.view(kind) == whole
    return torch.stack([rows[:, offset::factor] for offset in range(factor)]).all(0)


def is_one_component(masks: Tensor) -> Tensor:
    """Whether the foreground of each bool mask (N, H, W) is one 4-connected component, and not empty: bool (N).

    The masks are the bits of one integer a pixel, so that a step of the flood is the same work for one mask and
    for sixty-two. A flood from each mask's first pixel fills whole runs of rows and columns at a time
    (Kogge and Stone's carry, as chess programs fill rays).
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
    """Spread along each row to both sides until the land ends."""
    for backwards in (False, True):
        reached, free = (reached.flip(1), land.flip(1)) if backwards else (reached.clone(), land.clone())
        step = 1
        while step < land.shape[1]:
            reached[:, step:] |= free[:, step:] & reached[:, :-step]
            free[:, step:] = free[:, step:] & free[:, :-step]
            step *= 2
        reached = reached.flip(1) if backwards else reached
    return reached
