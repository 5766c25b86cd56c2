"""Configuration: Hydra's schema, checks before any work, and the only place that builds from ``_target_``."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dermprompt.config import help as help_text
from dermprompt.config import schema, secrets
from dermprompt.config.checks import check
from dermprompt.config.schema import Config, count_devices
from dermprompt.config.targets import ALLOWED_TARGETS, check_targets, guard_hydra
from dermprompt.files import reading, sha256, write_bytes

# In a wheel the configuration lies inside the package, in a checkout beside it.
PACKAGE = Path(__file__).parents[1]
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())

# Where Linux says what the CPU can do.
CPU = Path("/proc/cpuinfo")

# For the keys that have no default.
EXAMPLES = {
    "data.root": "/data/isic2018",
    "external.root": "/data/PH2",
    "generator.path": "/data/samples",
    "masks.path": "/data/mask.png",
    "prompts.diagnosis": "MEL",
    "prompts.mix": "{MEL:0.5,BKL:0.5}",
}

# These say where things are and how they run, not what comes out: two jobs that differ in them are one.
_PLACE_KEYS = ("paths", "stage", "export", "trainer", "logger", "name")
# The same of the trainer. On other devices results agree up to rounding, and on several up to the order of draws.
_PLACE_TRAINER_KEYS = ("_target_", "accelerator", "devices", "num_nodes", "strategy", "max_time", "timeout")


def register() -> None:
    """Put the schema into Hydra's ConfigStore, and hold what it composes to what may be built."""
    guard_hydra(CONF)
    _keep("schema", Config)
    for group, kinds in schema.KINDS.items():
        for name, kind in kinds.items():
            _keep(name, kind, f"schema/{group}")


@functools.cache
def _keep(name: str, node: type, group: str | None = None) -> None:
    """Hydra's store builds each of its nodes anew."""
    ConfigStore.instance().store(name=name, node=node, group=group)


def _short_hash(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True))[:8]


def _job_hash(*, _root_: DictConfig) -> str:
    """Hash of what a job computes, so that the same job finds its folder again."""
    _check_all_set(_root_)
    job = OmegaConf.to_container(OmegaConf.masked_copy(_root_, _job_keys(_root_)), resolve=True)
    trainer = cast(dict[str, Any], OmegaConf.to_container(_root_.trainer, resolve=True))
    return _short_hash([job, training_settings(trainer)])


def _check_all_set(composed: DictConfig) -> None:
    """Say which keys of ours have to be given.

    Raises:
        ValueError: names each key, with an example.
    """
    # Unresolved: Hydra's own part holds the run's folder, whose name may be what is being resolved.
    missing = sorted(_unset({**cast(dict, OmegaConf.to_container(composed)), "hydra": None}))
    if missing:
        examples = shlex.join(f"{key}={EXAMPLES.get(key, 'VALUE')}" for key in missing)
        raise ValueError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: {examples}")


