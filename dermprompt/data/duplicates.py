"""Near-duplicates: two photographs of one lesion, possibly recoloured, shifted, magnified, turned or mirrored.

Every pair is compared in the eight orientations of a square. Candidates have similar perceptual hashes and similar
low frequencies; a candidate counts as a duplicate if the fine structures of the two images match once aligned.
Fine structure is a high-pass-filtered image divided by its local strength, so colour, light and the lesion's dark
blob do not contribute. A ruler or vignette of the same instrument is not enough for a match.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import cv2
import numpy as np
from scipy.fft import dctn, irfft2, rfft2

from dermprompt.data.clusters import Duplicate
from dermprompt.mapped import Rows

# Quarter turns, and whether the image is mirrored first; the identity comes first.
ORIENTATIONS = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))

# Measured on ISIC 2018 Task 1: photographs that are the same by eye differ in up to 26 of the 64 bits, and their fine
# structures correlate by 0.44 to 0.99. For two different lesions the highest correlation, caused by a ruler, is 0.41
# in the best of the eight orientations.
MAX_HASH_DISTANCE = 26
THRESHOLD = 0.42
# Below this correlation after the best shift, affine alignment is not tried.
MIN_SHIFTED = 0.2

# Also measured there: the 59 pairs correlate by at least 0.587 in the lowest frequencies and 0.293 in the next;
# 3.5 % and 0.2 % of other pairs reach these thresholds. The first comparison covers shifts of up to 30 of 192 pixels
# (the 59 pairs need up to 19).
MIN_COARSE, MIN_FINE = 0.5, 0.26

_SIZE = 192
_COARSE_BAND, _FINE_BAND = 6, 16
_STEP, _REACH = 12, 24
# Images whose structures are cached; images, and pairs, compared at once.
_KEPT, _BLOCK, _BATCH = 2048, 128, 2048

Pair = tuple[np.ndarray, np.ndarray]


def _coarse_frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a spectrum's lowest frequencies; only one of each conjugate pair."""
    low = np.arange(1 - _COARSE_BAND, _COARSE_BAND)
    rows, columns = (grid.ravel() for grid in np.meshgrid(low, low[low >= 0], indexing="ij"))
    once = (columns > 0) | (rows > 0)
    return rows[once], columns[once]


_COARSE_ROWS, _COARSE_COLUMNS = _coarse_frequencies()
# The phase factor of each frequency, for each shift.
_SHIFTS = np.arange(-_REACH, _REACH + 1, _STEP)
_PHASES = np.exp(
    2j * np.pi / _SIZE * np.array([_COARSE_ROWS * y + _COARSE_COLUMNS * x for y in _SHIFTS for x in _SHIFTS])
).astype(np.complex64)


def find_duplicates(
    ids: Sequence[str], images: Sequence[np.ndarray] | Rows, progress: Callable[[int], None] | None = None
) -> list[Duplicate]:
    """Find the pairs whose fine structures correlate by at least ``THRESHOLD`` in some orientation, sorted.

    ``images``: uint8 (S, S, 3), RGB, with S of 192 or more, read one at a time. ``progress`` is told how many images
    were compared with all later ones, once per orientation: ``len(ORIENTATIONS) * len(ids)`` in total. Memory grows
    by 40 KB per image.
    """
    order = sorted(range(len(ids)), key=lambda row: ids[row])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sketches = list(pool.map(lambda row: _sketch(images[row]), order))
    hashes, coarse, fine = (np.stack(parts, 1) for parts in zip(*sketches, strict=True))
    structure = lru_cache(_KEPT)(lambda k: _structure(images[order[k]]))
    found: dict[tuple[int, int], Duplicate] = {}
    for view, (turns, mirrored) in enumerate(ORIENTATIONS):
        bits, low, middle = ((part[0], part[view]) for part in (hashes, coarse, fine))
        for i, j, distance in _candidates(bits, low, middle, progress):
            turned = orient(structure(j), turns, mirrored)
            shifted, shift = _best_shift(_spectrum(structure(i)), _spectrum(turned))
            if shifted < MIN_SHIFTED:
                continue
            turned = orient(images[order[j]], turns, mirrored)
            correlation = round(max(shifted, _aligned(images[order[i]], turned, shift)), 3)
            if correlation >= THRESHOLD and ((i, j) not in found or correlation > found[i, j].correlation):
                found[i, j] = Duplicate(ids[order[i]], ids[order[j]], distance, correlation, turns, mirrored)
    return [found[pair] for pair in sorted(found)]


def orient(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    """Mirror an image (H, W, ...) left to right if ``mirrored``, then give it ``turns`` quarter turns."""
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, turns))


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """64 bits: which of the 8 x 8 lowest cosine coefficients of the grey image exceed their median."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    low = dctn(grey.astype(np.float32), norm="ortho")[:8, :8].ravel()
    # The mean brightness (the first coefficient) would bias the median.
    return low > np.median(low[1:])


def _sketch(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each orientation: the hash, the lowest frequencies as a unit vector, and the next ones as a spectrum."""
    structure = _structure(image)
    views = [_spectrum(orient(structure, *one)) for one in ORIENTATIONS]
    hashes = [perceptual_hash(orient(image, *one)) for one in ORIENTATIONS]
    return np.stack(hashes), np.stack([_coarse(one) for one in views]), np.stack([_fine(one) for one in views])


