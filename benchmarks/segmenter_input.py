"""How long a segmenter waits for its batches: pairs in memory as uint8, beside a DataLoader that decodes files.

    python benchmarks/segmenter_input.py [--images 2048] [--size 256] [--batch 256] [--steps 4] [--workers 2]

The training of `segmenter=unet`, with its loader, its augmentation and its loss, on the GPU where there is one, else on
two threads. The peer decodes JPEGs of 1024 x 768 and masks with OpenCV and resizes them, in worker processes. First
the input alone, as fast as it comes; then the training, and for what share of it the device waits for a batch.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from monai.networks.nets import BasicUNet
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dermprompt.data.datasets.phantom import make_phantom
from dermprompt.generator.batches import make_loader
from dermprompt.segmenter.batches import SegmentationBatches
from dermprompt.segmenter.module import SegmenterModule

Batches = Iterable[tuple[Tensor, Tensor]]


class Files(Dataset[tuple[Tensor, Tensor]]):
    """The peer: a pair decoded and resized whenever it is asked for."""

    def __init__(self, pairs: list[tuple[Path, Path]], size: int) -> None:
        self.pairs, self.size = pairs, size

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        image, mask = (cv2.imread(str(path), flag) for path, flag in zip(self.pairs[row], (1, 0), strict=True))
        image = cv2.resize(image[..., ::-1], (self.size, self.size), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, (self.size, self.size), interpolation=cv2.INTER_NEAREST)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 127.5 - 1
        return pixels, torch.from_numpy(mask)[None].float() / 255


def paint(folder: Path, number: int) -> list[tuple[Path, Path]]:
    """JPEGs of 1024 x 768 with their masks; 32 of them are distinct."""
    files = []
    for i in range(min(number, 32)):
        phantom = make_phantom(0, i, 256)
        image, mask = folder / f"{i}.jpg", folder / f"{i}.png"
        large = cv2.resize(phantom.image[..., ::-1], (1024, 768), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(image), large, [cv2.IMWRITE_JPEG_QUALITY, 92])
        cv2.imwrite(str(mask), cv2.resize(phantom.mask * 255, (1024, 768), interpolation=cv2.INTER_NEAREST))
        files.append((image, mask))
    return [files[i % len(files)] for i in range(number)]


def in_memory(files: list[tuple[Path, Path]], size: int, batch: int) -> Batches:
    """Our loader, of the same pairs."""
    distinct = Files(files[:32], size)
    images = torch.stack([((distinct[i % len(distinct)][0] + 1) * 127.5).byte() for i in range(len(files))])
    masks = torch.stack([distinct[i % len(distinct)][1][0].byte() for i in range(len(files))])
    pairs = (images.permute(0, 2, 3, 1).contiguous().numpy(), masks.numpy())
    return make_loader(SegmentationBatches(pairs), len(files), batch, 0)


def images_a_second(batches: Batches, device: torch.device, steps: int) -> float:
    """How fast batches come to the device when nothing else is done; the first is not counted."""
    stream = iter(itertools.chain.from_iterable(itertools.repeat(batches)))
    first, _ = (one.to(device) for one in next(stream))
    _finish(device)
    start = time.perf_counter()
    for images, masks in itertools.islice(stream, steps):
        _ = images.to(device), masks.to(device)
    _finish(device)
    return steps * len(first) / (time.perf_counter() - start)


def wait_and_train(batches: Batches, module: SegmenterModule, device: torch.device, steps: int) -> tuple[float, float]:
    """Seconds a step of waiting for a batch, and of training on it."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    stream = iter(itertools.chain.from_iterable(itertools.repeat(batches)))
    waited = trained = 0.0
    for step in range(steps + 1):
        start = time.perf_counter()
        images, masks = (one.to(device, non_blocking=True) for one in next(stream))
        _finish(device)
        between = time.perf_counter()
        if images.dtype == torch.uint8:
            images, masks = module.on_after_batch_transfer((images, masks), 0)
        images, masks = module.augment(images, masks, step)
        loss = module.loss(module(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _finish(device)
        if step:  # the first starts workers and kernels
            waited, trained = waited + between - start, trained + time.perf_counter() - between
    return waited / steps, trained / steps


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print both shares and the ratio of the waits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 2048), ("size", 256), ("batch", 256), ("steps", 4), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--width", type=int, default=64, help="of the U-Net's first level (paper: 64)")
    options = parser.parse_args()
    torch.set_num_threads(2)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    features = [options.width * k for k in (1, 2, 4, 8, 16, 1)]
    network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=features, norm="batch")
    module = SegmenterModule(network, 1e-3, 0, augmentation="flips").to(device)
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        files = paint(Path(folder), options.images)
        ours = in_memory(files, options.size, options.batch)
        theirs = DataLoader(
            Files(files, options.size), options.batch, shuffle=True, num_workers=options.workers, drop_last=True
        )
        for name, batches in (("pairs in memory", ours), ("files decoded", theirs)):
            rates[name] = images_a_second(batches, device, 4 * options.steps)
            waited, trained = wait_and_train(batches, module, device, options.steps)
            print(
                f"{name}: {rates[name]:.0f} images/s alone; in the training {1000 * waited:.1f} ms of waiting for "
                f"{1000 * trained:.0f} ms of work, {100 * waited / (waited + trained):.2f} % of the time"
            )
    print(f"ratio of the input's rates on {device.type}: {rates['pairs in memory'] / rates['files decoded']:.0f}")


if __name__ == "__main__":
    main()
