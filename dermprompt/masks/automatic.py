"""Lesion masks from deformed circles (paper, section 2.3), in two variants.

Both take their numbers from the authors' released script, in pixels of its canvas of 512 x 512: centre coordinates
from 236 to 285, radius from 15 to just inside the nearer edge, elastic deformation on a grid of 100 x 100 points with
sigma 25, opening and closing with an ellipse whose diameter is half the radius; the mask is kept if it is one
component.

- ``paper_code`` does what the script does: its blur of sigma 5 is applied before the circle is drawn, and so has no
  effect (``blur_sigma=0``);
- ``paper_text`` does what the paper says: the circle is blurred, then thresholded at half. Only this order is from
  the text, which gives no numbers.

The script's grid is so fine that it breaks the outline into speckle, and the opening erodes the shape to about half of
the circle's area. No image is warped here: the circle is evaluated at displaced coordinates. On a CPU, opening and
closing equal the script's to the pixel; on a GPU they use discs, and for large shapes a half or a quarter of the
resolution, which leaves outlines slightly rougher. ``benchmarks/mask_shapes.py`` compares the result with an exact
implementation of the script's recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dermprompt.masks import shape
from dermprompt.masks.draw import CANVAS, draw_masks
from dermprompt.masks.elastic import displaced
from dermprompt.masks.morphology import all_in_blocks, is_one_component, open_and_close, open_and_close_exactly
from dermprompt.masks.noise import keys_of, normal, uniform

# An ellipse of this radius in reduced pixels keeps its shape, so a larger one allows a coarser grid.
_FINEST_RADIUS = 14
# With more masks at once, their displacement fields no longer fit into the processor's cache.
_FIELDS_AT_ONCE = {"cpu": 1, "cuda": 64}
_MASKS_AT_ONCE = 32
# cv2's circle includes pixels whose centres are slightly outside; its ellipse rounds rows outwards.
_CIRCLE_ROUNDING = 0.4
_ELLIPSE_ROUNDING = {1: 0.25, 2: 0.0, 4: 0.0}


@dataclass(frozen=True)
class AutomaticMasks:
    """An unlimited source of masks, each one connected component; lengths are in pixels of a canvas of 512.

    ``centre``: lowest and highest coordinate of the centre. ``min_radius``: the radius is between this and the
    distance from the centre to the top or left edge. ``blur_sigma``: of the Gaussian blur. ``elastic_sigma`` and
    ``elastic_points``: standard deviation of the displacements, and grid points along a side.
    ``kernel``: the diameter of the ellipse for opening and closing, in *radii*.
    """

    size: int
    seed: int
    centre: Sequence[int] = (236, 285)
    min_radius: int = 15
    blur_sigma: float = 0.0
    elastic_sigma: float = 25.0
    elastic_points: int = 100
    kernel: float = 0.5
    device: str = "cpu"

    def sample(self, indices: Sequence[int]) -> np.ndarray:
        """Draw masks ``indices``, uint8 (N, size, size) in {0, 1}; each depends only on settings, seed and its index.

        Raises ValueError, naming the settings, after 100 attempts.
        """
        return draw_masks(self._attempt, indices, self.seed, self.size, self.device, self)

    def acceptance(self, indices: Sequence[int]) -> float:
        """The share of ``indices`` whose first attempt is a single component."""
        wanted = torch.tensor(list(indices), dtype=torch.int64, device=self.device)
        counts = [self._attempt(keys_of(self.seed, chunk, 0))[1] for chunk in wanted.split(256)]
        return float(torch.cat(counts).float().mean())

    def _attempt(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        centres, radii = self._circles(keys)
        masks = torch.zeros(len(keys), CANVAS, CANVAS, dtype=torch.bool, device=keys.device)
        counts = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
        for factor, window, rows in self._groups(radii):
            first = (CANVAS - window) // 2
            found, single = self._shapes(keys[rows], centres[rows], radii[rows], factor, window)
            masks[rows[single], first : first + window, first : first + window] = found
            counts[rows] = single
        return masks, counts

    def _circles(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Integer centres (N, 2), as (y, x), and radii (N), float32."""
        low, high = self.centre
        drawn = uniform(keys, 3, stream=0)
        centres = (low + drawn[:, :2] * (high + 1 - low)).floor()
        return centres, (self.min_radius + drawn[:, 2] * (centres.amin(1) - self.min_radius)).floor()

    def _groups(self, radii: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Rows with the same reduction factor and the same central window, which contains the whole shape."""
        ellipse, exact = self._ellipse(radii), radii.device.type == "cpu"
        factors = torch.where(ellipse < 2 * _FINEST_RADIUS, torch.where(ellipse < _FINEST_RADIUS, 1, 2), 4)
        factors = torch.ones_like(factors) if exact else factors
        spread = max(abs(coordinate - CANVAS / 2) for coordinate in self.centre)
        # The largest extent of the shape: deformation moves it by at most this much, and closing adds its ellipse.
        half = radii + 2.5 * self.elastic_sigma + spread + ellipse
        windows = ((half / 32).ceil() * 64).clamp(max=CANVAS).long()
        for factor, window in torch.stack([factors, windows], 1).unique(dim=0).tolist():
            rows = ((factors == factor) & (windows == window)).nonzero()[:, 0]
            yield from ((factor, window, chunk) for chunk in rows.split(_MASKS_AT_ONCE))

    def _ellipse(self, radii: Tensor) -> Tensor:
        """Radius of the ellipse; with an even diameter it extends half a pixel further to one side."""
        return (self._diameters(radii) - 1) / 2

    def _diameters(self, radii: Tensor) -> Tensor:
        return (radii * self.kernel).floor().clamp(min=3)

    def _shapes(self, keys: Tensor, centres: Tensor, radii: Tensor, factor: int, window: int) -> tuple[Tensor, Tensor]:
        """The masks that are one component, bool (M, window, window), and which ones these are, bool (N)."""
        reach = radii + _CIRCLE_ROUNDING
        # The radius at which a blurred disc has half its height, to first order in its curvature.
        reach = reach - self.blur_sigma**2 / (2 * radii)
        # Nodes of a reduced grid are half a pixel away from the centre of the pixels that they represent.
        places = centres - (0.5 if factor > 1 else 0)
        step = _FIELDS_AT_ONCE[keys.device.type]
        parts = [
            self._inside(keys[i : i + step], places[i : i + step], reach[i : i + step], factor, window)
            for i in range(0, len(keys), step)
        ]
        inside = torch.cat(parts)
        if inside.device.type == "cpu":
            each = zip(inside.numpy(), self._diameters(radii).int().tolist(), strict=True)
            found = np.stack([open_and_close_exactly(*one) for one in each])
            whole = torch.tensor([shape.is_one_component(one) for one in found])
            return torch.from_numpy(found).view(torch.bool)[whole], whole
        ellipse = self._ellipse(radii) / factor + _ELLIPSE_ROUNDING[factor]
        closed, distance = open_and_close(inside, ellipse)
        single = is_one_component(closed)
        return _enlarge(distance[single], ellipse[single], factor), single

    def _inside(self, keys: Tensor, centres: Tensor, reach: Tensor, factor: int, window: int) -> Tensor:
        """The displaced circle, bool (N, window / factor, …); a reduced pixel is True if all its pixels are."""
        points = self.elastic_points
        grids = normal(keys, 2 * points * points, stream=1).view(-1, 2, points, points) * self.elastic_sigma
        y, x = displaced(grids, centres, CANVAS, (CANVAS - window) // 2, window).unbind(1)
        inside = y.square_().addcmul_(x, x) <= reach[:, None, None] ** 2
        return all_in_blocks(inside, factor)


def _enlarge(distance: Tensor, radii: Tensor, factor: int) -> Tensor:
    """Where distances (N, S, S) exceed radii (N): bool (N, factor · S, …); node i is pixel factor · i + factor / 2.

    Interpolation between nodes is cubic, because linear interpolation would blunt the cusps that closing leaves.
    """
    limit = radii[:, None, None]
    if factor == 1:
        return distance > limit
    side, half = factor * (distance.shape[-1] - 1) + 1, factor // 2
    masks = torch.zeros(len(distance), side + factor - 1, side + factor - 1, dtype=torch.bool, device=distance.device)
    inner = slice(half, half + side)
    fine = torch.nn.functional.interpolate(distance[:, None], (side, side), mode="bicubic", align_corners=True)
    masks[:, inner, inner] = fine[:, 0] > limit
    # Beyond the outermost nodes, the mask is extended with their values.
    masks[:, :half] = masks[:, half : half + 1]
    masks[:, half + side :] = masks[:, half + side - 1 : half + side]
    masks[:, :, :half] = masks[:, :, half : half + 1]
    masks[:, :, half + side :] = masks[:, :, half + side - 1 : half + side]
    return masks
