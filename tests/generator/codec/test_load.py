"""Latent spaces against NumPy's singular values and diffusers' autoencoder; round trips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from dermprompt.generator.codec.load import load_codec
from dermprompt.generator.codec.pca import PCACodec
from dermprompt.generator.codec.vae import VAECodec

WHITENINGS = pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])


def smooth_images(seed: int, count: int = 8, size: int = 32) -> Tensor:
    """Random images without detail, as skin is."""
    coarse = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse * 0.4, size=(size, size), mode="bicubic").clamp(-1, 1)


def noise_images(seed: int) -> Tensor:
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@WHITENINGS
def test_latents_come_back_from_the_images_in_the_span(whitening: float) -> None:
    codec = PCACodec.fit(smooth_images(0), whitening=whitening)
    latents = torch.randn(2, 12, 8, 8, generator=torch.Generator().manual_seed(1))
    mean, std = codec.encode(codec.decode(latents))
    torch.testing.assert_close(mean, latents, atol=1e-3, rtol=0)
    assert not std.any()


@WHITENINGS
def test_all_components_lose_nothing(whitening: float) -> None:
    codec = PCACodec.fit(noise_images(0), channels=48, whitening=whitening)
    unseen = noise_images(1)
    torch.testing.assert_close(codec.decode(codec.encode(unseen)[0]), unseen, atol=1e-4, rtol=0)


def test_smooth_images_keep_more_than_30_db() -> None:
    codec = PCACodec.fit(smooth_images(0))
    unseen = smooth_images(1)
    error = F.mse_loss(codec.decode(codec.encode(unseen)[0]), unseen).item()
    assert 10 * np.log10(2**2 / error) > 30


def test_the_error_is_the_variance_of_the_components_left_out() -> None:
    images = noise_images(0)
    codec = PCACodec.fit(images, channels=12)
    rows = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 48).double().numpy()
    energies = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    error = (codec.decode(codec.encode(images)[0]) - images).square().sum().item()
    assert error == pytest.approx(energies[12:].sum(), rel=1e-4)


@WHITENINGS
def test_the_mean_variance_of_latents_is_one(whitening: float) -> None:
    images = smooth_images(0)
    latents = PCACodec.fit(images, whitening=whitening).encode(images)[0]
    assert latents.var((0, 2, 3)).mean().item() == pytest.approx(1, rel=1e-3)


def test_whitening_evens_the_components_out() -> None:
    images = noise_images(0)
    spread = {}
    for whitening in (0.0, 0.5, 1.0):
        variances = PCACodec.fit(images, whitening=whitening).encode(images)[0].var((0, 2, 3))
        assert (variances[:-1] >= variances[1:] - 1e-4).all()
        spread[whitening] = (variances[0] / variances[-1]).item()
    assert spread[1.0] == pytest.approx(1, rel=1e-3)
    assert spread[0.5] == pytest.approx(spread[0.0] ** 0.5, rel=1e-3)


def test_pca_is_the_same_after_a_round_trip_on_disk(tmp_path: Path) -> None:
    images = smooth_images(0)
    codec = PCACodec.fit(images, patch=8, channels=5)
    codec.save(tmp_path / "vae")
    loaded = load_codec(tmp_path / "vae")
    assert isinstance(loaded, PCACodec)
    assert (loaded.downscale, loaded.channels) == (8, 5)
    latents = codec.encode(images)[0]
    torch.testing.assert_close(loaded.encode(images)[0], latents)
    torch.testing.assert_close(loaded.decode(latents), codec.decode(latents))


@torch.no_grad()
def test_vae_is_that_of_diffusers_times_its_factor(tiny_stable_diffusion: Path) -> None:
    codec = load_codec(tiny_stable_diffusion / "vae")
    theirs = AutoencoderKL.from_pretrained(tiny_stable_diffusion / "vae")
    assert isinstance(codec, VAECodec)
    assert (codec.downscale, codec.channels, codec.factor) == (8, 4, 0.18215)
    images = smooth_images(0, count=2, size=64)
    mean, std = codec.encode(images)
    posterior = theirs.encode(images).latent_dist
    torch.testing.assert_close(mean, posterior.mean * 0.18215)
    torch.testing.assert_close(std, posterior.std * 0.18215)
    assert mean.shape == (2, 4, 8, 8)
    torch.testing.assert_close(codec.decode(mean), theirs.decode(posterior.mean).sample)


@torch.no_grad()
def test_vae_is_the_same_after_a_round_trip_on_disk(tiny_stable_diffusion: Path, tmp_path: Path) -> None:
    codec = load_codec(tiny_stable_diffusion / "vae")
    codec.save(tmp_path / "vae")
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load_codec(tmp_path / "vae").decode(latents), codec.decode(latents))
