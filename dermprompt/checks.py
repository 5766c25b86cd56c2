"""Checks of a configuration before any work: what the schema's types cannot say."""

from __future__ import annotations

from typing import Any

from dermprompt import schema
from dermprompt.allowed import at_least, multiple_of_16, one_of
from dermprompt.checks_generator import check_generator
from dermprompt.prompts.template import TEMPLATES
from dermprompt.schema import Config


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
    check_generator(config)


def _check_data(data: schema.Data) -> None:
    one_of("data.name", data.name, schema.DATA)
    one_of("data.on_bad", data.on_bad, ("error", "skip"))
    one_of("data.on_conflict", data.on_conflict, ("error", "first", "last", "unknown"))
    one_of("data.split.protocol", data.split.protocol, ("paper", "official", "grouped"))
    if data.split.fold is not None and not (data.split.protocol != "official" and 0 <= data.split.fold <= 4):
        raise ValueError(f"data.split.fold={data.split.fold}: 0 to 4, and not with protocol=official")
    if data.name == "phantom" and data.root is not None:
        raise ValueError(f"data.root={data.root} with data=phantom, which paints its own; set data=isic")
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
    if arm.real == "s_decoded" and config.generator.name != "controlnet":
        raise ValueError(f"arm.real=s_decoded with generator={config.generator.name}: only controlnet has a codec")
    if arm.real == "none" and (arm.finetune or arm.batches == "half_real"):
        raise ValueError("arm.real=none with arm.finetune or arm.batches=half_real: these need real images")


def _check_export(config: Config) -> None:
    one_of("export", config.export, schema.EXPORTS)
    if config.stage != "export":
        return
    if config.export in ("imagefolder", "isic") and not config.synthesis.count:
        raise ValueError(f"export={config.export} with synthesis.count=0: it holds samples")
    if config.export == "generator" and config.generator.name not in ("controlnet", "pix2pixhd"):
        raise ValueError(
            f"export=generator with generator={config.generator.name}: nothing was trained; allowed: "
            "generator=controlnet|pix2pixhd"
        )
