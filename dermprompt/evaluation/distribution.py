"""Distances between two sets of images by their features (float ND, one row per image).

None is called FID, which is defined for the features of one network, Inception v3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermprompt.results import Distribution

Features = NDArray[np.float64]

NEIGHBOURS = 5


def compare_sets(real: NDArray[Any], generated: NDArray[Any]) -> Distribution:
    """All measures between two sets, which must have the same size because the measures depend on it.

    Raises:
        ValueError: there are too few images for the neighbours, or the features' widths or the sets' sizes differ.
    """
    if real.shape != generated.shape or len(real) <= NEIGHBOURS:
        raise ValueError(
            f"features of {real.shape} and {generated.shape} (images, width): both must have one shape, and more than "
            f"{NEIGHBOURS} images"
        )
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    precision, recall, density, coverage = neighbour_shares(real, generated)
    distance, kernel = frechet_distance(real, generated), kernel_distance(real, generated)
    return Distribution(len(real), distance, kernel, precision, recall, density, coverage)


def frechet_distance(first: Features, second: Features) -> float:
    """Fréchet distance between two normal distributions with the sets' means and covariances (Heusel et al. 2017,
    equation 6): |m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½). It is biased upwards for few images.
    """
    means = first.mean(axis=0) - second.mean(axis=0)
    one, other = _factor(first), _factor(second)
    # With C₁ = A Aᵀ and C₂ = B Bᵀ the trace of (C₁ C₂)^½ is the sum of the singular values of Aᵀ B.
    mixed = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return float(means @ means + (one**2).sum() + (other**2).sum() - 2 * mixed)


def kernel_distance(first: Features, second: Features) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y / d + 1)³ (Bińkowski et al. 2018, section 3.1),
    over all pairs; it may be slightly negative if the sets are alike.
    """
    width = first.shape[1]

    def kernel(one: Features, other: Features) -> Features:
        return (one @ other.T / width + 1) ** 3

    def within(features: Features) -> float:
        values, n = kernel(features, features), len(features)
        return float((values.sum() - np.trace(values)) / (n * (n - 1)))

    return within(first) + within(second) - 2 * float(kernel(first, second).mean())


def neighbour_shares(real: Features, generated: Features, k: int = NEIGHBOURS) -> tuple[float, float, float, float]:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A ball around each image reaches to its k-th neighbour in its own set. Precision: share of generated images in
    some real ball; recall: share of real images in some generated ball; density: number of real balls around a
    generated image, divided by k; coverage: share of real balls with a generated image.
    """
    real_radii, generated_radii = _radii(real, k), _radii(generated, k)
    distances = _distances(real, generated)
    in_real = distances <= real_radii[:, None]
    in_generated = distances <= generated_radii[None]
    return (
        float(in_real.any(axis=0).mean()),
        float(in_generated.any(axis=1).mean()),
        float(in_real.sum(axis=0).mean() / k),
        float(in_real.any(axis=1).mean()),
    )


def _factor(features: Features) -> Features:
    """Aᵀ of a covariance A Aᵀ, with as many rows as there are images or features, whichever are fewer."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return centred if len(centred) <= centred.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


def _distances(one: Features, other: Features) -> Features:
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return np.sqrt(np.clip(squares, 0, None))


def _radii(features: Features, k: int) -> Features:
    """Distance to the k-th neighbour, not counting the image itself."""
    return np.partition(_distances(features, features), k, axis=1)[:, k]
