"""Networks, autoencoders and masks on the device are those of a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.gpu


def test_masks_have_the_same_shapes(device: torch.device) -> None:
    """Opened and closed by discs in place of ellipses; now and then one has another number of components."""
    from dermprompt.evaluation.overlap import dice
    from dermprompt.masks.automatic import AutomaticMasks

    code = AutomaticMasks(512, seed=0)
    theirs = replace(code, device=device.type).sample(range(16))
    assert np.median(dice(theirs, code.sample(range(16)))) > 0.95


@pytest.mark.parametrize("name", ["unet", "dcsaunet"])
def test_segmenters_see_the_same(name: str, device: torch.device) -> None:
    import torch

    from dermprompt.segmenter.dcsaunet import DCSAUNet

    torch.manual_seed(0)
    if name == "dcsaunet":
        network: torch.nn.Module = DCSAUNet()
    else:
        from monai.networks.nets import BasicUNet

        network = BasicUNet(2, 3, 1, features=(8, 8, 8, 8, 8, 8))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        theirs = network.eval()(images)
        torch.testing.assert_close(network.to(device)(images.to(device)).cpu(), theirs, atol=1e-3, rtol=1e-3)


def test_stable_diffusion_encodes_and_decodes_the_same(tiny_stable_diffusion: Path, device: torch.device) -> None:
    import torch

    from dermprompt.generator.controlnet.base import load_base

    base, images = load_base(str(tiny_stable_diffusion)), torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        theirs = [base.codec.encode(images)[0], base.text_encoder.encode(["", "a naevus"])]
        theirs.append(base.codec.decode(theirs[0]))
        base.to(device)
        ours = [base.codec.encode(images.to(device))[0], base.text_encoder.encode(["", "a naevus"])]
        ours.append(base.codec.decode(theirs[0].to(device)))
    torch.testing.assert_close([one.cpu() for one in ours], theirs, atol=1e-3, rtol=1e-3)
