"""Every trainer goes on exactly: trained in pieces, with loader workers, it ends with the weights of one piece."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
from forked import fork_ranks
from miniature import NO_TIME, TWO_RANKS, miniature, on, run
from torch.utils.data import DataLoader

from dermprompt.store.artifacts import Unfinished
from dermprompt.training.callbacks import first_training

JOBS = {
    "base and controlnet": ("controlnet", ["generator.max_steps=8", "generator.base.max_steps=8"]),
    "pix2pixhd": ("pix2pixhd", ["generator.max_steps=8", "generator.pool_size=0"]),
    "segmenter": ("none", ["segmenter.max_epochs=3", "segmenter.augmentation=strong", "synthesis.count=0"]),
}


def give_workers() -> None:
    """Let a rank's loaders have workers.

    Not forked from the rank: CPython 3.11 can deadlock in a child forked while another thread, as gloo's after a
    collective, creates or ends its Python state.
    """
    multiprocessing.set_forkserver_preload(["dermprompt.generator.batches", "dermprompt.segmenter.batches"])
    workers = {"num_workers": 2, "multiprocessing_context": "forkserver"}
    DataLoader.__init__ = partialmethod(DataLoader.__init__, **workers)  # type: ignore[method-assign]


def job(name: str, ranks: int) -> list[str]:
    generator, settings = JOBS[name]
    stage = "stage=train_segmenter" if generator == "none" else "stage=train_generator"
    overrides = miniature(generator, *settings, "evaluation.reference.max_epochs=2", stage)
    return overrides if ranks == 1 else on(TWO_RANKS, overrides)


def weights(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*.safetensors")}


ON_TWO_RANKS_BY_DEFAULT = "pix2pixhd"


def choices() -> Iterator[Any]:
    """Every trainer on one rank and on two; the latter takes minutes."""
    for name in JOBS:
        yield pytest.param(name, 1)
        yield pytest.param(name, 2, marks=() if name == ON_TWO_RANKS_BY_DEFAULT else pytest.mark.slow)


@pytest.mark.parametrize(("name", "ranks"), choices())
def test_pieces_with_workers_make_one_whole(
    name: str, ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fork_ranks(monkeypatch)
    run(tmp_path, *job(name, ranks), store="whole")
    assert "resumes" not in capfd.readouterr().out
    monkeypatch.setattr(DataLoader, "__init__", partialmethod(DataLoader.__init__, num_workers=2))
    fork_ranks(monkeypatch, give_workers)
    stops = 0
    if (tmp_path / "whole" / "train_judge").exists():
        shutil.copytree(tmp_path / "whole" / "train_judge", tmp_path / "pieces" / "train_judge")
    while True:
        first_training.cache_clear()
        try:
            run(tmp_path, *job(name, ranks), NO_TIME, store="pieces")
            break
        except Unfinished:
            stops += 1
    assert stops >= (2 if name == "segmenter" else 1)
    assert "resumes from step" in capfd.readouterr().out
    assert weights(tmp_path / "whole") == weights(tmp_path / "pieces") != {}
