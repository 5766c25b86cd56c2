"""The allow-list of what a configuration may build, enforced before Hydra or this package builds anything.

A stranger's experiment file can change the whole configuration, including Hydra's own section, and Hydra calls
whatever a ``_target_`` names; Python's logging does the same with ``class`` and ``()``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, wraps
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf, flag_override

from dermprompt.files import check_name

# In our section. A new network needs a class, a yaml and a line here.
ALLOWED_TARGETS = frozenset(
    {
        "lightning.pytorch.Trainer",
        "monai.networks.nets.BasicUNet",
        "dermprompt.segmenter.dcsaunet.DCSAUNet",
        "dermprompt.segmenter.pretrained.PretrainedUNet",
    }
)
_SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
# In Hydra's section, besides the callbacks named in conf/config.yaml.
HYDRAS_TARGETS = frozenset(
    {
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
        f"{_SUBMITIT}.SlurmLauncher",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        f"{_SUBMITIT}.LocalLauncher",
    }
)
LOG_TARGETS = frozenset({"logging.StreamHandler", "logging.FileHandler", "colorlog.ColoredFormatter"})
# Where Hydra's log may go; this is restricted because ext:// imports what it names, and a file name is written to.
LOG_PLACES = frozenset(
    {
        "ext://sys.stdout",
        "ext://sys.stderr",
        "${hydra.runtime.output_dir}/${hydra.job.name}.log",
        "hydra-${hydra.job.name}.log",
    }
)


def check_targets(node: Any, allowed: frozenset[str], key: str = "") -> None:
    """Check every ``_target_`` in plain dicts and lists, and all other keys that Hydra interprets.

    Raises:
        ValueError: one is not allowed; names its key.
    """
    for where, name, value in entries(node, key):
        if name == "_target_" and value not in allowed:
            raise ValueError(f"{where}={value}: not allowed; allowed are {', '.join(sorted(allowed))}")
        if re.fullmatch(r"_[a-z]+_", name) and name != "_target_":
            raise ValueError(f"{where}={value}: not allowed; only arguments may be given besides _target_")


def entries(node: Any, key: str = "") -> Iterator[tuple[str, str, Any]]:
    """Dotted key, last part of the key, and value of every entry in nested dicts and lists."""
    if isinstance(node, dict):
        for name, value in node.items():
            where = f"{key}.{name}" if key else str(name)
            yield where, str(name), value
            yield from entries(value, where)
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from entries(value, f"{key}[{number}]")


def check_composed(composed: DictConfig, conf: Path) -> None:
    """Check a whole composed configuration, which may still hold interpolations, including Hydra's own section.

    An interpolation is never an allowed target; one that yields a dict points to another place, checked as well.
    ``conf``: the folder of this package's configuration.
    """
    whole = OmegaConf.to_container(composed)
    assert isinstance(whole, dict)
    hydras = whole.pop("hydra", None) or {}
    check_targets(whole, ALLOWED_TARGETS)
    built = {**(hydras.get("callbacks") or {}), **{key: hydras.get(key) for key in ("launcher", "sweeper")}}
    for key, value in built.items():
        if isinstance(value, str):
            raise ValueError(f"{key}={value} in Hydra's section: a section is needed, not a text")
    check_targets(hydras, HYDRAS_TARGETS | _callbacks(conf), "hydra")
    for part in ("hydra_logging", "job_logging"):
        for where, name, value in entries(hydras.get(part), f"hydra.{part}"):
            _check_logging(where, name, value)
    if hydras:
        _check_launcher(hydras, conf)
        _check_job(hydras)


@cache
def _callbacks(conf: Path) -> frozenset[str]:
    ours = yaml.safe_load((conf / "config.yaml").read_text())["hydra"]["callbacks"]
    return frozenset(one["_target_"] for one in ours.values())


@cache
def _launchers(conf: Path) -> list[dict[str, Any]]:
    return [yaml.safe_load(file.read_text()) for file in (conf / "hydra" / "launcher").glob("*.yaml")]


def _check_logging(where: str, name: str, value: Any) -> None:
    """Logging calls ``class``, ``()`` and ``factory``, resolves ``ext://`` and ``cfg://``, and writes ``filename``."""
    if name in ("class", "()", "factory", ".") and value not in LOG_TARGETS:
        raise ValueError(f"{where}={value}: not allowed; allowed are {', '.join(sorted(LOG_TARGETS))}")
    for one in value if isinstance(value, list) else [value]:
        if (name == "filename" or "://" in str(one)) and not isinstance(one, dict) and one not in LOG_PLACES:
            raise ValueError(f"{where}={one}: not allowed; allowed are {', '.join(sorted(LOG_PLACES))}")


def _check_launcher(hydras: dict[str, Any], conf: Path) -> None:
    """The launcher's texts become a shell script, so they must come from ``conf`` or from the command line."""
    given = " ".join(hydras["overrides"]["hydra"])
    ours = _launchers(conf)
    for key, value in (hydras.get("launcher") or {}).items():
        if key == "_target_" or not value or not isinstance(value, str | list | dict):
            continue
        if value not in [one.get(key) for one in ours] and f"hydra.launcher.{key}" not in given:
            raise ValueError(f"hydra.launcher.{key}={value}: becomes part of a script; give it on the command line")


def _check_job(hydras: dict[str, Any]) -> None:
    """Check the environment variables that Hydra sets, and the names of the files that it writes."""
    for key, value in hydras["job"]["env_set"].items():
        if os.environ.get(key) != value:
            raise ValueError(f"hydra.job.env_set.{key}={value}: set it in the shell; it may change what a program runs")
    if "name" in hydras["job"]:
        check_name("hydra.job.name", hydras["job"]["name"])
    if hydras["output_subdir"] not in (None, ".hydra"):
        check_name("hydra.output_subdir", hydras["output_subdir"])


def guard_hydra(conf: Path, check_job: Callable[[DictConfig], Any]) -> None:
    """Check every configuration that Hydra composes, for a job and for each job of a sweep, before it builds from it.

    Hydra has no hook that early: it builds its callbacks from the configuration, and its logging even before them.
    The resolvers that turn a text into a dict are removed, because such dicts would escape the check.
    ``check_job``: raises for a job's mistakes; Hydra composes all jobs of a sweep before it starts the first.
    """
    for resolver in ("oc.create", "oc.decode"):
        OmegaConf.clear_resolver(resolver)
    load = getattr(ConfigLoaderImpl.load_configuration, "__wrapped__", ConfigLoaderImpl.load_configuration)

    @wraps(load)
    def load_configuration(*args: Any, **kwargs: Any) -> DictConfig:
        try:
            composed = load(*args, **kwargs)
        except (AttributeError, TypeError, KeyError, OverflowError) as error:  # from Hydra, for values that do not fit
            raise ValueError(f"the command line or a file is invalid: {' '.join(str(error).split())}") from error
        check_composed(composed, conf)
        return composed

    ConfigLoaderImpl.load_configuration = load_configuration  # type: ignore[method-assign]
    load_job = getattr(ConfigLoaderImpl.load_sweep_config, "__wrapped__", ConfigLoaderImpl.load_sweep_config)

    @wraps(load_job)
    def load_sweep_config(*args: Any, **kwargs: Any) -> DictConfig:
        composed = load_job(*args, **kwargs)
        job = deepcopy(composed)
        with flag_override(job, ["readonly", "struct"], False):
            del job["hydra"]
        check_job(job)
        return composed

    ConfigLoaderImpl.load_sweep_config = load_sweep_config  # type: ignore[method-assign]
