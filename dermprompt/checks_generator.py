"""Checks of the generator, its base and its codec: the second half of :mod:`dermprompt.checks`."""

from __future__ import annotations

from typing import Any

from dermprompt import schema
from dermprompt.allowed import at_least, one_of
from dermprompt.schema import Config
from dermprompt.schema_generator import PCACodec, TinyCodec, VAECodec

DOWNSCALES = (2, 4, 8, 16)
TIMESTEPS = ("uniform", "lognormal")


def check_generator(config: Config) -> None:
    """Check the generator, its base and that base's codec.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    if config.generator.name == "none":
        if config.synthesis.count:
            raise ValueError(
                f"synthesis.count={config.synthesis.count} with generator=none: nothing was trained that could "
                "draw samples; allowed: synthesis.count=0, or generator=controlnet|pix2pixhd"
            )
        if config.stage in ("train_codec", "train_base", "train_generator", "synthesize"):
            raise ValueError(f"stage={config.stage} with generator=none: there is nothing to train or draw from")
        return
    if config.generator.name != "controlnet" and config.stage in ("train_codec", "train_base"):
        raise ValueError(
            f"stage={config.stage} with generator={config.generator.name}: only controlnet stands on a base"
        )
    if config.generator.name in ("warp", "folder"):
        if config.stage == "train_generator":
            raise ValueError(f"stage=train_generator with generator={config.generator.name}: there is nothing to train")
        if config.generator.name == "folder":
            at_least("synthesis.count", config.synthesis.count, 2)
        return
    one_of("generator.augmentation", config.generator.augmentation, ("none", "flip", "dihedral"))
    for name in ("batch_size", "max_steps"):
        at_least(f"generator.{name}", getattr(config.generator, name), 1)
    for name in ("num_images", "every"):
        at_least(f"generator.watch.{name}", getattr(config.generator.watch, name), 1)
    if config.generator.name == "controlnet":
        _check_controlnet(config.generator)
        _check_codec(config)
    else:
        _check_pix2pixhd(config.generator, config.trainer)


def _check_pix2pixhd(generator: schema.Pix2PixHD, trainer: dict[str, Any]) -> None:
    at_least("generator.num_scales", generator.num_scales, 1)
    at_least("generator.pool_size", generator.pool_size, 0)
    one_of("generator.upsampling", generator.upsampling, ("transposed", "resize"))
    if not 0 <= generator.ema < 1:
        raise ValueError(f"generator.ema={generator.ema}: from 0 (the last weights) to below 1")
    one_of("generator.perceptual", generator.perceptual, ("none", "vgg19", "efficientnet_lite0"))
    weights = generator.perceptual_weights
    if (generator.perceptual == "vgg19") != (weights is not None):
        what = f"generator.perceptual={generator.perceptual} with generator.perceptual_weights={weights}"
        raise ValueError(f"{what}: vgg19 needs the file of torchvision's weights, the others take none")
    if trainer.get("precision") == "16-mixed":
        raise ValueError("trainer.precision=16-mixed: pix2pixhd trains in 32-true or bf16-mixed")


def _check_controlnet(generator: schema.ControlNet) -> None:
    one_of("generator.part", generator.part, ("controlnet", "middle_block", "unlocked_decoder", "unlocked_unet"))
    one_of("generator.timesteps", generator.timesteps, TIMESTEPS)
    at_least("generator.accumulate", generator.accumulate, 1)
    _check_gamma("generator.snr_gamma", generator.snr_gamma)
    one_of("generator.sampler", generator.sampler, ("ddim", "dpm", "unipc"))
    at_least("generator.num_steps", generator.num_steps, 1)
    if generator.sampler == "ddim" and 1000 % generator.num_steps:
        raise ValueError(f"generator.num_steps={generator.num_steps}: a divisor of 1000 for generator.sampler=ddim")
    if generator.sampler != "ddim" and generator.eta:
        raise ValueError(
            f"generator.eta={generator.eta} with generator.sampler={generator.sampler}: only ddim has an eta"
        )
    base = generator.base
    if base.name != "scratch":
        return
    _check_gamma("generator.base.snr_gamma", base.snr_gamma)
    one_of("generator.base.prediction", base.prediction, ("v_prediction", "epsilon"))
    one_of("generator.base.timesteps", base.timesteps, TIMESTEPS)
    if not 1 <= base.attention_levels < len(base.channels):
        raise ValueError(
            f"generator.base.attention_levels={base.attention_levels}: from 1 to {len(base.channels) - 1}, for the "
            f"first of the {len(base.channels)} levels of generator.base.channels has none"
        )
    one_of("generator.base.augmentation", base.augmentation, ("none", "flip", "dihedral"))
    if any(width % 32 for width in base.channels):
        raise ValueError(f"generator.base.channels={base.channels}: multiples of 32, for the norms have 32 groups")


def _check_gamma(key: str, gamma: float | None) -> None:
    if gamma is not None and gamma <= 0:
        raise ValueError(f"{key}={gamma}: above 0 (5 is usual), or null")


def _check_codec(config: Config) -> None:
    """A scratch base's codec, and the image size that its latents and the U-Net's levels leave."""
    base = config.generator.base
    if base.name != "scratch":
        if config.stage == "train_codec":
            raise ValueError(f"stage=train_codec with generator/base={base.name}: it has a codec; allowed is scratch")
        return
    if not isinstance(base.codec, TinyCodec):
        _check_latents(base.codec)
    if isinstance(base.codec, VAECodec):
        _check_vae(base.codec)
    step = base.codec.downscale * 2 ** (len(base.channels) - 1)
    if config.image_size % step:
        raise ValueError(
            f"image_size={config.image_size}: a multiple of {step} pixels, for the codec divides it by "
            f"{base.codec.downscale} and the {len(base.channels)} levels of generator.base.channels halve that"
        )


def _check_latents(codec: PCACodec | VAECodec) -> None:
    if codec.downscale not in DOWNSCALES:
        raise ValueError(
            f"generator.base.codec.downscale={codec.downscale}: allowed are {', '.join(map(str, DOWNSCALES))}"
        )
    most = 3 * codec.downscale**2
    if not 1 <= codec.channels <= most:
        raise ValueError(
            f"generator.base.codec.channels={codec.channels}: from 1 to {most}, the values of a patch of "
            f"{codec.downscale}x{codec.downscale} pixels"
        )


def _check_vae(codec: VAECodec) -> None:
    if codec.width < 32 or codec.width % 32:
        raise ValueError(f"generator.base.codec.width={codec.width}: a multiple of 32, for the norms have 32 groups")
    one_of("generator.base.codec.augmentation", codec.augmentation, ("none", "flip", "dihedral"))
    for name in ("layers_per_block", "batch_size", "max_steps"):
        at_least(f"generator.base.codec.{name}", getattr(codec, name), 1)
    if codec.kl_weight < 0:
        raise ValueError(f"generator.base.codec.kl_weight={codec.kl_weight}: at least 0")
