from __future__ import annotations

import numpy as np
import pytest
import torch

from dermprompt.masks.elastic import displaced, spline_matrix

elasticdeform = pytest.importorskip("elasticdeform")


@pytest.mark.parametrize(("points", "size"), [(4, 64), (20, 64), (100, 512)])
def test_coordinates_are_elasticdeforms(points: int, size: int) -> None:
    """A picture of rows, deformed by it, says where each pixel took its value from."""
    grid = np.random.default_rng(0).normal(0, 0.5, (2, points, points))
    rows = np.arange(size, dtype=np.float64)[:, None].repeat(size, 1)
    theirs = elasticdeform.deform_grid(rows, grid, order=1, mode="nearest")
    ours = displaced(torch.from_numpy(grid).float()[None], torch.zeros(1, 2), size, 0, size)[0, 0].numpy()
    inner = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(ours[inner], theirs[inner], atol=2e-3)


def test_a_window_is_part_of_the_canvas_and_origins_are_taken_off() -> None:
    grids = torch.randn(2, 2, 10, 10, generator=torch.Generator().manual_seed(0))
    origins = torch.tensor([[3.0, 5.0], [0.0, 0.0]])
    whole = displaced(grids, torch.zeros(2, 2), 64, 0, 64)
    window = displaced(grids, origins, 64, 16, 32)
    torch.testing.assert_close(window + origins[:, :, None, None], whole[:, :, 16:48, 16:48], atol=1e-4, rtol=0)


def test_no_weight_is_so_small_that_products_are_slow() -> None:
    weights = spline_matrix(100, 512).abs()
    assert weights[weights > 0].min() > 1e-30
