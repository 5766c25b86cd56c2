"""A dry run before any work: builds each network and the Trainer once, to find mistakes now instead of hours later.

Networks are built without memory, on torch's meta device, and process one image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from dermprompt.config.generators import Pix2PixHD, ScratchBase, TinyCodec
from dermprompt.config.schema import Config, Features, Segmenter
from dermprompt.files import reading
from dermprompt.generator.codec.tiny import read_tiny
from dermprompt.generator.pix2pixhd.networks import GlobalGenerator
from dermprompt.pretrained import PACKAGED, weights_of
from dermprompt.stages.networks import build_base, build_discriminator, build_network, pix2pixhd_shape
from dermprompt.training.trainer import check_trainer


def rehearse(config: Config, stages: set[str]) -> None:
    """Build what the ``stages`` that will run need.

    Raises:
        ValueError: a network rejects an image of its size, or the Trainer its settings; names the key.
    """
    own = config.generator
    check_trainer(config.trainer)
    segmenters = {"segmenter": config.segmenter, "evaluation.reference": config.evaluation.reference}
    for key, one in segmenters.items() if {"train_segmenter", "train_judge"} & stages else ():
        _try(f"{key}.network", partial(_segment, one))
    if "train_generator" in stages and isinstance(own, Pix2PixHD):
        _try("generator", lambda: _translate(own, config.image_size))
    if "train_base" in stages and isinstance(own.base, ScratchBase):
        _try("generator.base", lambda: _denoise(own.base, config.image_size))


def check_features(features: Features) -> None:
    """Check that the feature network is available: as a file, in the package, or through timm's download.

    Raises:
        ValueError: it is not available, or the file belongs to another network.
    """
    if (features.model, features.weights) == (PACKAGED, None):
        return
    from dermprompt.evaluation.features import FeatureExtractor

    with reading(Path("evaluation.features")):
        weights_of(features.model, features.weights, "evaluation.features.weights")
        FeatureExtractor(features.model, features.weights, torch.device("cpu"))


def _try(key: str, build: Callable[[], None]) -> None:
    with reading(Path(key)), warnings.catch_warnings(), torch.device("meta"), torch.no_grad():
        warnings.simplefilter("ignore")
        build()


def _segment(settings: Segmenter) -> None:
    size = settings.image_size
    _expect(build_network(settings).eval()(torch.zeros(1, 3, size, size)), (1, 1, size, size))


def _translate(settings: Pix2PixHD, size: int) -> None:
    labels, images = torch.zeros(1, 2, size, size), torch.zeros(1, 3, size, size)
    _expect(GlobalGenerator(**pix2pixhd_shape(settings))(labels), (1, 3, size, size))
    build_discriminator(settings)(labels, images)


def _denoise(settings: ScratchBase, size: int) -> None:
    codec: Any = settings.codec
    if isinstance(codec, TinyCodec):
        with torch.device("cpu"):
            codec = read_tiny(codec.path)
    latent = SimpleNamespace(channels=codec.channels, downscale=codec.downscale)
    base = build_base(settings, latent, size)  # type: ignore[arg-type]
    side = size // latent.downscale
    noisy = torch.zeros(1, latent.channels, side, side)
    text = torch.zeros(1, settings.context_length, settings.text_width)
    _expect(base.unet(noisy, torch.zeros(1), encoder_hidden_states=text).sample, tuple(noisy.shape))


def _expect(found: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(found.shape) != shape:
        raise ValueError(f"gives {tuple(found.shape)} for one image; wanted is {shape}")
