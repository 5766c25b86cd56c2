"""The sampling loop: aligned batches of equal size, so that sample i is always at the same place of the same batch.

While the device generates a batch, threads encode and write earlier ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dermprompt.lesion import find_faults, images_to_uint8, masks_to_float
from dermprompt.synthesis.samples import Condition, sample_id, write_batch

# Batches being encoded and written while the next is generated; more would only fill memory.
BEHIND = 2


class Generator(Protocol):
    """Masks N1SS, prompts and seeds to images N3SS in [-1, 1]."""

    def generate(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Generate one image for each mask."""


def sample_seed(seed: int, index: int) -> int:
    """The 63-bit seed of sample ``index``."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)


class Pixels:
    """Images uint8 NSS3 being copied from the device to the host."""

    def __init__(self, images: Tensor) -> None:
        """Start copying images N3SS in [-1, 1]; on a GPU this returns at once, even before the images are computed."""
        pixels = images_to_uint8(images.float().nan_to_num())
        self._copied = None
        self._host, self._faults = (_copy(one) for one in (pixels, find_faults(images, pixels)))
        if pixels.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def array(self) -> np.ndarray:
        """The images, after waiting for the copy."""
        self._wait()
        return self._host.numpy()

    def faults(self) -> list[tuple[int, str]]:
        """Indices of unusable images, with what is wrong with each."""
        self._wait()
        words = {1: "NaN or infinite", 2: "of one colour"}
        return [(place, words[fault]) for place, fault in enumerate(self._faults.tolist()) if fault]

    def _wait(self) -> None:
        if self._copied is not None:
            self._copied.synchronize()


def _copy(values: Tensor) -> Tensor:
    host = torch.empty(values.shape, dtype=torch.uint8, pin_memory=values.is_cuda)
    return host.copy_(values, non_blocking=True)


def draw_images(generator: Generator, conditions: list[Condition], seeds: list[int]) -> Pixels:
    """Generate images for conditions.

    Raises:
        ValueError: the device's memory is too small for the batch; names the setting to lower.
    """
    masks = masks_to_float(torch.from_numpy(np.stack([one.mask for one in conditions])))
    try:
        return Pixels(generator.generate(masks, [one.prompt for one in conditions], seeds))
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"synthesis.batch_size={len(conditions)}: out of memory on the device; lower it, "
            "or set synthesis.precision=bf16-true. Either gives a different set of samples"
        ) from error


def draw_batches(
    generator: Generator,
    condition: Callable[[int], Condition],
    numbers: Iterable[int],
    batch_size: int,
    seed: int,
    folder: Path,
    record: Callable[[int], Path],
    name: str,
    total: int | None = None,
) -> None:
    """Generate and write the batches with the given numbers.

    ``total``: the number of conditions; the last batch is padded with the last condition, and the padding is not
    written. An error in a thread is raised here, when its batch's turn comes.
    """

    def write(number: int, seeds: list[int], conditions: list[Condition], pixels: Pixels) -> None:
        wanted = range(number * batch_size, (number + 1) * batch_size)
        for place, what in pixels.faults():
            raise ValueError(
                f"{sample_id(wanted[place])} is {what}: {name} gives no usable image with these settings; lower "
                "generator.guidance_scale, set synthesis.precision=32-true, or train the generator again"
            )
        rows = zip(wanted, seeds, conditions, pixels.array(), strict=True)
        write_batch(folder, record(number), [row for row in rows if not total or row[0] < total], name)

    behind: deque[Future[None]] = deque()
    with ThreadPoolExecutor(BEHIND) as threads:
        for number in numbers:
            wanted = range(number * batch_size, (number + 1) * batch_size)
            indices = [min(i, total - 1) if total else i for i in wanted]
            conditions = [condition(i) for i in indices]
            seeds = [sample_seed(seed, i) for i in indices]
            behind.append(threads.submit(write, number, seeds, conditions, draw_images(generator, conditions, seeds)))
            while len(behind) > BEHIND:
                behind.popleft().result()
        for one in behind:
            one.result()
