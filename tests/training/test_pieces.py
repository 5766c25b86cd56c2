"""A job in pieces: each ends in time with a checkpoint, nothing half-trained counts, the whole is as in one piece."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from forked import command
from miniature import NO_TIME, compose, miniature, run

from dermprompt.store.artifacts import Unfinished
from dermprompt.training.callbacks import first_training
from dermprompt.training.trainer import in_seconds


def job(*overrides: str) -> list[str]:
    return miniature("pix2pixhd", "generator.max_steps=14", "stage=train_generator", *overrides)


def test_a_generator_trained_in_pieces_is_the_one_of_a_single_piece(tmp_path: Path) -> None:
    first_training.cache_clear()
    run(tmp_path, *job(), store="whole")
    (whole,) = (tmp_path / "whole" / "train_generator").iterdir()
    # It would get the first call's epoch.
    shutil.copytree(tmp_path / "whole" / "train_judge", tmp_path / "pieces" / "train_judge")
    steps = []
    for _ in range(10):
        first_training.cache_clear()
        try:
            run(tmp_path, *job(NO_TIME), store="pieces")
            break
        except Unfinished as stop:
            steps.append(stop.step)
            assert not list((tmp_path / "pieces" / "train_generator").glob("*/artifact.json"))
            assert len(list((tmp_path / "pieces" / "train_generator").glob("*.partial/last.ckpt"))) == 1
    assert len(steps) >= 2
    assert steps == [steps[0] * (k + 1) for k in range(len(steps))]
    # The limit is no part of the recipe: both have one name.
    pieces = tmp_path / "pieces" / "train_generator" / whole.name
    assert (pieces / "artifact.json").exists()
    assert (pieces / "generator.safetensors").read_bytes() == (whole / "generator.safetensors").read_bytes()


def test_a_sweep_ends_when_the_time_is_up_and_says_how_to_go_on(tmp_path: Path) -> None:
    paths = [f"paths.store={tmp_path}/store", f"paths.runs={tmp_path}/runs"]
    ended = command("-m", *job(NO_TIME, *paths), "seed=0,1")
    assert ended.returncode == 75, ended.stderr
    assert ended.stdout.count("; the same command continues") == 1
    assert "Traceback" not in ended.stderr
    assert len(list((tmp_path / "store" / "train_generator").iterdir())) == 1


@pytest.mark.parametrize(("limit", "seconds"), [("00:00:09:30", 570), ("01:02:00:00", 93600)])
def test_limits(limit: str, seconds: int) -> None:
    assert in_seconds(limit) == seconds


def test_a_limit_in_another_notation_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_time=9: days, hours, minutes and seconds as DD:HH:MM:SS"):
        run(tmp_path, *job("trainer.max_time=9"))
    assert not (tmp_path / "store").exists()


def test_a_limit_changes_no_run_folder() -> None:
    from dermprompt.config.compose import training_settings

    plain, limited = (compose(*job(*one)).trainer for one in ([], ["trainer.max_time=00:00:09:00"]))
    assert limited["max_time"] == "00:00:09:00"
    assert training_settings(plain) == training_settings(limited)
