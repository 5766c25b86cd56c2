"""Saves and loads trained generators: safetensors, in diffusers' format where it has one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from dermprompt.files import read_json, reading
from dermprompt.generator.controlnet.base import LatentDiffusion
from dermprompt.generator.controlnet.sampler import ControlNetGenerator
from dermprompt.generator.pix2pixhd.module import one_hot
from dermprompt.generator.pix2pixhd.networks import GlobalGenerator
from dermprompt.tensors import fill, load_tensors, open_pretrained


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights as safetensors."""
    save_file({key: value.contiguous().cpu() for key, value in network.state_dict().items()}, path)


def load_weights(network: nn.Module, path: Path) -> nn.Module:
    """Load weights into a network and set it to evaluation mode."""
    return fill(network, load_tensors(path), path).eval()


def save_pix2pixhd(generator: GlobalGenerator, shape: dict[str, Any], folder: Path) -> None:
    """Write ``config.json`` and ``generator.safetensors``."""
    (folder / "config.json").write_text(json.dumps(shape, indent=1))
    save_weights(generator, folder / "generator.safetensors")


class Pix2PixHDGenerator(nn.Module):
    """A trained Pix2PixHD with the interface of all generators; it uses neither text nor noise."""

    def __init__(self, generator: GlobalGenerator) -> None:
        super().__init__()
        self.generator = generator
        self.networks: tuple[nn.Module, ...] = (generator,)

    @torch.no_grad()
    def generate(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Images N3HW in [-1, 1] for masks N1HW; prompts and seeds are ignored."""
        masks = masks.to(next(self.parameters()))
        return self.generator(one_hot(masks)).float()


def load_pix2pixhd(folder: Path) -> Pix2PixHDGenerator:
    """Open what :func:`save_pix2pixhd` wrote."""
    with reading(folder):
        shape = read_json(folder / "config.json", dict)
        network = load_weights(GlobalGenerator(**shape), folder / "generator.safetensors")
    return Pix2PixHDGenerator(network).eval()  # type: ignore[arg-type]


def save_controlnet(trained: Any, unet: UNet2DConditionModel, folder: Path) -> None:
    """Write ``controlnet`` in diffusers' format, and the whole ``unet`` if parts of it were trained."""
    trained["controlnet"].save_pretrained(folder / "controlnet")
    parts = {name: network for name, network in trained.items() if name != "controlnet"}
    if parts:
        for name, network in parts.items():
            getattr(unet, name).load_state_dict(network.state_dict())
        unet.save_pretrained(folder / "unet")


def load_controlnet(folder: Path, base: LatentDiffusion, **sampler: Any) -> ControlNetGenerator:
    """Open an exported ControlNet on its base; ``sampler`` are settings of :class:`ControlNetGenerator`."""
    controlnet = open_pretrained(ControlNetModel, folder / "controlnet")
    if (folder / "unet").is_dir():
        base.unet = open_pretrained(UNet2DConditionModel, folder / "unet").requires_grad_(False)
    return ControlNetGenerator(base, controlnet.eval().requires_grad_(False), **sampler)
