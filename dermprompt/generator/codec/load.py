"""The interface of latent spaces, images to latents and back: PCA, an AutoencoderKL or a tiny autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from diffusers import AutoencoderKL
from torch import Tensor

from dermprompt.files import read_json, reading
from dermprompt.generator.codec.pca import PCACodec
from dermprompt.generator.codec.tiny import load_tiny
from dermprompt.generator.codec.vae import VAECodec
from dermprompt.tensors import fill, load_tensors, open_pretrained


class Codec(Protocol):
    """Images N3HW in [-1, 1] to latents NChw of about unit variance, and back."""

    channels: int
    downscale: int

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, each NChw with h = H / downscale."""

    def decode(self, latents: Tensor) -> Tensor:
        """Images N3HW, about [-1, 1] (not clipped)."""

    def save(self, folder: Path) -> None:
        """Write the codec in a format that :func:`load_codec` opens."""

    def state_dict(self) -> dict[str, Tensor]:
        """The codec's tensors."""


def load_codec(folder: Path) -> Codec:
    """Open a saved codec, or the ``vae`` folder of a diffusers pipeline. Raises ValueError, naming what is damaged."""
    with reading(folder):
        settings = read_json(folder / "config.json", dict)
        if settings.get("codec") == "pca":
            weights = folder / "codec.safetensors"
            return fill(PCACodec(settings["patch"], settings["channels"]), load_tensors(weights), weights)
        if settings.get("codec") == "tiny":
            return load_tiny(folder)
        return cast(Codec, VAECodec(open_pretrained(AutoencoderKL, folder)))
