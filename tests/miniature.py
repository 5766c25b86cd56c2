"""The main job, so small that it takes seconds: what several tests run and look into."""

from __future__ import annotations

import copy
import functools
import json
import re
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from dermprompt.config import compose as configuration
from dermprompt.config.schema import Config
from dermprompt.config.targets import check_composed
from dermprompt.job.run import run_job

CONF = Path(__file__).parents[1] / "conf"

DATA = ["data=phantom", "data.num_images=40", "trainer=cpu", "trainer.precision=32-true", "image_size=64"]
UNET = "network.features=[4,4,4,4,4,4]"
SEGMENTER = [
    "segmenter.image_size=64",
    "segmenter.max_epochs=1",
    "segmenter.batch_size=4",
    "evaluation.reference.image_size=64",
    "evaluation.reference.max_epochs=1",
    "evaluation.reference.max_steps=null",
    "evaluation.reference.batch_size=4",
    f"evaluation.reference.{UNET}",
    "evaluation.gallery=2",
]
TWO_RANKS = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
# Each call trains an epoch.
NO_TIME = "trainer.max_time=00:00:00:00"
SYNTHESIS = ["synthesis.batch_size=4"]
SCRATCH = [
    "generator/base=scratch",
    "generator/base/codec=pca",
    "generator.base.channels=[32,32]",
    "generator.base.attention_levels=1",
    "generator.base.text_width=32",
    "generator.base.text_layers=1",
    "generator.base.max_steps=3",
    "generator.base.batch_size=4",
]
GENERATOR = {
    "none": [],
    "warp": [],
    "folder": [],
    "controlnet": [
        "generator.max_steps=3",
        "generator.batch_size=4",
        "generator.num_steps=4",
        "generator.validation.num_steps=4",
    ],
    "pix2pixhd": [
        "generator.max_steps=3",
        "generator.batch_size=4",
        "generator.base_channels=4",
        "generator.discriminator_channels=4",
        "generator.num_downsamplings=2",
        "generator.num_blocks=1",
        "generator.num_scales=1",
    ],
}


def miniature(generator: str, *overrides: str) -> list[str]:
    """Overrides of a job of seconds; later ones win."""
    return [
        f"generator={generator}",
        *DATA,
        *SEGMENTER,
        f"segmenter.{UNET}",
        *SYNTHESIS,
        *(SCRATCH if generator in ("controlnet", "pix2pixhd") else []),
        *GENERATOR[generator],
        *overrides,
    ]


def on(trainer: list[str], overrides: list[str]) -> list[str]:
    """The same job with another trainer's overrides."""
    return [*(one for one in overrides if one != "trainer=cpu"), *trainer]


def compose(*overrides: str) -> Config:
    """The configuration of a command line, composed once."""
    return copy.deepcopy(_composed(overrides))


@functools.cache
def _composed(overrides: tuple[str, ...]) -> Config:
    try:
        found = composed(*overrides)
        check_composed(found, CONF)
    except Exception:
        # What is refused is refused in the words of the program.
        found = _chosen(overrides)
    return configuration.freeze(found)


def composed(*overrides: str, return_hydra_config: bool = False) -> DictConfig:
    """What Hydra makes of a command line, the caller's to change.

    A choice of groups is composed once, which takes more than half a second; other keys are set in a copy, as Hydra
    does it. ``test_a_configuration_in_two_steps_is_that_of_one`` compares.
    """
    groups, values = ([one for one in overrides if _chooses(one) is chooses] for chooses in (True, False))
    found = copy.deepcopy(_chosen(tuple(groups), return_hydra_config))
    ConfigLoaderImpl._apply_overrides_to_config([_parsed(one) for one in values], found)
    return found


def _chooses(override: str) -> bool:
    """Whether it chooses from a group, or where Hydra looks for them."""
    key = re.split("[@=]", override.lstrip("+~"))[0]
    return key.startswith("hydra") or (CONF / key).is_dir()


@functools.cache
def _parsed(override: str) -> Any:
    return OverridesParser.create().parse_override(override)


@functools.cache
def _chosen(overrides: tuple[str, ...], return_hydra_config: bool = False) -> DictConfig:
    configuration.register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides), return_hydra_config=return_hydra_config)


def run(folder: Path, *overrides: str, store: str = "store", job: str = "job") -> dict:
    """Run a job with its store and run folder under ``folder``; its results, when there are any."""
    config, output = compose(*overrides), folder / "runs" / job
    config.paths.store, config.paths.runs = str(folder / store), str(folder / "runs")
    run_job(config, str(output), list(overrides))
    results = output / "results.json"
    return json.loads(results.read_text()) if results.exists() else {}
