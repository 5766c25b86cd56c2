"""Losses of pix2pixHD (Wang et al. 2018, equations 2 to 5), as in the authors' release.

Features are what the discriminator gives: for each scale a list, whose last entry is the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import vgg19

Features = Sequence[Sequence[Tensor]]

# Places of relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 in VGG-19, and the weights of their distances.
VGG_WEIGHTS = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}


def adversarial_loss(features: Features, target: float) -> Tensor:
    """Least squares (Mao et al. 2017) of the predictions to 1 for real and 0 for fake, summed over scales."""
    return torch.stack([(scale[-1] - target).square().mean() for scale in features]).sum()


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


class VGGPerceptual(nn.Module):
    """Weighted mean absolute distance of VGG-19's features (Johnson et al. 2016).

    As in the authors' release the images go in as they are, in [-1, 1], without ImageNet's normalisation.

    Args:
        weights: state dict of VGG-19 in torchvision's format (keys ``features.*``).

    Raises:
        ValueError: the file lacks a weight of VGG-19.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        # On the meta device nothing is allocated, the 123 million weights of the classifier least of all.
        with torch.device("meta"):
            self.layers = vgg19(weights=None).features[: max(VGG_WEIGHTS) + 1]
        state = torch.load(weights, map_location="cpu", weights_only=True)
        missing = [key for key in self.layers.state_dict() if f"features.{key}" not in state]
        if missing:
            raise ValueError(f"{weights}: features.{missing[0]} is missing; wanted is torchvision's vgg19")
        self.layers.load_state_dict({k: state[f"features.{k}"] for k in self.layers.state_dict()}, assign=True)
        self.requires_grad_(False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Give the distance of fake to real images, N3HW in [-1, 1]."""
        loss = fake.new_zeros(())
        for place, layer in enumerate(self.layers):
            fake, real = layer(fake), layer(real)
            if place in VGG_WEIGHTS:
                loss = loss + VGG_WEIGHTS[place] * F.l1_loss(fake, real)
        return loss
