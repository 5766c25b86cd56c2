"""The order of a training's batches, and masks that stay on their images in every orientation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from dermprompt.generator.batches import (
    ORIENTATIONS,
    PIXELS_AT_ONCE,
    ImageBatches,
    SeededOrder,
    TrainingImages,
    encode_latents,
    make_loader,
    orient,
)
from dermprompt.generator.codec.pca import PCACodec
from dermprompt.mapped import Rows

AUGMENTATIONS = pytest.mark.parametrize("augmentation", list(ORIENTATIONS))


def batches(epoch: int = 0, seed: int = 3, **settings: int) -> list[list[int]]:
    order = SeededOrder(**{"num_images": 23, "batch_size": 4, "seed": seed, **settings})
    order.set_epoch(epoch)
    assert len(order) == len(list(order))
    return list(order)


IDS = ("a", "b", "c", "d", "e")


def painted(count: int = 5) -> TrainingImages:
    """Images that show their own masks: white where the mask is one, black elsewhere."""
    masks = (torch.rand(count, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).byte()
    images = (masks * 255).unsqueeze(-1).expand(-1, -1, -1, 3).contiguous()
    prompts = ("melanoma", "", "naevus", "melanoma", "naevus")[:count]
    return TrainingImages(Rows(images.numpy()), Rows(masks.numpy()), prompts, IDS[:count])


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert batches(epoch=2) == batches(epoch=2)
    assert batches(epoch=2) != batches(epoch=1)
    assert batches(seed=4) != batches(seed=3)


def test_an_epoch_takes_each_image_once_in_a_variant_drawn_for_it() -> None:
    items = {epoch: sum(batches(epoch, num_images=24, variants=8), []) for epoch in range(2)}
    for seen in items.values():
        assert sorted(item // 8 for item in seen) == list(range(24))
        assert len({item % 8 for item in seen}) > 4
    variants = [{item // 8: item % 8 for item in seen} for seen in items.values()]
    assert variants[0] != variants[1]


def test_every_item_at_most_once_an_epoch_in_full_batches() -> None:
    seen = batches()
    items = sum(seen, [])
    assert [len(batch) for batch in seen] == [4] * 5
    assert len(set(items)) == len(items)
    assert set(items) <= set(range(23))


def test_over_the_epochs_no_item_is_left_out() -> None:
    assert {item for epoch in range(20) for batch in batches(epoch) for item in batch} == set(range(23))


def test_fewer_items_than_a_batch_make_one_batch() -> None:
    assert [sorted(batch) for batch in batches(num_images=3)] == [[0, 1, 2]]


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

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.seen.append(batch[0].tolist())
        return self.weight * 1.0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_changes_the_order_every_epoch(make_trainer: Callable[..., Trainer]) -> None:
    recorder = Recorder()
    loader = make_loader(TensorDataset(torch.arange(23)), 23, 4, seed=3)
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
    everything = pairs[list(range(len(pairs)))]
    assert everything["images"].shape == (len(pairs), 3, 8, 8)
    assert torch.equal(everything["images"], everything["masks"].expand(-1, 3, -1, -1) * 2 - 1)
    # The items of an image are neighbours, and all differ.
    first = everything["masks"][: len(ORIENTATIONS[augmentation])]
    assert len(first.unique(dim=0)) == len(first)


@AUGMENTATIONS
def test_masks_lie_as_the_images_that_were_encoded(augmentation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = painted()
    # Two at a time: the set takes several batches.
    monkeypatch.setitem(PIXELS_AT_ONCE, "cpu", 2 * data.images.shape[1] ** 2)
    generator = torch.Generator().manual_seed(1)
    codec = PCACodec.fit(torch.rand(20, 3, 8, 8, generator=generator) * 2 - 1, channels=48)
    latents = encode_latents(codec, data, augmentation)
    assert len(latents) == 5 * len(ORIENTATIONS[augmentation])
    items = list(range(len(latents)))[::-1]
    batch = latents[items]
    torch.testing.assert_close(
        codec.decode(batch["mean"]), batch["masks"].expand(-1, 3, -1, -1) * 2 - 1, atol=1e-3, rtol=0
    )
    images = [item // len(ORIENTATIONS[augmentation]) for item in items]
    assert [latents.prompts[number] for number in batch["prompts"]] == [data.prompts[image] for image in images]


def test_mixed_precision_changes_latents_by_rounding_only() -> None:
    data, generator = painted(), torch.Generator().manual_seed(1)
    codec = PCACodec.fit(torch.rand(20, 3, 8, 8, generator=generator) * 2 - 1, channels=48)
    exact, mixed = (encode_latents(codec, data, "none", precision).mean for precision in ("32-true", "bf16-mixed"))
    assert mixed.dtype == torch.float32
    assert not torch.equal(exact, mixed)
    torch.testing.assert_close(mixed, exact, atol=0.02 * float(exact.abs().max()), rtol=0)


def test_prompt_number_0_is_empty_whatever_the_prompts() -> None:
    codec = PCACodec(patch=4, channels=12)
    data = painted()
    described = TrainingImages(data.images, data.masks, ("naevus",) * 5, IDS)
    assert encode_latents(codec, described, "none").prompts == ("", "naevus")
    assert encode_latents(codec, data, "none").prompts == ("", "melanoma", "naevus")


def test_a_loader_gives_the_batches_of_the_order() -> None:
    data = ImageBatches(painted(), "flip")
    loader = make_loader(data, 5, 2, seed=0)
    order = list(SeededOrder(5, 2, seed=0, variants=2))
    assert len(loader) == len(order) == 2
    for batch, items in zip(loader, order, strict=True):
        assert torch.equal(batch["images"], data[items]["images"])
        assert torch.equal(batch["masks"], data[items]["masks"])
