"""Table 1: how close generated images are to the real images with the same masks, in two conventions.

Most functions take ``real`` and ``generated``, uint8 NHW3 RGB arrays of the same shape, and use their values divided
by 255. The order of channels does not matter, because every metric averages over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dermprompt.evaluation.overlap import dice_matrix
from dermprompt.mapped import Arrays, slices

Images = NDArray[np.uint8]
Masks = NDArray[np.uint8]
Values = NDArray[np.float64]
Floats = NDArray[np.float32]
Window = Literal["uniform7", "gaussian"]


def mse(real: Images, generated: Images) -> Values:
    """Mean squared error, paper section 3.3: one value in [0, 1] per image."""
    squares = [cv2.norm(a, b, cv2.NORM_L2SQR) / a.size for a, b in _pairs(real, generated)]
    return np.array(squares) / 255**2


def psnr(squares: Values, peak: float) -> Values:
    """Peak signal-to-noise ratio in dB from mean squared errors, as in cv2.PSNR: one value per image.

    Equal images give the finite 20 log10(peak / eps), about 313 dB for a peak of 1.
    """
    return 20 * np.log10(peak / (np.sqrt(squares) + np.finfo(np.float64).eps))


def ssim(real: Images, generated: Images, window: Window, data_range: float) -> Values:
    """Structural similarity, Wang et al. (2004), equation 13: one value per image, over pixels and channels.

    ``uniform7`` is a 7x7 box filter with sample covariance; ``gaussian`` has sigma 1.5, radius 5 and population
    covariance. Pixels whose window extends beyond the image do not count.
    """
    c1, c2 = (0.01 * data_range * 255) ** 2, (0.03 * data_range * 255) ** 2
    return np.array([_ssim(a, b, window, c1, c2) for a, b in _pairs(real, generated)])


def paper_protocol(real: Images, generated: Images) -> dict[str, float]:
    """Mean mse, psnr and ssim as in Table 1 of the paper, computed like its released metric script.

    Images are resized to 512x512, and only the central 448x448 count. Values are in [0, 1], yet psnr's peak is 255
    (+48.13 dB) and ssim's data range is 2: the defaults of cv2.PSNR and scikit-image <= 0.19.
    """
    a, b = _paper_view(real), _paper_view(generated)
    squares = mse(a, b)
    return _means(squares, psnr(squares, peak=255), ssim(a, b, "uniform7", data_range=2))


def standard_protocol(real: Images, generated: Images) -> dict[str, float]:
    """Mean mse, psnr and ssim (Gaussian window, Wang et al., 2004) over the whole image, with peak and range 1."""
    squares = mse(real, generated)
    return _means(squares, psnr(squares, peak=1), ssim(real, generated, "gaussian", 1))


def trivial_rows(real_test: Images, masks_test: Masks, real_g: Arrays, masks_g: Masks, seed: int) -> dict[str, Images]:
    """Images (uint8 NHW3, like ``real_test``) that need no generator, as baselines for Table 1.

    All images have the same size; ``masks_test`` and ``masks_g`` are NHW in {0, 1}. Some results are read-only views.
    """
    other = [np.random.default_rng([seed, i]).integers(len(real_g)) for i in range(len(real_test))]
    fitting = dice_matrix(masks_test, masks_g).argmax(axis=1)
    colour = real_test.mean(axis=(1, 2), keepdims=True)
    return {
        "another real image": real_g[other],
        "mean image of G": _fill(_mean(real_g), real_test),
        "G image whose mask fits best": real_g[fitting],
        "the image's own mean colour (oracle)": _fill(colour, real_test),
    }


def _mean(images: Arrays) -> NDArray[np.float64]:
    """The mean image HW3 of images NHW3, with only some in memory at a time."""
    sums = (images[part].sum(axis=0, dtype=np.float64) for part in slices(len(images), 256))
    return np.asarray(sum(sums) / len(images))


def _pairs(real: Images, generated: Images) -> Iterator[tuple[Images, Images]]:
    assert real.shape == generated.shape, (real.shape, generated.shape)
    assert real.dtype == generated.dtype == np.uint8, (real.dtype, generated.dtype)
    return zip(map(np.ascontiguousarray, real), map(np.ascontiguousarray, generated), strict=True)


def _ssim(real: Images, generated: Images, window: Window, c1: float, c2: float) -> float:
    """SSIM of one image, on grey levels shifted by -128: smaller squares, so float32 keeps seven digits of the mean."""
    blur, radius, norm = _WINDOWS[window]
    a, b = (image.astype(np.float32) - 128 for image in (real, generated))
    mean_a, mean_b = blur(a), blur(b)
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    variances = norm * (blur(a * a + b * b) - squares)
    covariance = norm * (blur(a * b) - product)
    # The luminance term needs the unshifted means: (m + 128)(n + 128) = mn + 128 (m + n) + 128².
    sums = 128 * (mean_a + mean_b)
    luminance = (2 * (product + sums + 128**2) + c1) / (squares + 2 * sums + 2 * 128**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    inner = slice(radius, -radius)
    return float((luminance * structure)[inner, inner].mean(dtype=np.float64))


def _box(x: Floats) -> Floats:
    return np.asarray(cv2.boxFilter(x, -1, (7, 7)), dtype=np.float32)


def _gaussian(x: Floats) -> Floats:
    return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5), dtype=np.float32)


# The filter, its radius, and the factor from population to sample covariance.
_WINDOWS: dict[str, tuple[Callable[[Floats], Floats], int, float]] = {
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
