"""Lightning's Trainer and logger from the configuration, and the training that all that draws images has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
from torch.utils.data import Dataset

from dermprompt import config as configuration
from dermprompt.generator.batches import make_loader
from dermprompt.launch import max_seconds, rank_and_size
from dermprompt.schema import Config
from dermprompt.training import MakeTrainer, StopInTime, fit


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
        bar = any(isinstance(one, _progress_bar_class()) for one in settings["callbacks"])
        return configuration.instantiate(node, **settings, enable_progress_bar=bar)

    return make


def fit_on_images(
    config: Config,
    module: lightning.LightningModule,
    data: Dataset[Any],
    ids: tuple[str, ...],
    settings: Any,
    training: str,
    key: str,
    folder: Path,
    **more: Any,
) -> None:
    """Train on G's images, as often varied as ``data`` has variants of each.

    ``settings`` stand under ``key`` in the configuration; ``more`` are arguments of :func:`fit`.
    """
    loader = make_loader(data, len(ids), settings.batch_size, config.seed, *rank_and_size())
    trainer = trainer_factory(config, folder, training)
    named = {"ids": ids, "batch_key": f"{key}.batch_size"}
    fit(module, loader, trainer, folder, config.seed, max_steps=settings.max_steps, **named, **more)  # type: ignore[arg-type]


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
