"""The order of a training's batches, and masks that stay on their images in every orientation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn

from dermprompt.generator.batches import (
    ORIENTATIONS,
    ImageBatches,
    SeededOrder,
    TrainingImages,
    encode_latents,
    make_loader,
    orient,
)
from dermprompt.generator.codec import PCACodec

AUGMENTATIONS = pytest.mark.parametrize("augmentation", list(ORIENTATIONS))


def batches(epoch: int = 0, seed: int = 3, **settings: int) -> list[list[int]]:
    order = SeededOrder(**{"num_items": 23, "batch_size": 4, "seed": seed, **settings})
    order.set_epoch(epoch)
    assert len(order) == len(list(order))
    return list(order)


def painted(count: int = 5) -> TrainingImages:
    """Images that show their own masks: white where the mask is one, black elsewhere."""
    masks = (torch.rand(count, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).byte()
    images = (masks * 255).unsqueeze(-1).expand(-1, -1, -1, 3).contiguous()
    return TrainingImages(images, masks, ("melanoma", "", "naevus", "melanoma", "naevus")[:count])


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert batches(epoch=2) == batches(epoch=2)
    assert batches(epoch=2) != batches(epoch=1)
    assert batches(seed=4) != batches(seed=3)


def test_every_item_at_most_once_an_epoch_in_full_batches() -> None:
    seen = batches()
    items = sum(seen, [])
    assert [len(batch) for batch in seen] == [4] * 5
    assert len(set(items)) == len(items)
    assert set(items) <= set(range(23))


def test_over_the_epochs_no_item_is_left_out() -> None:
    assert {item for epoch in range(20) for batch in batches(epoch) for item in batch} == set(range(23))


def test_fewer_items_than_a_batch_make_one_batch() -> None:
    assert [sorted(batch) for batch in batches(num_items=3)] == [[0, 1, 2]]


def test_processes_share_each_batch() -> None:
    ranks = [batches(epoch=1, rank=rank, num_processes=2) for rank in range(2)]
    for whole, *parts in zip(batches(epoch=1), *ranks, strict=True):
        assert sorted(sum(parts, [])) == sorted(whole)
        assert [len(part) for part in parts] == [2, 2]


class Recorder(LightningModule):
    """Writes down the items of every batch that a training loop gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(())), []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append(batch.tolist())
        return self.weight * 1.0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_changes_the_order_every_epoch(make_trainer: Callable[..., Trainer]) -> None:
    recorder = Recorder()
    loader = make_loader(list(range(23)), 4, seed=3)  # type: ignore[arg-type]
    make_trainer(max_epochs=3, use_distributed_sampler=False, enable_checkpointing=False).fit(recorder, loader)
    assert recorder.seen == batches(0) + batches(1) + batches(2)


def test_dihedral_has_the_eight_orientations_of_a_square() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    group = {tuple(orient(image, *turned).flatten().tolist()) for turned in ORIENTATIONS["dihedral"]}
    assert len(group) == 8
    again = {
        tuple(orient(orient(image, *one), *two).flatten().tolist())
        for one in ORIENTATIONS["dihedral"]
        for two in ORIENTATIONS["dihedral"]
    }
    assert again == group
    assert orient(image, 0, True).flatten().tolist() == [2, 1, 0, 5, 4, 3, 8, 7, 6]


@AUGMENTATIONS
def test_masks_move_with_their_images(augmentation: str) -> None:
    data = painted()
    pairs = ImageBatches(data, augmentation)
    assert len(pairs) == 5 * len(ORIENTATIONS[augmentation])
    items = pairs[0]["images"].shape, pairs[0]["masks"].shape
    assert items == ((3, 8, 8), (1, 8, 8))
    for item in range(len(pairs)):
        assert torch.equal(pairs[item]["images"], pairs[item]["masks"].expand(3, -1, -1) * 2 - 1)
    first = {tuple(pairs[item]["masks"].flatten().tolist()) for item in range(len(ORIENTATIONS[augmentation]))}
    assert len(first) == len(ORIENTATIONS[augmentation])


@AUGMENTATIONS
def test_masks_lie_as_the_images_that_were_encoded(augmentation: str) -> None:
    data = painted()
    generator = torch.Generator().manual_seed(1)
    codec = PCACodec.fit(torch.rand(20, 3, 8, 8, generator=generator) * 2 - 1, channels=48)
    latents = encode_latents(codec, data, augmentation, batch_size=2)
    assert len(latents) == 5 * len(ORIENTATIONS[augmentation])
    for item in range(len(latents)):
        one = latents[item]
        image = codec.decode(one["mean"][None])[0]
        torch.testing.assert_close(image, one["masks"].expand(3, -1, -1) * 2 - 1, atol=1e-3, rtol=0)
        index = item // len(ORIENTATIONS[augmentation])
        assert latents.prompts[one["prompts"]] == data.prompts[index]


def test_prompt_number_0_is_empty_whatever_the_prompts() -> None:
    codec = PCACodec(patch=4, channels=12)
    data = painted()
    described = TrainingImages(data.images, data.masks, ("naevus",) * 5)
    assert encode_latents(codec, described, "none").prompts == ("", "naevus")
    assert encode_latents(codec, data, "none").prompts == ("", "melanoma", "naevus")


def test_a_loader_stacks_a_batch_of_the_order() -> None:
    data = ImageBatches(painted(), "flip")
    loader = make_loader(data, 4, seed=0)
    order = list(SeededOrder(10, 4, seed=0))
    for batch, items in zip(loader, order, strict=True):
        assert torch.equal(batch["images"], torch.stack([data[item]["images"] for item in items]))
        assert torch.equal(batch["masks"], torch.stack([data[item]["masks"] for item in items]))
