"""Converts a ControlNet to and from one safetensors file in the original code's key layout.

The layout is that of ``cldm/cldm.py`` (Zhang & Agrawala 2023): one numbered list of input blocks, where diffusers has
levels of residual blocks, attentions and downsamplers. Every tensor keeps its values and shape: both layouts have
1x1 convolutions (Stable Diffusion 1.x) or linear layers (2.x) as projections.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import ControlNetModel
from safetensors.torch import save_file
from torch import Tensor

from dermprompt.tensors import load_tensors

PREFIX = "control_model."

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def save_original(controlnet: ControlNetModel, path: Path) -> None:
    """Write a ControlNet's weights under the original names."""
    names = _names(controlnet.config)
    state = {PREFIX + _renamed(key, names): value for key, value in controlnet.state_dict().items()}
    save_file({key: value.contiguous().cpu() for key, value in state.items()}, path, {"format": "pt"})


def load_original(path: Path, config: Mapping[str, Any]) -> ControlNetModel:
    """Open a ControlNet with the original names, alone in its file or part of a whole model, in evaluation mode.

    Args:
        path: a safetensors file.
        config: diffusers' settings of the network (``controlnet/config.json``), which the file does not contain.

    Raises:
        ValueError: the file is not such a ControlNet, or one with other settings; names keys.
    """
    controlnet = ControlNetModel.from_config(dict(config))
    names = {theirs: ours for ours, theirs in _names(controlnet.config).items()}
    state = {_renamed(key, names): value for key, value in _own(load_tensors(path)).items()}
    _check(path, state, controlnet.state_dict())
    controlnet.load_state_dict(state)
    return controlnet.eval()


def _own(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The ControlNet's tensors: those under its prefix, or all if none has it."""
    own = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    return own or state


def _check(path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    missing = sorted(wanted.keys() - state.keys())
    unknown = sorted(state.keys() - wanted.keys())
    other = [key for key in sorted(wanted.keys() & state.keys()) if state[key].shape != wanted[key].shape]
    if missing or unknown or other:
        found = {"missing": missing, "not known": unknown, "of another shape": other}
        said = "; ".join(f"{len(keys)} tensors {what}, such as {keys[0]}" for what, keys in found.items() if keys)
        raise ValueError(f"{path}: no ControlNet of these settings in the original layout: {said}")


def _renamed(key: str, names: Mapping[str, str]) -> str:
    """A tensor's name with its module renamed; unknown names are kept."""
    module = key
    while module not in names:
        module, dot, _ = module.rpartition(".")
        if not dot:
            return key
    return names[module] + key[len(module) :]


def _names(config: Any) -> dict[str, str]:
    """The original name of each module with weights, by diffusers' name."""
    names = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        **_resnet("mid_block.resnets.0", "middle_block.0"),
        "mid_block.attentions.0": "middle_block.1",
        **_resnet("mid_block.resnets.1", "middle_block.2"),
        "controlnet_mid_block": "middle_block_out.0",
    }
    levels, layers = len(config.block_out_channels), config.layers_per_block
    names |= _hint_block(len(config.conditioning_embedding_out_channels))
    for level in range(levels):
        names |= _level(level, layers)
    num_blocks = levels * (layers + 1)  # the last level has no downsampler, but the first convolution adds a block
    return names | {f"controlnet_down_blocks.{i}": f"zero_convs.{i}.0" for i in range(num_blocks)}


def _level(level: int, layers: int) -> dict[str, str]:
    """The names of a level's layers, with or without attention, and of its downsampler."""
    ours, first = f"down_blocks.{level}", 1 + level * (layers + 1)
    names = {f"{ours}.downsamplers.0.conv": f"input_blocks.{first + layers}.0.op"}
    for layer in range(layers):
        names |= _resnet(f"{ours}.resnets.{layer}", f"input_blocks.{first + layer}.0")
        names[f"{ours}.attentions.{layer}"] = f"input_blocks.{first + layer}.1"
    return names


def _resnet(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{part}": f"{theirs}.{original}" for part, original in _RESNET.items()}


def _hint_block(num_widths: int) -> dict[str, str]:
    """The names of the mask's convolutions: the first, two per further width, the last; with activations in between."""
    blocks = 2 * (num_widths - 1)
    ours = "controlnet_cond_embedding"
    parts = [f"{ours}.conv_in", *(f"{ours}.blocks.{i}" for i in range(blocks)), f"{ours}.conv_out"]
    return {part: f"input_hint_block.{2 * i}" for i, part in enumerate(parts)}
