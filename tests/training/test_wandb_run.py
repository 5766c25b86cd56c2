"""W&B: what a run holds, and that no server costs a metric or long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from miniature import TWO_RANKS, miniature, on, run
from PIL import Image
from wandb_file import artifacts, logged, records
from wandb_stub import Stub

from dermprompt.files import write_json
from dermprompt.job.dashboard import COLUMNS, LOGGED, log_sweep
from dermprompt.stages.arrays import load_samples
from dermprompt.store.artifacts import RECIPE, Recipe
from dermprompt.training import wandb_run

SEGMENTER = ["synthesis.count=0", "stage=train_segmenter", "logger=wandb", "segmenter.max_epochs=2"]
LOSS = "segmenter/train/loss"
SYNC = "wandb sync --no-skip-online"
CLOSED = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
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


def written() -> None:
    """Wait for W&B's service, which writes beside this process."""
    import wandb

    wandb.teardown()


def entry(path: Path) -> Any:
    return next(one.run for one in records(path) if one.WhichOneof("record_type") == "run")


def test_a_training_is_a_run_with_its_metrics_and_what_it_is_made_from(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    run(tmp_path, *miniature("none", *SEGMENTER, "logger.offline=true", "name=grouped"))
    written()
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


def seconds_of_a_run(folder: Path, number: int, offline: bool = False) -> float:
    start = time.monotonic()
    wandb_run.open_run({"project": "p", "offline": offline}, folder, f"run-{number}").log({"x": number})
    wandb_run.close_run()
    return time.monotonic() - start


def test_a_server_that_is_not_there_costs_seconds_and_no_metric(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(wandb_run, "INIT_SECONDS", 2)
    seconds_of_a_run(tmp_path, 0, offline=True)  # W&B's own process starts
    usual = seconds_of_a_run(tmp_path, 1, offline=True)
    assert seconds_of_a_run(tmp_path, 2) < 22 + 2 * usual
    assert capsys.readouterr().out.count("goes on offline") == 1
    # The process knows by now.
    assert seconds_of_a_run(tmp_path, 3) < 5 + 2 * usual
    written()
    assert sorted(row["x"] for path in files_of(tmp_path) for row in logged(path)) == [0, 1, 2, 3]


def fails(folder: Path) -> None:
    try:
        wandb_run.open_run({"project": "p", "offline": True}, folder, "failed")
        raise KeyError("fault")
    finally:
        wandb_run.close_run()


def test_an_exception_ends_the_run_as_failed(tmp_path):
    with pytest.raises(KeyError):
        fails(tmp_path)
    written()
    (file,) = files_of(tmp_path)
    assert [one.exit.exit_code for one in records(file) if one.WhichOneof("record_type") == "exit"] == [1]


def test_a_server_that_does_not_take_the_end_stops_nothing(tmp_path, monkeypatch, capsys):
    def finish(exit_code: int) -> None:
        raise TimeoutError(f"no answer, {exit_code}")

    torn = []
    running = SimpleNamespace(dir=str(tmp_path / "unet.partial" / "wandb" / "run-1" / "files"), finish=finish)
    running.settings = SimpleNamespace(finish_timeout=8)
    setup = SimpleNamespace(_connection=None)
    theirs = SimpleNamespace(run=running, setup=lambda: setup, teardown=lambda: torn.append(True))
    monkeypatch.setitem(sys.modules, "wandb", theirs)
    wandb_run.close_run()
    assert torn
    assert os.environ["WANDB_MODE"] == "offline"
    assert f"no answer, 0. The run goes on offline; `{SYNC}` sends what is in {tmp_path}/unet/wandb/run-1" in (
        capsys.readouterr().out
    )


# A process of its own, since W&B may also wait when a process ends. It does the second half when it is told to.
HALVES = """
import sys
from pathlib import Path
from dermprompt.training import wandb_run

store, trained = Path(sys.argv[1]), Path(sys.argv[2])
wandb_run.INIT_SECONDS, patience = float(sys.argv[3]), float(sys.argv[4])
run = wandb_run.open_run({"project": "p", "offline": False}, store, "run", patience)
wandb_run.log_inputs(run, trained)
[run.log({"x": x}) for x in range(3)]
print("half", flush=True)
sys.stdin.readline()
[run.log({"x": x}) for x in range(3, 6)]
wandb_run.log_output(run, trained)
wandb_run.log_table(run, "table", ["x"], [[0]])
wandb_run.log_page(run, "page", [trained / "recipe.json"], [])
wandb_run.close_run()
"""


def store_of_two(store: Path) -> Path:
    """A store with a split and a segmenter that is made from it; the segmenter's folder."""
    split = Recipe("prepare", "split-p", 1, {}, ())
    for recipe in (split, trained := Recipe("train_segmenter", "unet", 1, {}, (split.key,))):
        (store / recipe.folder).mkdir(parents=True)
        write_json(store / recipe.folder / RECIPE, asdict(recipe))
    return store / trained.folder


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the process, with how long it waits for a server at the run's start and at its end (s)."""
    # What W&B tells a user who has not silenced it, it may have to ask the server for.
    monkeypatch.delenv("WANDB_SILENT")
    started: list[subprocess.Popen[str]] = []

    def start(
        stub: Stub, init: float = wandb_run.INIT_SECONDS, finish: float = wandb_run.FINISH_SECONDS
    ) -> subprocess.Popen[str]:
        monkeypatch.setenv("WANDB_BASE_URL", stub.url)
        monkeypatch.delenv("WANDB_SERVICE", raising=False)
        command = [sys.executable, "-c", HALVES, str(tmp_path), str(store_of_two(tmp_path)), str(init), str(finish)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=Path(__file__).parents[2], **pipes))
        return started[0]

    yield start
    for process in started:
        process.kill()


def first_half(process: subprocess.Popen[str]) -> str:
    """What it says until then."""
    assert process.stdout is not None
    return "".join(iter(process.stdout.readline, "half\n"))


def test_a_server_gets_the_metrics_and_the_lineage(tmp_path, halves):
    stub = Stub()
    process = halves(stub)
    said = first_half(process) + process.communicate("\n", timeout=60)[0]
    stub.die()
    assert process.returncode == 0
    assert "offline" not in said
    assert [row["x"] for row in stub.rows if "x" in row] == [0, 1, 2, 3, 4, 5]
    made_by = {name.split("-")[0]: run for name, run in stub.artifacts.items()}
    assert made_by == {"split": None, "unet": "run", "run": "run", "page": "run"}
    assert stub.asked.count("UseArtifact") == 1


@pytest.mark.parametrize("loss", [Stub.die, Stub.hang], ids=["dies", "hangs"])
def test_a_server_that_is_lost_in_the_middle_costs_seconds_and_no_metric(tmp_path, halves, loss):
    stub = Stub()
    process = halves(stub, finish=4)
    assert "offline" not in first_half(process)
    loss(stub)
    start = time.monotonic()
    said, _ = process.communicate("\n", timeout=60)
    assert time.monotonic() - start < 30
    assert process.returncode == 0
    (file,) = files_of(tmp_path)
    assert "UpsertBucket" in stub.asked
    assert file.parent.name.startswith("run-")
    assert said.count(f"goes on offline; `{SYNC}` sends what is in {file.parent} later") == 1
    all_is_there(file)
    assert sent_later(file) == [0, 1, 2, 3, 4, 5]


def sent_later(file: Path) -> list[int]:
    """The metrics that a server gets from ``wandb sync``."""
    stub = Stub()
    command = [sys.executable, "-m", *SYNC.split(), str(file.parent)]
    subprocess.run(command, env={**os.environ, "WANDB_BASE_URL": stub.url}, check=True, timeout=60)
    stub.die()
    assert {name.split("-")[0] for name in stub.artifacts} >= {"split", "unet", "page"}
    return [row["x"] for row in stub.rows if "x" in row]


def test_a_server_that_never_answers_costs_seconds_and_no_metric(tmp_path, halves):
    stub = Stub()
    stub.hang()
    start = time.monotonic()
    process = halves(stub, init=2)
    said = first_half(process) + process.communicate("\n", timeout=60)[0]
    assert time.monotonic() - start < 30
    assert process.returncode == 0
    assert said.count("goes on offline") == 1
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    all_is_there(file)
    assert sent_later(file) == [0, 1, 2, 3, 4, 5]


def all_is_there(file: Path) -> None:
    """Every metric, the lineage, and the end."""
    assert [row["x"] for row in logged(file) if "x" in row] == [0, 1, 2, 3, 4, 5]
    found = [(name.split("-")[0], is_input) for name, kind, is_input in artifacts(file) if kind != "run_table"]
    assert found == [("split", True), ("unet", False), ("page", False)]
    assert [one.exit.exit_code for one in records(file) if one.WhichOneof("record_type") == "exit"] == [0]


def test_what_a_job_made_is_logged_once_and_after_a_kill_again(tmp_path):
    overrides = miniature("warp", "synthesis.count=4", "logger=wandb", "logger.offline=true", "stage=synthesize")
    run(tmp_path, *overrides)
    (samples,) = (tmp_path / "store" / "synthesize").iterdir()
    run(tmp_path, *overrides)
    assert len(files_of(samples)) == 1
    (samples / LOGGED).unlink()
    run(tmp_path, *overrides)
    written()
    assert {entry(path).run_id for path in files_of(samples)} == {samples.name}
    assert len(files_of(samples)) == 2


def test_switched_off_it_logs_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run(tmp_path, *miniature("none", *SEGMENTER))
    assert not list(tmp_path.rglob("*.wandb"))


def test_the_table_of_a_sweep(tmp_path):
    overrides = miniature("warp", "synthesis.count=4", "logger=wandb", "logger.offline=true", "name=swept")
    run(tmp_path, *overrides, job="sweep/first")
    sweep = tmp_path / "runs" / "sweep"
    log_sweep(sweep)
    written()
    (file,) = files_of(sweep)
    assert any(name.startswith("sweep/dsc") for name in logged(file)[0])
    (report,) = files_of(sweep / "first")
    assert {kind for _, kind, is_input in artifacts(report) if is_input} == {"split", "synthetic_set", "segmenter"}
    assert [kind for _, kind, is_input in artifacts(report) if not is_input][-1] == "report"
    (table,) = (sweep / "wandb").glob("*run-*/files/media/table/sweep/dsc*.json")
    shown = json.loads(table.read_text())
    assert shown["columns"] == list(COLUMNS)
    assert ["warp", 4, "unet"] in [row[:3] for row in shown["data"]]
    (samples,) = (tmp_path / "store" / "synthesize").iterdir()
    (picture,) = samples.glob("wandb/*run-*/files/media/images/synthesize/samples*.png")
    assert Image.open(picture).size == (4 * 64, 2 * 64)
    assert "picture" in [kind for path in files_of(samples) for _, kind, is_input in artifacts(path) if not is_input]
    pixels, drawn = np.asarray(Image.open(picture)), load_samples(samples, 4, 64)
    assert np.array_equal(pixels[:64, :64], drawn.images[0])
    assert np.array_equal(pixels[64:, -64:, 0], 255 * drawn.masks[3])


@pytest.mark.slow
def test_two_ranks_log_one_run_and_tell_their_job_of_a_lost_server(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run(tmp_path, *on(TWO_RANKS, miniature("none", *SEGMENTER)))
    (trained,) = (tmp_path / "store" / "train_segmenter").iterdir()
    assert len([row for path in files_of(trained) for row in logged(path) if LOSS in row]) == 2
    assert os.environ["WANDB_MODE"] == "offline"


def test_a_training_that_goes_on_continues_its_run(tmp_path):
    seconds_of_a_run(tmp_path, 7, offline=True)
    seconds_of_a_run(tmp_path, 7, offline=True)
    written()
    assert len(files_of(tmp_path)) == 2
    assert {entry(path).run_id for path in files_of(tmp_path)} == {"run-7"}
