"""How long the first and the second `stage=prepare` take on many small images, and how much memory.

    python benchmarks/prepare.py [--images 2500 10000 25331]

Pairs of 96 x 72 pixels, each of another content, with a table of labels, as `data=folder` at 64 pixels. Each job is a
process of its own: wall-clock and processor seconds, and its peak memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

OVERRIDES = ("generator=none", "synthesis.count=0", "stage=prepare", "image_size=64", "segmenter.image_size=64")


def paint(root: Path, number: int) -> None:
    """Write a folder of images and masks."""
    rng = np.random.default_rng(0)
    base = cv2.resize(rng.integers(0, 255, (9, 12, 3), np.uint8), (96, 72), interpolation=cv2.INTER_CUBIC)
    for part in ("images", "masks"):
        (root / part).mkdir()
    for i in range(number):
        x, y, r = rng.integers(20, 50, 3)
        mask = cv2.circle(np.zeros((72, 96), np.uint8), (int(x), int(y)), int(r) // 2, 255, -1)
        image = cv2.circle(np.roll(base, i % 97, axis=1), (int(x), int(y)), int(r) // 2, (i % 256, i // 256, 99), -1)
        cv2.imwrite(str(root / "images" / f"a{i:06d}.jpg"), image)
        cv2.imwrite(str(root / "masks" / f"a{i:06d}_mask.png"), mask)
    rows = "".join(f"a{i:06d},{('NV', 'MEL')[i % 2]},P{i // 3}\n" for i in range(number))
    (root / "labels.csv").write_text("id,diagnosis,patient_id\n" + rows)


def prepare(root: Path, store: Path) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of processors, and MiB at the peak, of a job."""
    places = [f"data.root={root}", f"paths.store={store}", f"paths.runs={store / 'runs'}"]
    start = time.perf_counter()
    command = [sys.executable, "-m", "dermprompt", "data=folder", *OVERRIDES, *places]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(job.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Print a line for each job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[2500, 10_000, 25_331])
    print(f"{'images':>7} {'prepare':>8} {'clock':>8} {'processor':>10} {'peak':>10}")
    for number in parser.parse_args().images:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "data"
            root.mkdir()
            paint(root, number)
            for turn in ("first", "second"):
                wall, used, peak = prepare(root, Path(folder) / "store")
                print(f"{number:7,} {turn:>8} {wall:6.1f} s {used:8.1f} s {peak:6.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
