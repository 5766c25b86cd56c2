"""How many masks a second: ours beside the authors' recipe, in turns, in one process, two threads, 512 x 512.

    python benchmarks/masks.py [--rounds 5] [--threads 2] [--root /data/isic2018]

With ``--root`` also the realistic masks, which are fitted to the masks of a split's G.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import recipe
import torch

from dermprompt.masks.automatic import AutomaticMasks
from dermprompt.masks.realistic import RealisticMasks


def kept_per_second(draw: Callable[[int], int]) -> Callable[[int], float]:
    """Time a function that draws masks in round ``i`` and says how many."""

    def timed(i: int) -> float:
        start = time.perf_counter()
        number = draw(i)
        return number / (time.perf_counter() - start)

    return timed


def contenders(device: str, number: int, root: Path | None) -> dict[str, Callable[[int], int]]:
    """Each draws masks and returns how many."""
    code = AutomaticMasks(512, 0, device=device)
    text = AutomaticMasks(512, 0, blur_sigma=5.0, device=device)
    sources = {"paper_code": code, "paper_text": text}
    if root is not None:
        from mask_shapes import read_masks

        sources["realistic"] = RealisticMasks(read_masks(root)[0], 512, 0)
    ours = {
        name: lambda i, source=source: len(source.sample(range(i * number, (i + 1) * number)))
        for name, source in sources.items()
    }
    return {"the recipe": lambda i: len(recipe.draw(24, seed=i)[0])} | ours


def main() -> None:
    """Print the medians over rounds, and their ratio to the recipe's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--number", type=int, default=256, help="masks of ours a round")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--root", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    timed = {n: kept_per_second(f) for n, f in contenders(arguments.device, arguments.number, arguments.root).items()}
    rates: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(arguments.rounds + 1):
        for name, function in timed.items():
            rate = function(turn)
            if turn:  # the first round warms up
                rates[name].append(rate)
    peer = statistics.median(rates["the recipe"])
    print(f"{'512 x 512 masks':16} kept/s (median of {arguments.rounds}; lowest, highest)      ratio")
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:16} {median:8.1f} ({min(values):.1f}, {max(values):.1f}) {median / peer:30.1f}")


if __name__ == "__main__":
    main()
