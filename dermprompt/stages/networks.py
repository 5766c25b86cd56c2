"""Networks back from their folders, on the device of the trainer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dermprompt.config import compose
from dermprompt.config.schema import SAMPLER, Config, Segmenter
from dermprompt.distributed.processes import choose_device
from dermprompt.generator.controlnet.base import LatentDiffusion, load_base
from dermprompt.generator.controlnet.module import speed_up
from dermprompt.generator.controlnet.sampler import ControlNetGenerator
from dermprompt.generator.export import Pix2PixHDGenerator, load_controlnet, load_pix2pixhd, load_weights
from dermprompt.generator.warp import load_warp
from dermprompt.lesion import images_to_float, images_to_uint8
from dermprompt.segmenter.module import SegmenterModule
from dermprompt.synthesis.draw import Generator

BATCH = 32
# Of the networks' weights and activations while samples are drawn.
PRECISIONS = {"32-true": torch.float32, "bf16-true": torch.bfloat16}


def open_base(config: Config, folder: Path) -> LatentDiffusion:
    """The frozen base, on the device of the trainer."""
    settings = config.generator.base
    pretrained = settings.name != "scratch"
    path = str(folder)
    base = load_base(path, settings.pad, settings.text_layers) if pretrained else load_base(path)
    return base.to(choose_device(config.trainer))


def open_generator(config: Config, trained: Path, base: Path | None) -> Generator:
    """The trained generator, on the device of the trainer."""
    device, settings = choose_device(config.trainer), config.generator
    if settings.name == "warp":
        return load_warp(trained)
    if base is None:
        generator: Pix2PixHDGenerator | ControlNetGenerator = load_pix2pixhd(trained)
    else:
        sampler = {key: getattr(settings, key) for key in SAMPLER}
        generator = load_controlnet(trained, open_base(config, base), **sampler)
    make_fast(generator.to(device).networks, config.synthesis.precision, config.synthesis.compile)
    return generator


def make_fast(networks: tuple[nn.Module, ...], precision: str, compiled: bool) -> None:
    """Run networks in a precision and with channels last, compiled where asked for; their keys stay as they are."""
    for network in networks:
        # Not diffusers' own ``to``, which warns of layers to keep in float32, of which these networks have none.
        nn.Module.to(network, PRECISIONS[precision])
    speed_up(networks, compiled, channels_last=True)


@torch.no_grad()
def through_codec(config: Config, base: Path, images: np.ndarray) -> np.ndarray:
    """Images uint8 NSS3 encoded by the base's codec and decoded: the best that any sampler could give."""
    codec, device = open_base(config, base).codec, choose_device(config.trainer)
    decoded = []
    for start in range(0, len(images), BATCH):
        batch = images_to_float(torch.from_numpy(images[start : start + BATCH])).to(device)
        decoded.append(images_to_uint8(codec.decode(codec.encode(batch)[0]).float().cpu()).numpy())
    return np.concatenate(decoded)


def build_network(settings: Segmenter) -> nn.Module:
    """The segmenter's untrained network."""
    return compose.instantiate(settings.network)


def build_segmenter_module(settings: Segmenter, network: nn.Module, num_steps: int) -> SegmenterModule:
    """The segmenter's training of ``num_steps`` steps."""
    return SegmenterModule(
        network,
        settings.learning_rate,
        settings.seed,
        settings.loss,
        settings.augmentation,
        settings.schedule,
        num_steps,
    )


def open_segmenter(config: Config, settings: Segmenter, trained: Path) -> nn.Module:
    """A trained segmenter, on the device of the trainer."""
    network = load_weights(build_network(settings), trained / "network.safetensors")
    return network.to(choose_device(config.trainer))
