"""A strong baseline: a U-Net whose encoder is pretrained on ImageNet."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from dermprompt.pretrained import PACKAGED, weights_of

RANDOM = "random"


class PretrainedUNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) on a pretrained encoder; images N3HW in [-1, 1] give logits N1HW.

    Height and width must be divisible by 32.

    Args:
        encoder: a timm id.
        weights: a safetensors file; None for the packaged weights of ``tf_efficientnet_lite0``, or timm's download for
            any other encoder; ``random`` for random initialisation.

    Raises:
        ValueError: the weights are not such a file, or belong to another network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: str = PACKAGED, weights: str | None = None) -> None:
        super().__init__()
        stored = None if weights == RANDOM else weights_of(encoder, weights, "segmenter.network.weights")
        download = "imagenet" if stored is None and weights != RANDOM else None
        self.network = smp.Unet(f"tu-{encoder}", encoder_weights=download, in_channels=3, classes=1)
        if stored is not None:
            _load(self.network.encoder.model, stored)
        settings = resolve_model_data_config(timm.create_model(encoder))
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(settings[name]).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the lesion."""
        return self.network((images / 2 + 0.5 - self.mean) / self.std)


def _load(backbone: nn.Module, stored: dict[str, Tensor]) -> None:
    """Load the encoder's share of a classifier's weights, without the head."""
    own = backbone.state_dict()
    missing = own.keys() - stored
    if missing:
        raise ValueError(f"segmenter.network.weights are of another network: {min(missing)} is not among them")
    backbone.load_state_dict({name: stored[name] for name in own})
