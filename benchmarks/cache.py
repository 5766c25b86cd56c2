"""Epochs from the cache beside decoding and resizing every time; and that memory stays flat.

    python benchmarks/cache.py [--images 96] [--size 256] [--repeats 3]

JPEGs of 1024 x 768, of 3024 x 2016 and of 6688 x 4439 pixels (ISIC's largest) are painted, decoded and resized
by the usual recipe (OpenCV), and read as an epoch reads them from the cache, shuffled, in batches of 32. One
process, two threads.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from dermprompt.data.datasets.phantom import make_phantom
from dermprompt.data.decode import decode_image
from dermprompt.data.library import Pair, grow_library, open_records
from dermprompt.data.reading import PLAIN

SIDES = {"1024 x 768": (768, 1024), "3024 x 2016": (2016, 3024), "6688 x 4439": (4439, 6688)}


def paint(folder: Path, number: int, height: int, width: int) -> list[Pair]:
    """Different JPEGs of one size, all with one mask."""
    mask = folder / "mask.png"
    cv2.imwrite(str(mask), np.full((height, width), 255, np.uint8))
    base = cv2.resize(make_phantom(0, 0, 512).image, (width, height), interpolation=cv2.INTER_CUBIC)
    pairs = []
    for i in range(number):
        path = folder / f"{i}.jpg"
        cv2.imwrite(str(path), np.roll(base, 7 * i, axis=1), [cv2.IMWRITE_JPEG_QUALITY, 92])
        pairs.append(Pair(path, mask, _sha256(path), _sha256(mask)))
    return pairs


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def decoding(pairs: list[Pair], size: int) -> float:
    """Milliseconds an image: decode and resize, as without a cache."""
    start = time.perf_counter()
    for pair in pairs:
        image = cv2.imdecode(np.frombuffer(pair.image.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return (time.perf_counter() - start) / len(pairs) * 1e3


def scaled(pairs: list[Pair], size: int) -> float:
    """Milliseconds an image: our own decoding, once."""
    start = time.perf_counter()
    for pair in pairs:
        decode_image(pair.image.read_bytes(), size)
    return (time.perf_counter() - start) / len(pairs) * 1e3


def reading(library: Path, size: int, rng: np.random.Generator) -> float:
    """Milliseconds an image: an epoch from the cache, as uint8 batches in memory."""
    images, masks = open_records(library, size)
    order = rng.permutation(len(images))
    start = time.perf_counter()
    for i in range(0, len(order), 32):
        batch = images[order[i : i + 32]], masks[order[i : i + 32]]
        assert len(batch[0]) == len(batch[1])
    return (time.perf_counter() - start) / len(order) * 1e3


def peak_memory() -> float:
    """MiB that this process has ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> None:
    """Print the peak for more and more images; first of all, for a peak never falls."""
    print("peak memory while a library of 256 x 256 pixels grows, from JPEGs of 1024 x 768")
    for number in (64, 256, 1024):
        with tempfile.TemporaryDirectory() as folder:
            pairs = paint(Path(folder), number, 768, 1024)
            grow_library(Path(folder) / "library", 256, pairs, PLAIN, lambda _: None)
        print(f"{number:6} images: {peak_memory():.0f} MiB")


def main() -> None:
    """Print a line for each size of originals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    cv2.setNumThreads(2)
    memory()
    rng = np.random.default_rng(0)
    print(f"\n{'originals':14} {'decode + resize':>16} {'decoded scaled':>15} {'from the cache':>15} {'ratio':>7}")
    for name, (height, width) in SIDES.items():
        with tempfile.TemporaryDirectory() as folder:
            pairs = paint(Path(folder), arguments.images if height < 4000 else arguments.images // 4, height, width)
            library = Path(folder) / "library"
            grow_library(library, arguments.size, pairs, PLAIN, lambda _: None)
            turns = [
                (decoding(pairs, arguments.size), scaled(pairs, arguments.size), reading(library, arguments.size, rng))
                for _ in range(arguments.repeats)
            ]
        plain, once, cached = (statistics.median(column) for column in zip(*turns, strict=True))
        print(f"{name:14} {plain:13.1f} ms {once:12.1f} ms {cached:12.3f} ms {plain / cached:7.0f}")


if __name__ == "__main__":
    main()
