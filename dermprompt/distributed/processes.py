"""How many processes a trainer needs, and which of them this one is."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dermprompt.config.compose import place_settings
from dermprompt.config.schema import Config, count_devices
from dermprompt.distributed.slurm import num_nodes

if TYPE_CHECKING:
    import torch


# Variables by which torch's launcher, Lightning and MPI tell a process its rank, and PL_TRAINER_…, which would bypass
# the configuration.
_OF_RANKS = re.compile(
    r"(LOCAL_|GROUP_|NODE_|ROLE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|TORCHELASTIC_.*|JSM_NAMESPACE_.*"
    r"|OMPI_COMM_WORLD_.*|PL_.*"
)


@dataclass(frozen=True)
class Runtime:
    """Where work runs and how it is logged. It must not affect results, and is not part of any artifact's key.

    Attributes:
        trainer: where and how long to train (:func:`~dermprompt.config.compose.place_settings`).
        logger: the configuration of the logger.
        label: prefix of the names of W&B runs.
    """

    trainer: dict[str, Any]
    logger: Any
    label: str = ""

    @classmethod
    def of(cls, config: Config) -> Runtime:
        """The runtime of a configuration."""
        label = f"{config.generator.name}-{config.synthesis.count}-s{config.seed}"
        return cls(place_settings(config.trainer), config.logger, label)


def num_processes(trainer: dict[str, Any]) -> int:
    """The number of devices of the trainer, on all its machines."""
    devices = count_devices(trainer.get("devices", 1))
    if devices is None:
        import torch

        devices = max(1, torch.cuda.device_count())
    return num_nodes(trainer) * devices


def forget_ranks() -> None:
    """Remove other launchers' rank variables, and Lightning's settings, from the environment.

    Ranks matter only in processes that this program starts; their launcher sets the variables again.
    """
    for name in [one for one in os.environ if _OF_RANKS.fullmatch(one)]:
        del os.environ[name]


def rank_and_size() -> tuple[int, int]:
    """This process's rank in its training, and the number of processes."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def is_first_rank() -> bool:
    """Whether this process is the one that writes the results of a training."""
    return rank_and_size()[0] == 0


def choose_device(trainer: dict[str, Any]) -> torch.device:
    """This process's device according to the trainer's settings, for work without a Trainer."""
    import torch

    if trainer["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"trainer.accelerator={trainer['accelerator']}: no GPU here that torch can use; cpu or auto")
    if trainer["accelerator"] == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    rank, devices = int(os.environ.get("LOCAL_RANK", "0")), trainer.get("devices", 1)
    return torch.device("cuda", devices[rank] if isinstance(devices, list) else rank)
