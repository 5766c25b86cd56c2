import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from dermprompt.masks.automatic import AutomaticMasks, deform_elastically
from dermprompt.masks.shape import measure


def _num_components(mask: np.ndarray) -> int:
    return ndimage.label(mask, np.ones((3, 3)))[1]


@pytest.mark.parametrize("size", [64, 256, 512])
def test_one_component_at_every_size(size: int) -> None:
    masks = AutomaticMasks(size, seed=3)
    for index in range(25):
        mask = masks.draw(index)
        assert (mask.shape, mask.dtype) == ((size, size), np.uint8)
        assert set(np.unique(mask)) == {0, 1}
        assert _num_components(mask) == 1


def test_a_function_of_settings_seed_and_index_alone() -> None:
    first = AutomaticMasks(96, seed=1).draw(5)
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    masks = AutomaticMasks(96, seed=1)
    masks.draw(4)
    assert np.array_equal(masks.draw(5), first)
    assert not np.array_equal(masks.draw(6), first)
    assert not np.array_equal(AutomaticMasks(96, seed=2).draw(5), first)


def test_the_same_shape_at_every_size() -> None:
    for index in range(10):
        small, large = (AutomaticMasks(size, seed=0).draw(index) for size in (128, 512))
        enlarged = small.repeat(4, 0).repeat(4, 1)
        assert 2 * (enlarged & large).sum() / (enlarged.sum() + large.sum()) > 0.95


def test_shapes_are_as_various_as_those_of_lesions() -> None:
    """Real quartiles, measured on the 2,594 masks of ISIC 2018 task 1 at 256 x 256."""
    shapes = [measure(AutomaticMasks(128, seed=0).draw(index)) for index in range(200)]
    area, eccentricity, solidity = (
        np.percentile([getattr(shape, name) for shape in shapes], [5, 50, 95])
        for name in ("area", "eccentricity", "solidity")
    )
    assert area[0] < 0.05
    assert 0.12 < area[1] < 0.28
    assert area[2] > 0.45
    assert eccentricity == pytest.approx([0.30, 0.62, 0.84], abs=0.1)
    assert solidity[1:] == pytest.approx([0.95, 0.99], abs=0.03)
    assert 0.05 < np.mean([shape.touches_border for shape in shapes]) < 0.35


def test_without_deformation_a_circle_between_the_bounds() -> None:
    plain = AutomaticMasks(192, seed=0, min_radius=0.2, elastic_sigma=(), elastic_points=())
    radii = []
    for index in range(40):
        shape = measure(plain.draw(index))
        radius = np.sqrt(shape.area / np.pi)
        edge = min(shape.centre_y, shape.centre_x, 1 - shape.centre_y, 1 - shape.centre_x)
        assert shape.eccentricity < 0.2
        assert 0.19 < radius < edge + 0.01
        assert max(abs(shape.centre_y - 0.5), abs(shape.centre_x - 0.5)) < 0.09
        radii.append(radius)
    assert min(radii) < 0.25 < 0.4 < max(radii)


def test_the_released_settings_give_the_released_shapes() -> None:
    """Figures of the authors' script: area 0.5 / 14.8 / 44 %, eccentricity 0.40, solidity 0.973."""
    released = AutomaticMasks(
        256,
        0,
        min_radius=15 / 512,
        centre_spread=25 / 512,
        elastic_sigma=[0.0488],
        elastic_points=[100],
        kernel=0.5,
    )
    shapes = [measure(released.draw(index)) for index in range(120)]
    low, median, high = np.percentile([shape.area for shape in shapes], [5, 50, 95])
    assert low < 0.02
    assert 0.08 < median < 0.2
    assert 0.33 < high < 0.5
    assert np.median([shape.eccentricity for shape in shapes]) == pytest.approx(0.40, abs=0.07)
    assert np.median([shape.solidity for shape in shapes]) == pytest.approx(0.973, abs=0.015)


def test_fragments_are_drawn_again() -> None:
    ragged = AutomaticMasks(64, seed=0, elastic_sigma=[0.05], elastic_points=[100], kernel=0.1)
    first = [ragged._attempt(np.random.default_rng([0, index, 0])) for index in range(20)]
    kept = [_num_components(mask) == 1 for mask in first]
    assert 0 < sum(kept) < 20
    for index, (mask, keep) in enumerate(zip(first, kept, strict=True)):
        assert np.array_equal(ragged.draw(index), mask) is keep
        assert _num_components(ragged.draw(index)) == 1


def test_gives_up_with_the_settings_named() -> None:
    hopeless = AutomaticMasks(64, seed=0, centre_spread=0.43, kernel=4.0)
    with pytest.raises(ValueError, match=r"mask 7 had no single component in 100 attempts .*kernel=4\.0"):
        hopeless.draw(7)


def test_settings_out_of_range() -> None:
    good = AutomaticMasks(64, seed=0)
    for radius in (0.0, 0.42, 0.6):
        with pytest.raises(ValueError, match=r"min_radius is .* less than 0\.42"):
            replace(good, min_radius=radius)
    with pytest.raises(ValueError, match="blur_sigma is 0;"):
        replace(good, blur_sigma=0)
    with pytest.raises(ValueError, match=r"elastic_sigma has 1 values and elastic_points 2"):
        replace(good, elastic_sigma=[0.1])
    with pytest.raises(ValueError, match="at least 2 points"):
        replace(good, elastic_points=[4, 1])


def test_deformation_moves_by_the_displacement() -> None:
    """Pixels followed on a ramp are displaced by the standard deviation asked for."""
    ramp = np.tile(np.arange(64, dtype=np.float32), (64, 1))
    corners = [
        deform_elastically(ramp, [0.05], [2], np.random.default_rng(seed), "nearest")[20:44, 20:44] - ramp[20:44, 20:44]
        for seed in range(60)
    ]
    # Halfway between four independent points the mean has half their standard deviation.
    assert np.std([moved[11:13, 11:13].mean() for moved in corners]) == pytest.approx(0.05 * 64 / 2, rel=0.3)
    assert np.array_equal(deform_elastically(ramp, [], [], np.random.default_rng(0)), ramp)


def test_a_wheel_that_does_not_load_tells_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elasticdeform", None)
    with pytest.raises(ImportError, match="--no-binary elasticdeform elasticdeform"):
        AutomaticMasks(64, seed=0).draw(0)
