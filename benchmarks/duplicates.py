"""Near-duplicates among 10,015 images (as many as HAM10000 has) of 256 x 256: ours beside a plain comparison.

    python benchmarks/duplicates.py --root /data/isic2018 [--number 10015] [--sample 48]

The images are those of ISIC 2018 Task 1, whole, then magnified and turned about their centres, so that the lesion stays
in the middle, as in other photographs, but its structures differ. The plain comparison aligns every two images, in each
orientation, whose perceptual hashes are similar. It is timed for the pairs of a sample, and multiplied by the number of
pairs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dermprompt.data import duplicates

SIDE = 256
# Magnification and degrees; each view is turned and magnified too much against the others to match them.
VIEWS = ((1.0, 0), (1.5, 45), (2.0, 20), (2.7, 65))


def read_images(root: Path, number: int) -> np.ndarray:
    """The first ``number`` of the whole images, then of each further view: uint8 (number, 256, 256, 3)."""
    paths = sorted((root / "ISIC2018_Task1-2_Training_Input").glob("*.jpg"))
    images = np.empty((number, SIDE, SIDE, 3), np.uint8)
    for k, path in enumerate(paths[:number]):
        image = cv2.resize(cv2.imread(str(path)), (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_AREA)[..., ::-1]
        middle = SIDE - 0.5
        for (zoom, angle), place in zip(VIEWS, range(k, number, len(paths)), strict=False):
            matrix = cv2.getRotationMatrix2D((middle, middle), angle, zoom / 2)
            matrix[:, 2] -= SIDE / 2
            images[place] = cv2.warpAffine(image, matrix, (SIDE, SIDE))
    return images


def compare_plainly(images: np.ndarray) -> int:
    """How many pairs match in some orientation."""
    views = [[duplicates.orient(image, *one) for one in duplicates.ORIENTATIONS] for image in images]
    hashes = np.array([[duplicates.perceptual_hash(view) for view in each] for each in views])
    found = set()
    for i, j in itertools.combinations(range(len(images)), 2):
        for view in np.flatnonzero((hashes[i, 0] != hashes[j]).sum(1) <= duplicates.MAX_HASH_DISTANCE):
            if duplicates.correlation(views[i][0], views[j][view]) >= duplicates.THRESHOLD:
                found.add((i, j))
    return len(found)


def timed(name: str, images: np.ndarray, find: Callable[[], int]) -> float:
    """Print how long it takes and how many pairs are found; processor time per pair of images, in seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    found = find()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(
        f"{name:5} {len(images):6} images: {wall:.1f} s, {processor:.1f} s of processor time, {found} pairs", flush=True
    )
    return processor / math.comb(len(images), 2)


def main() -> None:
    """Print both times, wall and processor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--number", type=int, default=10015)
    parser.add_argument("--sample", type=int, default=48)
    arguments = parser.parse_args()
    images = read_images(arguments.root, arguments.number)
    ids, sample = [f"{k:06}" for k in range(len(images))], images[: arguments.sample]
    ours = timed("ours", images, lambda: len(duplicates.find_duplicates(ids, images)))
    plain = timed("plain", sample, lambda: compare_plainly(sample))
    print(f"plain, all pairs: {plain * math.comb(len(images), 2):.0f} s, {plain / ours:.0f} times ours")


if __name__ == "__main__":
    main()
