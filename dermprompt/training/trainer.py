"""Lightning's Trainer and logger from the configuration, and the training call shared by all generators."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy, StrategyRegistry
from torch.utils.data import Dataset

from dermprompt.config import compose
from dermprompt.distributed.processes import Runtime, is_first_rank, rank_and_size
from dermprompt.files import reading
from dermprompt.generator.batches import make_loader
from dermprompt.store.artifacts import RECIPE, read_recipe
from dermprompt.training.callbacks import StopInTime
from dermprompt.training.fit import SAME_IN_ALL, MakeTrainer, fit
from dermprompt.training.wandb_run import WandbRun, is_asked
from dermprompt.upstream import quiet_lightning


def trainer_factory(trainer: dict[str, Any], runtime: Runtime, folder: Path, training: str) -> MakeTrainer:
    """A function that builds the Trainer of one training; ``training`` names its run in the logger.

    ``trainer``: the Trainer's settings that affect the weights; the others are in ``runtime``.
    """

    def make(**settings: Any) -> lightning.Trainer:
        node = {**runtime.trainer, **trainer, "default_root_dir": str(folder)}
        node["logger"] = _logger(runtime, folder, training)
        # Lightning's own limit includes the time of earlier calls, and a training that it stops looks finished.
        limit = node.pop("max_time", None)
        if limit is not None:
            settings["callbacks"].append(StopInTime(folder, in_seconds(limit)))
        if is_asked(runtime.logger) and artifact_folder(folder) == folder:
            settings["callbacks"].append(NoteOutput(folder))
        timeout = timedelta(seconds=node.pop("timeout"))
        if rank_and_size()[1] > 1:
            settings["strategy"] = _strategy(node.pop("strategy", "auto"), timeout)
        bar = any(isinstance(one, ProgressBar) for one in settings["callbacks"])
        return compose.instantiate(node, **settings, enable_progress_bar=bar)

    return make


def in_seconds(limit: str) -> int:
    """The seconds of a time in Lightning's notation, ``DD:HH:MM:SS``."""
    return sum(int(part) * unit for part, unit in zip(limit.split(":"), (86400, 3600, 60, 1), strict=True))


def check_trainer(trainer: dict[str, Any]) -> None:
    """Build the Trainer once, before any training.

    Raises:
        ValueError: it rejects these settings on this machine.
    """
    quiet_lightning()
    node = {key: value for key, value in trainer.items() if key not in ("max_time", "timeout")}
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with reading(Path("trainer")):
        built = compose.instantiate(node, **silent, plugins=[LightningEnvironment()], **SAME_IN_ALL)
        if built.precision != trainer["precision"]:
            raise ValueError(
                f"precision={trainer['precision']}: not supported here, where it becomes {built.precision}"
            )


def fit_on_images(
    settings: Any,
    runtime: Runtime,
    module: lightning.LightningModule,
    data: Dataset[Any],
    ids: tuple[str, ...],
    steps: Any,
    key: str,
    folder: Path,
    **more: Any,
) -> None:
    """Train on a generator's training images, in all variants that ``data`` has of each.

    ``settings``: the stage's, with ``seed`` and ``trainer``; ``steps``: the section with ``batch_size`` and
    ``max_steps``, called ``key`` in the configuration; ``more``: arguments of :func:`fit`.
    """
    loader = make_loader(data, len(ids), steps.batch_size, settings.seed, *rank_and_size())
    trainer = trainer_factory(settings.trainer, runtime, folder, key.rpartition(".")[2])
    named = {"ids": ids, "batch_key": f"{key}.batch_size"}
    fit(module, loader, trainer, folder, settings.seed, max_steps=steps.max_steps, **named, **more)  # type: ignore[arg-type]


def _strategy(name: str, timeout: timedelta) -> Strategy:
    """Lightning's strategy of that name, with a timeout shorter than its half hour for processes that hang."""
    entry = StrategyRegistry["ddp" if name == "auto" else name]
    return entry["strategy"](**entry["init_params"], timeout=timeout)


class RunLogger(Logger):
    """Connects Lightning to a W&B run; only the first rank has one."""

    name, version = "wandb", None  # required by Lightning, for names of folders that are not used

    def __init__(self, run: WandbRun | None) -> None:
        super().__init__()
        self.run = run

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log the metrics of a step."""
        if self.run is not None:
            self.run.log({**metrics, "trainer/global_step": float(step or 0)})

    def log_hyperparams(self, *_: Any) -> None:
        """Do nothing: the run already has its stage's settings."""

    def log_image(self, key: str, images: list[str]) -> None:
        """Log images from the training's folder."""
        if self.run is not None:
            for path in images:
                self.run.image(key, Path(path))

    def finalize(self, status: str) -> None:
        """End the run."""
        if self.run is not None:
            self.run.close(failed=status != "success")


def _logger(runtime: Runtime, folder: Path, training: str) -> Logger | bool:
    """A W&B run of the first rank, if asked for; :class:`~dermprompt.training.callbacks.Curves` are written anyway."""
    if not is_asked(runtime.logger):
        return False
    return RunLogger(_open_run(runtime, folder, training) if is_first_rank() else None)


def _open_run(runtime: Runtime, folder: Path, training: str) -> WandbRun:
    artifact = artifact_folder(folder)
    recipe = read_recipe(artifact)
    # The run's id comes from its folder, so a resumed training continues its W&B run.
    place = "-".join([artifact.name.removesuffix(".partial"), *folder.relative_to(artifact).parts])
    name = f"{runtime.label}-{training}-{recipe.name}"
    run = WandbRun(runtime.logger, folder, place, name=name, job_type=recipe.stage, config=recipe.settings)
    run.inputs(artifact)
    return run


def artifact_folder(folder: Path) -> Path:
    """The folder of the artifact that a training belongs to; an arm's pretraining is in a subfolder."""
    return next(place for place in (folder, *folder.parents) if (place / RECIPE).exists())


class NoteOutput(Callback):
    """Records the trained artifact in W&B at the end of the training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Record it, unless the training was stopped before its last step."""
        if trainer.is_global_zero and not trainer.should_stop:
            (logger,) = trainer.loggers
            assert isinstance(logger, RunLogger)
            assert logger.run is not None
            logger.run.output(self.folder)
