from __future__ import annotations

import numpy as np
import pytest

from dermprompt.evaluation import fidelity
from dermprompt.evaluation.fidelity import mask_fidelity, text_fidelity


def stripes(n: int) -> np.ndarray:
    """N masks that share no pixel."""
    return np.eye(n, dtype=np.uint8)[:, :, None].repeat(5, axis=2)


def test_perfect_images_of_disjoint_masks() -> None:
    masks = stripes(6)
    got = mask_fidelity(masks, masks, masks, seed=0)
    assert (got.real, got.generated, got.shuffled, got.n) == (1, 1, 0, 6)


def test_images_that_ignore_the_mask_gain_nothing() -> None:
    masks = stripes(6)
    same = np.broadcast_to(masks.any(axis=0), masks.shape)
    got = mask_fidelity(masks, same, masks, seed=0)
    assert got.generated == got.shuffled == pytest.approx(2 / 7)


def test_images_that_ignore_the_mask_are_seldom_above_chance() -> None:
    """Whether the masks are much alike or not: of 40 such generators about one in forty."""
    rows, columns = np.mgrid[:24, :24]
    shown = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        centres, radii = rng.uniform(8, 16, (2, 2, 12)), rng.uniform(3, 8, (2, 12))
        masks, found = (
            (rows - y[:, None, None]) ** 2 + (columns - x[:, None, None]) ** 2 < r[:, None, None] ** 2
            for (y, x), r in zip(centres, radii, strict=True)
        )
        shown.append(mask_fidelity(masks, found, masks, seed).shown)
        assert mask_fidelity(masks, masks, masks, seed).shown
    assert sum(shown) <= 4


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_derangement_moves_every_index(n: int) -> None:
    orders = [fidelity._derangement(n, seed) for seed in range(30)]
    for order in orders:
        assert sorted(order) == list(range(n))
        assert (order != np.arange(n)).all()
    assert n == 2 or len({tuple(order) for order in orders}) > 1


def test_one_image_cannot_be_exchanged() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        mask_fidelity(stripes(1), stripes(1), stripes(1), seed=0)


def test_balanced_accuracy_by_hand() -> None:
    """Recalls 3/4 and 1/1; the plain accuracy is 4/5. A class that was read but never prompted is wrong."""
    prompted = ["NV", "NV", "NV", "NV", "MEL"]
    read = ["NV", "NV", "NV", "BKL", "MEL"]
    got = text_fidelity(read, prompted, seed=0)
    assert got.accuracy == pytest.approx((3 / 4 + 1) / 2)
    assert got.n == 5


def test_exchanged_prompts_give_the_level_of_chance() -> None:
    """Its expectation is the mean over prompted classes of the share with which the class was read."""
    prompted = ["NV"] * 70 + ["MEL"] * 20 + ["BKL"] * 10
    got = text_fidelity(prompted, prompted, seed=0)
    assert got.accuracy == 1
    assert got.shuffled == pytest.approx(1 / 3, abs=0.02)
    silent = text_fidelity(["UNK"] * 50 + prompted[50:], prompted, seed=0)
    assert silent.shuffled == pytest.approx((20 + 20 + 10) / 100 / 3, abs=0.02)


def test_a_rule_that_always_says_the_same_is_at_chance() -> None:
    got = text_fidelity(["NV"] * 100, ["NV"] * 90 + ["MEL"] * 10, seed=0)
    assert got.accuracy == got.shuffled == 0.5


def test_the_seed_decides_the_exchange() -> None:
    prompted = ["NV", "MEL"] * 20
    read = ["NV"] * 30 + ["MEL"] * 10
    first, again, other = (text_fidelity(read, prompted, seed, num_shuffles=3) for seed in (0, 0, 1))
    assert first == again
    assert first.shuffled != other.shuffled


def test_a_single_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"NV.*at least 2 classes"):
        text_fidelity(["NV", "NV"], ["NV", "NV"], seed=0)
