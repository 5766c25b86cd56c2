"""Training of a segmenter: soft Dice, Adam, and augmentation on the device."""

from __future__ import annotations

import numpy as np
import torch
from kornia.augmentation import (
    AugmentationBase2D,
    AugmentationSequential,
    ColorJiggle,
    RandomAffine,
    RandomElasticTransform,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from monai.losses import DiceCELoss, DiceLoss
from monai.metrics import compute_dice
from torch import Tensor, nn

from dermprompt.lesion import images_to_float, masks_to_float


class SegmenterModule(LightningModule):
    """Trains a network that maps images to logits of the lesion.

    A batch is images uint8 NHW3 in [0, 255] and masks uint8 NHW in {0, 1}; on the device they become floats.
    Logs ``segmenter/train/loss`` and ``segmenter/val/dice``. The augmentation of step k is a function of
    (seed, k, rank) alone.

    Args:
        network: images N3HW in, logits N1HW out.
        learning_rate: of Adam (paper: 1e-3).
        seed: of the augmentation.
        loss: ``dice_batch``, 1 - (2 Σ pg + 1) / (Σ p + Σ g + 1) over all pixels of a process's batch, where large
            lesions have more weight; ``dice_sample``, its mean over single images; or ``dice_ce``, ``dice_sample``
            plus the cross-entropy.
        augmentation: ``none``; ``flips``, horizontal and vertical; ``affine``, also rotation, shift and scale; or
            ``strong``, also elastic deformation, colour jitter, blur and noise.
        schedule: of the learning rate, ``constant`` or ``cosine`` down to 0 at ``max_steps``.

    Raises:
        ValueError: the loss, the augmentation or the schedule is not one of these.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        seed: int,
        loss: str = "dice_batch",
        augmentation: str = "none",
        schedule: str = "constant",
        max_steps: int = 1,
    ) -> None:
        super().__init__()
        self.network, self.learning_rate, self.seed = network, learning_rate, seed
        self.schedule, self.max_steps = schedule, max_steps
        self.loss = build_loss(loss)
        # In a tuple, so that it is no submodule: on a device, kornia would use that device's random generator.
        self._augmentation = (build_augmentation(augmentation),)

    def forward(self, images: Tensor) -> Tensor:
        """Logits N1HW for images N3HW in [-1, 1]."""
        return self.network(images)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Convert to images float N3HW in [-1, 1] and masks float N1HW in {0, 1}, after a transfer of fewer bytes."""
        images, masks = batch
        return images_to_float(images), masks_to_float(masks)

    def augment(self, images: Tensor, masks: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Augment images and masks alike, as a function of (seed, step, rank). Masks stay in {0, 1}."""
        seed = int(np.random.default_rng([self.seed, step, self.global_rank]).integers(2**63))
        # Kornia accepts no generator. Autocast is off, because lower precision would round the coordinates.
        with torch.random.fork_rng(devices=[]), torch.autocast(images.device.type, enabled=False):
            torch.default_generator.manual_seed(seed)
            # Kornia expects colours in [0, 1].
            images, masks = self._augmentation[0](images / 2 + 0.5, masks)
        return images * 2 - 1, masks

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of an augmented batch."""
        images, masks = self.augment(*batch, step=self.global_step)
        loss = self.loss(self.network(images), masks)
        self.log("segmenter/train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the mean Dice over images."""
        images, masks = batch
        dice = dice_of_logits(self.network(images), masks).mean()
        self.log("segmenter/val/dice", dice, prog_bar=True, batch_size=len(images), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, with a schedule per step."""
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)
        if self.schedule == "constant":
            return {"optimizer": optimizer}
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def dice_of_logits(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice (N) between thresholded logits N1HW (above 0) and masks N1HW; 1 if both are empty."""
    return compute_dice((logits > 0).float(), masks, ignore_empty=False)[:, 0]


def build_loss(name: str) -> nn.Module:
    """Build the loss of logits N1HW and masks N1HW: ``dice_batch``, ``dice_sample`` or ``dice_ce``."""
    # With ``batch``, sums run over the whole batch, as in the DCSAU-Net release.
    loss = DiceCELoss if name == "dice_ce" else DiceLoss
    return loss(sigmoid=True, batch=name == "dice_batch", smooth_nr=1, smooth_dr=1)


def build_augmentation(name: str) -> AugmentationSequential:
    """Build the augmentation of (images NCHW, masks N1HW); masks are resampled with nearest-neighbour interpolation.

    ``none``, ``flips``, ``affine``, ``strong``: each includes the one before it.
    """
    steps: list[AugmentationBase2D] = []
    if name != "none":
        steps += [RandomHorizontalFlip(p=0.5), RandomVerticalFlip(p=0.5)]
    if name in ("affine", "strong"):
        # Image and mask are reflected at the border, so that there are no grey corners to learn from.
        steps.append(RandomAffine(180, (0.1, 0.1), (0.8, 1.25), padding_mode="reflection", p=0.5))
    if name == "strong":
        steps += [
            RandomElasticTransform((31, 31), (6.0, 6.0), (0.5, 0.5), padding_mode="reflection", p=0.3),
            ColorJiggle(0.2, 0.2, 0.2, 0.05, p=0.8),
            RandomGaussianBlur((5, 5), (0.3, 1.5), p=0.2),
            RandomGaussianNoise(std=0.05, p=0.2),
        ]
    return AugmentationSequential(*steps, data_keys=["input", "mask"])
