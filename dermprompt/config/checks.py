"""Checks of a configuration before any work: what the schema's types cannot say."""

from __future__ import annotations

import difflib
from typing import Any

from dermprompt.config import schema
from dermprompt.config.generators import (
    ControlNet,
    PCACodec,
    Pix2PixHD,
    PretrainedBase,
    Sampler,
    ScratchBase,
    TinyCodec,
    VAECodec,
)
from dermprompt.config.schema import Config
from dermprompt.prompts.template import TEMPLATES
from dermprompt.weights.box import in_box

DOWNSCALES = (2, 4, 8, 16)
TIMESTEPS = ("uniform", "lognormal")


def check(config: Config) -> None:
    """Check the values that the schema's types cannot.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    one_of("stage", config.stage, schema.STAGES)
    _check_export(config)
    _check_data(config.data)
    _check_prompts(config.prompts)
    _check_curation(config)
    at_least("synthesis.count", config.synthesis.count, 0)
    at_least("synthesis.batch_size", config.synthesis.batch_size, 1)
    one_of("synthesis.precision", config.synthesis.precision, ("32-true", "bf16-true"))
    multiple_of_16("image_size", config.image_size)
    for key, segmenter in (("segmenter", config.segmenter), ("evaluation.judge", config.evaluation.judge)):
        _check_segmenter(key, segmenter)
    _check_arm(config)
    _check_evaluation(config.evaluation)
    _check_generator(config)


def _check_data(data: schema.Data) -> None:
    one_of("data.name", data.name, schema.DATA)
    one_of("data.on_bad", data.on_bad, ("error", "skip"))
    one_of("data.on_conflict", data.on_conflict, ("error", "first", "last", "unknown"))
    one_of("data.split.protocol", data.split.protocol, ("paper", "official", "grouped"))
    if data.split.fold is not None and not (data.split.protocol != "official" and 0 <= data.split.fold <= 4):
        raise ValueError(f"data.split.fold={data.split.fold}: 0 to 4, and not with protocol=official")
    if data.name == "phantom" and data.root is not None:
        raise ValueError(f"data.root={data.root} with data=phantom, which paints its own; set data=isic")
    if data.name == "sample" and data.root is not None:
        raise ValueError(f"data.root={data.root} with data=sample, which comes with the package; set data=isic")
    if len(data.split.sizes) != 4 or min(data.split.sizes) < 1:
        raise ValueError(f"data.split.sizes={data.split.sizes}: four sizes from 1, of G, S.train, S.val, S.test")
    if not 0 <= data.max_bad_fraction <= 1:
        raise ValueError(f"data.max_bad_fraction={data.max_bad_fraction}: a share between 0 and 1")
    if data.mask_threshold is not None and not 1 <= data.mask_threshold <= 255:
        raise ValueError(f"data.mask_threshold={data.mask_threshold}: a grey value from 1 to 255, or null")


def _check_prompts(prompts: schema.Prompts) -> None:
    one_of("prompts.sampler", prompts.sampler, ("empirical", "balanced", "target", "fixed", "empty"))
    one_of("prompts.template", prompts.template, tuple(TEMPLATES))
    one_of("prompts.unseen", prompts.unseen, ("warn", "error"))
    if prompts.sampler == "target" and not _is_mix(prompts.mix):
        raise ValueError(f"prompts.mix={prompts.mix}: shares by diagnosis, such as {{MEL:0.5,BKL:0.5}}")
    if not 0 <= prompts.dropout <= 1:
        raise ValueError(f"prompts.dropout={prompts.dropout}: a share between 0 and 1")


def _is_mix(mix: Any) -> bool:
    return isinstance(mix, dict) and all(type(share) in (int, float) for share in mix.values())


def _check_segmenter(key: str, segmenter: schema.Segmenter) -> None:
    multiple_of_16(f"{key}.image_size", segmenter.image_size)
    if segmenter.name == "pretrained" and segmenter.image_size % 32:
        raise ValueError(f"{key}.image_size={segmenter.image_size}: a multiple of 32 pixels for segmenter=pretrained")
    one_of(f"{key}.loss", segmenter.loss, ("dice_batch", "dice_sample", "dice_ce"))
    one_of(f"{key}.schedule", segmenter.schedule, ("constant", "cosine"))
    one_of(f"{key}.augmentation", segmenter.augmentation, ("none", "flips", "affine", "strong"))
    if (segmenter.max_epochs is None) == (segmenter.max_steps is None):
        raise ValueError(
            f"{key}.max_epochs={segmenter.max_epochs} and {key}.max_steps={segmenter.max_steps}: one of them, "
            "the other null"
        )
    for name in ("batch_size", "max_epochs", "max_steps", "validate_every"):
        if getattr(segmenter, name) is not None:
            at_least(f"{key}.{name}", getattr(segmenter, name), 1)


def _check_evaluation(evaluation: schema.Evaluation) -> None:
    at_least("evaluation.quiz", evaluation.quiz, 0)
    at_least("evaluation.gallery", evaluation.gallery, 1)
    at_least("evaluation.bootstraps", evaluation.bootstraps, 1)
    one_of("evaluation.primary.world", evaluation.primary.world, ("open", "closed"))


def _check_curation(config: Config) -> None:
    curation = config.curation
    one_of("curation.name", curation.name, ("none", "agreement", "random", "quotas", "memorisation"))
    one_of("curation.features", curation.features, ("thumbnails", "network"))
    at_least("curation.folds", curation.folds, 2)
    if not 0 <= curation.relabel <= curation.keep <= 1:
        raise ValueError(
            f"curation.keep={curation.keep}, curation.relabel={curation.relabel}: allowed is 0 <= relabel <= keep <= 1"
        )
    if not 0 < curation.quantile < 1:
        raise ValueError(f"curation.quantile={curation.quantile}: a share between 0 and 1")


def _check_arm(config: Config) -> None:
    arm, count = config.arm, config.synthesis.count
    one_of("arm.real", arm.real, ("s", "s_and_g", "s_decoded", "none"))
    one_of("arm.batches", arm.batches, ("concatenated", "half_real"))
    one_of("arm.world", arm.world, ("open", "closed"))
    for name in ("num_real", "steps_of"):
        if getattr(arm, name) is not None:
            at_least(f"arm.{name}", getattr(arm, name), 1)
    if arm.num_real is not None and arm.num_real > config.data.split.sizes[1]:
        raise ValueError(f"arm.num_real={arm.num_real}: at most the {config.data.split.sizes[1]} of S.train")
    needs = {"arm.real=none": arm.real == "none", "arm.batches=half_real": arm.batches == "half_real"}
    needs["arm.finetune=true"] = arm.finetune
    for what, asked in needs.items():
        if asked and not count:
            raise ValueError(f"{what} with synthesis.count=0: it needs samples")
    if arm.real == "s_and_g" and arm.world == "closed":
        raise ValueError("arm.real=s_and_g with arm.world=closed: G stands outside a closed world")
    if arm.real == "s_decoded" and not config.generator.has_base:
        raise ValueError(f"arm.real=s_decoded with generator={config.generator.name}: only controlnet has a codec")
    if arm.real == "none" and (arm.finetune or arm.batches == "half_real"):
        raise ValueError("arm.real=none with arm.finetune or arm.batches=half_real: these need real images")


def _check_export(config: Config) -> None:
    one_of("export", config.export, schema.EXPORTS)
    if config.stage != "export":
        return
    if config.export in ("imagefolder", "isic") and not config.synthesis.count:
        raise ValueError(f"export={config.export} with synthesis.count=0: it holds samples")
    if config.export == "generator" and not config.generator.is_trained:
        raise ValueError(
            f"export=generator with generator={config.generator.name}: nothing was trained; allowed: "
            "generator=controlnet|pix2pixhd"
        )


def _check_generator(config: Config) -> None:
    """Check the generator, its base and that base's codec.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    if not config.generator.draws:
        if config.synthesis.count:
            raise ValueError(
                f"synthesis.count={config.synthesis.count} with generator=none: nothing was trained that could "
                "draw samples; allowed: synthesis.count=0, or generator=controlnet|pix2pixhd"
            )
        if config.stage in ("train_codec", "train_base", "train_generator", "synthesize"):
            raise ValueError(f"stage={config.stage} with generator=none: there is nothing to train or draw from")
        return
    if not config.generator.has_base and config.stage in ("train_codec", "train_base"):
        raise ValueError(
            f"stage={config.stage} with generator={config.generator.name}: only controlnet stands on a base"
        )
    if not config.generator.is_trained:
        if config.stage == "train_generator":
            raise ValueError(f"stage=train_generator with generator={config.generator.name}: there is nothing to train")
        if not config.generator.is_drawn_from:
            at_least("synthesis.count", config.synthesis.count, 2)
        return
    one_of("generator.augmentation", config.generator.augmentation, ("none", "flip", "dihedral"))
    at_least("generator.batch_size", config.generator.batch_size, 1)
    _check_init(config.generator)
    for name in ("num_images", "every"):
        at_least(f"generator.watch.{name}", getattr(config.generator.watch, name), 1)
    if isinstance(config.generator, ControlNet):
        _check_controlnet(config.generator)
        _check_codec(config)
    if isinstance(config.generator, Pix2PixHD):
        _check_pix2pixhd(config.generator, config.trainer)


