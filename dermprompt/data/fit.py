"""Makes images and masks square, and maps masks predicted in the square back to the original pixels."""

from __future__ import annotations

import cv2
import numpy as np


def fit_image(pixels: np.ndarray, size: int, fit: str) -> np.ndarray:
    """Resize uint8 HW3 to (size, size, 3), with area interpolation when shrinking."""
    framed = _framed(pixels, fit)
    how = cv2.INTER_AREA if min(framed.shape[:2]) >= size else cv2.INTER_LINEAR
    return cv2.resize(framed, (size, size), interpolation=how)


def fit_mask(mask: np.ndarray, size: int, fit: str) -> np.ndarray:
    """Resize uint8 HW in {0, 1} to (size, size): a pixel is foreground if at least half of its area is."""
    share = cv2.resize(_framed(mask, fit).astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return (share >= 0.5).astype(np.uint8)


def frame(height: int, width: int, fit: str) -> tuple[int, int, int, int]:
    """Top, left, height and width of the region that becomes the square; with ``pad`` it exceeds the image."""
    if fit == "squeeze" or height == width:
        return 0, 0, height, width
    side = min(height, width) if fit == "crop" else max(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _framed(pixels: np.ndarray, fit: str) -> np.ndarray:
    """The pixels of the region that becomes the square; padding is black."""
    height, width = pixels.shape[:2]
    top, left, tall, wide = frame(height, width, fit)
    if top < 0 or left < 0:
        below, right = tall - height + top, wide - width + left
        return cv2.copyMakeBorder(pixels, -top, below, -left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return np.ascontiguousarray(pixels[top : top + tall, left : left + wide])


def unframe(found: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    """A mask found in the square (uint8, of the frame's size) in an image of ``size`` (H, W); zero outside a crop."""
    top, left, tall, wide = frame(*size, fit)
    assert found.shape == (tall, wide), (found.shape, size, fit)
    whole = np.zeros(size, found.dtype)
    y, x = max(top, 0), max(left, 0)
    inside = found[max(-top, 0) : max(-top, 0) + size[0], max(-left, 0) : max(-left, 0) + size[1]]
    whole[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return whole
