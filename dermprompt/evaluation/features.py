"""What a pretrained network sees in images: features for distances between sets, and for finding copies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.data import resolve_model_data_config
from torch import nn
from torch.nn import functional

from dermprompt.pretrained import weights_of

Images = NDArray[np.uint8]
Features = NDArray[np.float32]

BATCH = 32


class FeatureExtractor:
    """Images uint8 NHW3 RGB to features float32 ND, by a network that was trained on other pictures.

    Args:
        model: an id of timm: ``tf_efficientnet_lite0`` (D = 1280), ``inception_v3.tf_in1k``,
            ``vit_base_patch14_dinov2.lvd142m``, ``vit_base_patch16_clip_224.openai`` …
        weights: a safetensors file; None for the packaged weights of ``tf_efficientnet_lite0``, and for those of
            other models timm's download.
        device: where it runs.

    Raises:
        ValueError: the weights are no file, or of another network.
    """

    def __init__(self, model: str, weights: str | None, device: torch.device) -> None:
        self.network = load_network(model, weights).to(device)
        data = resolve_model_data_config(self.network)
        self.size, self.device = data["input_size"][1:], device
        self.mean, self.deviation = (torch.tensor(data[key]).view(3, 1, 1).to(device) for key in ("mean", "std"))

    def __call__(self, images: Images) -> Features:
        """Give a row of features for each image, which is resized, whatever its size, to the network's input."""
        return np.concatenate(list(self._batches(images)))

    @torch.no_grad()
    def _batches(self, images: Images) -> Iterator[Features]:
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH])).to(self.device)
            pixels = batch.permute(0, 3, 1, 2).float() / 255
            resized = functional.interpolate(pixels, self.size, mode="bicubic", antialias=True).clamp(0, 1)
            yield self.network((resized - self.mean) / self.deviation).float().cpu().numpy()


def load_network(model: str, weights: str | None) -> nn.Module:
    """A pretrained network of timm without its classifier, in evaluation mode."""
    stored = weights_of(model, weights, "evaluation.features.weights")
    network = timm.create_model(model, pretrained=stored is None, num_classes=0)
    if stored is not None:
        try:
            network.load_state_dict({name: stored[name] for name in network.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"evaluation.features.weights={weights} are not of {model}: {error}") from None
    return network.eval()