def _check_init(generator: schema.ControlNet | schema.Pix2PixHD) -> None:
    """Where a generator begins; without steps it is drawn from as it is."""
    at_least("generator.max_steps", generator.max_steps, 0)
    if generator.init is None and generator.max_steps == 0:
        raise ValueError("generator.max_steps=0 with generator.init=null: there is nothing to draw from")
    if generator.init is not None and not in_box(generator.init, generator.name).is_dir():
        raise ValueError(f"generator.init={generator.init}: box, or the folder of a trained {generator.name}")


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
    for key, sampler in (("generator", generator), ("generator.watch", generator.watch)):
        _check_sampler(key, sampler)
    base = generator.base
    if not isinstance(base, ScratchBase):
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


def _check_sampler(key: str, own: Sampler) -> None:
    one_of(f"{key}.sampler", own.sampler, ("ddim", "dpm", "unipc"))
    at_least(f"{key}.num_steps", own.num_steps, 1)
    if own.sampler == "ddim" and 1000 % own.num_steps:
        raise ValueError(f"{key}.num_steps={own.num_steps}: a divisor of 1000 for {key}.sampler=ddim")
    if own.sampler != "ddim" and own.eta:
        raise ValueError(f"{key}.eta={own.eta} with {key}.sampler={own.sampler}: only ddim has an eta")


def _check_gamma(key: str, gamma: float | None) -> None:
    if gamma is not None and gamma <= 0:
        raise ValueError(f"{key}={gamma}: above 0 (5 is usual), or null")


def _check_codec(config: Config) -> None:
    """A scratch base's codec, and the image size that its latents and the U-Net's levels leave."""
    base = config.generator.base
    if isinstance(base, PretrainedBase):
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


# What a key may be. Each raises ValueError with the key, its value and what is allowed.


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Say which key has a value that is none of those allowed, and the nearest one."""
    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{key}={value}: allowed are {', '.join(allowed)}{hint}")


def at_least(key: str, value: int, bound: int) -> None:
    """Say which whole number is too small."""
    if value < bound:
        raise ValueError(f"{key}={value}: a whole number of at least {bound}")


def multiple_of_16(key: str, value: int) -> None:
    """Say which size in pixels is too small or no multiple of 16."""
    if value < 32 or value % 16:
        raise ValueError(f"{key}={value}: a multiple of 16 pixels, at least 32")
