"""A linear probe: softmax regression on a network's features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

Features = NDArray[np.float64]
Classes = NDArray[np.int64]

UNKNOWN = -1
MAX_COMPONENTS = 256
# From strong to weak: each fit starts from the previous one's solution.
PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
FOLDS = 5
MAX_ITERATIONS = 500


@dataclass(frozen=True, eq=False)
class Components:
    """The principal components of standardised features: ``mean`` D, ``directions`` DK."""

    mean: Features
    directions: Features

    @classmethod
    def of(cls, features: NDArray[np.float32]) -> Components:
        """The largest components of ND features; K is at most 256 and N - 1. Their mean squares sum to at most 1."""
        given = features.astype(np.float64)
        mean, std = given.mean(axis=0), given.std(axis=0)
        scale = np.where(std > 0, std, 1.0) * np.sqrt(given.shape[1])
        standard = (given - mean) / scale
        # With fewer images than features, the eigenvectors of N × N products are cheaper and give the same directions.
        values, vectors = np.linalg.eigh(standard @ standard.T)
        kept = (values > 1e-9 * values[-1]).nonzero()[0][::-1][: min(MAX_COMPONENTS, len(given) - 1)]
        directions = standard.T @ vectors[:, kept] / np.sqrt(values[kept])
        return cls(mean, directions / scale[:, None])

    def __call__(self, features: NDArray[np.float32]) -> Features:
        """Project ND features to NK components."""
        return (features.astype(np.float64) - self.mean) @ self.directions


@dataclass(frozen=True, eq=False)
class Probe:
    """Softmax regression on K components: ``weights`` (K + 1)C, with the bias as last row, and the penalty used."""

    weights: Features
    penalty: float

    def __call__(self, components: Features) -> Features:
        """Log-probabilities NC under equal class priors."""
        return np.asarray(log_softmax(_logits(components, self.weights), axis=1))


def fit_probe(components: Features, classes: Classes, num_classes: int, seed: int) -> Probe:
    """Fit to NK components with classes N in 0 … C - 1; rows of class -1 (unknown) are ignored.

    Every class has the same weight, however many images it has. The penalty on the squared weights is the one of
    ``PENALTIES`` with the smallest cross-validated loss over five seeded folds of these images.
    """
    known = classes != UNKNOWN
    x, y = components[known], classes[known]
    assert np.bincount(y, minlength=num_classes).min() >= FOLDS, np.bincount(y, minlength=num_classes)
    folds, losses = stratified_folds(y, seed), np.zeros(len(PENALTIES))
    for fold in range(FOLDS):
        inside = folds != fold
        path = _path(x[inside], y[inside], num_classes, PENALTIES)
        losses += [balanced_loss(Probe(w, 0.0)(x[~inside]), y[~inside]) for w in path]
    best = int(losses.argmin())
    return Probe(_path(x, y, num_classes, PENALTIES[: best + 1])[-1], PENALTIES[best])


def stratified_folds(classes: Classes, seed: int) -> Classes:
    """The fold of each image, 0 to 4; every fold has its share of every class."""
    folds = np.empty_like(classes)
    for name in np.unique(classes):
        (rows,) = (classes == name).nonzero()
        folds[np.random.default_rng([seed, int(name)]).permutation(rows)] = np.arange(len(rows)) % FOLDS
    return folds


def balanced_loss(log_probabilities: Features, classes: Classes) -> float:
    """The mean over classes of the mean negative log-probability of their images."""
    return float(np.mean([-log_probabilities[classes == c, c].mean() for c in np.unique(classes)]))


def _path(x: Features, y: Classes, num_classes: int, penalties: tuple[float, ...]) -> list[Features]:
    """The weights for each penalty."""
    found = [np.zeros((x.shape[1] + 1, num_classes))]
    for penalty in penalties:
        found.append(_fit(x, y, penalty, found[-1]))
    return found[1:]


def _fit(x: Features, y: Classes, penalty: float, start: Features) -> Features:
    """Minimise the balanced loss plus ``penalty / 2`` times the squared weights without bias (convex)."""
    wanted = np.eye(start.shape[1])[y]
    weight = (1 / (start.shape[1] * np.bincount(y)))[y][:, None]

    def loss(flat: Features) -> tuple[float, Features]:
        weights = flat.reshape(start.shape)
        predicted = log_softmax(_logits(x, weights), axis=1)
        slopes = weight * (np.exp(predicted) - wanted)
        gradient = np.vstack([x.T @ slopes + penalty * weights[:-1], slopes.sum(axis=0)])
        value = -(weight * wanted * predicted).sum() + penalty / 2 * (weights[:-1] ** 2).sum()
        return float(value), gradient.ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS})
    return np.asarray(found.x.reshape(start.shape))


def _logits(x: Features, weights: Features) -> Features:
    return np.asarray(x @ weights[:-1] + weights[-1])
