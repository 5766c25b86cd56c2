"""Latent spaces: images to latents and back, one interface for PCA, an AutoencoderKL and a tiny autoencoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol, cast

from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor

from dermprompt.generator.codec.pca import PCACodec
from dermprompt.generator.codec.tiny import load_tiny
from dermprompt.generator.codec.vae import VAECodec


class Codec(Protocol):
    """Images N3HW in [-1, 1] to latents NChw of about unit variance, and back."""

    channels: int
    downscale: int

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, each NChw with h = H / downscale."""

    def decode(self, latents: Tensor) -> Tensor:
        """Images N3HW, about [-1, 1] (not clipped)."""

    def save(self, folder: Path) -> None:
        """Write the codec so that :func:`load_codec` opens it."""

    def state_dict(self) -> dict[str, Tensor]:
        """Its tensors."""


def load_codec(folder: Path) -> Codec:
    """Open a saved codec, or the ``vae`` folder of a diffusers pipeline."""
    settings = json.loads((folder / "config.json").read_text())
    if settings.get("codec") == "pca":
        codec = PCACodec(settings["patch"], settings["channels"])
        codec.load_state_dict(load_file(folder / "codec.safetensors"))
        return codec
    if settings.get("codec") == "tiny":
        return load_tiny(folder)
    return cast(Codec, VAECodec(AutoencoderKL.from_pretrained(folder, use_safetensors=True)))
