"""What an experiment's trainings cost by arithmetic: parameters and FLOPs of an image, counted on no device.

    python benchmarks/flops.py [+experiment=isic_256 …] [generator=controlnet]

Takes the overrides of a job with ``generator/base=scratch``. One multiplication with its addition is two FLOPs. The
minutes are those FLOPs at 25 % of 790 TFLOP/s, a rate measured of an H100's matrix products in bf16: arithmetic, not
a measurement; small networks fill a device worse.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dermprompt.config import compose as configuration
from dermprompt.generator.codec.pca import PCACodec
from dermprompt.generator.codec.vae import build_vae
from dermprompt.generator.controlnet.base import LatentDiffusion, build_scratch, control, predict
from dermprompt.generator.controlnet.module import build_controlnet, trained_part

CONF = Path(__file__).parents[1] / "conf"
RATE = 0.25 * 790
TINY_CHANNELS = 32  # of taef2


def tflop(work: Callable[[], Any]) -> float:
    """TFLOPs of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e12


def millions(network: nn.Module) -> float:
    """Millions of parameters."""
    return sum(one.numel() for one in network.parameters()) / 1e6


def say(name: str, network: nn.Module, train: float, settings: Any) -> None:
    """A training's row."""
    total = train * settings.batch_size * settings.max_steps
    print(
        f"{name}: {millions(network):.1f} M parameters, {train:.2g} TFLOP an image of a training step, "
        f"{settings.max_steps} steps of {settings.batch_size}: {total / 1000:.2g} PFLOP, {total / RATE / 60:.2g} min"
    )


def count_base(config: Any) -> LatentDiffusion:
    """The scratch base on no device."""
    base = config.generator.base
    codec = PCACodec(base.codec.downscale, getattr(base.codec, "channels", TINY_CHANNELS))
    levels = (tuple(base.channels), base.attention_levels, base.layers_per_block)
    text = (base.text_width, base.text_layers, base.context_length)
    return build_scratch(codec, config.image_size, *levels, *text, base.prediction)


def main() -> None:
    """Print a row for each training of the generator, and one for a sample."""
    configuration.register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = configuration.freeze(hydra.compose("config", ["data=phantom", "generator=controlnet", *sys.argv[1:]]))
    settings, size = config.generator, config.image_size
    torch.set_default_device("meta")
    if settings.base.codec.name == "vae":
        codec = settings.base.codec
        vae, image = build_vae(codec.downscale, codec.channels, codec.width, codec.layers_per_block), (1, 3, size, size)
        step = tflop(lambda: vae.decode(vae.encode(torch.zeros(image)).latent_dist.mean).sample.sum().backward())
        say("codec", vae, step, codec)
    base = count_base(config)
    side, width = size // settings.base.codec.downscale, settings.base.text_width
    noisy, time = torch.zeros(1, base.codec.channels, side, side), torch.zeros(1)
    text, mask = torch.zeros(1, settings.base.context_length, width), torch.zeros(1, 1, size, size)
    step = tflop(lambda: predict(base, noisy, time, text).sum().backward())
    say("base", base.unet, step, settings.base)
    controlnet = build_controlnet(base, settings.hint_width)
    base.requires_grad_(False)
    trained = trained_part(base, controlnet, settings.trainable)

    def both() -> torch.Tensor:
        return predict(base, noisy, time, text, control(controlnet, noisy, time, text, mask))

    say(f"generator, trainable={settings.trainable}", trained, tflop(lambda: both().sum().backward()), settings)
    with torch.no_grad():
        passes = settings.num_steps * (1 if settings.guidance_scale == 1 else 2)
        print(f"a sample: {passes * tflop(both):.2f} TFLOP without its decoder")


if __name__ == "__main__":
    main()
