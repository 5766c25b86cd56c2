"""Builds networks, and loads trained ones from their folders onto the trainer's device."""

from __future__ import annotations

import pkgutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dermprompt.config import compose, schema
from dermprompt.config.generators import Pix2PixHD, ScratchBase
from dermprompt.config.schema import SegmenterTraining
from dermprompt.distributed.processes import Runtime, choose_device
from dermprompt.generator.codec.load import Codec, load_codec
from dermprompt.generator.controlnet.base import LatentDiffusion, build_scratch, load_base
from dermprompt.generator.controlnet.module import speed_up
from dermprompt.generator.export import load_weights
from dermprompt.generator.pix2pixhd.networks import MultiscaleDiscriminator
from dermprompt.generator.source import resolve_base
from dermprompt.lesion import images_to_float, images_to_uint8
from dermprompt.mapped import Arrays, slices
from dermprompt.segmenter.module import SegmenterModule
from dermprompt.stages.settings import DrawSamples, OpenBase
from dermprompt.store.artifacts import read_recipe
from dermprompt.synthesis.draw import Generator

BATCH = 32
# Precision of weights and activations during sampling.
PRECISIONS = {"32-true": torch.float32, "bf16-true": torch.bfloat16}


def open_base(reading: OpenBase | None, runtime: Runtime, folder: Path) -> LatentDiffusion:
    """The frozen base, on the trainer's device; ``reading`` is None for a base trained here."""
    base = load_base(str(folder), **(vars(reading) if reading else {}))
    return base.to(choose_device(runtime.trainer))


def open_generator(settings: DrawSamples, runtime: Runtime, trained: Path, base: Path | None) -> Generator:
    """The trained generator, loaded as its kind declares; on the trainer's device if ``precision`` is set."""
    kind = schema.KINDS["generator"][settings.generator]
    on_base: list[LatentDiffusion] = [] if base is None else [open_base(settings.base, runtime, base)]
    sampler = {} if settings.sampler is None else asdict(settings.sampler)
    generator: Any = pkgutil.resolve_name(kind.opens)(trained, *on_base, **sampler)  # type: ignore[attr-defined]
    if settings.precision is None:
        return generator
    make_fast(generator.to(choose_device(runtime.trainer)).networks, settings.precision, bool(settings.compile))
    return generator


def make_fast(networks: tuple[nn.Module, ...], precision: str, compiled: bool) -> None:
    """Run networks in a precision, channels last and optionally compiled; the keys of their weights do not change."""
    for network in networks:
        # Diffusers' own ``to`` would warn about layers to keep in float32, which these networks do not have.
        nn.Module.to(network, PRECISIONS[precision])
    speed_up(networks, compiled, channels_last=True)


@torch.no_grad()
def through_codec(runtime: Runtime, base: Path, images: Arrays) -> np.ndarray:
    """Images uint8 NSS3 encoded and decoded by the base's codec: an upper bound for every sampler."""
    device = choose_device(runtime.trainer)
    codec: Any = load_codec(resolve_base(str(base)) / "vae")
    codec = codec.to(device).eval()
    decoded = []
    for part in slices(len(images), BATCH):
        batch = images_to_float(torch.from_numpy(images[part])).to(device)
        decoded.append(images_to_uint8(codec.decode(codec.encode(batch)[0]).float().cpu()).numpy())
    return np.concatenate(decoded)


def build_base(settings: ScratchBase, codec: Codec, size: int) -> LatentDiffusion:
    """An untrained scratch base for images of ``size`` pixels."""
    unet, text = ("attention_levels", "layers_per_block", "prediction"), ("text_width", "text_layers", "context_length")
    return build_scratch(codec, size, tuple(settings.channels), **{key: getattr(settings, key) for key in unet + text})


def pix2pixhd_shape(settings: Pix2PixHD) -> dict[str, Any]:
    """The arguments of Pix2PixHD's generator network."""
    return {key: getattr(settings, key) for key in ("base_channels", "num_downsamplings", "num_blocks", "upsampling")}


def build_discriminator(settings: Pix2PixHD) -> MultiscaleDiscriminator:
    """Pix2PixHD's untrained discriminator."""
    return MultiscaleDiscriminator(base_channels=settings.discriminator_channels, num_scales=settings.num_scales)


def build_network(settings: SegmenterTraining) -> nn.Module:
    """The segmenter's untrained network."""
    return compose.instantiate(settings.network)


def build_segmenter_module(settings: SegmenterTraining, network: nn.Module, num_steps: int) -> SegmenterModule:
    """The module that trains the segmenter for ``num_steps`` steps."""
    how = {key: getattr(settings, key) for key in ("learning_rate", "seed", "loss", "augmentation", "schedule")}
    return SegmenterModule(network, **how, max_steps=num_steps)


def open_segmenter(runtime: Runtime, trained: Path) -> tuple[nn.Module, int]:
    """A trained segmenter, on the trainer's device, and its input size in pixels, both as its recipe says."""
    made_by = read_recipe(trained).settings
    settings = made_by["segmenter"] if "segmenter" in made_by else made_by["judge"]
    network = load_weights(compose.instantiate(settings["network"]), trained / "network.safetensors")
    return network.to(choose_device(runtime.trainer)), settings["image_size"]
