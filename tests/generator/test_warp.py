"""Real images warped to other masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dermprompt.generator.warp import load_warp, save_pairs, warp

SIZE = 64


def disc(row: float, column: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    return ((y - row) ** 2 + (x - column) ** 2 <= radius**2).astype(np.uint8)


def painted(mask: np.ndarray) -> np.ndarray:
    """Dark where the lesion is, light elsewhere."""
    return np.where(mask[..., None] > 0, 40, 220).astype(np.uint8).repeat(3, axis=2)


def test_the_same_mask_gives_the_same_image() -> None:
    mask = disc(30, 34, 15)
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    image = np.asarray(torch.nn.functional.avg_pool2d(torch.from_numpy(image).permute(2, 0, 1).float(), 5, 1, 2))
    image = image.transpose(1, 2, 0).astype(np.uint8)
    # All but the outermost pixels, where the ray ends in the border.
    difference = np.abs(warp(image, mask, mask).astype(int) - image)[4:-4, 4:-4]
    assert difference.mean() < 1
    assert difference.max() <= 8


def test_the_lesion_fills_the_wanted_mask() -> None:
    y, x = np.mgrid[:SIZE, :SIZE]
    oval = (((y - 40) / 10) ** 2 + ((x - 25) / 20) ** 2 <= 1).astype(np.uint8)
    cut_off = disc(5, 60, 20)
    for wanted, least in ((oval, 0.95), (disc(32, 32, 30), 0.95), (cut_off, 0.93)):
        found = warp(painted(disc(30, 34, 12)), disc(30, 34, 12), wanted)[..., 0] < 130
        both = np.count_nonzero(found & (wanted > 0))
        assert 2 * both / (found.sum() + wanted.sum()) > least


def test_the_seed_chooses_the_pair(tmp_path: Path) -> None:
    masks = np.stack([disc(32, 32, 10 + k) for k in range(5)])
    images = np.stack([np.full((SIZE, SIZE, 3), 40 * k, np.uint8) for k in range(5)])
    save_pairs(images, masks, tmp_path)
    generator = load_warp(tmp_path)
    wanted = torch.from_numpy(masks[:1]).float()[None].expand(50, 1, SIZE, SIZE)
    drawn = generator.generate(wanted, [""] * 50, list(range(50)))
    again = generator.generate(wanted[:3], [""] * 3, [7, 8, 9])
    assert torch.equal(drawn[7:10], again)
    assert len({float(one.mean()) for one in drawn}) == 5


def test_to_an_empty_mask_nothing_is_warped() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 255, (16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)
    mask[4:9, 5:11] = 1
    np.testing.assert_array_equal(warp(image, mask, np.zeros_like(mask)), image)


def test_the_best_fitting_pairs_are_stretched_least(tmp_path: Path) -> None:
    masks = np.stack([disc(20 + k, 32, 6 + 3 * k) for k in range(8)])
    images = np.stack([np.full((SIZE, SIZE, 3), 30 * k, np.uint8) for k in range(8)])
    save_pairs(images, masks, tmp_path, best=2)
    generator = load_warp(tmp_path)
    wanted = torch.from_numpy(disc(40, 30, 16)[None, None]).float().expand(20, 1, SIZE, SIZE)
    drawn = generator.generate(wanted, [""] * 20, list(range(20)))
    shades = {round(float(one.mean() + 1) * 127.5) for one in drawn}
    assert shades == {90, 120}  # radii of 15 and 18, wherever they lie
