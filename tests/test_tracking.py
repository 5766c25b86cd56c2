"""W&B: what a run holds, and that no server costs a metric or long."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from miniature import miniature, run
from wandb_file import artifacts, logged, records

from dermprompt import tracking
from dermprompt.dashboard import COLUMNS, log_sweep

SEGMENTER = ["synthesis.count=0", "stage=train_segmenter", "logger=wandb", "segmenter.max_epochs=2"]
LOSS = "segmenter/train/loss"
CLOSED = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_RUN_ID"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    monkeypatch.setenv("WANDB_BASE_URL", CLOSED)
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/*run-*/*.wandb"))


def entry(path: Path) -> Any:
    return next(one.run for one in records(path) if one.WhichOneof("record_type") == "run")


def test_a_training_is_a_run_with_its_metrics_and_what_it_is_made_from(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    run(tmp_path, *miniature("none", *SEGMENTER, "logger.offline=true", "name=grouped"))
    (trained,) = (tmp_path / "store" / "train_segmenter").iterdir()
    (file,) = files_of(trained)
    assert (entry(file).run_group, entry(file).job_type) == ("grouped", "train_segmenter")
    assert entry(file).run_id == trained.name
    assert entry(file).display_name == "none-0-s0-segmenter-unet-S"
    assert "max_epochs" in next(one.value_json for one in entry(file).config.update if one.key == "segmenter")
    assert len([row for row in logged(file) if LOSS in row]) == 2
    used = [(name.split("-")[0], kind) for name, kind, is_input in artifacts(file) if is_input]
    assert used == [("pictures", "prepare"), ("split", "split")]
    assert (trained.name, "segmenter", False) in artifacts(file)
    (split,) = (tmp_path / "store" / "prepare").glob("split-*")
    made = [one for path in files_of(split) for one in artifacts(path)]
    assert {one for one in artifacts(file) if one[1] == "split"} & {(name, kind, True) for name, kind, _ in made}
    assert sys.modules["wandb"].run is None
    assert "WANDB_RUN_ID" not in os.environ


def test_a_server_that_is_not_there_costs_seconds_and_no_metric(tmp_path, capsys):
    start = time.monotonic()
    opened = tracking.open_run({"project": "p", "offline": False}, tmp_path, "one", config={"a": 1})
    opened.log({"x": 1})
    tracking.close_run()
    assert time.monotonic() - start < 30
    assert "goes on offline" in capsys.readouterr().out
    start = time.monotonic()
    tracking.open_run({"project": "p", "offline": False}, tmp_path, "two").log({"x": 2})
    tracking.close_run()
    assert time.monotonic() - start < 10
    found = [row["x"] for path in files_of(tmp_path) for row in logged(path)]
    assert sorted(found) == [1, 2]


def fails(folder: Path) -> None:
    try:
        tracking.open_run({"project": "p", "offline": True}, folder, "failed")
        raise KeyError("fault")
    finally:
        tracking.close_run()


def test_an_exception_ends_the_run_as_failed(tmp_path):
    with pytest.raises(KeyError):
        fails(tmp_path)
    (file,) = files_of(tmp_path)
    assert [one.exit.exit_code for one in records(file) if one.WhichOneof("record_type") == "exit"] == [1]


def test_a_server_that_does_not_take_the_end_stops_nothing(tmp_path, monkeypatch, capsys):
    def finish(exit_code: int) -> None:
        raise TimeoutError(f"no answer, {exit_code}")

    torn = []
    running = SimpleNamespace(dir=str(tmp_path / "unet.partial" / "wandb" / "run-1" / "files"), finish=finish)
    theirs = SimpleNamespace(run=running, Error=RuntimeError, teardown=lambda: torn.append(True))
    monkeypatch.setitem(sys.modules, "wandb", theirs)
    tracking.close_run()
    assert torn
    assert os.environ["WANDB_MODE"] == "offline"
    assert f"no answer, 0. The run goes on offline; `wandb sync` sends what is in {tmp_path}/unet/wandb/run-1" in (
        capsys.readouterr().out
    )


def test_the_table_of_a_sweep(tmp_path):
    overrides = miniature("warp", "synthesis.count=4", "logger=wandb", "logger.offline=true", "name=swept")
    run(tmp_path, *overrides, job="sweep/first")
    sweep = tmp_path / "runs" / "sweep"
    log_sweep(sweep)
    (file,) = files_of(sweep)
    assert "sweep/dsc" in logged(file)[0]
    (report,) = files_of(sweep / "first")
    assert {kind for _, kind, is_input in artifacts(report) if is_input} == {"split", "synthetic_set", "segmenter"}
    assert [kind for _, kind, is_input in artifacts(report) if not is_input][-1] == "report"
    (table,) = (sweep / "wandb").glob("*/files/media/table/sweep/dsc*.json")
    assert all(name in table.read_text() for name in COLUMNS)
    assert '"warp", 4, "unet"' in table.read_text()
