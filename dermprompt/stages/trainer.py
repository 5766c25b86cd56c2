"""Lightning's Trainer and logger from the configuration."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.strategies import Strategy

from dermprompt import config as configuration
from dermprompt.launch import group_timeout, max_seconds, rank_and_size
from dermprompt.schema import Config
from dermprompt.training import MakeTrainer, StopInTime


def trainer_factory(config: Config, folder: Path, training: str) -> MakeTrainer:
    """What builds the Trainer of one training; ``training`` names its run in the logger."""

    def make(**settings: Any) -> lightning.Trainer:
        node = {
            **config.trainer,
            "logger": _logger(config, folder, training),
            "default_root_dir": str(folder),
        }
        # Lightning's own limit counts what earlier calls took, and a training that it stops looks finished.
        seconds = max_seconds({"max_time": node.pop("max_time", None)})
        if seconds is not None:
            settings["callbacks"].append(StopInTime(folder, seconds))
        timeout = group_timeout(node)
        del node["timeout"]
        if rank_and_size()[1] > 1:
            settings["strategy"] = _strategy(node.pop("strategy", "auto"), timeout)
        bar = any(isinstance(one, _progress_bar_class()) for one in settings["callbacks"])
        return configuration.instantiate(node, **settings, enable_progress_bar=bar)

    return make


def _strategy(name: str, timeout: timedelta) -> Strategy:
    """Lightning's strategy of that name, with processes that do not wait half an hour for one that stands still."""
    from lightning.pytorch.strategies import StrategyRegistry

    entry = StrategyRegistry["ddp" if name == "auto" else name]
    return entry["strategy"](**entry["init_params"], timeout=timeout)


def _progress_bar_class() -> type:
    from lightning.pytorch.callbacks import ProgressBar

    return ProgressBar


def _logger(config: Config, folder: Path, training: str) -> Any:
    """A csv file in the training's folder, or a W&B run grouped by the experiment."""
    node = config.logger
    if node["_target_"].endswith("CSVLogger"):
        return configuration.instantiate(node, save_dir=str(folder), name="", version="log")
    # The run's id comes from its folder, so a training that goes on continues its W&B run.
    identity = folder.name.removesuffix(".partial").replace(".", "-")
    return configuration.instantiate(
        node,
        save_dir=str(folder),
        id=identity,
        name=f"{config.generator.name}-{config.synthesis.count}-s{config.seed}-{training}",
        group=config.name,
        job_type=training,
    )
