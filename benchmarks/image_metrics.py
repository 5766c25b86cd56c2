"""Table 1's figures of 200 pairs at 512 x 512 in both protocols, beside scikit-image and torchmetrics.

    python benchmarks/image_metrics.py [--pairs 200] [--peer-pairs 10]

One process, two threads. The peers compute SSIM alone, on fewer pairs; times are a pair's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from dermprompt.data.datasets.phantom import make_phantom
from dermprompt.evaluation.image import paper_protocol, ssim, standard_protocol


def paint(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of phantoms, enlarged to 512 pixels with grain."""
    rng = np.random.default_rng(0)

    def picture(index: int) -> np.ndarray:
        large = cv2.resize(make_phantom(0, index, 128).image, (512, 512), interpolation=cv2.INTER_CUBIC)
        return np.clip(large + rng.normal(0, 6, large.shape), 0, 255).astype(np.uint8)

    distinct = np.stack([picture(index) for index in range(20)])
    rows = np.arange(number) % 20
    return distinct[rows], distinct[(rows + 7) % 20]


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def by_scikit_image(real: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Gaussian SSIM with scikit-image."""
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    pairs = zip(real / 255, generated / 255, strict=True)
    return np.array([structural_similarity(a, b, data_range=1, **settings) for a, b in pairs])


def by_torchmetrics(real: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Gaussian SSIM with torchmetrics, pair by pair."""
    tensors = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 for images in (real, generated))
    pairs = zip(*tensors, strict=True)
    return np.array([float(structural_similarity_index_measure(a[None], b[None], data_range=1.0)) for a, b in pairs])


def main() -> None:
    """Print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--peer-pairs", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    real, generated = paint(options.pairs)
    both = seconds(lambda: (paper_protocol(real, generated), standard_protocol(real, generated)))
    print(f"both protocols, {options.pairs} pairs: {both:.1f} s, {1000 * both / options.pairs:.1f} ms a pair")
    few = real[: options.peer_pairs], generated[: options.peer_pairs]
    ours = seconds(lambda: ssim(*few, "gaussian", 1)) / options.peer_pairs
    print(f"Gaussian SSIM alone: {1000 * ours:.1f} ms a pair")
    want = ssim(*few, "gaussian", 1)
    for name, peer in (("scikit-image", by_scikit_image), ("torchmetrics", by_torchmetrics)):
        took = seconds(lambda peer=peer: peer(*few)) / options.peer_pairs
        apart = np.abs(peer(*few) - want).max()
        print(f"{name}: {1000 * took:.1f} ms a pair, {took / ours:.1f} times as long; values differ by {apart:.1e}")


if __name__ == "__main__":
    main()
