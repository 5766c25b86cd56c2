"""Near-duplicates: two photographs of one lesion, perhaps recoloured, shifted, magnified, turned or mirrored.

Every pair is compared in the eight orientations of a square. Candidates have similar perceptual hashes; a candidate
counts when, laid one over the other, the fine structure of the two images is the same. Colour, light and the lesion's
dark blot do not help: structure is what a high pass leaves, divided by its local strength. A ruler or a vignette of
the same instrument does not suffice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from scipy.fft import dctn, irfft2, rfft2

from dermprompt.data.clusters import Duplicate

# Quarter turns, and whether the image is mirrored first; the identity comes first.
ORIENTATIONS = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))

# Measured on ISIC 2018 Task 1: photographs that are one by eye differ in up to 26 of the 64 bits, and their fine
# structures correlate by 0.44 to 0.99; the best pair of two lesions, which a ruler joins, by 0.41 in the best of the
# eight orientations.
MAX_HASH_DISTANCE = 26
THRESHOLD = 0.42
# Below this correlation after the best shift an affine alignment is not tried.
MIN_SHIFTED = 0.2

_SIZE = 192


def find_duplicates(
    ids: Sequence[str], images: Sequence[np.ndarray], progress: Callable[[int], None] | None = None
) -> list[Duplicate]:
    """Find the pairs whose fine structure correlates by at least ``THRESHOLD`` in some orientation, sorted.

    ``images``: uint8 (S, S, 3), RGB, each of 192 pixels or more. ``progress`` is told each image that was compared
    with all later ones, once an orientation: ``len(ORIENTATIONS) * len(ids)`` in all. Memory grows with the number of
    images only by their hashes and spectra.
    """
    order = sorted(range(len(ids)), key=lambda row: ids[row])
    structures = [_structure(images[row]) for row in order]
    spectra = _spectra(structures)
    hashes = np.stack([perceptual_hash(images[row]) for row in order])
    found: dict[tuple[int, int], Duplicate] = {}
    for turns, mirrored in ORIENTATIONS:
        turned_spectra = _spectra([orient(one, turns, mirrored) for one in structures])
        turned_hashes = np.stack([perceptual_hash(orient(images[row], turns, mirrored)) for row in order])
        for i, j, distance in _candidates(hashes, turned_hashes, progress):
            shifted, shift = _best_shift(spectra[i], turned_spectra[j])
            if shifted < MIN_SHIFTED:
                continue
            turned = orient(images[order[j]], turns, mirrored)
            correlation = round(max(shifted, _aligned(images[order[i]], turned, shift)), 3)
            if correlation >= THRESHOLD and ((i, j) not in found or correlation > found[i, j].correlation):
                found[i, j] = Duplicate(ids[order[i]], ids[order[j]], distance, correlation, turns, mirrored)
    return [found[pair] for pair in sorted(found)]


def orient(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    """Mirror an image (H, W, ...) left to right if asked, then turn it by quarters."""
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, turns))


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """64 bits: which of the 8 x 8 lowest cosine coefficients of the grey image lie above their median."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    low = dctn(grey.astype(np.float32), norm="ortho")[:8, :8].ravel()
    # The mean brightness would tilt the median.
    return low > np.median(low[1:])


def _candidates(
    hashes: np.ndarray, turned: np.ndarray, progress: Callable[[int], None] | None
) -> Iterator[tuple[int, int, int]]:
    for i in range(len(hashes)):
        distances = np.count_nonzero(turned[i + 1 :] != hashes[i], axis=1)
        for k in np.flatnonzero(distances <= MAX_HASH_DISTANCE):
            yield i, i + 1 + int(k), int(distances[k])
        if progress is not None:
            progress(1)


def _spectra(structures: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [rfft2(one).astype(np.complex64) for one in structures]


def _grey(image: np.ndarray) -> np.ndarray:
    """Logarithm of the grey image: a change of light adds a constant to it."""
    small = cv2.resize(image, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    return np.log(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) + 8)


def _high_pass(grey: np.ndarray) -> np.ndarray:
    """Structures of one to three pixels, each as strong as its surroundings'."""
    band = cv2.GaussianBlur(grey, (0, 0), 1.0) - cv2.GaussianBlur(grey, (0, 0), 3.0)
    return band / (np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 8.0)) + 0.004)


def _window() -> np.ndarray:
    """Fades out towards the border, where instruments and vignettes are alike."""
    rise = np.hanning(_SIZE + 2)[1:-1]
    return np.sqrt(np.outer(rise, rise)).astype(np.float32)


def _normalised(band: np.ndarray, window: np.ndarray) -> np.ndarray:
    weighted = band * window
    weighted -= weighted.mean()
    return weighted / max(float(np.linalg.norm(weighted)), 1e-6)


def _structure(image: np.ndarray) -> np.ndarray:
    return _normalised(_high_pass(_grey(image)), _window())


def _best_shift(first: np.ndarray, second: np.ndarray) -> tuple[float, tuple[int, int]]:
    """The highest circular correlation, and the shift (y, x) of ``first`` against ``second`` that gives it."""
    surface = irfft2(first * np.conj(second), s=(_SIZE, _SIZE))
    y, x = divmod(int(np.argmax(surface)), _SIZE)
    half = _SIZE // 2
    return float(surface[y, x]), ((y + half) % _SIZE - half, (x + half) % _SIZE - half)


def _aligned(first: np.ndarray, second: np.ndarray, shift: tuple[int, int]) -> float:
    """Correlation after an affine alignment (ECC) that starts at the shift; -1 where it does not converge."""
    one, other = _grey(first), _grey(second)
    warp = np.array([[1, 0, -shift[1]], [0, 1, -shift[0]]], np.float32)
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    still, moving = (cv2.GaussianBlur(_high_pass(grey), (0, 0), 1.5) for grey in (one, other))
    everywhere = np.ones_like(still, np.uint8)
    try:
        _, found = cv2.findTransformECC(still, moving, warp, cv2.MOTION_AFFINE, until, everywhere, 5)
    except cv2.error:
        return -1.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(other, found, (_SIZE, _SIZE), flags=flags, borderMode=cv2.BORDER_REFLECT)
    inside = cv2.warpAffine(np.ones_like(other), found, (_SIZE, _SIZE), flags=flags)
    window = _window() * inside
    return float((_normalised(_high_pass(one), window) * _normalised(_high_pass(moved), window)).sum())
