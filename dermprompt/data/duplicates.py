"""Near-duplicates: two photographs of one lesion, possibly recoloured, shifted, magnified, turned or mirrored.

Every pair is compared in the eight orientations of a square. Candidates have similar perceptual hashes and similar
low frequencies, and small copies of them match once roughly aligned; a candidate counts as a duplicate if the fine
structures of the two images match once aligned. Fine structure is a high-pass-filtered image divided by its local
strength, so colour, light and the lesion's dark blob do not contribute. A ruler or vignette of the same instrument is
not enough for a match.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

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
# Small copies of the 59 pairs correlate by at least 0.228 after the best shift, and by 0.336 and 0.523 after 3 and 13
# steps of affine alignment. Of 962 distorted photographs that are found without these limits, they lose 4.
MIN_SMALL = 0.18
ROUGH_STEPS = ((3, 0.3), (10, 0.45))

_SIZE, _SMALL = 192, 64
_COARSE_BAND, _FINE_BAND = 6, 16
_STEP, _REACH = 12, 24
# Images that are compared with all later ones at once.
_BLOCK = 128


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


@dataclass(frozen=True)
class _Sketches:
    """What candidates are found by; the first three in each orientation, for N images.

    ``signs``: hashes as 1 and -1, float32 (8, N, 64). ``coarse``: the lowest frequencies as unit vectors, complex64
    (8, N, F). ``fine``: spectra of the next ones, complex64 (8, N, 32, 17). ``small``: structures, float32 (N, 64, 64).
    """

    signs: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray
    small: np.ndarray


def find_duplicates(
    ids: Sequence[str], images: Sequence[np.ndarray] | Rows, progress: Callable[[int], None] | None = None
) -> list[Duplicate]:
    """Find the pairs whose fine structures correlate by at least ``THRESHOLD`` in some orientation, sorted.

    ``images``: uint8 (S, S, 3), RGB, with S of 192 or more, read one at a time. ``progress`` is told how many images
    were compared with all later ones, once per orientation: ``len(ORIENTATIONS) * len(ids)`` in total. Memory grows
    by 60 KB per image.
    """
    order = sorted(range(len(ids)), key=lambda row: ids[row])
    found: dict[tuple[int, int], Duplicate] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sketches = _sketches(list(pool.map(lambda row: _sketch(images[row]), order)))

        def compare(view: int, start: int) -> list[tuple[int, int, int, float]]:
            def turned(j: int) -> np.ndarray:
                return orient(images[order[j]], *ORIENTATIONS[view])

            pairs = _candidates(sketches, view, start)
            return [(i, j, distance, correlation(images[order[i]], turned(j))) for i, j, distance in pairs]

        for view, (turns, mirrored) in enumerate(ORIENTATIONS):
            starts = range(0, len(ids), _BLOCK)
            for start, compared in zip(starts, pool.map(partial(compare, view), starts), strict=True):
                for i, j, distance, match in compared:
                    if match >= THRESHOLD and ((i, j) not in found or match > found[i, j].correlation):
                        found[i, j] = Duplicate(ids[order[i]], ids[order[j]], distance, match, turns, mirrored)
                if progress is not None:
                    progress(min(_BLOCK, len(ids) - start))
    return [found[pair] for pair in sorted(found)]


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of the fine structures of two images once aligned; 0 where alignment is hopeless."""
    one, other = _spectrum(_structure(first)), _spectrum(_structure(second))
    shifted, shift = _peak(irfft2(one * np.conj(other), s=(_SIZE, _SIZE)))
    return 0.0 if shifted < MIN_SHIFTED else round(max(shifted, _aligned(first, second, shift)), 3)


def orient(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    """Mirror an image (H, W, ...) left to right if ``mirrored``, then give it ``turns`` quarter turns."""
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, turns))


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """64 bits: which of the 8 x 8 lowest cosine coefficients of the grey image exceed their median."""
    return _hash(_thumbnail(image))


def _thumbnail(image: np.ndarray) -> np.ndarray:
    return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)


def _hash(thumbnail: np.ndarray) -> np.ndarray:
    low = dctn(thumbnail.astype(np.float32), norm="ortho")[:8, :8].ravel()
    # The mean brightness (the first coefficient) would bias the median.
    return low > np.median(low[1:])


