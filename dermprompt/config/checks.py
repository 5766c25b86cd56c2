"""Checks of a configuration before any work: each key against its constraint, and keys against each other."""

from __future__ import annotations

import functools
import math
from typing import Any

from dermprompt.config import schema
from dermprompt.config.constraints import check_section
from dermprompt.config.generators import ControlNet, Pix2PixHD, PretrainedBase, Sampler, ScratchBase, TinyCodec
from dermprompt.config.schema import Config, count_devices
from dermprompt.data.reading import CLASSES
from dermprompt.weights.box import in_box


def check(config: Config) -> None:
    """Check every key against its constraint, then keys against each other.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    _check_kinds(config)
    if not isinstance(config.external, schema.Data | None):
        raise ValueError(f"external={config.external}: null, or a data set: +data@external=NAME")
    check_section(config)
    count_devices(config.trainer["devices"])
    _check_export(config)
    for key, data in (("data", config.data), ("external", config.external)):
        if data is not None:
            _check_data(data)
            _check_classes(key, data)
    if config.external is not None and config.external.without_mask == "pool":
        raise ValueError("external.without_mask=pool: nothing is trained on external images; allowed is leave_out")
    _check_masks(config.masks)
    _check_prompts(config.prompts)
    _check_curation(config.curation)
    for key, segmenter in (("segmenter", config.segmenter), ("evaluation.reference", config.evaluation.reference)):
        _check_segmenter(key, segmenter)
    _check_arm(config)
    _check_generator(config)


def _check_kinds(config: Config) -> None:
    """Check that each section with several kinds is one of them, and the one that its ``name`` says."""
    for group, kinds in schema.KINDS.items():
        *parents, key = group.split("/")
        holder = functools.reduce(getattr, parents, config)
        if not hasattr(holder, key):
            continue  # not every kind has this section
        value = getattr(holder, key)
        named = getattr(value, "name", value)
        if not isinstance(value, kinds.get(str(named), ())):
            dotted = group.replace("/", ".")
            raise ValueError(f"{dotted}.name={named}: chosen by {group}=NAME; allowed are {', '.join(kinds)}")


def _check_data(data: schema.Data) -> None:
    if data.name == "phantom" and data.num_images is None:
        raise ValueError("data.num_images=None with data=phantom: how many are painted, a whole number")
    if data.split.fold is not None and data.split.protocol == "official":
        raise ValueError(f"data.split.fold={data.split.fold}: not with data.split.protocol=official")
    included = {"phantom": "which paints its own", "sample": "which comes with the package"}
    if data.name in included and data.root is not None:
        raise ValueError(f"data.root={data.root} with data={data.name}, {included[data.name]}; set data=isic")
    if data.name in included and data.without_mask == "pool":
        raise ValueError(f"data.without_mask=pool with data={data.name}: all its images have masks; leave_out")


def _check_classes(key: str, data: schema.Data) -> None:
    classes = data.mask_classes
    if classes is None:
        return
    good = isinstance(classes, dict) and classes and all(type(one) is int and one >= 0 for one in classes)
    if not good or set(classes.values()) - set(CLASSES) or "lesion" not in classes.values():
        raise ValueError(
            f"{key}.mask_classes={classes}: lesion or background for values, such as '{{1: lesion, 2: lesion}}'"
        )
    if data.mask_threshold is not None:
        raise ValueError(f"{key}.mask_classes={classes} with {key}.mask_threshold={data.mask_threshold}: one of them")


def _check_masks(masks: Any) -> None:
    if isinstance(masks, schema.AutomaticMasks):
        low, high = masks.centre
        if low > high:
            raise ValueError(f"masks.centre={masks.centre}: the lowest coordinate, then the highest")
        if masks.min_radius >= low:
            raise ValueError(f"masks.min_radius={masks.min_radius}: less than {low}, the lowest of masks.centre")
        if masks.blur_sigma > masks.min_radius / 2:
            raise ValueError(f"masks.blur_sigma={masks.blur_sigma}: at most half of masks.min_radius")
    if isinstance(masks, schema.TransformedMasks):
        if masks.scale_range[0] > masks.scale_range[1]:
            raise ValueError(f"masks.scale_range={masks.scale_range}: the lowest factor, then the highest")
        if len(masks.elastic_sigma) != len(masks.elastic_points):
            what = f"masks.elastic_sigma={masks.elastic_sigma} with masks.elastic_points={masks.elastic_points}"
            raise ValueError(f"{what}: both need the same length")


def _check_prompts(prompts: schema.Prompts) -> None:
    mix = prompts.mix
    good = isinstance(mix, dict) and all(type(one) in (int, float) and math.isfinite(one) for one in mix.values())
    if prompts.sampler == "target" and not good:
        raise ValueError(f"prompts.mix={mix}: shares by diagnosis, such as '{{MEL:0.5,BKL:0.5}}'")


def _check_segmenter(key: str, segmenter: schema.Segmenter) -> None:
    if segmenter.name == "pretrained" and segmenter.image_size % 32:
        raise ValueError(f"{key}.image_size={segmenter.image_size}: a multiple of 32 pixels for segmenter=pretrained")
    if (segmenter.max_epochs is None) == (segmenter.max_steps is None):
        raise ValueError(
            f"{key}.max_epochs={segmenter.max_epochs} and {key}.max_steps={segmenter.max_steps}: one of them, "
            "the other null"
        )


def _check_curation(curation: schema.Curation) -> None:
    if curation.relabel > curation.keep:
        raise ValueError(
            f"curation.keep={curation.keep}, curation.relabel={curation.relabel}: allowed is 0 <= relabel <= keep <= 1"
        )


def _check_arm(config: Config) -> None:
    arm, count = config.arm, config.synthesis.count
    if arm.num_real is not None and arm.num_real > config.data.split.sizes[1]:
        raise ValueError(f"arm.num_real={arm.num_real}: at most the {config.data.split.sizes[1]} of S.train")
    mixed = arm.batches != "concatenated"
    needs = {"arm.real=none": arm.real == "none", f"arm.batches={arm.batches}": mixed}
    needs["arm.finetune=true"] = arm.finetune
    for what, asked in needs.items():
        if asked and not count:
            raise ValueError(f"{what} with synthesis.count=0: it needs samples")
    if arm.finetune and (arm.steps_of or config.segmenter.max_steps):
        given = f"arm.steps_of={arm.steps_of}" if arm.steps_of else f"segmenter.max_steps={config.segmenter.max_steps}"
        raise ValueError(
            f"arm.finetune=true with {given}: each of its two trainings would take all; segmenter.max_epochs"
        )
    if arm.real == "s_and_g" and arm.world == "closed":
        raise ValueError("arm.real=s_and_g with arm.world=closed: a closed world excludes G")
    if arm.real == "s_decoded" and not config.generator.has_base:
        raise ValueError(f"arm.real=s_decoded with generator={config.generator.name}: only controlnet has a codec")
    if arm.real == "none" and (arm.finetune or mixed):
        raise ValueError(f"arm.real=none with arm.finetune or arm.batches={arm.batches}: these need real images")


def _check_export(config: Config) -> None:
    if config.stage != "export":
        return
    if config.export in ("imagefolder", "isic") and not config.synthesis.count:
        raise ValueError(f"export={config.export} with synthesis.count=0: it holds samples")
    if config.export == "generator" and not config.generator.is_trained:
        raise ValueError(
            f"export=generator with generator={config.generator.name}: nothing was trained; allowed: "
            f"generator={_trained_kinds()}"
        )


def _trained_kinds() -> str:
    return "|".join(name for name, kind in schema.KINDS["generator"].items() if kind.is_trained)  # type: ignore[attr-defined]


def _check_generator(config: Config) -> None:
    if not config.generator.draws:
        if config.synthesis.count:
            raise ValueError(
                f"synthesis.count={config.synthesis.count} with generator=none: nothing was trained that could "
                f"draw samples; allowed: synthesis.count=0, or generator={_trained_kinds()}"
            )
        if config.stage in ("train_codec", "train_base", "train_generator", "synthesize"):
            raise ValueError(f"stage={config.stage} with generator=none: there is nothing to train or draw from")
        return
    if not config.generator.has_base and config.stage in ("train_codec", "train_base"):
        raise ValueError(f"stage={config.stage} with generator={config.generator.name}: only controlnet has a base")
    if not config.generator.is_trained:
        if config.stage == "train_generator":
            raise ValueError(f"stage=train_generator with generator={config.generator.name}: there is nothing to train")
        if not config.generator.is_drawn_from and config.synthesis.count < 2:
            raise ValueError(f"synthesis.count={config.synthesis.count} with generator=folder: at least 2")
        return
    _check_init(config.generator)
    if isinstance(config.generator, ControlNet):
        _check_controlnet(config.generator)
        _check_codec(config)
    if isinstance(config.generator, Pix2PixHD):
        _check_pix2pixhd(config.generator, config.trainer)


def _check_init(generator: Any) -> None:
    """Check the weights that a generator starts from; with ``max_steps=0`` they are used unchanged."""
    if generator.init is None and generator.max_steps == 0:
        raise ValueError("generator.max_steps=0 with generator.init=null: there is nothing to draw from")
    if generator.init is not None and not in_box(generator.init, generator.name).is_dir():
        raise ValueError(f"generator.init={generator.init}: box, or the folder of a trained {generator.name}")
    if generator.init == "box" and generator.has_base and generator.base.name != "box":
        raise ValueError(f"generator.init=box with generator/base={generator.base.name}: it needs generator/base=box")


def _check_pix2pixhd(generator: schema.Pix2PixHD, trainer: dict[str, Any]) -> None:
    weights = generator.perceptual_weights
    if (generator.perceptual == "vgg19") != (weights is not None):
        what = f"generator.perceptual={generator.perceptual} with generator.perceptual_weights={weights}"
        raise ValueError(f"{what}: vgg19 needs the file of torchvision's weights, the others take none")
    if trainer.get("gradient_clip_val") is not None:
        raise ValueError("trainer.gradient_clip_val with generator=pix2pixhd, whose two networks step by hand: null")
    if trainer.get("precision") == "16-mixed":
        raise ValueError("trainer.precision=16-mixed: pix2pixhd trains in 32-true or bf16-mixed")


def _check_controlnet(generator: schema.ControlNet) -> None:
    for key, sampler in (("generator", generator), ("generator.validation", generator.validation)):
        check_sampler(key, sampler)
    base = generator.base
    if isinstance(base, ScratchBase) and base.attention_levels >= len(base.channels):
        raise ValueError(
            f"generator.base.attention_levels={base.attention_levels}: from 1 to {len(base.channels) - 1}, for the "
            f"first of the {len(base.channels)} levels of generator.base.channels has none"
        )


def check_sampler(key: str, own: Sampler) -> None:
    """Check the settings of a sampler against each other; ``key``: its section, for the message."""
    if own.sampler == "ddim" and 1000 % own.num_steps:
        raise ValueError(f"{key}.num_steps={own.num_steps}: a divisor of 1000 for {key}.sampler=ddim")
    if own.sampler != "ddim" and own.eta:
        raise ValueError(f"{key}.eta={own.eta} with {key}.sampler={own.sampler}: only ddim has an eta")


def _check_codec(config: Config) -> None:
    """Check a scratch base's codec, and the image size against the codec's downscaling and the U-Net's levels."""
    base = config.generator.base
    if isinstance(base, PretrainedBase):
        if config.stage == "train_codec":
            raise ValueError(f"stage=train_codec with generator/base={base.name}: it has a codec; allowed is scratch")
        return
    most = 3 * base.codec.downscale**2
    if not isinstance(base.codec, TinyCodec) and base.codec.channels > most:
        raise ValueError(
            f"generator.base.codec.channels={base.codec.channels}: from 1 to {most}, the values of a patch of "
            f"{base.codec.downscale}x{base.codec.downscale} pixels"
        )
    step = base.codec.downscale * 2 ** (len(base.channels) - 1)
    if config.image_size % step:
        raise ValueError(
            f"image_size={config.image_size}: a multiple of {step} pixels, for the codec divides it by "
            f"{base.codec.downscale} and the {len(base.channels)} levels of generator.base.channels halve that"
        )
