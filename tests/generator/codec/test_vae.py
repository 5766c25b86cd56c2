"""An autoencoder that is trained here: it learns, its latents have unit variance, diffusers opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from dermprompt.generator.batches import ImageBatches, TrainingImages, make_loader
from dermprompt.generator.codec.load import load_codec
from dermprompt.generator.codec.vae import VAECodec, VAEModule, build_vae, scaled_codec
from dermprompt.mapped import Rows
from dermprompt.training.fit import fit


def smooth_images(seed: int, count: int) -> Tensor:
    """Images N3SS in [-1, 1] that a few numbers describe."""
    coarse = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return F.interpolate(coarse, size=(8, 8), mode="bilinear", align_corners=True)


def trained(make_trainer: Callable[..., object], folder: Path, max_steps: int) -> VAECodec:
    images = smooth_images(0, 64)
    torch.manual_seed(0)
    vae = build_vae(2, 4, 32, 1)
    pixels = Rows(((images.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy())
    masks = Rows(np.zeros((64, 8, 8), np.uint8))
    batches = ImageBatches(TrainingImages(pixels, masks, ("",) * 64, tuple(map(str, range(64)))), "none")
    module = VAEModule(vae, 1e-4, 2e-3, max_steps=max_steps, seed=0)
    fit(module, make_loader(batches, 64, 16, 0), make_trainer, folder, 0, max_steps=max_steps)
    return scaled_codec(vae, images.split(16))


@pytest.mark.parametrize(("max_steps", "share"), [(150, 0.6), pytest.param(400, 0.25, marks=pytest.mark.slow)])
def test_it_reconstructs_unseen_images_better_than_the_mean_image(
    max_steps: int, share: float, make_trainer: Callable[..., object], tmp_path: Path
) -> None:
    check(trained(make_trainer, tmp_path / "training", max_steps), share, tmp_path)


@torch.no_grad()
def check(codec: VAECodec, share: float, folder: Path) -> None:
    """Its error is a share of the mean image's, its latents are scaled, and its files open."""
    unseen, mean = smooth_images(1, 16), smooth_images(0, 64).mean(0, keepdim=True)
    latents, std = codec.encode(unseen)
    error, of_mean = (F.mse_loss(one, unseen).item() for one in (codec.decode(latents), mean.expand_as(unseen)))
    assert error < of_mean * share
    assert latents.shape == (16, 4, 4, 4)

    # The latents of a draw have unit variance over those images that it was measured on.
    latents, std = codec.encode(smooth_images(0, 64))
    assert (latents.var(correction=0) + std.square().mean()).item() == pytest.approx(1, rel=1e-3)

    codec.save(folder / "vae")
    loaded = load_codec(folder / "vae")
    assert isinstance(loaded, VAECodec)
    assert (loaded.downscale, loaded.channels) == (2, 4)
    torch.testing.assert_close(loaded.encode(unseen)[0], codec.encode(unseen)[0])
    assert AutoencoderKL.from_pretrained(folder / "vae").config.scaling_factor == codec.factor
