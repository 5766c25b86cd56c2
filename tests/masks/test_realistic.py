from __future__ import annotations

import cv2
import numpy as np
import pytest
from real_data import REAL
from scipy import ndimage, stats

from dermprompt.masks.automatic import AutomaticMasks
from dermprompt.masks.realistic import RealisticMasks, fit_shapes
from dermprompt.masks.shape import measure


def ellipse(centre: tuple[int, int], axes: tuple[int, int], angle: float, size: int = 128) -> np.ndarray:
    return cv2.ellipse(np.zeros((size, size), np.uint8), centre, axes, angle, 0, 360, 1, -1)


SHAPES = np.stack([ellipse((60, 70), (40, 20), 30), ellipse((64, 40), (15, 15), 0), ellipse((30, 90), (25, 12), 100)])


def test_an_ellipse_is_fitted_by_itself() -> None:
    model = fit_shapes(SHAPES)
    assert model.centres * 128 == pytest.approx(np.array([(60.5, 70.5), (64.5, 40.5), (30.5, 90.5)]), abs=0.6)
    lengths = [np.linalg.svd(axes)[1] * 128 for axes in model.axes]
    assert lengths == pytest.approx(np.array([(40.5, 20.5), (15.5, 15.5), (25.5, 12.5)]), abs=0.8)


def test_a_lesion_cut_by_the_frame_is_completed() -> None:
    """A circle of which the frame hides the outer quarter of its width."""
    model = fit_shapes(ellipse((20, 64), (40, 40), 0)[None])
    assert model.centres[0] * 128 == pytest.approx((20.5, 64.5), abs=2)
    assert np.linalg.svd(model.axes[0])[1] * 128 == pytest.approx((40, 40), abs=2)


def test_a_mask_depends_on_settings_seed_and_index_alone() -> None:
    source = RealisticMasks(SHAPES, 64, seed=0)
    together = source.sample(range(12))
    np.testing.assert_array_equal(source.sample([11, 4]), together[[11, 4]])
    assert not np.array_equal(RealisticMasks(SHAPES, 64, seed=1).sample([4]), together[[4]])
    assert (together.dtype, together.max(), together.shape) == (np.uint8, 1, (12, 64, 64))


def test_without_jitter_ellipses_come_back_as_they_were() -> None:
    drawn = RealisticMasks(SHAPES, 128, seed=0, jitter=0.0).sample(range(20))
    overlaps = [max(2 * (mask & real).sum() / (mask.sum() + real.sum()) for real in SHAPES) for mask in drawn]
    assert min(overlaps) > 0.93


def test_no_real_mask_with_any_foreground() -> None:
    with pytest.raises(ValueError, match="none of the 2 real masks has any foreground"):
        RealisticMasks(np.zeros((2, 64, 64), np.uint8), 64, 0)


@pytest.mark.real_data("isic2018_256")
@pytest.mark.parametrize(("every", "number"), [(27, 80), pytest.param(9, 200, marks=pytest.mark.slow)])
def test_nearer_to_real_shapes_than_the_authors_masks_and_no_copies(every: int, number: int) -> None:
    files = sorted((REAL / "isic2018_256" / "ISIC2018_Task1_Training_GroundTruth").glob("*.png"))[::every]
    real = np.stack([cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) // 255 for file in files])
    drawn = RealisticMasks(real, 256, 0).sample(range(number))
    circles = AutomaticMasks(256, 0).sample(range(number))
    assert all(ndimage.label(mask, np.ones((3, 3)))[1] == 1 for mask in drawn)

    def mean_distance(masks: np.ndarray) -> float:
        names = ("area", "eccentricity", "solidity", "centre_y", "centre_x", "roughness", "border_share")
        found, known = ([measure(mask) for mask in each] for each in (masks, real))
        pairs = [([getattr(one, n) for one in found], [getattr(one, n) for one in known]) for n in names]
        return float(np.mean([stats.wasserstein_distance(*pair) / np.std(pair[1]) for pair in pairs]))

    assert mean_distance(drawn) < mean_distance(circles) / 2
    flat = real.reshape(len(real), -1).astype(np.float32)
    nearest = [(2 * (flat @ mask.ravel()) / (flat.sum(1) + mask.sum())).max() for mask in drawn.astype(np.float32)]
    assert np.median(nearest) < 0.97
