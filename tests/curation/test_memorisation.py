from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from real_data import REAL

from dermprompt.curation.memorisation import copies, nearer_share, nearest


def lesions(n: int, seed: int, size: int = 64) -> np.ndarray:
    """Dark ellipses with blotches on skin: alike in layout, as lesions are."""
    rng, pictures = np.random.default_rng(seed), []
    for _ in range(n):
        picture = np.full((size, size, 3), rng.integers(150, 210, 3), np.uint8)
        for scale in (0.3, 0.12, 0.1, 0.08):
            centre = (size / 2 + rng.normal(0, size * (0.4 - scale) / 2, 2)).astype(int).tolist()
            axes = (size * scale * rng.uniform(0.6, 1.2, 2)).astype(int).tolist()
            colour = rng.integers(30, 140, 3).tolist()
            cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        pictures.append(np.clip(picture + rng.normal(0, 5, picture.shape), 0, 255).astype(np.uint8))
    return np.stack(pictures)


def brighter(images: np.ndarray) -> np.ndarray:
    return np.clip(images.astype(int) + 25, 0, 255).astype(np.uint8)


def noisy(images: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(9).normal(0, 10, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def larger(images: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(image, None, fx=1.5, fy=1.5) for image in images])


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exact": lambda images: images,
    "mirrored": lambda images: images[:, :, ::-1],
    "upside down": lambda images: images[:, ::-1],
    "turned": lambda images: np.rot90(images, axes=(1, 2)),
    "brighter": brighter,
    "mirrored and brighter": lambda images: brighter(images[:, :, ::-1]),
    "less contrast": lambda images: (0.7 * images + 40).astype(np.uint8),
    "noisy": noisy,
    "larger": larger,
}


@pytest.fixture(scope="module")
def references() -> np.ndarray:
    return lesions(150, seed=0)


@pytest.fixture(scope="module")
def threshold(references: np.ndarray) -> float:
    return float(np.quantile(nearest(lesions(150, seed=1), references)[0], 0.01))


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_caught_and_found(name: str, references: np.ndarray, threshold: float) -> None:
    distances, indices = nearest(COPIES[name](references[40:60]), references)
    assert (distances < threshold).all()
    np.testing.assert_array_equal(indices, np.arange(40, 60))


def test_fresh_images_are_not_caught(references: np.ndarray, threshold: float) -> None:
    distances, _ = nearest(lesions(150, seed=2), references)
    assert (distances < threshold).mean() <= 0.03


def test_brightness_alone_does_not_count(references: np.ndarray) -> None:
    distances, _ = nearest(references[:20], brighter(references))
    assert distances.max() < 0.02
    assert nearest(references[:20], references)[0] == pytest.approx(np.zeros(20), abs=1e-5)


def test_an_image_of_one_colour_is_far_from_all(references: np.ndarray) -> None:
    flat = np.full((2, 64, 64, 3), 180, np.uint8)
    assert nearest(flat, references)[0].tolist() == [1, 1]
    assert nearest(flat, flat)[0].tolist() == [1, 1]


def test_the_quantile_is_the_share_of_held_out_images_that_would_count(references: np.ndarray) -> None:
    distances, _ = nearest(lesions(100, seed=3), references)
    below = [copies(distances, distances, q).mean() for q in (0.05, 0.2, 0.5)]
    assert below == pytest.approx([0.05, 0.2, 0.5], abs=0.01)


def test_copies_by_hand() -> None:
    held_out = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert copies(np.array([0.05, 0.15, 0.5]), held_out, 0.25).tolist() == [True, True, False]
    assert not copies(np.zeros(2), np.zeros(0), 0.25).any()


@pytest.mark.real_data("isic2018_256")
def test_copies_of_real_images_are_caught() -> None:
    paths = sorted((REAL / "isic2018_256" / "ISIC2018_Task1-2_Training_Input").glob("*.jpg"))[::6]
    images = np.stack([cv2.imread(str(path)) for path in paths])
    references, held_out, fresh = images[::2], images[1::4], images[3::4]
    apart = nearest(held_out, references)[0]
    for copy in COPIES.values():
        assert copies(nearest(copy(references[:50]), references)[0], apart, 0.02).all()
    assert copies(nearest(fresh, references)[0], apart, 0.02).mean() < 0.08


def test_the_range_by_chance_is_that_of_random_halves() -> None:
    """Halves that are drawn, and compared as the sets themselves are."""
    images, pool, rng = lesions(30, seed=3), lesions(40, seed=4), np.random.default_rng(1)
    _, (low, high) = nearer_share(images, pool[:20], pool[20:])
    # The nearest of a half is the nearest of its images one by one.
    each = np.stack([nearest(images, pool[[row]])[0] for row in range(40)])
    np.testing.assert_allclose(each[:20].min(0), nearest(images, pool[:20])[0], atol=1e-6)
    shares = []
    for _ in range(200):
        order = rng.permutation(40)
        seen, unseen = (each[rows].min(0) for rows in (order[:20], order[20:]))
        shares.append((seen < unseen).mean())
    assert np.quantile(shares, [0.025, 0.975]) == pytest.approx((low, high), abs=0.07)


def test_only_what_is_memorised_lies_beyond_chance() -> None:
    seen, unseen = lesions(40, seed=5), lesions(40, seed=6)
    share, (low, high) = nearer_share(noisy(seen), seen, unseen)
    assert share == 1 > high > 0.5 > low
    within = 0
    for seed in range(20):
        share, (low, high) = nearer_share(lesions(30, seed=100 + seed), seen, unseen)
        within += low <= share <= high
    assert within >= 17
