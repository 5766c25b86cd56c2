"""Writes trained networks as they are included in the package (``box``): in bfloat16, and with only those text
embeddings that prompts use.

``python -m dermprompt.export.box BASE CONTROLNET PIX2PIXHD SEGMENTER OUT [SCALE]`` takes four folders of the store.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from dermprompt.entry import in_words
from dermprompt.files import read_json, write_json
from dermprompt.generator.text_encoder import TextEncoder, keep_tokens
from dermprompt.prompts.template import TEMPLATES
from dermprompt.store.artifacts import RECIPE
from dermprompt.tensors import load_tensors

Weights = dict[str, Tensor]
_DIFFUSERS = "diffusion_pytorch_model.safetensors"
_RESIDUALS = ("controlnet_down_blocks.", "controlnet_mid_block.")


def write_box(
    base: Path | None,
    controlnet: Path | None,
    pix2pixhd: Path | None,
    segmenter: Path | None,
    out: Path,
    scale: float = 1.0,
) -> None:
    """Write the four networks below ``out``, in the layout of :mod:`dermprompt.weights.box`.

    The U-Net is taken from the ControlNet's folder if it was trained with it. The codec must be TAEF2: only the mean
    and standard deviation of its latents are written. ``scale`` is multiplied into the ControlNet's weights: a
    conditioning scale of 1 then has the effect that ``generator.conditioning_scale=SCALE`` had before, and further
    training starts from there. Networks that are None, because they are not trained yet, are left out.
    """
    if base is not None:
        own = controlnet / "unet" if controlnet else base / "unet"
        _copy(own if own.is_dir() else base / "unet", out / "base" / "unet", _DIFFUSERS)
        _copy(base / "text_encoder", out / "base" / "text_encoder", "model.safetensors", _words_of_prompts)
        _copy(base / "vae", out / "base" / "vae", "codec.safetensors", _statistics, torch.float32)
        _copy(base / "scheduler", out / "base" / "scheduler")
    if controlnet is not None:
        _copy(controlnet / "controlnet", out / "controlnet" / "controlnet", _DIFFUSERS, partial(_scaled, scale))
    if pix2pixhd is not None:
        _copy(pix2pixhd, out / "pix2pixhd", "generator.safetensors")
    if segmenter is not None:
        _copy(segmenter, out / "segmenter", "network.safetensors")


def _copy(
    source: Path,
    target: Path,
    weights: str | None = None,
    change: Callable[[Weights], Weights] = dict,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Copy the settings, without the path that they were opened from, and the weights, as ``dtype``."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "scheduler_config.json", RECIPE):
        if (source / name).exists():
            settings = read_json(source / name)
            settings.pop("_name_or_path", None)
            write_json(target / name, settings)
    if weights is not None:
        state = change(load_tensors(source / weights)).items()
        halved = {key: (value.to(dtype) if value.is_floating_point() else value).contiguous() for key, value in state}
        save_file(halved, target / weights, {"format": "pt"})


def _scaled(scale: float, state: Weights) -> Weights:
    """Multiply a ControlNet's residuals, the output of its last convolutions, by ``scale``."""
    return {key: value * scale if key.startswith(_RESIDUALS) else value for key, value in state.items()}


def _words_of_prompts(state: Weights) -> Weights:
    if not any(key.endswith("token_embedding.weight") for key in state):
        return state  # a base trained from the package's weights has only these embeddings already
    every = [one.compose(code, one.attributes) for one in TEMPLATES.values() for code in (None, *one.diagnoses)]
    return keep_tokens(state, TextEncoder(32, 1, 1, context_length=77).tokenize(["", *every]).unique())


def _statistics(state: Weights) -> Weights:
    return {key: state[key] for key in ("mean", "deviation")}


@in_words
def main() -> None:
    """Write the networks to the OUT folder of the command line."""
    if len(sys.argv) not in (6, 7):
        sys.exit("usage: python -m dermprompt.export.box BASE CONTROLNET PIX2PIXHD SEGMENTER OUT [SCALE]")
    base, controlnet, pix2pixhd, segmenter, out = map(Path, sys.argv[1:6])
    write_box(base, controlnet, pix2pixhd, segmenter, out, *map(float, sys.argv[6:]))


if __name__ == "__main__":
    main()
