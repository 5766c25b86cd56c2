"""Perceptual losses: the distance between two batches of images in a pretrained network's features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import vgg19

from dermprompt.files import reading
from dermprompt.pretrained import PACKAGED, packaged_weights
from dermprompt.tensors import load_tensors

# Layer indices of relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 in VGG-19.
VGG_PLACES = (1, 6, 11, 20, 29)
# From the shallowest to the deepest features, as in the authors' release.
WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


class Perceptual(nn.Module, ABC):
    """Weighted mean absolute distance of features at five depths (Johnson et al. 2016); the network is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def train(self, mode: bool = True) -> Perceptual:
        """Stay in evaluation mode: batch normalisation uses its stored statistics."""
        return super().train(False)

    @abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """Features of images N3HW in [-1, 1], the shallowest first."""

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """The distance of fake to real images, N3HW in [-1, 1]; only the fake ones receive gradients."""
        with torch.no_grad():
            goal = self.features(real)
        pairs = zip(WEIGHTS, self.features(fake), goal, strict=True)
        return torch.stack([weight * F.l1_loss(ours, theirs) for weight, ours, theirs in pairs]).sum()


class VGG19Perceptual(Perceptual):
    """The authors' loss: VGG-19 sees the images in [-1, 1], without ImageNet's normalisation.

    Args:
        weights: a file with the state dict of VGG-19 in torchvision's format (keys ``features.*``).

    Raises:
        ValueError: the file lacks a weight of VGG-19.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        # The meta device allocates nothing, in particular not the 123 million weights of the classifier.
        with torch.device("meta"):
            self.layers = vgg19(weights=None).features[: max(VGG_PLACES) + 1]
        with reading(weights, "wanted is torchvision's vgg19"):
            state = load_tensors(weights)
            own = {key: state[f"features.{key}"] for key in self.layers.state_dict()}
            self.layers.load_state_dict(own, assign=True)
        self.requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Features of relu1_1 to relu5_1."""
        found = []
        for place, layer in enumerate(self.layers):
            images = layer(images)
            if place in VGG_PLACES:
                found.append(images)
        return found


class EfficientNetPerceptual(Perceptual):
    """The same distance in EfficientNet-Lite0 (Liu 2020), whose weights come with a package, unlike VGG-19's.

    It was trained on images in [-1, 1]. Its features are the last ones at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size, at
    each pixel divided by their root mean square over channels (Zhang et al. 2018): without this they have magnitude 5,
    and the loss would be ten times as large as the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = timm.create_model(PACKAGED, features_only=True)
        stored = packaged_weights()
        self.network.load_state_dict({name: stored[name] for name in self.network.state_dict()})
        self.requires_grad_(False).eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """Features at five depths."""
        return [F.normalize(found, dim=1) * found.shape[1] ** 0.5 for found in self.network(images)]


def build_perceptual(name: str, weights: str | None) -> Perceptual | None:
    """The network of ``generator.perceptual``; ``weights`` is VGG-19's file."""
    if name == "none":
        return None
    if name == "efficientnet_lite0":
        return EfficientNetPerceptual()
    assert name == "vgg19", name
    assert weights is not None
    return VGG19Perceptual(Path(weights).expanduser())


def losses_in_words(feature_weight: float, perceptual: str) -> str:
    """The generator's losses as text, for cards."""
    named = {"none": "no perceptual loss (the paper's has one, of vgg19)"}.get(
        perceptual, f"perceptual of {perceptual} × {feature_weight:g}"
    )
    return f"adversarial, feature matching × {feature_weight:g}, {named}"
