"""Training of a segmenter: soft Dice, Adam, and augmentation on the device."""

from __future__ import annotations

import numpy as np
import torch
from kornia.augmentation import (
    AugmentationSequential,
    GeometricAugmentationBase2D,
    RandomAffine,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from lightning import LightningModule
from monai.losses import DiceLoss
from monai.metrics import compute_dice
from torch import Tensor, nn

# Whether the sums of the soft Dice run over the whole batch (the DCSAU-Net release) or over each image.
LOSSES = {"dice_batch": True, "dice_sample": False}
AUGMENTATIONS = ("none", "flips", "affine")


class SegmenterModule(LightningModule):
    """Trains a network that turns images into logits of the lesion.

    A batch is images float N3HW in [-1, 1] and masks float N1HW in {0, 1}. Logs ``segmenter/train/loss``
    and ``segmenter/val/dice``. The augmentation of step k comes from (seed, k, rank) alone.

    Args:
        network: images N3HW in, logits N1HW out.
        learning_rate: of Adam (paper: 1e-3).
        seed: of the augmentation.
        loss: ``dice_batch``, 1 - (2 Σ pg + 1) / (Σ p + Σ g + 1) over all pixels of a process's batch, in
            which large lesions weigh more, or ``dice_sample``, the mean of that over the images.
        augmentation: ``none``; ``flips``, both ways; or ``affine``, flips, rotation, shift and scale.

    Raises:
        ValueError: the loss or the augmentation is not one of these.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        seed: int,
        loss: str = "dice_batch",
        augmentation: str = "none",
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"segmenter loss: {loss!r} is not one of {', '.join(LOSSES)}")
        self.network, self.learning_rate, self.seed = network, learning_rate, seed
        self.loss = DiceLoss(sigmoid=True, batch=LOSSES[loss], smooth_nr=1, smooth_dr=1)
        # In a tuple, not a submodule: moved to a device, kornia would draw with that device's generator.
        self._augmentation = (build_augmentation(augmentation),)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits N1HW for images N3HW in [-1, 1]."""
        return self.network(images)

    def augment(self, images: Tensor, masks: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Augment images and masks alike, as (seed, step, rank) says. Masks stay in {0, 1}."""
        seed = int(np.random.default_rng([self.seed, step, self.global_rank]).integers(2**63))
        # Kornia takes no generator. In lower precision it would round the coordinates, hence no autocast.
        with torch.random.fork_rng(devices=[]), torch.autocast(images.device.type, enabled=False):
            torch.default_generator.manual_seed(seed)
            images, masks = self._augmentation[0](images, masks)
        return images, masks

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Give the Dice loss of an augmented batch."""
        images, masks = self.augment(*batch, step=self.global_step)
        loss = self.loss(self.network(images), masks)
        self.log("segmenter/train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the mean Dice over the images."""
        images, masks = batch
        dice = dice_of_logits(self.network(images), masks).mean()
        self.log("segmenter/val/dice", dice, prog_bar=True, batch_size=len(images), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at a constant learning rate."""
        return torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)


def dice_of_logits(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice of each image, N, of logits N1HW above 0 with masks N1HW; 1 where both are empty."""
    return compute_dice((logits > 0).float(), masks, ignore_empty=False)[:, 0]


def build_augmentation(name: str) -> AugmentationSequential:
    """Build what turns (images NCHW, masks N1HW) into augmented ones; masks are resampled to the nearest.

    Raises:
        ValueError: the name is not one of ``none``, ``flips`` and ``affine``.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"segmenter augmentation: {name!r} is not one of {', '.join(AUGMENTATIONS)}")
    steps: list[GeometricAugmentationBase2D] = []
    if name != "none":
        steps += [RandomHorizontalFlip(p=0.5), RandomVerticalFlip(p=0.5)]
    if name == "affine":
        # What comes in at the border is mirrored in image and mask: no grey corners to learn from.
        steps.append(RandomAffine(180, (0.1, 0.1), (0.8, 1.25), padding_mode="reflection", p=0.5))
    return AugmentationSequential(*steps, data_keys=["input", "mask"])
