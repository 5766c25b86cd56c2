"""Composing, checking, saving and loading configurations, and the only code that builds from ``_target_``."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from dermprompt.config import help as help_text
from dermprompt.config import schema, secrets
from dermprompt.config.checks import check
from dermprompt.config.schema import Config, count_devices
from dermprompt.config.targets import ALLOWED_TARGETS, check_targets, entries, guard_hydra
from dermprompt.files import reading, sha256, write_bytes

# In a wheel the configuration is inside the package, in a checkout next to it.
PACKAGE = Path(__file__).parents[1]
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())

# Linux lists the CPU's features here.
CPU = Path("/proc/cpuinfo")

# Example values, for messages about keys without a default.
EXAMPLES = {
    "data.root": "/data/isic2018",
    "external.root": "/data/PH2",
    "generator.path": "/data/samples",
    "masks.path": "/data/mask.png",
    "prompts.diagnosis": "MEL",
    "prompts.mix": "{MEL:0.5,BKL:0.5}",
}

# Keys that say where things are and how they run, but do not change results: jobs that differ only here are the same.
_PLACE_KEYS = ("paths", "stage", "export", "trainer", "logger", "name")
# The trainer's such keys. Across devices results agree up to rounding; on several, up to the order of random draws.
_PLACE_TRAINER_KEYS = ("_target_", "accelerator", "devices", "num_nodes", "strategy", "max_time", "timeout")


def register() -> None:
    """Register the schema in Hydra's ConfigStore, and guard what Hydra composes (:func:`guard_hydra`)."""
    guard_hydra(CONF, _check_swept)
    _keep("schema", Config)
    for group, kinds in schema.KINDS.items():
        for name, kind in kinds.items():
            _keep(name, kind, f"schema/{group}")


def _check_swept(composed: DictConfig) -> None:
    """Check one of a sweep's jobs where the sweep starts, except for what only the job's machine knows (``oc.env``)."""
    with suppress(InterpolationResolutionError):
        freeze(composed)


@functools.cache
def _keep(name: str, node: type, group: str | None = None) -> None:
    """Store a node once: Hydra's store would build it again at every call."""
    ConfigStore.instance().store(name=name, node=node, group=group)


def _short_hash(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True))[:8]


def _job_hash(*, _root_: DictConfig) -> str:
    """Hash of what a job computes, so that the same job uses the same folder again."""
    _check_all_set(_root_)
    keys = [str(key) for key in _root_ if key not in (*_PLACE_KEYS, "hydra")]
    job = OmegaConf.to_container(OmegaConf.masked_copy(_root_, keys), resolve=True)
    trainer = cast(dict[str, Any], OmegaConf.to_container(_root_.trainer, resolve=True))
    return _short_hash([job, training_settings(trainer)])


def _check_all_set(composed: DictConfig) -> None:
    """Check that all our mandatory keys are set; the message names each key, with an example."""
    # Not resolved: Hydra's section holds the run's folder, whose name may depend on the hash being computed.
    ours = {**cast(dict, OmegaConf.to_container(composed)), "hydra": None}
    missing = sorted(key for key, _, value in entries(ours) if value == "???")
    if missing:
        examples = shlex.join(f"{key}={EXAMPLES.get(key, 'VALUE')}" for key in missing)
        raise ValueError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: {examples}")


def _sweep_hash() -> str:
    """Hash of the command line and of ``conf``, because a job's configuration does not hold the sweep's choices."""
    files = sorted(CONF.rglob("*.yaml"))
    return _short_hash([sorted(sys.argv[1:]), [path.read_text() for path in files]])


def _gpus_per_node(accelerator: str, devices: Any) -> int | None:
    """How many GPUs a trainer needs on each machine, for SLURM; None without GPUs."""
    if accelerator == "cpu":
        return None
    number = count_devices(devices)
    if number is None:
        raise ValueError(f"trainer.devices={devices}: with hydra/launcher=slurm a number")
    return number


def _cpu_precision() -> str:
    """The faster training precision on this CPU: bfloat16 if it has matrix multiplication for it (AMX)."""
    return "bf16-mixed" if CPU.exists() and "amx_bf16" in CPU.read_text() else "32-true"


