"""Losses of pix2pixHD (Wang et al. 2018, equations 2 to 5), as in the authors' release.

Features are what the discriminator gives: for each scale a list, whose last entry is the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Features = Sequence[Sequence[Tensor]]


def adversarial_loss(features: Features, target: float) -> Tensor:
    """Least squares (Mao et al. 2017) of the predictions to 1 for real and 0 for fake, summed over scales."""
    return torch.stack([(scale[-1].float() - target).square().mean() for scale in features]).sum()


def feature_matching_loss(fake: Features, real: Features) -> Tensor:
    """Mean absolute distance of all features but the predictions, real ones being the goal (equation 4).

    A layer's weight is 4 / (number of such layers), and the scales are averaged.
    """
    losses = [
        4 / (len(fake_scale) - 1) * F.l1_loss(fake_layer, real_layer.detach())
        for fake_scale, real_scale in zip(fake, real, strict=True)
        for fake_layer, real_layer in zip(fake_scale[:-1], real_scale[:-1], strict=True)
    ]
    return torch.stack(losses).sum() / len(fake)
