"""What a generator trains on: images, masks and prompts in memory, in batches that a seed decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dermprompt.lesion import images_to_float, masks_to_float

# An orientation is a number of quarter turns, and whether the picture is mirrored first.
ORIENTATIONS = {
    "none": ((0, False),),
    "flip": ((0, False), (0, True)),
    "dihedral": tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4)),
}


def orient(images: Tensor, turns: int, mirrored: bool) -> Tensor:
    """Mirror NCHW left to right if asked, then turn it by quarters."""
    return torch.rot90(images.flip(-1) if mirrored else images, turns, (-2, -1))


class SeededOrder(Sampler[list[int]]):
    """Batches of indices; epoch e's order is a function of (seed, e) alone, so a resumed run goes on.

    The last batch is dropped when it is not full. With several processes each takes its share of a batch.
    """

    def __init__(
        self, num_items: int, batch_size: int, seed: int, rank: int = 0, num_processes: int = 1
    ) -> None:
        self.num_items, self.seed, self.epoch = num_items, seed, 0
        self.batch_size = min(batch_size, num_items)
        self.rank, self.num_processes = rank, num_processes

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_items // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_items)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = order[start : start + self.batch_size]
            yield batch[self.rank :: self.num_processes].tolist()


@dataclass(frozen=True)
class TrainingImages:
    """Images uint8 NSS3, masks uint8 NSS in {0, 1} and one prompt each."""

    images: Tensor
    masks: Tensor
    prompts: tuple[str, ...]


class ImageBatches(Dataset[dict[str, Tensor]]):
    """Batches of images N3SS in [-1, 1] and masks N1SS, in all orientations; item = (index, orientation)."""

    def __init__(self, data: TrainingImages, augmentation: str) -> None:
        self.data, self.orientations = data, ORIENTATIONS[augmentation]

    def __len__(self) -> int:
        return len(self.data.images) * len(self.orientations)

    def __getitems__(self, items: list[int]) -> list[dict[str, Tensor]]:
        return [self[item] for item in items]

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        index, orientation = divmod(item, len(self.orientations))
        rows = slice(index, index + 1)
        turned = self.orientations[orientation]
        image = orient(images_to_float(self.data.images[rows]), *turned)[0]
        mask = orient(masks_to_float(self.data.masks[rows]), *turned)[0]
        return {"images": image, "masks": mask}


class LatentBatches(Dataset[dict[str, Tensor]]):
    """Latents computed once for every orientation, with masks N1SS and the number of each prompt.

    Number 0 is the empty prompt; ``prompts[k]`` is prompt number k.
    """

    def __init__(
        self, mean: Tensor, deviation: Tensor, data: TrainingImages, augmentation: str
    ) -> None:
        self.mean, self.deviation = mean, deviation
        self.masks, self.orientations = data.masks, ORIENTATIONS[augmentation]
        self.prompts = ("", *sorted(set(data.prompts) - {""}))
        self.numbers = torch.tensor([self.prompts.index(prompt) for prompt in data.prompts])

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        index, orientation = divmod(item, len(self.orientations))
        mask = masks_to_float(self.masks[index : index + 1])
        return {
            "mean": self.mean[item],
            "deviation": self.deviation[item],
            "masks": orient(mask, *self.orientations[orientation])[0],
            "prompts": self.numbers[index],
        }


def encode_latents(codec, data: TrainingImages, augmentation: str, batch_size: int = 64) -> LatentBatches:  # type: ignore[no-untyped-def]
    """Encode every image in every orientation once; item = index · orientations + orientation."""
    means, deviations = [], []
    device = next(iter(codec.state_dict().values())).device
    with torch.no_grad():
        for start in range(0, len(data.images), batch_size):
            images = images_to_float(data.images[start : start + batch_size]).to(device)
            moments = [codec.encode(orient(images, *turned)) for turned in ORIENTATIONS[augmentation]]
            means.append(torch.stack([mean for mean, _ in moments], 1).flatten(0, 1).cpu())
            deviations.append(torch.stack([deviation for _, deviation in moments], 1).flatten(0, 1).cpu())
    return LatentBatches(torch.cat(means), torch.cat(deviations), data, augmentation)


def make_loader(data: Dataset, batch_size: int, seed: int, rank: int = 0, num_processes: int = 1) -> DataLoader:  # type: ignore[type-arg]
    """A loader over data in memory: no workers, the order decided by the seed."""
    order = SeededOrder(len(data), batch_size, seed, rank, num_processes)  # type: ignore[arg-type]
    return DataLoader(data, batch_sampler=order)
