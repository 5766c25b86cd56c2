"""Trained generators on disk, opened by diffusers; a whole image against diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from PIL import Image
from torch import Tensor

from dermprompt.generator.controlnet.base import control, load_base, sample_noise
from dermprompt.generator.controlnet.module import build_controlnet
from dermprompt.generator.controlnet.sampler import SCHEDULERS
from dermprompt.generator.export import (
    Pix2PixHDGenerator,
    load_controlnet,
    load_pix2pixhd,
    load_weights,
    save_pix2pixhd,
    save_weights,
)
from dermprompt.generator.pix2pixhd.networks import GlobalGenerator

PROMPTS, SEEDS = ["a dermoscopic image of melanoma", "a dermoscopic image of naevus, with globules"], [3, 4]


@pytest.fixture(scope="module")
def trained(tiny_stable_diffusion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a generator on the tiny Stable Diffusion, as if it had been trained."""
    generator = torch.Generator().manual_seed(0)
    controlnet = build_controlnet(load_base(str(tiny_stable_diffusion)))
    with torch.no_grad():
        for weight in controlnet.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    folder = tmp_path_factory.mktemp("trained")
    controlnet.save_pretrained(folder / "controlnet")
    return folder


def discs(size: int = 64) -> Tensor:
    """Two masks: a small and a large disc."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    squared = (rows - size / 2) ** 2 + (columns - size / 2) ** 2
    return torch.stack([squared < (size * radius) ** 2 for radius in (0.2, 0.4)]).unsqueeze(1).float()


@torch.no_grad()
def test_diffusers_opens_the_controlnet(tiny_stable_diffusion: Path, trained: Path) -> None:
    base = load_base(str(tiny_stable_diffusion))
    ours = load_controlnet(trained, base, num_steps=4, guidance_scale=3.0, eta=0.0)
    theirs = ControlNetModel.from_pretrained(trained / "controlnet")
    assert not any(weight.requires_grad for weight in ours.parameters())
    noisy, steps, text = torch.ones(2, 4, 8, 8), torch.tensor([1, 999]), base.text_encoder.encode(PROMPTS)
    down, middle = theirs(
        noisy,
        steps,
        encoder_hidden_states=text,
        controlnet_cond=discs().repeat(1, 3, 1, 1),
        return_dict=False,
    )
    residuals = control(ours.controlnet, noisy, steps, text, discs())
    assert middle.abs().max() > 0.1
    for one, two in zip(residuals, (*down, middle), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_images_are_those_of_the_pipeline_of_diffusers(
    tiny_stable_diffusion: Path, trained: Path, sampler: str
) -> None:
    base = load_base(str(tiny_stable_diffusion))
    ours = load_controlnet(trained, base, num_steps=4, guidance_scale=3.0, eta=0.0, sampler=sampler)
    images = ours.generate(discs(), PROMPTS, SEEDS)

    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        tiny_stable_diffusion,
        controlnet=ControlNetModel.from_pretrained(trained / "controlnet"),
        safety_checker=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = SCHEDULERS[sampler].from_config(pipeline.scheduler.config)
    masks = [Image.fromarray((mask[0].numpy() * 255).astype(np.uint8)).convert("RGB") for mask in discs()]
    theirs = pipeline(
        PROMPTS,
        image=masks,
        num_inference_steps=4,
        guidance_scale=3.0,
        latents=sample_noise((4, 8, 8), SEEDS),
        output_type="pt",
    ).images
    assert theirs.std() > 0.05
    torch.testing.assert_close((images + 1) / 2, theirs, atol=1e-3, rtol=0)


@torch.no_grad()
def test_pix2pixhd_is_the_same_after_a_round_trip_on_disk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"base_channels": 4, "num_downsamplings": 2, "num_blocks": 1}
    network = GlobalGenerator(**shape)
    save_pix2pixhd(network, shape, tmp_path)
    masks = discs()
    images = Pix2PixHDGenerator(network).generate(masks, PROMPTS, SEEDS)
    torch.testing.assert_close(load_pix2pixhd(tmp_path).generate(masks, ["", ""], [0, 1]), images)
    labels = torch.cat([1 - masks, masks], 1)
    torch.testing.assert_close(images, network(labels))
    assert (images[0] - images[1]).abs().max() > 1e-3


def test_weights_are_the_same_after_a_round_trip_on_disk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    # A kernel in another memory format is not contiguous, as safetensors wants it.
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8))
    network.to(memory_format=torch.channels_last)
    network(torch.randn(2, 4, 8, 8))
    save_weights(network, tmp_path / "network.safetensors")
    other = load_weights(
        torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8)),
        tmp_path / "network.safetensors",
    )
    assert not other.training
    for key, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
