"""The latent diffusion model as its four parts: targets, schedule, text, folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from dermprompt.generator.controlnet.base import (
    LatentDiffusion,
    load_base,
    predict,
    sample_noise,
    scratch_scheduler,
)
from dermprompt.generator.text_encoder import END_OF_TEXT

MakeBase = Callable[..., LatentDiffusion]
STEPS = torch.tensor([0, 500, 990])


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_velocity_gives_the_latents_back(make_scratch_base: MakeBase) -> None:
    """Salimans & Ho 2022, appendix D: x = α z - σ v."""
    base = make_scratch_base(prediction="v_prediction")
    latents, noise = draw(2, 3, 12, 4, 4)
    noisy = base.scheduler.add_noise(latents, noise, STEPS)
    kept = base.scheduler.alphas_cumprod[STEPS].view(-1, 1, 1, 1)
    again = kept.sqrt() * noisy - (1 - kept).sqrt() * base.target(latents, noise, STEPS)
    torch.testing.assert_close(again, latents, atol=1e-5, rtol=0)


def test_epsilon_is_the_noise(make_scratch_base: MakeBase) -> None:
    latents, noise = draw(2, 3, 12, 4, 4)
    assert torch.equal(make_scratch_base(prediction="epsilon").target(latents, noise, STEPS), noise)


def test_the_scratch_schedule_goes_from_pure_noise_to_none() -> None:
    scheduler = scratch_scheduler("v_prediction")
    assert scheduler.alphas_cumprod[-1] < 1e-6
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(999, 0, -20))
    latents = draw(1, 12, 4, 4)
    clean = scheduler.step(torch.zeros_like(latents), scheduler.timesteps[-1], latents)
    assert torch.equal(clean.prev_sample, clean.pred_original_sample)


@torch.no_grad()
def test_text_changes_the_prediction(make_scratch_base: MakeBase) -> None:
    base = make_scratch_base()
    noisy = draw(1, 12, 4, 4).expand(2, -1, -1, -1)
    one, two = predict(base, noisy, torch.tensor([500, 500]), base.text_encoder.encode(["melanoma", "naevus"]))
    assert (one - two).abs().max() > 1e-3


@torch.no_grad()
def test_a_base_is_the_same_after_a_round_trip_on_disk(make_scratch_base: MakeBase, tmp_path: Path) -> None:
    base = make_scratch_base()
    base.save(tmp_path)
    loaded = load_base(str(tmp_path))
    noisy, prompts = draw(2, 12, 4, 4), ["melanoma", ""]
    results = [predict(one, noisy, torch.tensor([1, 999]), one.text_encoder.encode(prompts)) for one in (base, loaded)]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(loaded.codec.decode(noisy), base.codec.decode(noisy))
    assert loaded.scheduler.config.prediction_type == "v_prediction"
    assert torch.equal(loaded.scheduler.alphas_cumprod, base.scheduler.alphas_cumprod)
    assert UNet2DConditionModel.from_pretrained(tmp_path / "unet").config.in_channels == 12


def test_a_loaded_base_is_frozen(tiny_stable_diffusion: Path) -> None:
    base = load_base(str(tiny_stable_diffusion), pad_token_id=0, text_layers=1)
    assert not any(weight.requires_grad for weight in base.parameters())
    assert not any(module.training for module in base.modules())
    assert (base.text_encoder.pad_token_id, base.text_encoder.settings["layers"]) == (0, 1)
    assert load_base(str(tiny_stable_diffusion)).text_encoder.pad_token_id == END_OF_TEXT


def test_noise_is_of_its_own_seed_alone() -> None:
    noise = sample_noise((12, 8, 8), [5, 2**62, 7])
    for seed, one in zip([5, 2**62, 7], noise, strict=True):
        assert torch.equal(sample_noise((12, 8, 8), [seed])[0], one)
    assert len(noise.unique(dim=0)) == 3
    assert noise.mean().item() == pytest.approx(0, abs=0.1)
    assert noise.std().item() == pytest.approx(1, abs=0.1)
