"""New masks whose size, elongation, roughness, position and contact with the frame are distributed like real masks'.

Every real mask of G is decomposed into an ellipse and its outline's deviation from it. A new mask has the slightly
perturbed ellipse of a real mask, and a new outline that is equally rough at every scale: the real outline's Fourier
amplitudes with new random phases. If the frame cuts a lesion, the ellipse of the whole lesion is estimated first, so
that new lesions extend beyond the frame too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from dermprompt.masks.draw import CANVAS, MAX_ATTEMPTS, resize
from dermprompt.masks.shape import is_one_component

# The size at which ellipses are fitted, and the angles and distances at which outlines are sampled.
_SIZE = 64
_ANGLES = 128
_DISTANCES = np.arange(0.02, 3, 0.02)
_COMPLETIONS = 40
_VERTICES = 512


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """The decomposition of real masks; lengths are fractions of the side.

    ``centres`` (N, 2), as (x, y); ``axes`` (N, 2, 2): the matrix that maps the unit circle to the ellipse;
    ``amplitudes`` (N, 65): of the Fourier series, over angles, of the outline's log distance in ellipse radii.
    """

    centres: np.ndarray
    axes: np.ndarray
    amplitudes: np.ndarray


@dataclass(frozen=True, eq=False)
class RealisticMasks:
    """An unlimited source of masks, each one connected component, shaped like ``masks``.

    ``masks``: real ones, uint8 (N, S, S) in {0, 1}; those without foreground are ignored. ``jitter``: how much
    position, size and elongation vary around the real mask's, as a standard deviation in ellipse radii.

    Raises ValueError if no real mask has foreground.
    """

    masks: np.ndarray
    size: int
    seed: int
    jitter: float = 0.05
    model: ShapeModel = field(init=False)

    def __post_init__(self) -> None:
        """Fit the model."""
        real = self.masks[self.masks.any((1, 2))]
        if not len(real):
            raise ValueError(f"none of the {len(self.masks)} real masks has any foreground; no shape to learn from")
        object.__setattr__(self, "model", fit_shapes(real))

    def sample(self, indices: Sequence[int]) -> np.ndarray:
        """Draw masks ``indices``, uint8 (N, size, size) in {0, 1}; each depends only on settings, seed and its index.

        Raises ValueError after 100 attempts without a single component.
        """
        return np.stack([self._draw(index) for index in indices])

    def _draw(self, index: int) -> np.ndarray:
        for attempt in range(MAX_ATTEMPTS):
            mask = self._attempt(np.random.default_rng([self.seed, index, attempt]))
            if is_one_component(mask):
                return resize(mask, self.size)
        raise ValueError(f"mask {index} had no single component in {MAX_ATTEMPTS} attempts with jitter={self.jitter}")

    def _attempt(self, rng: np.random.Generator) -> np.ndarray:
        model = self.model
        row = rng.integers(len(model.centres))
        axes = model.axes[row] @ (np.eye(2) + rng.normal(0, self.jitter, (2, 2)))
        centre = model.centres[row] + axes @ rng.normal(0, self.jitter, 2)
        outline = centre + _star(model.amplitudes[row], rng) @ axes.T
        # cv2 expects vertices in sixteenths of a pixel, with 0 at the centre of the first pixel.
        vertices = np.rint((outline * CANVAS - 0.5) * 16).astype(np.int32)
        return cv2.fillPoly(np.zeros((CANVAS, CANVAS), np.uint8), [vertices], 1, shift=4)


def fit_shapes(masks: np.ndarray) -> ShapeModel:
    """Decompose real masks uint8 (N, S, S) in {0, 1}, none of them empty."""
    small = np.stack([_shrink(mask) for mask in masks])
    fitted = [_ellipse(mask) for mask in small]
    amplitudes = np.stack([_amplitudes(mask, *ellipse) for mask, ellipse in zip(masks, fitted, strict=True)])
    return ShapeModel(np.stack([centre for centre, _ in fitted]), np.stack([axes for _, axes in fitted]), amplitudes)


def _shrink(mask: np.ndarray) -> np.ndarray:
    """The share of foreground per pixel, at the size used for fitting."""
    return cv2.resize(mask.astype(np.float32), (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)


def _ellipse(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (2) and axes (2, 2) of the ellipse with a mask's moments.

    If the frame cuts the mask, the ellipse itself completes it beyond the sides that it touches, repeatedly as in
    expectation maximisation.
    """
    margin = _SIZE // 2
    wide = np.pad(mask, margin)
    rows, columns = (np.mgrid[: 2 * _SIZE, : 2 * _SIZE] + 0.5 - margin) / _SIZE
    beyond = _beyond_touched_sides(mask, rows, columns)
    completed = wide
    for _ in range(_COMPLETIONS if beyond.any() else 1):
        centre, axes = _moments(completed, rows, columns)
        y_x = np.stack([columns - centre[0], rows - centre[1]])
        inside = (np.einsum("ij,jhw->ihw", np.linalg.inv(axes), y_x) ** 2).sum(0) <= 1
        completed = np.where(beyond & inside, 1.0, wide)
    return centre, axes


