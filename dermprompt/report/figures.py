"""The report's images and charts: thumbnails, texture crops, outlined samples, SVG charts. All are deterministic."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from dermprompt.report.tables import PURPOSES, Source, paper_order, sampler_of, source_of
from dermprompt.results import ArmTable, Curve, Interval, Job, Picture

# A placeholder for the page's text colour, so that charts are legible in light and dark mode.
INK = "#010203"
ACCENT = "#2b8f86"
SEEDS = (ACCENT, "#c9772b", "#7a6fc4", "#b0568a", "#6b8e23")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dermprompt",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.formatter.useoffset": False,
}


# The images of a test mask: the run folder to which a picture's paths are relative, the picture, each source's image.
GalleryRow = tuple[Path, Picture, list[Path | None]]


def gallery(jobs: Sequence[Job]) -> tuple[list[Source], list[GalleryRow]]:
    """Arrange test masks by sources (paper, Figure 3); a source's images come from the first job that has some."""
    drawn: dict[Source, dict[str, Path]] = {}
    first: dict[str, tuple[Path, Picture]] = {}
    for path, results in jobs:
        source = source_of(results, results.generator)
        if source and results.gallery and source not in drawn:
            drawn[source] = {picture.id: path / picture.image for picture in results.gallery}
            for picture in results.gallery:
                first.setdefault(picture.id, (path, picture))
    sources = sorted(drawn, key=paper_order)
    rows = [(path, picture, [drawn[source].get(id) for source in sources]) for id, (path, picture) in first.items()]
    return sources, rows


def samples(jobs: Sequence[Job]) -> list[tuple[Source | None, Path, Picture]]:
    """The synthetic samples of each source, from its first job that has some, with the job's run folder."""
    first: dict[Source | None, Job] = {}
    for path, results in jobs:
        if results.samples:
            first.setdefault(sampler_of(results), (path, results))
    return [(source, path, one) for source, (path, results) in first.items() for one in results.samples]


def thumbnail(path: Path, side: int = 320) -> bytes:
    """Shrink an image to at most ``side`` pixels; smaller ones keep their size. Masks are stored without loss."""
    stored = Image.open(path)
    image = stored.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _webp(image, lossless=stored.mode == "L")


def centre_crop(path: Path, zoom: int = 3) -> bytes:
    """Crop the centre, 1/``zoom`` of each side, with unchanged pixels, to show texture (paper, Figure 4)."""
    image = Image.open(path).convert("RGB")
    width, height = (max(1, size // zoom) for size in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return _webp(image.crop((left, top, left + width, top + height)), lossless=True)


def outlined(image: Path, mask: Path, side: int = 320) -> bytes:
    """Draw the outline of a mask (0 and 255) over its image, whose longer side is scaled to ``side`` pixels."""
    picture = Image.open(image).convert("RGB")
    scale = side / max(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    canvas = np.array(picture.resize(size, Image.Resampling.BICUBIC))
    lesion = np.array(Image.open(mask).convert("L").resize(size, Image.Resampling.NEAREST)) > 127
    outline, _ = cv2.findContours(lesion.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outline, -1, (20, 30, 30), 4, cv2.LINE_AA)
    cv2.drawContours(canvas, outline, -1, (120, 240, 225), 2, cv2.LINE_AA)
    return _webp(Image.fromarray(canvas))


def curves_svg(curves: Sequence[Curve]) -> str:
    """Draw learning curves: one small panel per training and metric, one line per distinct curve."""
    panels: dict[tuple[str, str], dict[str, Curve]] = {}
    for curve in curves:
        panels.setdefault((curve.training, curve.metric), {}).setdefault(repr(curve), curve)
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 2.1 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, ((training, metric), lines) in zip(grid, panels.items(), strict=False):
            _panel(axes, f"{training} · {metric}", tuple(lines.values()))
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        return _svg(figure)


def gains_svg(gains: Sequence[tuple[str, Interval]], label: str) -> str:
    """Draw paired gains with their intervals, one per row, and a line at 0; ``label``: of the axis."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.7 + 0.3 * len(gains)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
        for row, (_, gain) in enumerate(gains):
            axes.plot([gain.low, gain.high], [row, row], color=ACCENT, linewidth=2, solid_capstyle="round")
            axes.plot(gain.mean, row, "o", color=ACCENT, markersize=6)
        axes.set_ylim(len(gains) - 0.5, -0.5)
        axes.set_yticks(range(len(gains)), [name for name, _ in gains], parse_math=False)
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        return _svg(figure)


def purposes_svg(tables: Sequence[ArmTable]) -> str:
    """Draw the gain over the control against the number of real images: one panel per purpose, one line per arm."""
    names = [name for name in PURPOSES if any(row.purpose == name for table in tables for row in table.purposes)]
    numbers = sorted({table.num_real for table in tables}, key=lambda one: (one is None, one))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
            axes.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
            axes.set_title(PURPOSES[name], loc="left", fontsize=8)
            axes.set_xticks(range(len(numbers)), ["all" if one is None else str(one) for one in numbers])
            axes.set_xlabel("real images")
            axes.set_xlim(-0.5, len(numbers) - 0.5)
            lines: dict[str, list[tuple[int, Interval]]] = {}
            for table in tables:
                for row in table.purposes:
                    if row.purpose == name:
                        lines.setdefault(row.arm, []).append((numbers.index(table.num_real), row.against.gain))
            for index, (arm, points) in enumerate(lines.items()):
                _line(axes, arm, points, SEEDS[index % len(SEEDS)], 0.08 * (index - (len(lines) - 1) / 2))
            axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        figure.axes[0].set_ylabel("gain in DSC over the control")
        return _svg(figure)


def _line(axes: Axes, arm: str, points: Sequence[tuple[int, Interval]], color: str, shift: float) -> None:
    """Draw one arm's gains with their intervals, shifted horizontally so that arms do not overlap."""
    places = [place + shift for place, _ in sorted(points, key=itemgetter(0))]
    gains = [gain for _, gain in sorted(points, key=itemgetter(0))]
    axes.vlines(places, [one.low for one in gains], [one.high for one in gains], color=color, linewidth=2)
    axes.plot(places, [one.mean for one in gains], "o-", color=color, markersize=4, linewidth=1, label=arm)


def _panel(axes: Axes, name: str, lines: Sequence[Curve]) -> None:
    for index, line in enumerate(lines):
        marker = "o" if len(line.steps) < 3 else ""
        color = SEEDS[index % len(SEEDS)]
        axes.plot(line.steps, line.values, color=color, linewidth=1.3, marker=marker, markersize=3)
    last = ", ".join(f"{line.values[-1]:.4g}" for line in lines if line.values)
    title = "\n".join([*textwrap.wrap(name, 38), f"last {last}"])
    axes.set_title(title, loc="left", fontsize=8, parse_math=False)
    axes.locator_params(axis="x", nbins=4, integer=True)
    axes.locator_params(axis="y", nbins=4)
    axes.grid(axis="y", color="#888888", alpha=0.25, linewidth=0.5)


def _svg(figure: Figure) -> str:
    """The bare ``<svg>`` element, without prologue, metadata and date; ink is ``currentColor``."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    # Two charts on one page would have groups with the same ids, which nothing refers to.
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg[svg.index("<svg") :])
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S).replace(INK, "currentColor")


def _webp(image: Image.Image, lossless: bool = False) -> bytes:
    buffer = io.BytesIO()
    # A page has about a hundred images; PNG would take twenty times as long to write, and eight times the space.
    image.save(buffer, format="WEBP", lossless=lossless, quality=90, method=2)
    return buffer.getvalue()
