"""Training data of the generators: images, masks and prompts, in seeded batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dermprompt.lesion import images_to_float, masks_to_float
from dermprompt.mapped import Rows, slices
from dermprompt.progress import progress

if TYPE_CHECKING:  # otherwise every worker of a loader would import diffusers
    from dermprompt.generator.codec.load import Codec

# An orientation is a number of quarter turns, and whether the image is mirrored first.
ORIENTATIONS = {
    "none": ((0, False),),
    "flip": ((0, False), (0, True)),
    "dihedral": tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4)),
}


# GPU: four images of 512 pixels, for which Stable Diffusion's encoder takes over 2 GB; CPU: what fits its cache.
PIXELS_AT_ONCE = {"cuda": 2**20, "cpu": 2**16}


def orient(images: Tensor, turns: int, mirrored: bool) -> Tensor:
    """Mirror (…, H, W) left to right if ``mirrored``, then give it ``turns`` quarter turns."""
    return torch.rot90(images.flip(-1) if mirrored else images, turns, (-2, -1))


class SeededOrder(Sampler[list[int]]):
    """Batches of items; epoch e's order depends on (seed, e) alone, so a resumed run continues identically.

    An item is image · variants + variant; an epoch has each image once, in a randomly drawn variant. An incomplete
    last batch is dropped. Each of several processes takes its share of every batch.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        variants: int = 1,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.num_images, self.variants, self.seed, self.epoch = num_images, variants, seed, 0
        self.batch_size = min(batch_size, num_images)
        self.rank, self.num_processes = rank, num_processes

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_images // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.num_images) * self.variants
        order += rng.integers(self.variants, size=self.num_images)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = order[start : start + self.batch_size]
            yield batch[self.rank :: self.num_processes].tolist()


@dataclass(frozen=True)
class TrainingImages:
    """Images uint8 NSS3 and masks uint8 NSS in {0, 1}, each with a prompt and an id."""

    images: Rows
    masks: Rows
    prompts: tuple[str, ...]
    ids: tuple[str, ...]


class ImageBatches(Dataset[dict[str, Tensor]]):
    """Images N3SS in [-1, 1] and masks N1SS for a list of items; item = image · orientations + orientation."""

    def __init__(self, data: TrainingImages, augmentation: str) -> None:
        self.data, self.orientations = data, ORIENTATIONS[augmentation]

    def __len__(self) -> int:
        return len(self.data.images) * len(self.orientations)

    def __getitem__(self, items: list[int]) -> dict[str, Tensor]:
        rows, turned = _split(items, self.orientations)
        images = images_to_float(torch.from_numpy(self.data.images[rows]))
        masks = masks_to_float(torch.from_numpy(self.data.masks[rows]))
        return {
            "images": _orient_each(images, turned),
            "masks": _orient_each(masks, turned),
            "rows": torch.tensor(rows),
        }


class LatentBatches(Dataset[dict[str, Tensor]]):
    """Latents, computed once for every orientation, with masks N1SS and prompt indices.

    Item = image · orientations + orientation. Index k stands for ``prompts[k]``; index 0 is the empty prompt.
    """

    def __init__(self, mean: Tensor, std: Tensor, data: TrainingImages, augmentation: str) -> None:
        self.mean, self.std, self.masks = mean, std, data.masks
        self.orientations = ORIENTATIONS[augmentation]
        self.prompts = ("", *sorted(set(data.prompts) - {""}))
        self.numbers = torch.tensor([self.prompts.index(prompt) for prompt in data.prompts])

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, items: list[int]) -> dict[str, Tensor]:
        rows, turned = _split(items, self.orientations)
        return {
            "mean": self.mean[items],
            "std": self.std[items],
            "masks": _orient_each(masks_to_float(torch.from_numpy(self.masks[rows])), turned),
            "prompts": self.numbers[rows],
            "rows": torch.tensor(rows),
        }


def _split(items: list[int], orientations: tuple[tuple[int, bool], ...]) -> tuple[list[int], list[tuple[int, bool]]]:
    """The image indices and orientations of items."""
    parts = [divmod(item, len(orientations)) for item in items]
    return [image for image, _ in parts], [orientations[number] for _, number in parts]


def _orient_each(images: Tensor, turned: list[tuple[int, bool]]) -> Tensor:
    return torch.stack([orient(image, *one) for image, one in zip(images, turned, strict=True)])


def encode_latents(codec: Codec, data: TrainingImages, augmentation: str, precision: str = "32-true") -> LatentBatches:
    """Encode every image once in every orientation; item = index · orientations + orientation.

    ``precision``: of the training; with ``bf16-mixed``, images are encoded in mixed precision too.
    """
    means, stds = [], []
    device = next(iter(codec.state_dict().values())).device
    pieces = list(slices(len(data.images), images_at_once(device, data.images.shape[1])))
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        for some in progress(pieces, "latents", "batches"):
            images = images_to_float(torch.from_numpy(data.images[some])).to(device)
            moments = [codec.encode(_channels_last(orient(images, *turned))) for turned in ORIENTATIONS[augmentation]]
            means.append(torch.stack([mean for mean, _ in moments], 1).flatten(0, 1).float().cpu())
            stds.append(torch.stack([std for _, std in moments], 1).flatten(0, 1).float().cpu())
    return LatentBatches(torch.cat(means), torch.cat(stds), data, augmentation)


def images_at_once(device: torch.device, size: int) -> int:
    """How many images of ``size`` pixels a codec encodes at once on a device."""
    return max(1, PIXELS_AT_ONCE[device.type] // size**2)


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def make_loader(
    data: Dataset[Any], num_images: int, batch_size: int, seed: int, rank: int = 0, num_processes: int = 1
) -> DataLoader[Any]:
    """A loader over ``num_images`` images with ``len(data) / num_images`` variants each."""
    variants = len(data) // num_images  # type: ignore[arg-type]
    order = SeededOrder(num_images, batch_size, seed, variants, rank, num_processes)
    # The sampler yields whole batches, because Lightning sets the epoch of a sampler, but not of a batch sampler.
    return DataLoader(data, sampler=order, batch_size=None)
