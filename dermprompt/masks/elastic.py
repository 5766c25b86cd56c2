"""Elastic deformation of a shape by displaced coordinates, without warping an image.

The displacements are given on a grid and interpolated by cubic B-splines, as in elasticdeform (Ronneberger et al.,
2015); two matrix products give them at every pixel.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

# Weights below this are set to 0.
_NOTHING = 1e-25


@lru_cache(maxsize=16)
def spline_matrix(num_points: int, size: int) -> Tensor:
    """Float32 (size, num_points): maps ``num_points`` control values to the interpolating cubic spline at ``size``
    pixels. The first and last control values are at the first and last pixel; beyond them values are mirrored.
    """
    from scipy import ndimage

    coefficients = ndimage.spline_filter1d(np.eye(num_points), order=3, axis=0)
    places = [np.linspace(0, num_points - 1, size)]
    columns = [ndimage.map_coordinates(one, places, order=3, prefilter=False, mode="mirror") for one in coefficients.T]
    matrix = np.stack(columns, 1)
    # Some processors multiply numbers below 1e-38 a hundred times more slowly. Terms of such weights are lost in
    # rounding beside any displacement that could move a pixel.
    return torch.from_numpy(np.where(np.abs(matrix) < _NOTHING, 0, matrix)).float()


def displaced(grids: Tensor, origins: Tensor, size: int, first: int, count: int) -> Tensor:
    """The displaced coordinates of pixels relative to ``origins`` (N, 2): float32 (N, 2, count, count), as (y, x).

    ``grids``: displacements (N, 2, P, P) in pixels, on a canvas of ``size`` pixels, of which ``count`` rows and columns
    starting at ``first`` are computed.
    """
    matrix = spline_matrix(grids.shape[-1], size)[first : first + count].to(grids.device)
    places = torch.arange(first, first + count, dtype=torch.float32, device=grids.device)
    # The pixels' coordinates are two more terms of the same product: places · 1 along y, 1 · places along x.
    left = torch.cat([matrix, places[:, None], torch.ones_like(places)[:, None]], 1)
    right = torch.zeros(len(grids), 2, left.shape[1], count, device=grids.device)
    right[:, :, :-2] = grids @ matrix.t()
    right[:, 0, -2] = 1
    right[:, 1, -1] = places
    right[:, :, -1] -= origins[:, :, None]
    return torch.matmul(left, right)
