"""Configuration: Hydra's schema, checks before any work, and the only place that builds from ``_target_``."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from dermprompt import schema
from dermprompt.prompts.template import TEMPLATES
from dermprompt.schema import Config

CONF = Path(__file__).parents[1] / "conf"

# What a configuration may build. A new network is a class, a yaml and a line here.
ALLOWED_TARGETS = frozenset(
    {
        "lightning.pytorch.Trainer",
        "lightning.pytorch.loggers.CSVLogger",
        "lightning.pytorch.loggers.WandbLogger",
        "monai.networks.nets.BasicUNet",
        "dermprompt.segmenter.dcsaunet.DCSAUNet",
        "dermprompt.segmenter.pretrained.PretrainedUNet",
    }
)

# These say where things are and how they run, not what comes out: two jobs that differ in them are one.
_PLACE_KEYS = ("paths", "stage", "trainer", "logger", "name")
# The same of the trainer. On other devices results agree up to rounding, and on several up to the order of draws.
_PLACE_TRAINER_KEYS = ("_target_", "accelerator", "devices", "strategy", "max_time")


def register() -> None:
    """Put the schema into Hydra's ConfigStore, and the resolvers that name run folders."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, kinds in schema.KINDS.items():
        for name, kind in kinds.items():
            store.store(group=f"schema/{group}", name=name, node=kind)
    OmegaConf.register_new_resolver("job_hash", _job_hash, replace=True)
    OmegaConf.register_new_resolver("sweep_hash", _sweep_hash, replace=True)


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _job_hash(*, _root_: DictConfig) -> str:
    """Hash of what a job computes, so that the same job finds its folder again."""
    job = OmegaConf.to_container(OmegaConf.masked_copy(_root_, _job_keys(_root_)), resolve=True)
    trainer = cast(dict[str, Any], OmegaConf.to_container(_root_.trainer, resolve=True))
    return _short_hash([job, training_settings(trainer)])


def _job_keys(root: DictConfig) -> list[str]:
    return [str(key) for key in root if key not in (*_PLACE_KEYS, "hydra")]


def _sweep_hash() -> str:
    """Hash of the command line and of ``conf``: a job's own configuration does not know the sweep's choices."""
    files = sorted(CONF.rglob("*.yaml"))
    return _short_hash([sorted(sys.argv[1:]), [path.read_text() for path in files]])


def freeze(composed: DictConfig) -> Config:
    """Turn a composed configuration into plain dataclasses, checked.

    Raises:
        ValueError: a key is unset or has a value that is not allowed.
    """
    missing = OmegaConf.missing_keys(composed)
    if missing:
        raise ValueError(f"not set: {', '.join(sorted(missing))}; give it on the command line as KEY=VALUE")
    config = cast(Config, OmegaConf.to_object(composed))
    check(config)
    return config


def thaw(path: Path) -> Config:
    """Read back what :func:`dump` wrote."""
    raw = cast(DictConfig, OmegaConf.load(path))
    node = OmegaConf.structured(Config)
    for group, kinds in schema.KINDS.items():
        parent, _, key = group.rpartition("/")
        holder = OmegaConf.select(raw, parent) if parent else raw
        if holder is not None and key in holder:
            holder[key] = OmegaConf.merge(kinds[holder[key].name], holder[key])
    return cast(Config, OmegaConf.to_object(OmegaConf.merge(node, raw)))


def dump(config: Config, path: Path) -> None:
    """Write the resolved configuration as yaml."""
    path.write_text(OmegaConf.to_yaml(plain(config)))


def plain(node: Any) -> Any:
    """A dataclass of the schema as plain dicts and lists."""
    return dataclasses.asdict(node)


def training_settings(trainer: dict[str, Any]) -> dict[str, Any]:
    """What of the trainer's settings changes the trained weights: precision, clipping, accumulation …"""
    return {key: value for key, value in trainer.items() if key not in _PLACE_TRAINER_KEYS}


