"""The hint network shrinks the mask to the latents' size, whatever the codec's downscale."""

from __future__ import annotations

import pytest
import torch

from dermprompt.generator.codec.pca import PCACodec
from dermprompt.generator.controlnet.base import build_scratch, control
from dermprompt.generator.controlnet.module import build_controlnet, hint_channels


def test_stable_diffusions_hints_are_the_originals() -> None:
    assert hint_channels(8) == (16, 32, 96, 256)


@pytest.mark.parametrize("downscale", [2, 4, 8, 16])
@torch.no_grad()
def test_a_mask_meets_the_latents(downscale: int) -> None:
    base = build_scratch(PCACodec(downscale, 3), 64, (32, 32), 1, 1, 32, 1, 8, "v_prediction")
    size = 64 // downscale
    noisy, text = torch.zeros(1, 3, size, size), base.text_encoder.encode([""])
    residuals = control(build_controlnet(base), noisy, torch.tensor([5]), text, torch.ones(1, 1, 64, 64))
    assert residuals[0].shape == (1, 32, size, size)
