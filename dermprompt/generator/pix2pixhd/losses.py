"""Losses of pix2pixHD (Wang et al. 2018, equations 2 to 5), as in the authors' release.

Features are the discriminator's outputs: a list for each scale, whose last entry is the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Features = Sequence[Sequence[Tensor]]


def adversarial_loss(features: Features, target: float) -> Tensor:
    """Least-squares loss (Mao et al. 2017) between predictions and ``target`` (1 real, 0 fake), summed over scales."""
    return torch.stack([(scale[-1].float() - target).square().mean() for scale in features]).sum()


def feature_matching_loss(fake: Features, real: Features) -> Tensor:
    """Mean absolute distance of fake to real features, without the predictions (equation 4).

    Each layer has weight 4 / (number of layers), and scales are averaged.
    """
    losses = [
        4 / (len(fake_scale) - 1) * F.l1_loss(fake_layer, real_layer.detach())
        for fake_scale, real_scale in zip(fake, real, strict=True)
        for fake_layer, real_layer in zip(fake_scale[:-1], real_scale[:-1], strict=True)
    ]
    return torch.stack(losses).sum() / len(fake)
