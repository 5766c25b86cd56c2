"""The original key layout: there and back, and diffusers' own converter as the oracle."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor

from dermprompt.generator.cldm import PREFIX, load_original, save_original
from dermprompt.generator.controlnet.module import build_controlnet

# Stable Diffusion's own layout in small: attention on all levels but the last, a hint at 8 times the latents' size.
STABLE_DIFFUSION = {
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 2,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
SHAPES: dict[str, dict[str, Any]] = {
    "1.x": STABLE_DIFFUSION,
    "2.x": {**STABLE_DIFFUSION, "use_linear_projection": True},
    "one layer": {**STABLE_DIFFUSION, "layers_per_block": 1},
    "two levels": {
        **STABLE_DIFFUSION,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    },
}


def controlnet(shape: dict[str, Any]) -> ControlNetModel:
    torch.manual_seed(0)
    network = ControlNetModel(**shape).eval()
    with torch.no_grad():
        for weight in network.parameters():  # the zero convolutions too
            weight.add_(0.1 * torch.randn_like(weight))
    return network


@torch.no_grad()
def outputs(network: ControlNetModel, size: int = 8, channels: int = 4) -> list[Tensor]:
    torch.manual_seed(1)
    width = network.config.cross_attention_dim
    stride = 2 ** (len(network.config.conditioning_embedding_out_channels) - 1)
    masks = torch.rand(2, 3, stride * size, stride * size)
    text = torch.randn(2, 5, width)
    down, middle = network(torch.randn(2, channels, size, size), 500, text, masks, return_dict=False)
    return [*down, middle]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_read_back_draws_the_same(name: str, tmp_path: Path) -> None:
    network = controlnet(SHAPES[name])
    save_original(network, tmp_path / "control.safetensors")
    again = load_original(tmp_path / "control.safetensors", network.config)
    assert min(residual.abs().max() for residual in outputs(network)) > 1e-3
    assert same(outputs(network), outputs(again))


@pytest.mark.parametrize("name", SHAPES)
def test_diffusers_reads_the_same_weights(name: str, tmp_path: Path) -> None:
    network = controlnet(SHAPES[name])
    save_original(network, tmp_path / "control.safetensors")
    theirs = convert_controlnet_checkpoint(load_file(tmp_path / "control.safetensors"), dict(network.config))
    own = network.state_dict()
    assert theirs.keys() == own.keys()
    assert all(torch.equal(theirs[key], own[key]) for key in own)


def test_diffusers_opens_the_single_file(tmp_path: Path) -> None:
    network = controlnet(STABLE_DIFFUSION)
    network.save_pretrained(tmp_path / "controlnet")
    save_original(network, tmp_path / "control.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = ControlNetModel.from_single_file(
            str(tmp_path / "control.safetensors"), config=str(tmp_path / "controlnet"), local_files_only=True
        )
    assert same(outputs(network), outputs(theirs.eval()))


def test_names_are_those_of_the_original(tmp_path: Path) -> None:
    """Stable Diffusion's: twelve input blocks and zero convolutions, a hint block of eight convolutions."""
    shape = {**STABLE_DIFFUSION, "block_out_channels": (16, 32, 32, 32)}
    shape["down_block_types"] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    save_original(controlnet(shape), tmp_path / "control.safetensors")
    keys = {key.removeprefix(PREFIX) for key in load_file(tmp_path / "control.safetensors")}
    for kind, number in {"input_blocks": 12, "zero_convs": 12, "input_hint_block": 8, "middle_block": 3}.items():
        assert len({key.split(".")[1] for key in keys if key.split(".")[0] == kind}) == number
    assert {
        "time_embed.2.bias",
        "input_blocks.0.0.weight",
        "input_blocks.1.0.in_layers.2.weight",
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
        "input_blocks.4.0.skip_connection.weight",
        "input_blocks.9.0.op.weight",
        "input_blocks.11.0.out_layers.3.bias",
        "input_hint_block.14.weight",
        "middle_block.1.proj_in.weight",
        "middle_block_out.0.weight",
        "zero_convs.11.0.bias",
    } <= keys
    assert "input_blocks.10.1.proj_in.weight" not in keys


def test_a_small_base_of_ones_own_comes_back(make_scratch_base: Any, tmp_path: Path) -> None:
    network = build_controlnet(make_scratch_base()).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1)
    save_original(network, tmp_path / "control.safetensors")
    again = load_original(tmp_path / "control.safetensors", network.config)
    assert same(outputs(network, 4, 12), outputs(again, 4, 12))


def test_inside_a_whole_model_or_without_a_prefix_it_is_found(tmp_path: Path) -> None:
    network, path = controlnet(STABLE_DIFFUSION), tmp_path / "control.safetensors"
    save_original(network, path)
    state = load_file(path)
    for other in (
        {**state, "model.diffusion_model.out.0.weight": torch.ones(1)},
        {key.removeprefix(PREFIX): value for key, value in state.items()},
    ):
        save_file(other, path)
        assert same(outputs(network), outputs(load_original(path, network.config)))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    network, path = controlnet(STABLE_DIFFUSION), tmp_path / "control.safetensors"
    save_original(network, path)
    for layers in (1, 3):
        with pytest.raises(ValueError, match=r"\d+ tensors missing, such as \w+\..*; \d+ tensors not known, such as "):
            load_original(path, {**STABLE_DIFFUSION, "layers_per_block": layers})
    with pytest.raises(ValueError, match=r"layout: 10 tensors of another shape, such as .*\.proj_"):
        load_original(path, SHAPES["2.x"])
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"1 tensors not known, such as weight"):
        load_original(path, network.config)