def _coarse(spectrum: np.ndarray) -> np.ndarray:
    """Complex frequencies below ``_COARSE_BAND``, as a unit vector; only one of each conjugate pair."""
    values = spectrum[_COARSE_ROWS, _COARSE_COLUMNS]
    return values / max(float(np.linalg.norm(values)), 1e-6)


def _fine(spectrum: np.ndarray) -> np.ndarray:
    """The structure's spectrum cut to a grid of ``2 * _FINE_BAND`` points a side, with norm 1 on that grid."""
    side = 2 * _FINE_BAND
    band = np.concatenate([spectrum[:_FINE_BAND], spectrum[-_FINE_BAND:]])[:, : _FINE_BAND + 1].copy()
    band[0, 0] = band[_FINE_BAND] = band[:, _FINE_BAND] = 0
    return band * (side / max(float(np.linalg.norm(irfft2(band, s=(side, side)))) * side, 1e-6))


def _candidates(
    hashes: Pair, coarse: Pair, fine: Pair, progress: Callable[[int], None] | None
) -> Iterator[tuple[int, int, int]]:
    """Pairs with similar hashes, lowest frequencies and then finer frequencies; each with its hash distance.

    For the lowest frequencies, each shift is a matrix product of blocks of images.
    """
    bits = [2 * one.astype(np.float32) - 1 for one in hashes]
    others = np.concatenate([coarse[1].real, coarse[1].imag], 1)
    for start in range(0, len(bits[0]), _BLOCK):
        rows = slice(start, start + _BLOCK)
        distances = (bits[0].shape[1] - bits[0][rows] @ bits[1][start:].T) / 2
        best = np.full(distances.shape, -1, np.float32)
        for phase in _PHASES:
            moved = coarse[0][rows] * phase
            np.maximum(best, np.concatenate([moved.real, moved.imag], 1) @ others[start:].T, out=best)
        later = np.arange(best.shape[1]) > np.arange(len(best))[:, None]
        first, second = np.nonzero((distances <= MAX_HASH_DISTANCE) & (best >= MIN_COARSE) & later)
        kept = _correlate_finely(fine[0][first + start], fine[1], second + start) >= MIN_FINE
        for i, j in zip(first[kept].tolist(), second[kept].tolist(), strict=True):
            yield start + i, start + j, int(distances[i, j])
        if progress is not None:
            progress(len(best))


def _correlate_finely(first: np.ndarray, others: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The highest circular correlation of each spectrum in ``first`` with that of its row in ``others``."""
    side, found = 2 * _FINE_BAND, [np.zeros(0)]
    for start in range(0, len(rows), _BATCH):
        part = slice(start, start + _BATCH)
        surfaces = irfft2(first[part] * np.conj(others[rows[part]]), s=(side, side), workers=-1)
        found.append(surfaces.max((1, 2)))
    return np.concatenate(found)


def _spectrum(structure: np.ndarray) -> np.ndarray:
    return rfft2(structure).astype(np.complex64)


def _grey(image: np.ndarray) -> np.ndarray:
    """Logarithm of the grey image, to which a change of light only adds a constant."""
    small = cv2.resize(image, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    return np.log(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) + 8)


def _high_pass(grey: np.ndarray) -> np.ndarray:
    """Structures of one to three pixels, normalised to equal local strength."""
    band = cv2.GaussianBlur(grey, (0, 0), 1.0) - cv2.GaussianBlur(grey, (0, 0), 3.0)
    return band / (np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 8.0)) + 0.004)


def _window() -> np.ndarray:
    """A window that fades out towards the border, where rulers and vignettes look alike."""
    rise = np.hanning(_SIZE + 2)[1:-1]
    return np.sqrt(np.outer(rise, rise)).astype(np.float32)


def _normalised(band: np.ndarray, window: np.ndarray) -> np.ndarray:
    weighted = band * window
    weighted -= weighted.mean()
    return weighted / max(float(np.linalg.norm(weighted)), 1e-6)


def _structure(image: np.ndarray) -> np.ndarray:
    return _normalised(_high_pass(_grey(image)), _window())


def _best_shift(first: np.ndarray, second: np.ndarray) -> tuple[float, tuple[int, int]]:
    """The highest circular correlation of two spectra, and the shift (y, x) of ``first`` against ``second`` there."""
    surface = irfft2(first * np.conj(second), s=(_SIZE, _SIZE))
    y, x = divmod(int(np.argmax(surface)), _SIZE)
    half = _SIZE // 2
    return float(surface[y, x]), ((y + half) % _SIZE - half, (x + half) % _SIZE - half)


def _aligned(first: np.ndarray, second: np.ndarray, shift: tuple[int, int]) -> float:
    """Correlation after affine alignment (ECC) starting from the shift; -1 if it does not converge."""
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