def _beyond_touched_sides(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    sides = (
        (mask[0].max() >= 0.5, rows < 0),
        (mask[-1].max() >= 0.5, rows > 1),
        (mask[:, 0].max() >= 0.5, columns < 0),
        (mask[:, -1].max() >= 0.5, columns > 1),
    )
    return np.logical_or.reduce([where for touched, where in sides if touched] or [np.zeros_like(rows, bool)])


def _moments(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and axes from moments: the covariance of a filled ellipse is a quarter of its squared axes."""
    weights = mask.ravel() / mask.sum()
    places = np.stack([columns.ravel(), rows.ravel()])
    centre = places @ weights
    offsets = places - centre[:, None]
    covariance = (offsets * weights) @ offsets.T + np.eye(2) * 1e-6
    values, vectors = np.linalg.eigh(covariance)
    return centre, vectors * (2 * np.sqrt(values)) @ vectors.T


def _amplitudes(mask: np.ndarray, centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Fourier amplitudes of the outline's log distance, ignoring angles at which the frame cuts the outline."""
    angles = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    rays = axes @ np.stack([np.cos(angles), np.sin(angles)])
    points = (centre[:, None, None] + rays[:, :, None] * _DISTANCES) * len(mask) - 0.5
    columns, rows = np.rint(points).astype(int)
    framed = (rows >= 0) & (rows < len(mask)) & (columns >= 0) & (columns < len(mask))
    hit = mask[rows.clip(0, len(mask) - 1), columns.clip(0, len(mask) - 1)] > 0
    # The total length of foreground on each ray, ignoring gaps that a ragged outline leaves.
    length = (hit & framed).sum(1) * (_DISTANCES[1] - _DISTANCES[0])
    # A ray that is still foreground where it leaves the frame does not show the outline.
    last = framed.sum(1).clip(1) - 1
    seen = framed.all(1) | ~hit[np.arange(_ANGLES), last]
    if seen.mean() < 0.25:  # too little of the outline is visible
        return np.zeros(_ANGLES // 2 + 1)
    log = np.log(length.clip(0.05))
    departure = np.where(seen, log - log[seen].mean(), 0)
    return np.abs(np.fft.rfft(departure)) / np.sqrt(seen.mean())


def _star(amplitudes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vertices (V, 2) of an outline around the unit circle, with these amplitudes and random phases."""
    spectrum = amplitudes * np.exp(2j * np.pi * rng.random(len(amplitudes)))
    padded = np.zeros(_VERTICES // 2 + 1, complex)
    # The two lowest terms, the mean and a shift, are left out: the moments determine them.
    padded[2 : len(spectrum)] = spectrum[2:]
    distance = np.exp(np.fft.irfft(padded, _VERTICES) * (_VERTICES / _ANGLES))
    # Roughness adds area, which the ellipse already includes.
    distance /= np.sqrt((distance**2).mean())
    angles = np.arange(_VERTICES) * (2 * np.pi / _VERTICES)
    return distance[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