def _sweep_or(name: str) -> str:
    """The name of the sweep's folder, or ``name`` outside a sweep."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return name
    return Path(HydraConfig.get().runtime.output_dir).parent.name


# Registered on import, because a sweep's job on SLURM starts from a pickle, not from our main. It does not have the
# sweep's command line either, but its configuration carries the hash that the sweep computed.
OmegaConf.register_new_resolver("oc.env", secrets.from_environment, replace=True)
OmegaConf.register_new_resolver("job_hash", _job_hash, replace=True)
OmegaConf.register_new_resolver("sweep_hash", _sweep_hash, replace=True, use_cache=True)
OmegaConf.register_new_resolver("sweep_or", _sweep_or, replace=True)
OmegaConf.register_new_resolver("cpu_precision", _cpu_precision, replace=True)
OmegaConf.register_new_resolver("gpus_per_node", _gpus_per_node, replace=True)
OmegaConf.register_new_resolver("help_experiments", lambda: help_text.experiments(CONF), replace=True)
OmegaConf.register_new_resolver("help_groups", lambda: help_text.groups(CONF), replace=True)


def compose(overrides: list[str]) -> Config:
    """The checked configuration for a list of overrides, outside a Hydra job.

    Raises:
        ValueError: as :func:`freeze`.
    """
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return freeze(hydra_compose("config", overrides=overrides))


def help_page() -> str:
    """The text of ``--help``."""
    return str(OmegaConf.load(CONF / "hydra" / "help" / "dermprompt.yaml").template)


def freeze(composed: DictConfig) -> Config:
    """Turn a composed configuration into plain dataclasses, and check it.

    Raises:
        ValueError: a key is unset or has a value that is not allowed.
    """
    _check_all_set(composed)
    config = cast(Config, OmegaConf.to_object(composed))
    check(config)
    return config


def is_dumped(path: Path) -> bool:
    """Whether a file looks like the output of :func:`dump`, in this or an earlier version."""
    try:
        found = _read_yaml(path)
    except ValueError:
        return False
    return isinstance(found, dict) and {"stage", "segmenter", "paths", "trainer"} <= found.keys()


def thaw(path: Path) -> Config:
    """Read back what :func:`dump` wrote.

    Raises:
        ValueError: it is not such a file, or has other keys.
    """
    try:
        raw = cast(DictConfig, OmegaConf.create(_escaped(_read_yaml(path))))
        node = OmegaConf.structured(Config)
        for group, kinds in schema.KINDS.items():
            parent, _, key = group.replace("/", ".").rpartition(".")
            holder = OmegaConf.select(raw, parent) if parent else raw
            if holder is not None and key in holder:
                holder[key] = OmegaConf.merge(kinds[holder[key].name], holder[key])
        return cast(Config, OmegaConf.to_object(OmegaConf.merge(node, raw)))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, OmegaConfBaseException) as error:
        raise ValueError(f"{path}: not the configuration of a job ({' '.join(str(error).split())})") from None


def _read_yaml(path: Path) -> Any:
    with reading(path):
        return yaml.safe_load(path.read_bytes())


def _escaped(node: Any) -> Any:
    """The same values with ``${`` escaped, which OmegaConf would read as an interpolation."""
    if isinstance(node, dict):
        return {key: _escaped(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_escaped(value) for value in node]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", node) if isinstance(node, str) else node


def dump(config: Config, path: Path) -> None:
    """Write the resolved configuration as yaml."""
    shown = secrets.mask(dataclasses.asdict(config))
    write_bytes(path, yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).encode())


def training_settings(trainer: dict[str, Any]) -> dict[str, Any]:
    """The trainer's settings that change the trained weights: precision, clipping, accumulation …"""
    return {key: value for key, value in trainer.items() if key not in _PLACE_TRAINER_KEYS}


def place_settings(trainer: dict[str, Any]) -> dict[str, Any]:
    """The trainer's other settings: where it trains and how long."""
    return {key: value for key, value in trainer.items() if key in _PLACE_TRAINER_KEYS}


def instantiate(node: dict[str, Any], **values: Any) -> Any:
    """Build ``_target_`` of a node with its settings and ``values``; the values win.

    Raises:
        ValueError: a target in the node is not on the allow-list, or rejects these settings.
    """
    check_targets(node, ALLOWED_TARGETS)
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as build

    try:
        return build({**node, **values}, _convert_="all")
    except InstantiationException as error:
        raise ValueError(f"{node.get('_target_')}: {error.__cause__ or error}") from error
