"""Diffusers' AutoencoderKL as a latent space: Stable Diffusion's, or one trained on G."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F


class VAECodec(nn.Module):
    """Diffusers' AutoencoderKL, Stable Diffusion's or one trained here, scaled to about unit variance."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        self.channels = vae.config.latent_channels
        self.downscale = 2 ** (len(vae.config.block_out_channels) - 1)
        self.factor = vae.config.scaling_factor

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`~dermprompt.generator.codec.load.Codec`."""
        posterior = self.vae.encode(images).latent_dist
        return posterior.mean * self.factor, posterior.std * self.factor

    def decode(self, latents: Tensor) -> Tensor:
        """See :class:`~dermprompt.generator.codec.load.Codec`."""
        return self.vae.decode(latents / self.factor).sample

    def save(self, folder: Path) -> None:
        """See :class:`~dermprompt.generator.codec.load.Codec`."""
        self.vae.save_pretrained(folder)


def build_vae(downscale: int, channels: int, width: int, layers_per_block: int) -> AutoencoderKL:
    """An untrained autoencoder; its levels have ``width`` channels, then twice, then four times as many."""
    levels = downscale.bit_length()
    return AutoencoderKL(
        block_out_channels=tuple(width * min(2**level, 4) for level in range(levels)),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=layers_per_block,
        latent_channels=channels,
        scaling_factor=1.0,
    )


class VAEModule(LightningModule):
    """Trains with mean absolute error and a weighted KL divergence (Kingma & Welling 2014, equation 10), without a GAN.

    Batches come from :class:`~dermprompt.generator.batches.ImageBatches`; the noise of step k is a function of
    (seed, k, rank).

    Args:
        vae: the autoencoder, trained in place.
        kl_weight: weight of the divergence from the standard normal, in nats, averaged over latent values.
        learning_rate, max_steps: AdamW with cosine decay to zero.
    """

    def __init__(self, vae: AutoencoderKL, kl_weight: float, learning_rate: float, max_steps: int, seed: int) -> None:
        super().__init__()
        self.vae = vae
        self.kl_weight, self.learning_rate, self.max_steps, self.seed = kl_weight, learning_rate, max_steps, seed

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Reconstruct from a latent drawn for each image."""
        posterior = self.vae.encode(batch["images"]).latent_dist
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        latents = mean + (0.5 * log_variance).exp() * self._noise(mean)
        error = F.l1_loss(self.vae.decode(latents).sample, batch["images"])
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        self.log("codec/train/error", error, prog_bar=True)
        self.log("codec/train/divergence", divergence)
        return error + self.kl_weight * divergence

    def _noise(self, like: Tensor) -> Tensor:
        seed = np.random.SeedSequence([self.seed, self.global_step, self.global_rank]).generate_state(1)[0]
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(int(seed))).to(like)

    def configure_optimizers(self) -> Any:
        """AdamW with a schedule per step."""
        optimizer = torch.optim.AdamW(self.vae.parameters(), lr=self.learning_rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@torch.no_grad()
def scaled_codec(vae: AutoencoderKL, batches: Iterable[Tensor]) -> VAECodec:
    """The trained autoencoder, with a factor that brings its latents of images N3HW in [-1, 1] to unit variance.

    All channels share the factor, which is stored in the autoencoder's configuration (Rombach et al. 2021,
    appendix G).
    """
    vae.eval()
    count, total, squares = 0, 0.0, 0.0
    for images in batches:
        posterior = vae.encode(images.to(vae.device)).latent_dist
        count += posterior.mean.numel()
        total += posterior.mean.double().sum().item()
        squares += (posterior.mean.double() ** 2 + posterior.var).sum().item()
    variance = squares / count - (total / count) ** 2
    vae.register_to_config(scaling_factor=variance**-0.5)
    return VAECodec(vae)
