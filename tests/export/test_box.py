from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dermprompt.config.compose import instantiate
from dermprompt.distributed.processes import Runtime
from dermprompt.export.box import write_box
from dermprompt.generator.codec.tiny import read_tiny
from dermprompt.generator.controlnet.base import build_scratch, load_base
from dermprompt.generator.controlnet.module import build_controlnet
from dermprompt.generator.export import load_controlnet, load_pix2pixhd, save_pix2pixhd, save_weights
from dermprompt.generator.pix2pixhd.networks import GlobalGenerator
from dermprompt.stages.networks import open_segmenter
from dermprompt.store.artifacts import RECIPE

PROMPTS = ["dermoscopic image of a melanoma with streaks and globules", ""]


def write_segmenter(folder: Path) -> torch.nn.Module:
    """An untrained segmenter, as the store keeps it."""
    folder.mkdir()
    settings: dict[str, Any] = {"_target_": "monai.networks.nets.BasicUNet", "spatial_dims": 2, "in_channels": 3}
    settings |= {"out_channels": 1, "features": [4, 4, 4, 4, 4, 4]}
    network = instantiate(settings).eval()
    save_weights(network, folder / "network.safetensors")
    recipe = {"stage": "train_segmenter", "name": "unet-S", "version": 1, "inputs": []}
    recipe["settings"] = {"segmenter": {"network": settings, "image_size": 32}}
    (folder / RECIPE).write_text(json.dumps(recipe))
    return network


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_box_draws_what_the_trained_generators_draw(tmp_path: Path, scale: float) -> None:
    codec = read_tiny("taef2")
    codec.mean.fill_(0.1)
    base = build_scratch(codec, 32, (32, 64), 1, 1, 32, 1, 32, "v_prediction").eval().requires_grad_(False)
    base.save(tmp_path / "base")
    copy = build_controlnet(base, 8)
    for one in (*copy.controlnet_down_blocks, copy.controlnet_mid_block):
        torch.nn.init.normal_(one.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    copy.save_pretrained(tmp_path / "controlnet" / "controlnet")
    (tmp_path / "pix2pixhd").mkdir()
    shape = {"base_channels": 4, "num_downsamplings": 2, "num_blocks": 1, "upsampling": "resize"}
    save_pix2pixhd(GlobalGenerator(**shape), shape, tmp_path / "pix2pixhd")
    network = write_segmenter(tmp_path / "segmenter")

    write_box(*(tmp_path / name for name in ("base", "controlnet", "pix2pixhd", "segmenter", "box")), scale=scale)

    masks, seeds = torch.zeros(2, 1, 32, 32), [1, 2]
    masks[0, :, 4:20, 6:30], masks[1, :, 12:24, :9] = 1, 1
    drawn, sampler = {}, {"num_steps": 2, "sampler": "dpm", "guidance_scale": 1.0}
    for name, conditioning_scale in (("", scale), ("box", 1.0)):
        folder = tmp_path / name
        controlnet = load_controlnet(
            folder / "controlnet", load_base(str(folder / "base")), conditioning_scale=conditioning_scale, **sampler
        )
        rival = load_pix2pixhd(folder / "pix2pixhd")
        drawn[name] = [one.generate(masks, PROMPTS, seeds) for one in (controlnet, rival)]
    for whole, boxed in zip(*drawn.values(), strict=True):
        # bfloat16 keeps eight bits of a weight.
        torch.testing.assert_close(boxed, whole, atol=0.05, rtol=0)
    assert (tmp_path / "box/base/text_encoder/model.safetensors").stat().st_size < 200_000
    boxed, side = open_segmenter(Runtime({"accelerator": "cpu"}, None), tmp_path / "box/segmenter")
    assert side == 32
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(boxed(images), network(images), atol=0.05, rtol=0)
