"""Checks of a scratch base's codec, and of the image size that its latents and the U-Net's levels leave."""

from __future__ import annotations

from dermprompt.schema import Config
from dermprompt.schema_generator import PCACodec, TinyCodec, VAECodec

DOWNSCALES = (2, 4, 8, 16)


def check_codec(config: Config) -> None:
    """Check a scratch base's codec; of a pretrained base, that no training of one is asked for.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
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
    if codec.augmentation not in ("none", "flip", "dihedral"):
        raise ValueError(f"generator.base.codec.augmentation={codec.augmentation}: allowed are none, flip, dihedral")
    for name in ("layers_per_block", "batch_size", "max_steps"):
        if getattr(codec, name) < 1:
            raise ValueError(f"generator.base.codec.{name}={getattr(codec, name)}: a whole number of at least 1")
    if codec.kl_weight < 0:
        raise ValueError(f"generator.base.codec.kl_weight={codec.kl_weight}: at least 0")
