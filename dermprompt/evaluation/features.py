"""Features of a pretrained network, for distances between sets, copies and label classifiers."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.data import resolve_model_data_config
from torch import nn
from torch.nn import functional

from dermprompt.mapped import Arrays, slices
from dermprompt.pretrained import weights_of

Images = NDArray[np.uint8]
Features = NDArray[np.float32]

BATCH = 32
# A crop exceeds the mask's extent by this share in total.
MARGIN = 0.3


class FeatureExtractor:
    """Maps images uint8 NHW3, RGB, to features float32 ND of a network pretrained on other images.

    Args:
        model: a timm id: ``tf_efficientnet_lite0`` (D = 1280), ``inception_v3.tf_in1k``,
            ``vit_base_patch14_dinov2.lvd142m``, ``vit_base_patch16_clip_224.openai`` …
        weights: a safetensors file; None for the packaged weights of ``tf_efficientnet_lite0``, or timm's download for
            other models.
        device: where it runs.

    Raises:
        ValueError: the weights are not a file, or belong to another network.
    """

    def __init__(self, model: str, weights: str | None, device: torch.device) -> None:
        self.network = load_network(model, weights).to(device)
        data = resolve_model_data_config(self.network)
        self.size, self.device = data["input_size"][1:], device
        self.mean, self.std = (torch.tensor(data[key]).view(3, 1, 1).to(device) for key in ("mean", "std"))

    def __call__(self, images: Arrays) -> Features:
        """One row of features per image; images of any size are resized to the network's input."""
        return np.concatenate(list(self._batches(images)))

    @torch.no_grad()
    def _batches(self, images: Arrays) -> Iterator[Features]:
        for part in slices(len(images), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(images[part])).to(self.device)
            pixels = batch.permute(0, 3, 1, 2).float() / 255
            resized = functional.interpolate(pixels, self.size, mode="bicubic", antialias=True).clamp(0, 1)
            yield self.network((resized - self.mean) / self.std).float().cpu().numpy()


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


def crops(images: Images, masks: NDArray[np.uint8]) -> Images:
    """Square crops of images NHH3 around masks NHH in {0, 1}, enlarged to HH; the whole image if a mask is empty."""
    return np.stack([_crop(image, mask) for image, mask in zip(images, masks, strict=True)])


def _crop(image: Images, mask: NDArray[np.uint8]) -> Images:
    size, (rows, columns) = len(mask), mask.nonzero()
    if not len(rows):
        return image
    low, high = np.array([rows.min(), columns.min()]), np.array([rows.max(), columns.max()]) + 1
    side = min(round((1 + MARGIN) * int((high - low).max())), size)
    top, left = np.clip((low + high - side) // 2, 0, size - side)
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    return np.asarray(cv2.resize(square, (size, size), interpolation=cv2.INTER_CUBIC))
