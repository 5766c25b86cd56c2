from __future__ import annotations

import numpy as np
import pytest

from dermprompt.evaluation.distribution import compare_sets, frechet_distance, kernel_distance, neighbour_shares


def _normal(n: int, mean: float, std: float, width: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, std, (n, width))


def test_frechet_distance_of_two_normals() -> None:
    """In one dimension (m₁ - m₂)² + (s₁ - s₂)² (Dowson and Landau 1982)."""
    found = frechet_distance(_normal(200_000, 1, 2), _normal(200_000, 4, 0.5, seed=1))
    assert found == pytest.approx(3**2 + 1.5**2, rel=0.01)


def test_frechet_distance_of_normals_that_do_not_commute() -> None:
    """With covariances diag(4, 1) and the same turned by 45°, tr (C₁ C₂)^½ = √(tr C₁C₂ + 2 √det C₁C₂)."""
    turn = np.array([[1, -1], [1, 1]]) / 2**0.5
    first = _normal(400_000, 0, 1, 2) * [2, 1]
    second = (_normal(400_000, 0, 1, 2, seed=1) * [2, 1]) @ turn.T
    one, other = np.diag([4.0, 1.0]), turn @ np.diag([4.0, 1.0]) @ turn.T
    product = one @ other
    mixed = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert frechet_distance(first, second) == pytest.approx(10 - 2 * mixed, abs=0.03)


def test_kernel_distance_of_two_normals() -> None:
    """E (xy + 1)³ = E x³ E y³ + 3 E x² E y² + 3 E x E y + 1 for independent x and y."""

    def moments(mean: float, std: float) -> np.ndarray:
        square = std**2
        return np.array([mean, mean**2 + square, mean**3 + 3 * mean * square])

    def expected(one: np.ndarray, other: np.ndarray) -> float:
        return float(one[2] * other[2] + 3 * one[1] * other[1] + 3 * one[0] * other[0] + 1)

    p, q = moments(0.5, 0.4), moments(0.1, 0.6)
    want = expected(p, p) + expected(q, q) - 2 * expected(p, q)
    found = [kernel_distance(_normal(1500, 0.5, 0.4, seed=k), _normal(1500, 0.1, 0.6, seed=50 + k)) for k in range(8)]
    assert np.mean(found) == pytest.approx(want, abs=4 * np.std(found) / 8**0.5)


def test_kernel_distance_is_unbiased_where_nothing_differs() -> None:
    found = [kernel_distance(_normal(30, 0, 1, 4, seed=k), _normal(30, 0, 1, 4, seed=900 + k)) for k in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 300**0.5
    assert min(found) < 0


def test_a_set_against_itself() -> None:
    features = _normal(60, 0, 1, 8)
    found = compare_sets(features, features)
    assert found.frechet == pytest.approx(0, abs=1e-6)
    assert (found.precision, found.recall, found.coverage, found.n) == (1, 1, 1, 60)
    assert found.density >= 1


def test_sets_far_apart_share_nothing() -> None:
    assert neighbour_shares(_normal(50, 0, 1, 4), _normal(50, 90, 1, 4)) == (0, 0, 0, 0)


def test_shares_on_a_line_by_hand() -> None:
    """Neighbours k = 1: real 0, 1, 3 have radii 1, 1, 2; generated 0.5, 9, 9.5 have radii 8.5, 0.5, 0.5."""
    real, generated = np.array([[0.0], [1], [3]]), np.array([[0.5], [9], [9.5]])
    precision, recall, density, coverage = neighbour_shares(real, generated, k=1)
    assert precision == pytest.approx(1 / 3)  # 0.5 lies in the balls of 0 and 1
    assert recall == 1  # the ball of 0.5 holds all
    assert density == pytest.approx(2 / 3)
    assert coverage == pytest.approx(2 / 3)


def test_collapse_is_seen_as_lost_recall() -> None:
    real, one_look = _normal(200, 0, 1, 2), _normal(200, 0, 0.05, 2, seed=1)
    found = compare_sets(real, one_look)
    assert found.precision == 1
    assert found.recall < 0.1


@pytest.mark.parametrize(("real", "generated"), [((20, 3), (19, 3)), ((20, 3), (20, 4)), ((5, 3), (5, 3))])
def test_unequal_or_small_sets_are_refused(real: tuple[int, int], generated: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="both must have one shape"):
        compare_sets(np.zeros(real), np.zeros(generated))
