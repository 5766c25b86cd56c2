"""Table 1: how close generated images are to the real images of the same masks, in two protocols.

Every function takes ``real`` and ``generated``, uint8 NHW3 RGB arrays of one shape, and computes on their
values divided by 255. No metric here depends on the order of the channels, as each averages over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dermprompt.evaluation.overlap import dice_matrix

Images = NDArray[np.uint8]
Masks = NDArray[np.uint8]
Values = NDArray[np.float64]
Window = Literal["uniform7", "gaussian"]


def mse(real: Images, generated: Images) -> Values:
    """Mean squared error, paper section 3.3: one value in [0, 1] per image."""
    return np.array([np.mean((a - b) ** 2) for a, b in _pairs(real, generated)])


def psnr(real: Images, generated: Images, peak: float) -> Values:
    """Peak signal-to-noise ratio in dB, as cv2.PSNR has it: one value per image.

    Equal images give the finite 20 log10(peak / eps), about 313 dB for a peak of 1.
    """
    noise = np.sqrt(mse(real, generated)) + np.finfo(np.float64).eps
    return 20 * np.log10(peak / noise)


def ssim(real: Images, generated: Images, window: Window, data_range: float) -> Values:
    """Structural similarity, Wang et al. (2004), equation 13: one value per image, over pixels and channels.

    ``uniform7`` is a 7x7 box with sample covariance, ``gaussian`` has sigma 1.5, radius 5 and population
    covariance. Pixels whose window leaves the image do not count.
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return np.array([_ssim(a, b, window, c1, c2) for a, b in _pairs(real, generated)])


def paper_protocol(real: Images, generated: Images) -> dict[str, float]:
    """Mean mse, psnr and ssim as in Table 1 of the paper, by its released metric script.

    Images are resized to 512x512, and the central 448x448 counts. The values lie in [0, 1], yet the peak
    is 255 (+48.13 dB) and the data range of ssim 2: the defaults of cv2.PSNR and scikit-image <= 0.19.
    """
    a, b = _paper_view(real), _paper_view(generated)
    return _means(mse(a, b), psnr(a, b, peak=255), ssim(a, b, "uniform7", data_range=2))


def standard_protocol(real: Images, generated: Images) -> dict[str, float]:
    """Mean mse, psnr and ssim (Gaussian window, Wang et al., 2004), the whole image, peak and range 1."""
    values = mse(real, generated), psnr(real, generated, peak=1), ssim(real, generated, "gaussian", 1)
    return _means(*values)


def trivial_rows(real_test: Images, masks_test: Masks, real_g: Images, masks_g: Masks, seed: int) -> dict[str, Images]:
    """Images (uint8 NHW3, like ``real_test``) that need no generator: what Table 1 has to be read against.

    All images have one size; ``masks_test`` and ``masks_g`` are NHW in {0, 1}. Some rows are read-only views.
    """
    other = [np.random.default_rng([seed, i]).integers(len(real_g)) for i in range(len(real_test))]
    fitting = dice_matrix(masks_test, masks_g).argmax(axis=1)
    colour = real_test.mean(axis=(1, 2), keepdims=True)
    return {
        "another real image": real_g[other],
        "mean image of G": _fill(real_g.mean(axis=0), real_test),
        "G image whose mask fits best": real_g[fitting],
        "the image's own mean colour (oracle)": _fill(colour, real_test),
    }


def _pairs(real: Images, generated: Images) -> Iterator[tuple[Values, Values]]:
    """One pair at a time, as float64 in [0, 1]: 200 pairs at 512x512 would take 2.5 GB."""
    assert real.shape == generated.shape, (real.shape, generated.shape)
    assert real.dtype == generated.dtype == np.uint8, (real.dtype, generated.dtype)
    return ((a / 255, b / 255) for a, b in zip(real, generated, strict=True))


def _ssim(a: Values, b: Values, window: Window, c1: float, c2: float) -> float:
    blur, radius, norm = _WINDOWS[window]
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = norm * (blur(a * a) - mean_a**2), norm * (blur(b * b) - mean_b**2)
    cov = norm * (blur(a * b) - mean_a * mean_b)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * cov + c2) / (var_a + var_b + c2)
    inner = slice(radius, -radius)
    return float((luminance * structure)[inner, inner].mean())


def _box(x: Values) -> Values:
    return np.asarray(cv2.boxFilter(x, -1, (7, 7)), dtype=np.float64)


def _gaussian(x: Values) -> Values:
    return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5), dtype=np.float64)


# The filter, its radius, and the factor from population to sample covariance.
_WINDOWS: dict[str, tuple[Callable[[Values], Values], int, float]] = {
    "uniform7": (_box, 3, 49 / 48),
    "gaussian": (_gaussian, 5, 1.0),
}


def _paper_view(images: Images) -> Images:
    resized = [cv2.resize(image, (512, 512), interpolation=cv2.INTER_LINEAR) for image in images]
    return np.stack(resized)[:, 32:480, 32:480].astype(np.uint8, copy=False)


def _means(mse_values: Values, psnr_values: Values, ssim_values: Values) -> dict[str, float]:
    values = {"mse": mse_values, "psnr": psnr_values, "ssim": ssim_values}
    return {name: float(value.mean()) for name, value in values.items()}


def _fill(values: Values, like: Images) -> Images:
    return np.broadcast_to(values.round().astype(np.uint8), like.shape)
