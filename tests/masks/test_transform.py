import cv2
import numpy as np
import pytest
from real_data import REAL
from scipy import ndimage

from dermprompt.masks.shape import measure
from dermprompt.masks.transform import TransformedMasks


def _ellipse(axes: tuple[int, int], size: int = 128) -> np.ndarray:
    return cv2.ellipse(np.zeros((size, size), np.uint8), (size // 2, size // 2), axes, 0, 0, 360, 1, -1)


def _still(masks: np.ndarray, **settings: object) -> TransformedMasks:
    """A source that changes nothing but what is asked for."""
    still = {"max_rotation": 0.0, "scale_range": (1, 1), "elastic_sigma": (), "elastic_points": ()}
    return TransformedMasks(masks, seed=0, **(still | settings))  # type: ignore[arg-type]


def test_a_function_of_settings_seed_and_index_alone() -> None:
    real = np.stack([_ellipse((40, 20)), _ellipse((15, 15))])
    first = TransformedMasks(real, seed=1).sample([5])[0]
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    masks = TransformedMasks(real.copy(), seed=1)
    masks.sample([4])[0]
    assert np.array_equal(masks.sample([5])[0], first)
    assert not np.array_equal(masks.sample([6])[0], first)
    assert not np.array_equal(TransformedMasks(real, seed=2).sample([5])[0], first)


def test_no_change_gives_back_each_real_mask() -> None:
    real = np.stack([_ellipse((40, 20)), _ellipse((15, 15)), np.ones((128, 128), np.uint8)])
    drawn = {_still(real).sample([index])[0].tobytes() for index in range(30)}
    assert drawn == {mask.tobytes() for mask in real}


def test_scale_multiplies_the_area_and_keeps_the_rest() -> None:
    real = measure(_ellipse((40, 20)))
    shape = measure(_still(_ellipse((40, 20))[None], scale_range=(1.3, 1.3)).sample([0])[0])
    assert shape.area == pytest.approx(1.3**2 * real.area, rel=0.03)
    assert shape.eccentricity == pytest.approx(real.eccentricity, abs=0.01)
    assert shape.centre_x == pytest.approx(real.centre_x, abs=0.01)


def test_rotation_stays_in_its_range_and_keeps_the_shape() -> None:
    real, source = measure(_ellipse((40, 20))), _still(_ellipse((40, 20))[None], max_rotation=30.0)
    angles = []
    for index in range(40):
        mask = source.sample([index])[0]
        assert measure(mask).area == pytest.approx(real.area, rel=0.03)
        moments = cv2.moments(mask, binaryImage=True)
        angles.append(np.degrees(np.arctan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"]) / 2))
    assert -31 < min(angles) < -20
    assert 20 < max(angles) < 31


def test_a_lesion_cut_by_the_frame_stays_cut() -> None:
    """The left half of the image, turned about: it must reach the frame, not end in a line."""
    half = np.zeros((1, 128, 128), np.uint8)
    half[:, :, :64] = 1
    for index in range(20):
        mask = _still(half, max_rotation=180.0, scale_range=(0.8, 0.8)).sample([index])[0]
        assert mask.mean() == pytest.approx(0.5, abs=0.03)
        assert mask[[0, -1]].sum() + mask[:, [0, -1]].sum() > 200


def test_elastic_deformation_changes_the_outline() -> None:
    circle = _ellipse((30, 30))
    source = _still(circle[None], elastic_sigma=(0.04,), elastic_points=(5,))
    shapes = [measure(source.sample([index])[0]) for index in range(20)]
    assert measure(circle).eccentricity < 0.1
    assert np.median([shape.eccentricity for shape in shapes]) > 0.3


def test_of_several_components_the_largest_stays() -> None:
    specks = _ellipse((30, 20))
    specks[5, 5] = specks[100:104, 10:14] = 1
    assert np.array_equal(_still(specks[None]).sample([0])[0], _ellipse((30, 20)))


def test_empty_results_are_drawn_again() -> None:
    mixed = np.stack([np.zeros((64, 64), np.uint8), _ellipse((15, 15), 64)])
    assert all(TransformedMasks(mixed, seed=0).sample([index])[0].any() for index in range(20))
    corner = np.zeros((1, 64, 64), np.uint8)
    corner[0, 2, 2] = 1
    with pytest.raises(ValueError, match=r"mask 3 was empty in 100 .*scale_range=\[3, 3\].* from real mask 0 of 1"):
        _still(corner, scale_range=(3, 3)).sample([3])[0]


def test_no_real_mask_with_any_foreground() -> None:
    for masks in (np.zeros((2, 64, 64), np.uint8), np.zeros((0, 64, 64), np.uint8)):
        with pytest.raises(ValueError, match="real masks has any foreground"):
            TransformedMasks(masks, seed=0)


@pytest.mark.real_data("isic2018_256")
def test_real_masks_keep_the_distribution_of_their_shapes() -> None:
    files = sorted((REAL / "isic2018_256" / "ISIC2018_Task1_Training_GroundTruth").glob("*.png"))[::13]
    real = np.stack([cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)[::2, ::2] // 255 for file in files])
    drawn = [TransformedMasks(real, seed=0).sample([index])[0] for index in range(150)]
    assert all(ndimage.label(mask, np.ones((3, 3)))[1] == 1 for mask in drawn)
    for name, tolerance in (("area", 0.06), ("eccentricity", 0.08), ("solidity", 0.03)):
        medians = [np.median([getattr(measure(mask), name) for mask in masks]) for masks in (real, drawn)]
        assert medians[1] == pytest.approx(medians[0], abs=tolerance), name


def test_it_says_which_mask_it_was_made_from() -> None:
    real = np.stack([np.zeros((128, 128), np.uint8), _ellipse((40, 20)), _ellipse((15, 15))])
    source = _still(real)
    for index in range(30):
        assert np.array_equal(source.sample([index])[0], real[source.row(index)])
    assert {source.row(index) for index in range(30)} == {1, 2}
