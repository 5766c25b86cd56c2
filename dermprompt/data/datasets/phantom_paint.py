"""Paints one phantom: an image that looks like dermoscopy, with its exact mask.

Lengths are fractions of the image side, so a phantom looks the same at every size. Colours are RGB in
[0, 255]. Like pigment that absorbs light, a lesion multiplies its skin's colour by a transmittance, so
the lesion's colour relative to its skin does not depend on the skin.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray

# Light to brown skin, with the pink and grey tints of cameras and immersion fluid.
SKIN_TONES = np.array(
    [
        (236, 200, 184),
        (226, 178, 160),
        (228, 166, 150),
        (208, 182, 170),
        (216, 176, 140),
        (196, 150, 122),
        (172, 126, 98),
    ],
    np.float32,
)

# The transmittances of the pigments that a lesion mixes; the first is its background.
PIGMENTS = {
    "NV": np.array([(0.64, 0.46, 0.36), (0.44, 0.29, 0.22), (0.72, 0.50, 0.42)], np.float32),
    "MEL": np.array([(0.25, 0.25, 0.30), (0.40, 0.46, 0.58), (0.15, 0.13, 0.15), (0.34, 0.26, 0.24)], np.float32),
    "BKL": np.array([(0.86, 0.78, 0.56), (0.76, 0.71, 0.56), (0.92, 0.80, 0.66)], np.float32),
}


@dataclass(frozen=True)
class Outline:
    """A lesion's shape: ``level`` is 0 at its centre, 1 on its outline, larger outside (HW, float32).

    ``angle`` is the direction from the centre in radians (HW), ``x`` and ``y`` the pixels' coordinates (HW),
    ``radius`` the mean radius; lengths are fractions of the image side.
    """

    level: Array
    angle: Array
    x: Array
    y: Array
    radius: float


def paint(diagnosis: str, attributes: Collection[str], size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Paint one phantom of ``size`` pixels: the image (uint8 HW3, RGB) and its mask (uint8 HW in {0, 1}).

    Every layer draws from a separate child of ``rng``, so equal generators give the same shape, skin and
    hairs whatever the labels, and an attribute changes only its own structure.

    Raises:
        KeyError: a diagnosis is not in ``PIGMENTS``, or an attribute is not in ``STRUCTURES``.
    """
    shape_rng, skin_rng, pigment_rng, hair_rng, noise_rng, *structure_rngs = rng.spawn(5 + len(STRUCTURES))
    outline = _outline(size, shape_rng)
    skin, light = _skin(size, skin_rng)
    lesion = skin * _transmittance(PIGMENTS[diagnosis], outline, pigment_rng)
    streams = dict(zip(STRUCTURES, structure_rngs, strict=True))
    for name in sorted(attributes):
        lesion = STRUCTURES[name](lesion, skin, outline, streams[name])
    image = _blend(skin, lesion, _coverage(outline, pigment_rng)) * light
    image = _hairs(image, hair_rng)
    image += noise_rng.normal(0, noise_rng.uniform(1, 3), image.shape)
    return image.clip(0, 255).round().astype(np.uint8), (outline.level < 1).astype(np.uint8)


def _smooth_noise(size: int, cells: int, rng: np.random.Generator) -> Array:
    """Band-limited noise with a standard deviation of about 1, one bump per cell, the same pattern at every size."""
    grid = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)


def _smoothstep(value: Array, low: float, high: float) -> Array:
    t = ((value - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def _blend(under: Array, over: Array, weight: Array) -> Array:
    return under + (over - under) * weight[..., None]


def _grid(size: int) -> tuple[Array, Array]:
    ticks = (np.arange(size, dtype=np.float32) + 0.5) / size
    return np.broadcast_to(ticks, (size, size)), np.broadcast_to(ticks[:, None], (size, size))


def _outline(size: int, rng: np.random.Generator) -> Outline:
    """An ellipse with low harmonics in its radius, then a smooth warp for notches and lobes."""
    x, y = _grid(size)
    radius = float(np.exp(rng.uniform(np.log(0.14), np.log(0.40))))
    reach = 0.5 - 0.6 * radius  # the larger a lesion, the closer it is to the centre
    dx, dy = x - 0.5 - rng.uniform(-0.6, 0.6) * reach, y - 0.5 - rng.uniform(-0.6, 0.6) * reach
    turn, stretch = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1, 1.9))
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / stretch
    v = (dy * np.cos(turn) - dx * np.sin(turn)) * stretch
    angle = np.arctan2(v, u)
    ripple = np.ones_like(angle)
    for harmonic in range(2, 7):
        ripple += rng.normal(0, 0.16 / harmonic) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    distance = np.hypot(u, v)
    warp = 0.07 * _smooth_noise(size, 9, rng) + 0.025 * _smooth_noise(size, 20, rng)
    level = distance / (radius * ripple) + warp * np.minimum(1, distance / (0.5 * radius))
    return Outline(level, angle, x, y, radius)


