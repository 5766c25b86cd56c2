"""Samples drawn on the device: those of a CPU in float32, near them in bfloat16, the same when compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from gpu.trainings import MakeBase

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dermprompt.generator.controlnet.sampler import ControlNetGenerator

pytestmark = pytest.mark.gpu
PROMPTS, SEEDS = ["melanoma", "", "naevus"], [11, 12, 2**62]


def sampler(make_base: MakeBase, **settings: Any) -> ControlNetGenerator:
    """With a ControlNet of random weights, its zero convolutions too."""
    import torch
    from torch import nn

    from dermprompt.generator.controlnet.module import build_controlnet
    from dermprompt.generator.controlnet.sampler import ControlNetGenerator

    base = make_base()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        controlnet = build_controlnet(base)
        for weight in controlnet.parameters():
            if weight.ndim > 1:
                nn.init.kaiming_normal_(weight)
    return ControlNetGenerator(base.eval(), controlnet.eval(), **{"num_steps": 4, "guidance_scale": 3.0, **settings})


def images(generator: ControlNetGenerator) -> Tensor:
    """Three images of squares of three sizes."""
    import torch

    masks = torch.zeros(3, 1, 16, 16)
    for row in range(3):
        masks[row, :, 2 : 6 + 3 * row, 2 : 6 + 3 * row] = 1
    return generator.generate(masks, PROMPTS, SEEDS).float().cpu()


@pytest.mark.parametrize(("name", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("dpm", 0.0), ("unipc", 0.0)])
def test_samples_are_those_of_a_cpu(name: str, eta: float, make_scratch_base: MakeBase, device: torch.device) -> None:
    import torch

    generator = sampler(make_scratch_base, sampler=name, eta=eta)
    theirs = images(generator)
    assert theirs.std() > 0.1
    torch.testing.assert_close(images(generator.to(device)), theirs, atol=5e-3, rtol=0)


def test_bfloat16_is_near(make_scratch_base: MakeBase, device: torch.device) -> None:
    from dermprompt.stages.networks import make_fast

    generator = sampler(make_scratch_base, guidance_scale=1.0).to(device)
    exact = images(generator)
    make_fast(generator.networks, "bf16-true", compiled=False)
    near = images(generator)
    assert near.isfinite().all()
    assert 0 < (near - exact).abs().mean() < 0.1 * exact.std()


def test_channels_last_changes_nothing(make_scratch_base: MakeBase, device: torch.device) -> None:
    import torch

    from dermprompt.stages.networks import make_fast

    generator = sampler(make_scratch_base).to(device)
    plain = images(generator)
    make_fast(generator.networks, "32-true", compiled=False)
    assert generator.base.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images(generator), plain, atol=5e-3, rtol=0)


def test_compiled_networks_change_nothing(make_scratch_base: MakeBase, device: torch.device) -> None:
    import torch

    from dermprompt.generator.controlnet.module import speed_up

    generator = sampler(make_scratch_base).to(device)
    plain = images(generator)
    speed_up(generator.networks, compiled=True, channels_last=False)
    torch.testing.assert_close(images(generator), plain, atol=5e-3, rtol=0)
