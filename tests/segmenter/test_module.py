"""Loss, Dice, augmentation and a short training of the segmenter."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dermprompt.lesion import images_to_uint8
from dermprompt.segmenter.module import SegmenterModule, dice_of_logits


def module(**settings: object) -> SegmenterModule:
    network = nn.Conv2d(3, 1, 3, padding=1)
    return SegmenterModule(network, **{"learning_rate": 1e-2, "seed": 0, **settings})  # type: ignore[arg-type]


def lesions(count: int = 8, size: int = 32) -> tuple[Tensor, Tensor]:
    """Discs off the centre; an image is its mask in red, and gradients otherwise."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    radii = torch.arange(count).view(-1, 1, 1) / 2 + size / 6
    masks = ((rows - size * 0.4) ** 2 + (columns - size * 0.6) ** 2 < radii**2).float()[:, None]
    slope = (columns / size).expand(count, 1, size, size)
    return torch.cat([masks * 2 - 1, slope, -slope], dim=1), masks


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


# Two images of two pixels.
PROBABILITIES = [[0.5, 0.75], [0.25, 0.25]]
LABELS = [[1.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # Over the batch: Σpg = .5 + .5 = 1, so 1 - (2·1 + 1) / (1.75 + 3 + 1).
        ("dice_batch", 1 - 3 / 5.75),
        # Each image: 1 - (2·.5 + 1) / (1.25 + 1 + 1) and 1 - (2·.5 + 1) / (.5 + 2 + 1).
        ("dice_sample", ((1 - 2 / 3.25) + (1 - 2 / 3.5)) / 2),
    ],
)
def test_loss_by_hand(loss: str, expected: float) -> None:
    logits = torch.tensor([[logit(p) for p in row] for row in PROBABILITIES]).view(2, 1, 1, 2)
    masks = torch.tensor(LABELS).view(2, 1, 1, 2)
    assert float(module(loss=loss).loss(logits, masks)) == pytest.approx(expected)


def test_dice_by_hand() -> None:
    # Half of the lesion found; nothing to find; nothing found; something found where nothing is.
    logits = torch.tensor([[3.0, -1, -1], [-1, -1, -1], [-1, 0, -1], [1, -1, -1]]).view(4, 1, 1, 3)
    masks = torch.tensor([[1.0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]).view(4, 1, 1, 3)
    assert dice_of_logits(logits, masks).tolist() == pytest.approx([2 / 3, 1, 0, 0])


@pytest.mark.parametrize("name", ["flips", "affine"])
def test_augmented_masks_are_binary_and_follow_the_image(name: str) -> None:
    images, masks = lesions(count=32, size=64)
    turned, turned_masks = module(augmentation=name).augment(images, masks, step=3)
    assert set(turned_masks.unique().tolist()) == {0.0, 1.0}
    assert turned.min() >= -1
    assert turned.max() <= 1
    assert not torch.equal(masks, turned_masks)
    # The red channel is the mask; after the warp they differ along the edge at most.
    assert dice_of_logits(turned[:, :1], turned_masks).min() > 0.97


def test_flips_keep_every_pixel() -> None:
    images, masks = lesions()
    turned, turned_masks = module(augmentation="flips").augment(images, masks, step=0)
    torch.testing.assert_close(turned_masks.sum((1, 2, 3)), masks.sum((1, 2, 3)))
    torch.testing.assert_close(turned[:, :1] > 0, turned_masks > 0)


def test_no_augmentation_changes_nothing() -> None:
    images, masks = lesions()
    same, same_masks = module().augment(images, masks, step=0)
    assert torch.equal(images, same)
    assert torch.equal(masks, same_masks)


def test_augmentation_is_a_function_of_seed_and_step() -> None:
    images, masks = lesions()
    ready = module(augmentation="affine", seed=5)
    state = torch.random.get_rng_state()
    first = ready.augment(images, masks, step=2)[0]
    assert torch.equal(state, torch.random.get_rng_state())
    assert not torch.equal(first, ready.augment(images, masks, step=3)[0])
    torch.manual_seed(99)
    assert torch.equal(first, module(augmentation="affine", seed=5).augment(images, masks, step=2)[0])
    assert not torch.equal(first, module(augmentation="affine", seed=6).augment(images, masks, step=2)[0])


def test_lower_precision_does_not_round_the_coordinates() -> None:
    images, masks = lesions(size=64)
    ready = module(augmentation="affine")
    exact = ready.augment(images, masks, step=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = ready.augment(images, masks, step=1)
    assert torch.equal(exact[0], rounded[0])
    assert torch.equal(exact[1], rounded[1])


def test_training_lowers_the_loss_and_resumes(tmp_path: Path) -> None:
    images, masks = lesions()
    loader = DataLoader(TensorDataset(images_to_uint8(images), masks[:, 0].byte()), batch_size=4)
    whole, half = module(augmentation="affine"), module(augmentation="affine")
    half.load_state_dict(whole.state_dict())
    resumed = module(augmentation="affine")
    trainer = fit(whole, loader, tmp_path, epochs=8)
    assert trainer.global_step == 16
    assert trainer.callback_metrics["segmenter/val/dice"] > 0.9
    assert 0 < trainer.callback_metrics["segmenter/train/loss"] < 0.5

    fit(half, loader, tmp_path, epochs=4).save_checkpoint(tmp_path / "half.ckpt")
    state = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    assert set(state) == {"network.weight", "network.bias"}
    fit(resumed, loader, tmp_path, epochs=8, checkpoint=tmp_path / "half.ckpt")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def fit(
    module: SegmenterModule, loader: DataLoader, folder: Path, epochs: int, checkpoint: Path | None = None
) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader, loader, ckpt_path=checkpoint, weights_only=True)
    return trainer
