"""Principal components of patches as a latent space."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F


class PCACodec(nn.Module):
    """Principal components of square patches: linear, deterministic, fitted in a second.

    Each component is divided by its std to the power ``whitening``. With 0, the first component (the patch's
    brightness) has nearly all of the variance, and the noise of a diffusion hardly hides it; with 1, the last
    components are as strong as the first. In between, noise removes detail first and shape last.
    """

    basis: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, patch: int = 4, channels: int = 12) -> None:
        super().__init__()
        self.downscale, self.channels = patch, channels
        self.register_buffer("basis", torch.zeros(channels, 3, patch, patch))
        self.register_buffer("mean", torch.zeros(3, patch, patch))
        self.register_buffer("scale", torch.ones(channels))

    @classmethod
    def fit(cls, images: Tensor, patch: int = 4, channels: int = 12, whitening: float = 0.5) -> PCACodec:
        """Fit on images N3HW in [-1, 1]; H and W are multiples of ``patch``."""
        codec = cls(patch, channels)
        patches = F.unfold(images, patch, stride=patch).transpose(1, 2).reshape(-1, 3 * patch * patch)
        mean = patches.mean(0)
        variance, vectors = torch.linalg.eigh(torch.cov((patches - mean).T.double()))
        variance, vectors = variance.flip(0)[:channels], vectors.flip(1)[:, :channels]
        std = variance.clamp_min(1e-8).sqrt()
        # A common factor for all components brings the mean variance to 1, as diffusion schedules expect.
        scale = std**whitening
        scale = scale * (variance / scale**2).mean().sqrt()
        codec.mean.copy_(mean.view_as(codec.mean))
        codec.basis.copy_(vectors.T.reshape(codec.basis.shape))
        codec.scale.copy_(scale)
        return codec

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`~dermprompt.generator.codec.load.Codec`; the standard deviation is zero."""
        offset = (self.basis * self.mean).sum((1, 2, 3))
        codes = F.conv2d(images, self.basis, stride=self.downscale) - offset.view(1, -1, 1, 1)
        latents = codes / self.scale.view(1, -1, 1, 1)
        return latents, torch.zeros_like(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """See :class:`~dermprompt.generator.codec.load.Codec`."""
        codes = latents * self.scale.view(1, -1, 1, 1)
        images = F.conv_transpose2d(codes, self.basis, stride=self.downscale)
        height, width = latents.shape[-2:]
        return images + self.mean.repeat(1, height, width)

    def save(self, folder: Path) -> None:
        """See :class:`~dermprompt.generator.codec.load.Codec`."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"codec": "pca", "patch": self.downscale, "channels": self.channels}
        (folder / "config.json").write_text(json.dumps(settings, indent=2))
        save_file(self.state_dict(), folder / "codec.safetensors")