def instantiate(node: dict[str, Any], **values: Any) -> Any:
    """Build ``_target_`` of a node with its settings and ``values``; the values win.

    Raises:
        ValueError: the target, or one inside the node, is not in the allow-list.
    """
    for target in _targets(node):
        if target not in ALLOWED_TARGETS:
            raise ValueError(f"_target_={target} is not allowed; allowed: {', '.join(sorted(ALLOWED_TARGETS))}")
    from hydra.utils import instantiate as build

    return build({**node, **values}, _convert_="all")


def _targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["_target_"]] if "_target_" in node else []
        return own + [target for value in node.values() for target in _targets(value)]
    if isinstance(node, list):
        return [target for value in node for target in _targets(value)]
    return []


def check(config: Config) -> None:
    """Check the values that the schema's types cannot.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    _one_of("stage", config.stage, schema.STAGES)
    _check_data(config.data)
    _check_prompts(config.prompts)
    _check_curation(config)
    _at_least("synthesis.count", config.synthesis.count, 0)
    _at_least("synthesis.batch_size", config.synthesis.batch_size, 1)
    _multiple_of_16("image_size", config.image_size)
    for key, segmenter in (("segmenter", config.segmenter), ("evaluation.judge", config.evaluation.judge)):
        _check_segmenter(key, segmenter)
    _check_arm(config)
    _check_evaluation(config.evaluation)
    _check_generator(config)


def _check_data(data: schema.Data) -> None:
    _one_of("data.name", data.name, schema.DATA)
    _one_of("data.on_bad", data.on_bad, ("error", "skip"))
    _one_of("data.on_conflict", data.on_conflict, ("error", "first", "last", "unknown"))
    _one_of("data.split.protocol", data.split.protocol, ("paper", "official", "grouped"))
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
    _one_of("prompts.sampler", prompts.sampler, ("empirical", "balanced", "target", "fixed", "empty"))
    _one_of("prompts.template", prompts.template, tuple(TEMPLATES))
    _one_of("prompts.unseen", prompts.unseen, ("warn", "error"))
    if prompts.sampler == "target" and not _is_mix(prompts.mix):
        raise ValueError(f"prompts.mix={prompts.mix}: shares by diagnosis, such as {{MEL:0.5,BKL:0.5}}")
    if not 0 <= prompts.dropout <= 1:
        raise ValueError(f"prompts.dropout={prompts.dropout}: a share between 0 and 1")


def _is_mix(mix: Any) -> bool:
    return isinstance(mix, dict) and all(type(share) in (int, float) for share in mix.values())


def _check_segmenter(key: str, segmenter: schema.Segmenter) -> None:
    _multiple_of_16(f"{key}.image_size", segmenter.image_size)
    if segmenter.name == "pretrained" and segmenter.image_size % 32:
        raise ValueError(f"{key}.image_size={segmenter.image_size}: a multiple of 32 pixels for segmenter=pretrained")
    _one_of(f"{key}.loss", segmenter.loss, ("dice_batch", "dice_sample", "dice_ce"))
    _one_of(f"{key}.schedule", segmenter.schedule, ("constant", "cosine"))
    _one_of(f"{key}.augmentation", segmenter.augmentation, ("none", "flips", "affine", "strong"))
    if (segmenter.max_epochs is None) == (segmenter.max_steps is None):
        raise ValueError(
            f"{key}.max_epochs={segmenter.max_epochs} and {key}.max_steps={segmenter.max_steps}: one of them, "
            "the other null"
        )
    for name in ("batch_size", "max_epochs", "max_steps", "validate_every"):
        if getattr(segmenter, name) is not None:
            _at_least(f"{key}.{name}", getattr(segmenter, name), 1)


def _check_evaluation(evaluation: schema.Evaluation) -> None:
    _at_least("evaluation.quiz", evaluation.quiz, 0)
    _at_least("evaluation.gallery", evaluation.gallery, 1)
    _at_least("evaluation.bootstraps", evaluation.bootstraps, 1)
    _one_of("evaluation.primary.world", evaluation.primary.world, ("open", "closed"))


def _check_curation(config: Config) -> None:
    curation = config.curation
    _one_of("curation.name", curation.name, ("none", "agreement", "random", "quotas", "memorisation"))
    _one_of("curation.features", curation.features, ("thumbnails", "network"))
    _at_least("curation.folds", curation.folds, 2)
    if not 0 <= curation.relabel <= curation.keep <= 1:
        raise ValueError(
            f"curation.keep={curation.keep}, curation.relabel={curation.relabel}: allowed is 0 <= relabel <= keep <= 1"
        )
    if not 0 < curation.quantile < 1:
        raise ValueError(f"curation.quantile={curation.quantile}: a share between 0 and 1")


def _check_arm(config: Config) -> None:
    arm, count = config.arm, config.synthesis.count
    _one_of("arm.real", arm.real, ("s", "s_and_g", "s_decoded", "none"))
    _one_of("arm.batches", arm.batches, ("concatenated", "half_real"))
    _one_of("arm.world", arm.world, ("open", "closed"))
    for name in ("num_real", "steps_of"):
        if getattr(arm, name) is not None:
            _at_least(f"arm.{name}", getattr(arm, name), 1)
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


def _check_generator(config: Config) -> None:
    if config.generator.name == "none":
        if config.synthesis.count:
            raise ValueError(
                f"synthesis.count={config.synthesis.count} with generator=none: nothing was trained that could "
                "draw samples; allowed: synthesis.count=0, or generator=controlnet|pix2pixhd"
            )
        if config.stage in ("train_base", "train_generator", "synthesize"):
            raise ValueError(f"stage={config.stage} with generator=none: there is nothing to train or draw from")
        return
    if config.generator.name != "controlnet" and config.stage == "train_base":
        raise ValueError(f"stage=train_base with generator={config.generator.name}: only controlnet stands on a base")
    if config.generator.name in ("warp", "folder"):
        if config.stage == "train_generator":
            raise ValueError(f"stage=train_generator with generator={config.generator.name}: there is nothing to train")
        if config.generator.name == "folder":
            _at_least("synthesis.count", config.synthesis.count, 2)
        return
    _one_of("generator.augmentation", config.generator.augmentation, ("none", "flip", "dihedral"))
    for name in ("batch_size", "max_steps"):
        _at_least(f"generator.{name}", getattr(config.generator, name), 1)
    if config.generator.name == "controlnet":
        _check_controlnet(config.generator)


def _check_controlnet(generator: schema.ControlNet) -> None:
    _one_of("generator.sampler", generator.sampler, ("ddim", "dpm", "unipc"))
    _at_least("generator.num_steps", generator.num_steps, 1)
    if generator.sampler == "ddim" and 1000 % generator.num_steps:
        raise ValueError(f"generator.num_steps={generator.num_steps}: a divisor of 1000 for generator.sampler=ddim")
    if generator.sampler != "ddim" and generator.eta:
        raise ValueError(
            f"generator.eta={generator.eta} with generator.sampler={generator.sampler}: only ddim has an eta"
        )
    base = generator.base
    if base.name != "scratch":
        return
    _one_of("generator.base.prediction", base.prediction, ("v_prediction", "epsilon"))
    _one_of("generator.base.augmentation", base.augmentation, ("none", "flip", "dihedral"))
    if any(width % 32 for width in base.channels):
        raise ValueError(f"generator.base.channels={base.channels}: multiples of 32, for the norms have 32 groups")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{key}={value}: allowed are {', '.join(allowed)}{hint}")


def _at_least(key: str, value: int, bound: int) -> None:
    if value < bound:
        raise ValueError(f"{key}={value}: a whole number of at least {bound}")


def _multiple_of_16(key: str, value: int) -> None:
    if value < 32 or value % 16:
        raise ValueError(f"{key}={value}: a multiple of 16 pixels, at least 32")