def _sketch(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each orientation: the hash, the lowest frequencies and the next ones; and the small structure."""
    structure, thumbnail = _structure(image), _thumbnail(image)
    views = [_spectrum(orient(structure, *one)) for one in ORIENTATIONS]
    hashes = np.stack([_hash(orient(thumbnail, *one)) for one in ORIENTATIONS])
    small = cv2.resize(structure, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    return hashes, np.stack([_coarse(one) for one in views]), np.stack([_fine(one) for one in views]), _unit(small)


def _sketches(each: Sequence[tuple[np.ndarray, ...]]) -> _Sketches:
    hashes, coarse, fine, small = zip(*each, strict=True)
    signs = 2 * np.stack(hashes, 1).astype(np.float32) - 1
    return _Sketches(signs, np.stack(coarse, 1), np.stack(fine, 1), np.stack(small))


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


def _candidates(sketches: _Sketches, view: int, start: int) -> Iterator[tuple[int, int, int]]:
    """Pairs of a block's images and later ones that pass every comparison of sketches, each with its hash distance.

    The cheapest comparison comes first.
    """
    distances = (64 - sketches.signs[0, start : start + _BLOCK] @ sketches.signs[view, start:].T) / 2
    similar = (distances <= MAX_HASH_DISTANCE) & (_coarse_correlations(sketches.coarse, view, start) >= MIN_COARSE)
    for i, row in enumerate(np.triu(similar, 1)):
        later = np.flatnonzero(row) + start
        for select in (_finely_similar, _roughly_aligned):
            later = later[select(sketches, start + i, later, view)] if len(later) else later
        yield from ((start + i, j, int(distances[i, j - start])) for j in later.tolist())


def _coarse_correlations(coarse: np.ndarray, view: int, start: int) -> np.ndarray:
    """The highest correlation over shifts, each of them a matrix product, of a block with later images."""
    block, later = coarse[0, start : start + _BLOCK], coarse[view, start:]
    others = np.concatenate([later.real, later.imag], 1).T
    best = np.full((len(block), len(later)), -1, np.float32)
    for phase in _PHASES:
        moved = block * phase
        np.maximum(best, np.concatenate([moved.real, moved.imag], 1) @ others, out=best)
    return best


def _finely_similar(sketches: _Sketches, i: int, others: np.ndarray, view: int) -> np.ndarray:
    """Whether the spectra of the next frequencies correlate after some circular shift, bool (N) for ``others`` (N)."""
    side = 2 * _FINE_BAND
    surfaces = irfft2(np.conj(sketches.fine[0, i]) * sketches.fine[view, others], s=(side, side))
    return surfaces.max((1, 2)) >= MIN_FINE


def _roughly_aligned(sketches: _Sketches, i: int, others: np.ndarray, view: int) -> np.ndarray:
    """Whether small structures match after the best shift and a few steps of alignment, bool (N) for ``others`` (N)."""
    turns, mirrored = ORIENTATIONS[view]
    # Turning one image back is the same as turning every other; a mirrored orientation is its own inverse.
    one, small = orient(sketches.small[i], turns if mirrored else -turns, mirrored), sketches.small[others]
    surfaces = irfft2(rfft2(one) * np.conj(rfft2(small)), s=one.shape)
    return np.array([_rough_match(one, other, *_peak(surface)) for other, surface in zip(small, surfaces, strict=True)])


def _rough_match(one: np.ndarray, other: np.ndarray, shifted: float, shift: tuple[int, int]) -> bool:
    """Whether a few steps of alignment promise a match; also if it is lost on the way, which happens to true pairs."""
    if not MIN_SMALL <= shifted < THRESHOLD:
        return shifted >= THRESHOLD
    warp, everywhere, reached = _shift_warp(shift), np.ones_like(one, np.uint8), 0.0
    try:
        for steps, least in ROUGH_STEPS:
            until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-3)
            now, warp = cv2.findTransformECC(one, other, warp, cv2.MOTION_AFFINE, until, everywhere, 1)
            reached = max(reached, now)
            if reached < least:
                return False
    except cv2.error:
        return reached > 0
    return True


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


def _unit(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    return centred / max(float(np.linalg.norm(centred)), 1e-6)


def _structure(image: np.ndarray) -> np.ndarray:
    return _unit(_high_pass(_grey(image)) * _window())


def _peak(surface: np.ndarray) -> tuple[float, tuple[int, int]]:
    """The highest value of a circular correlation, and the shift (y, x) of the first image against the second there."""
    size, half = len(surface), len(surface) // 2
    y, x = divmod(int(np.argmax(surface)), size)
    return float(surface[y, x]), ((y + half) % size - half, (x + half) % size - half)


def _shift_warp(shift: tuple[int, int]) -> np.ndarray:
    return np.array([[1, 0, -shift[1]], [0, 1, -shift[0]]], np.float32)


def _aligned(first: np.ndarray, second: np.ndarray, shift: tuple[int, int]) -> float:
    """Correlation after affine alignment (ECC) starting from the shift; -1 if it does not converge."""
    one, other = _grey(first), _grey(second)
    warp = _shift_warp(shift)
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
    return float((_unit(_high_pass(one) * window) * _unit(_high_pass(moved) * window)).sum())