def _unset(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _unset(value, f"{prefix}{key}.")
        elif value == "???":
            yield prefix + key


def _job_keys(root: DictConfig) -> list[str]:
    return [str(key) for key in root if key not in (*_PLACE_KEYS, "hydra")]


def _sweep_hash() -> str:
    """Hash of the command line and of ``conf``: a job's own configuration does not know the sweep's choices."""
    files = sorted(CONF.rglob("*.yaml"))
    return _short_hash([sorted(sys.argv[1:]), [path.read_text() for path in files]])


def _gpus_per_node(accelerator: str, devices: Any) -> int | None:
    """What a trainer asks of each machine, for SLURM; None without GPUs."""
    if accelerator == "cpu":
        return None
    number = count_devices(devices)
    if number is None:
        raise ValueError(f"trainer.devices={devices}: with hydra/launcher=slurm a number")
    return number


def _cpu_precision() -> str:
    """The faster precision of training on this CPU: bfloat16 where it multiplies matrices in it (AMX)."""
    return "bf16-mixed" if CPU.exists() and "amx_bf16" in CPU.read_text() else "32-true"


def _sweep_or(name: str) -> str:
    """The name of the sweep's folder, outside of a sweep ``name``."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return name
    return Path(HydraConfig.get().runtime.output_dir).parent.name


# Here and not by a call: a job of a sweep on SLURM begins with what was pickled, not with our main. Nor does it have
# the sweep's command line, but with its configuration the hash that the sweep has looked up.
OmegaConf.register_new_resolver("oc.env", secrets.from_environment, replace=True)
OmegaConf.register_new_resolver("job_hash", _job_hash, replace=True)
OmegaConf.register_new_resolver("sweep_hash", _sweep_hash, replace=True, use_cache=True)
OmegaConf.register_new_resolver("sweep_or", _sweep_or, replace=True)
OmegaConf.register_new_resolver("cpu_precision", _cpu_precision, replace=True)
OmegaConf.register_new_resolver("gpus_per_node", _gpus_per_node, replace=True)
OmegaConf.register_new_resolver("help_experiments", lambda: help_text.experiments(CONF), replace=True)
OmegaConf.register_new_resolver("help_groups", lambda: help_text.groups(CONF), replace=True)


def compose(overrides: list[str]) -> Config:
    """The checked configuration of a command line's overrides, where Hydra runs no job.

    Raises:
        ValueError: as :func:`freeze`.
    """
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return freeze(hydra_compose("config", overrides=overrides))


def help_page() -> str:
    """What ``--help`` prints."""
    return str(OmegaConf.load(CONF / "hydra" / "help" / "dermprompt.yaml").template)


def freeze(composed: DictConfig) -> Config:
    """Turn a composed configuration into plain dataclasses, checked.

    Raises:
        ValueError: a key is unset or has a value that is not allowed.
    """
    _check_all_set(composed)
    config = cast(Config, OmegaConf.to_object(composed))
    check(config)
    return config


def is_dumped(path: Path) -> bool:
    """Whether a file looks as :func:`dump` writes it, now or earlier."""
    try:
        found = _read_yaml(path)
    except ValueError:
        return False
    return isinstance(found, dict) and {"stage", "segmenter", "paths", "trainer"} <= found.keys()


def thaw(path: Path) -> Config:
    """Read back what :func:`dump` wrote.

    Raises:
        ValueError: it is no such file, or of other keys.
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
    """The same values to OmegaConf, for which a dollar before a brace begins an interpolation."""
    if isinstance(node, dict):
        return {key: _escaped(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_escaped(value) for value in node]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", node) if isinstance(node, str) else node


def dump(config: Config, path: Path) -> None:
    """Write the resolved configuration as yaml."""
    write_bytes(path, yaml.safe_dump(secrets.mask(plain(config)), sort_keys=False, allow_unicode=True).encode())


def plain(node: Any) -> Any:
    """A dataclass of the schema as plain dicts and lists."""
    return dataclasses.asdict(node)


def training_settings(trainer: dict[str, Any]) -> dict[str, Any]:
    """What of the trainer's settings changes the trained weights: precision, clipping, accumulation …"""
    return {key: value for key, value in trainer.items() if key not in _PLACE_TRAINER_KEYS}


def place_settings(trainer: dict[str, Any]) -> dict[str, Any]:
    """The others, which say where it trains and how long."""
    return {key: value for key, value in trainer.items() if key in _PLACE_TRAINER_KEYS}


def instantiate(node: dict[str, Any], **values: Any) -> Any:
    """Build ``_target_`` of a node with its settings and ``values``; the values win.

    Raises:
        ValueError: the target, or one inside the node, is not in the allow-list; or it does not take these settings.
    """
    check_targets(node, ALLOWED_TARGETS)
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as build

    try:
        return build({**node, **values}, _convert_="all")
    except InstantiationException as error:
        raise ValueError(f"{node.get('_target_')}: {error.__cause__ or error}") from error
