"""Masks of files: each in its place, from the first again, and a change of a file is another set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from miniature import compose, run

from dermprompt.masks.given import GivenMasks
from dermprompt.pipeline import Pipeline
from dermprompt.stages.synthesize import read_masks
from dermprompt.store.artifacts import PlanningStore


def square(size: int, side: int) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[:side, :side] = 255
    return mask


def test_after_the_last_comes_the_first():
    masks = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((3, 4, 4), np.uint8)
    assert GivenMasks(masks).sample(range(2, 7))[:, 0, 0].tolist() == [2, 0, 1, 2, 0]


def test_a_folder_is_read_by_name_and_resized(tmp_path: Path):
    for name, side in (("b.png", 64), ("a.png", 32)):
        cv2.imwrite(str(tmp_path / name), square(128, side))
    (tmp_path / "notes.txt").write_text("")
    masks = read_masks(tmp_path, 64)
    assert masks.shape == (2, 64, 64)
    assert masks.sum(axis=(1, 2)).tolist() == [16**2, 32**2]
    assert len(read_masks(tmp_path / "b.png", 64)) == 1


def test_what_is_no_mask_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"masks.path=.*no .jpg"):
        read_masks(tmp_path, 64)
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 8), 100, np.uint8))
    with pytest.raises(ValueError, match=r"grey.png is no mask of 0 and 255 \(grey_mask"):
        read_masks(tmp_path, 64)


def test_a_job_draws_the_masks_of_a_file(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "mask.png"), square(64, 20))
    words = ["data=phantom", "data.num_images=20", "generator=warp", "image_size=64", "trainer=cpu"]
    run(
        tmp_path, *words, "masks=folder", f"masks.path={tmp_path / 'mask.png'}", "synthesis.count=3", "stage=draw_masks"
    )
    (drawn,) = tmp_path.glob("store/draw_masks/folder-*/00000.npy")
    np.testing.assert_array_equal(np.load(drawn)[2], square(64, 20) // 255)


def test_the_content_of_the_files_decides_and_not_their_place(tmp_path: Path):
    def key(path: Path, side: int) -> str:
        cv2.imwrite(str(path), square(64, side))
        words = ["data=phantom", "generator=warp", "image_size=64", "masks=folder", f"masks.path={path}"]
        return Pipeline(compose(*words), PlanningStore(tmp_path)).masks.digest

    first = key(tmp_path / "a.png", 20)
    assert key(tmp_path / "b.png", 20) == first
    assert key(tmp_path / "a.png", 21) != first


def test_a_path_that_is_not_there_is_said(tmp_path: Path):
    words = ["data=phantom", "generator=warp", "masks=folder", f"masks.path={tmp_path / 'none.png'}"]
    with pytest.raises(ValueError, match=r"masks.path=.*no such file"):
        _ = Pipeline(compose(*words), PlanningStore(tmp_path)).masks
