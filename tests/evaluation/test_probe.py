from __future__ import annotations

import numpy as np
import pytest

from dermprompt.evaluation import probe
from dermprompt.evaluation.probe import PENALTIES, UNKNOWN, Components, balanced_loss, fit_probe, stratified_folds


def clouds(n: int, classes: int, distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """N rows of 6 features, of which one for each class says it."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    return rng.normal(size=(n, 6)) + distance * np.eye(6)[y], y


def test_features_that_encode_the_class_are_read_on_other_images() -> None:
    learnt, other = clouds(200, 3, 8), clouds(200, 3, 8, seed=1)
    found = fit_probe(*learnt, 3, seed=0)
    assert (found(other[0]).argmax(axis=1) == other[1]).mean() > 0.99
    np.testing.assert_allclose(np.exp(found(other[0])).sum(axis=1), 1)


def test_of_noise_nothing_is_learnt() -> None:
    """The strongest penalty wins, and the loss on other images is that of guessing."""
    learnt, other = clouds(300, 2, 0), clouds(2000, 2, 0, seed=1)
    found = fit_probe(*learnt, 2, seed=0)
    assert found.penalty == PENALTIES[0]
    assert balanced_loss(found(other[0]), other[1]) == pytest.approx(np.log(2), abs=0.05)


def test_the_gradient_is_zero_where_the_fit_ends() -> None:
    """By differences of the loss, written out once more."""
    x, y = clouds(60, 3, 1)
    found = fit_probe(x, y, 3, seed=0)

    def loss(weights: np.ndarray) -> float:
        return balanced_loss(probe.Probe(weights, 0.0)(x), y) + found.penalty / 2 * (weights[:-1] ** 2).sum()

    for i in range(found.weights.size):
        step = np.zeros(found.weights.size)
        step[i] = 1e-4
        step = step.reshape(found.weights.shape)
        assert abs(loss(found.weights + step) - loss(found.weights - step)) / 2e-4 < 1e-3


def test_a_class_weighs_the_same_however_many_images_it_has() -> None:
    """All images of one class three times more: the same fit."""
    x, y = clouds(100, 2, 1)
    rows = np.concatenate([np.arange(100), *[np.flatnonzero(y == 0)] * 3])
    start = np.zeros((7, 2))
    once, again = (probe._fit(x[k], y[k], 0.1, start) for k in (np.arange(100), rows))
    np.testing.assert_allclose(again, once, atol=1e-4)
    assert np.abs(once).max() > 0.1


def test_unknown_labels_play_no_part() -> None:
    x, y = clouds(100, 2, 2)
    strange = np.full((30, 6), 1e3)
    masked = fit_probe(np.vstack([x, strange]), np.append(y, np.full(30, UNKNOWN)), 2, seed=0)
    np.testing.assert_array_equal(masked.weights, fit_probe(x, y, 2, seed=0).weights)


def test_every_fold_has_its_share_of_every_class() -> None:
    y = np.array([0] * 53 + [1] * 10)
    folds = stratified_folds(y, seed=0)
    assert [np.bincount(folds[y == c], minlength=5).tolist() for c in (0, 1)] == [[11, 11, 11, 10, 10], [2] * 5]
    assert (folds != stratified_folds(y, seed=1)).any()


@pytest.mark.parametrize("shape", [(40, 300), (400, 20)])
def test_components_keep_the_distances(shape: tuple[int, int]) -> None:
    """All of them turn the standardised features; a feature without variation is left out."""
    features = np.random.default_rng(0).normal(3, 5, size=shape)
    features[:, 0] = 7
    components = Components.of(features)
    found = components(features)
    standard = (features - features.mean(axis=0)) / np.where(features.std(axis=0) > 0, features.std(axis=0), 1)
    expected = ((standard[:1] - standard) ** 2).sum(axis=1) / shape[1]
    np.testing.assert_allclose(((found[:1] - found) ** 2).sum(axis=1), expected, atol=1e-9)
    assert found.shape[1] == min(shape[0] - 1, shape[1] - 1)
