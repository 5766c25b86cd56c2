"""What ranks do in the tests of their launcher: little, without the imports of a training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dermprompt.distributed.launch import Call
from dermprompt.distributed.processes import Runtime, rank_and_size
from dermprompt.stages.settings import Nothing


def on_two_ranks(work: str, folder: Path) -> None:
    """Run a function of this module as a stage's work is run."""
    Call(f"{__name__}.{work}", Nothing(), Runtime({"devices": 2}, {}), {}).on_all_devices(folder)


def fail(settings: Any, runtime: Runtime, folder: Path) -> None:
    """The second rank fails, which the first one is waiting for."""
    _meet()
    if rank_and_size()[0] == 1:
        raise ValueError("nonsense")
    _meet()


def meet(settings: Any, runtime: Runtime, folder: Path) -> None:
    """The ranks meet once, and each says so."""
    _meet()
    (folder / f"met-{rank_and_size()[0]}").touch()


def work_on(settings: Any, runtime: Runtime, folder: Path) -> None:
    """Work together without end; a file says that it has begun."""
    while True:
        _meet()
        (folder / "begun").touch()
        time.sleep(0.05)


def _meet() -> None:
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    distributed.barrier()