def _coverage(outline: Outline, rng: np.random.Generator) -> Array:
    """How much pigment each pixel has: 1 inside, 0 outside, one half on the outline itself."""
    softness = rng.uniform(0.008, 0.022) / outline.radius
    return _smoothstep(1 - outline.level, -softness, softness)


def _skin(size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Skin (HW3) under even light, and the light on it (HW1): a gradient and the dermoscope's vignette."""
    tone = rng.choice(SKIN_TONES) * rng.normal(1, 0.02, 3).astype(np.float32)
    pink = _smooth_noise(size, 7, rng)[..., None] * np.array((0.0, 0.022, 0.018), np.float32)
    grain = _smooth_noise(size, 40, rng)[..., None] * np.float32(0.014)
    x, y = _grid(size)
    slope = 1 + 0.05 * _smooth_noise(size, 2, rng)
    distance = np.hypot(x - 0.5, y - 0.5)
    vignette = 1 - rng.uniform(0.05, 0.35) * _smoothstep(distance, 0.3, 0.75)
    if rng.random() < 0.15:  # the round frame of a contact dermoscope
        edge = rng.uniform(0.56, 0.64)
        vignette = vignette * (1 - 0.92 * _smoothstep(distance, edge, edge + 0.03))
    return tone * (1 + pink + grain), (slope * vignette)[..., None]


def _transmittance(pigments: Array, outline: Outline, rng: np.random.Generator) -> Array:
    """Mix the pigments in patches, then darken or lighten the rim (HW3)."""
    size = len(outline.level)
    mixed = np.broadcast_to(pigments[0], (size, size, 3))
    for pigment in pigments[1:]:
        patches = _smoothstep(_smooth_noise(size, 7, rng), 0.1, 1.1)
        mixed = _blend(mixed, pigment, patches * np.float32(rng.uniform(0.6, 1.0)))
    rim = rng.uniform(-0.1, 0.3) * _smoothstep(outline.level, 0.45, 1.0)
    mottle = 0.07 * _smooth_noise(size, 12, rng) + 0.07 * _smooth_noise(size, 28, rng)
    return mixed * (1 - rim + mottle)[..., None] * np.float32(rng.normal(1, 0.04))


def _honeycomb(outline: Outline, cell: float, bend: float, rng: np.random.Generator) -> Array:
    """The lines (HW in [0, 1]) of a bent hexagonal network, where three plane waves at 120 degrees cancel."""
    size, turn = len(outline.level), rng.uniform(0, np.pi)
    x = outline.x + bend * cell * _smooth_noise(size, 8, rng)
    y = outline.y + bend * cell * _smooth_noise(size, 8, rng)
    wave_number = 4 * np.pi / (np.sqrt(3) * cell)
    total = np.zeros_like(x)
    for direction in turn + np.arange(3) * 2 * np.pi / 3:
        total += np.cos(wave_number * (x * np.cos(direction) + y * np.sin(direction)))
    return _smoothstep(-total, 0.1, 1.3)


def _dots(outline: Outline, spacing: float, radius: float, share: float, rng: np.random.Generator) -> Array:
    """Round dots (HW in [0, 1]) on a jittered grid inside the lesion; ``share`` of the places hold one."""
    size = len(outline.level)
    places = np.stack(np.meshgrid(*[np.arange(spacing / 2, 1, spacing)] * 2), -1).reshape(-1, 2)
    places = places + rng.uniform(-0.3, 0.3, places.shape) * spacing
    radii = radius * rng.uniform(0.8, 1.25, len(places))
    pixels = (places * size).astype(int).clip(0, size - 1)
    inside = outline.level[pixels[:, 1], pixels[:, 0]] < 0.88
    chosen = inside & (rng.random(len(places)) < share)
    if chosen.sum() < 3:  # even a small lesion must show the structure
        chosen = inside
    fine = 4 * size  # OpenCV's own antialiasing turns dots of a pixel or two into crosses
    canvas = np.zeros((fine, fine), np.uint8)
    for place, dot_radius in zip(places[chosen], radii[chosen], strict=True):
        column, row = (place * fine).astype(int).tolist()
        cv2.circle(canvas, (column, row), round(dot_radius * fine), int(rng.integers(150, 256)), -1)
    dots = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return cv2.GaussianBlur(dots, (0, 0), 0.005 * size)


def _cell(outline: Outline) -> float:
    return float(np.clip(0.3 * outline.radius, 0.085, 0.11))


def _pigment_network(lesion: Array, skin: Array, outline: Outline, rng: np.random.Generator) -> Array:
    lines = _honeycomb(outline, _cell(outline), 0.22, rng)
    return lesion * (1 - lines[..., None] * np.array((0.48, 0.54, 0.56), np.float32))


def _negative_network(lesion: Array, skin: Array, outline: Outline, rng: np.random.Generator) -> Array:
    lines = _honeycomb(outline, 1.25 * _cell(outline), 0.25, rng)
    return _blend(lesion, skin * np.float32(1.1), 0.65 * lines)


def _globules(lesion: Array, skin: Array, outline: Outline, rng: np.random.Generator) -> Array:
    return lesion * (1 - 0.8 * _dots(outline, 0.075, 0.022, 0.7, rng))[..., None]


def _milia_like_cyst(lesion: Array, skin: Array, outline: Outline, rng: np.random.Generator) -> Array:
    white = np.array((250, 246, 232), np.float32)
    return _blend(lesion, white, _dots(outline, 0.1, 0.021, 0.5, rng))


def _streaks(lesion: Array, skin: Array, outline: Outline, rng: np.random.Generator) -> Array:
    """Radial lines at the rim: dark, with pale gaps that make them visible in a dark lesion too."""
    size = len(outline.level)
    count = int(np.clip(round(2 * np.pi * outline.radius / 0.09), 9, 24))
    bent = outline.angle + 0.5 / count * _smooth_noise(size, 6, rng)
    wave = np.cos(count * bent + rng.uniform(0, 2 * np.pi))
    inner = 0.66 + 0.1 * _smooth_noise(size, 8, rng)  # streaks differ in length
    rim = _smoothstep(outline.level - inner, -0.1, 0.1)
    dark, pale = _smoothstep(wave, 0.1, 0.9) * rim, _smoothstep(-wave, 0.0, 0.8) * rim
    return _blend(lesion * (1 - 0.7 * dark)[..., None], skin, 0.3 * pale)


def _hairs(image: Array, rng: np.random.Generator) -> Array:
    """Lay a few bent dark hairs over about a third of the images."""
    size = len(image)
    canvas = np.zeros((size, size), np.uint8)
    count = int(rng.integers(2, 9)) if rng.random() < 0.35 else 0
    t = np.linspace(0, 1, 16)[:, None]
    lean = rng.uniform(0, 2 * np.pi)
    for _ in range(count):
        direction = lean + rng.normal(0, 0.5)
        along, across = np.array([(np.cos(direction), np.sin(direction)), (-np.sin(direction), np.cos(direction))])
        start = rng.uniform(0, 1, 2) - 0.5 * along
        curve = start + t * rng.uniform(0.4, 1.2) * along + t * t * rng.normal(0, 0.4) * across
        points = np.round(curve * size * 16).astype(np.int32)
        cv2.polylines(canvas, [points], False, int(rng.integers(140, 230)), max(1, size // 100), cv2.LINE_AA, 4)
    colour = np.array((52, 36, 28), np.float32)
    return _blend(image, colour, canvas.astype(np.float32) / 255)


Structure = Callable[[Array, Array, Outline, np.random.Generator], Array]
STRUCTURES: dict[str, Structure] = {
    "globules": _globules,
    "milia_like_cyst": _milia_like_cyst,
    "negative_network": _negative_network,
    "pigment_network": _pigment_network,
    "streaks": _streaks,
}
