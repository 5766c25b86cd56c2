"""W&B: what a run holds, and that no server ends a job, costs it a metric, or keeps it long."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from miniature import TWO_RANKS, miniature, on, run
from monai.networks.nets import BasicUNet
from PIL import Image
from processes import processes_of
from wandb_stub import Stub

from dermprompt.files import write_json
from dermprompt.job.dashboard import COLUMNS, log_sweep
from dermprompt.stages.arrays import load_samples
from dermprompt.store.artifacts import RECIPE, Recipe
from dermprompt.training.wandb_run import LINES, SENDER, SENT, WandbRun
from dermprompt.training.wandb_send import Line, read, send

SEGMENTER = ["synthesis.count=0", "stage=train_segmenter", "logger=wandb", "segmenter.max_epochs=2"]
OFFLINE = "logger.offline=true"
LOSS = "segmenter/train/loss"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_RUN_ID"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A server that takes everything."""
    pytest.importorskip("wandb")
    started = Stub()
    monkeypatch.setenv("WANDB_BASE_URL", started.url)
    yield started
    started.die()


def lines(folder: Path, kind: str) -> list[Any]:
    return [value for name, value in read(folder / LINES) if name == kind]


def artifacts(folder: Path) -> list[tuple[str, str, bool]]:
    """Name, type, and whether the run uses it (otherwise it has made it)."""
    return [(one["name"], one["type"], one["use"]) for one in lines(folder, "artifact")]


def open_run(folder: Path, patience: float = 60, offline: bool = False) -> WandbRun:
    logger = SimpleNamespace(name="wandb", project="p", group="g", offline=offline)
    return WandbRun(logger, folder, "run", patience, name="n", job_type="j", config={})


def test_a_training_is_a_run_with_its_metrics_and_what_it_is_made_from(tmp_path):
    run(tmp_path, *miniature("none", *SEGMENTER, OFFLINE, "name=grouped"))
    (trained,) = (tmp_path / "store" / "train_segmenter").iterdir()
    (start,) = lines(trained, "start")
    assert (start["id"], start["group"], start["job_type"]) == (trained.name, "grouped", "train_segmenter")
    assert start["name"] == "none-0-s0-segmenter-unet-S"
    assert start["config"]["segmenter"]["max_epochs"] == 2
    assert [row["trainer/global_step"] for row in lines(trained, "log") if LOSS in row]
    assert lines(trained, "end") == [0]
    used = [(name.split("-")[0], kind) for name, kind, is_input in artifacts(trained) if is_input]
    assert used == [("pictures", "prepare"), ("split", "split")]
    assert (trained.name, "segmenter", False) in artifacts(trained)
    (split,) = (tmp_path / "store" / "prepare").glob("split-*")
    made = [one for one in artifacts(split) if not one[2]]
    assert {one for one in artifacts(trained) if one[1] == "split"} & {(name, kind, True) for name, kind, _ in made}


def test_an_exception_ends_the_run_as_failed(tmp_path, monkeypatch):
    forward = BasicUNet.forward
    monkeypatch.setattr(BasicUNet, "forward", lambda network, images: forward(network, images) * np.nan)
    with pytest.raises(ValueError, match="diverged"):
        run(tmp_path, *miniature("none", *SEGMENTER, OFFLINE))
    (trained,) = (tmp_path / "store" / "train_segmenter").iterdir()
    assert lines(trained, "end") == [1]


def test_a_training_that_goes_on_continues_its_run(tmp_path):
    for _ in range(2):
        open_run(tmp_path, offline=True).close(failed=False)
    assert [one["id"] for one in lines(tmp_path, "start")] == ["run", "run"]


def store_of_two(store: Path) -> Path:
    """A store with a split and a segmenter that is made from it; the segmenter's folder."""
    split = Recipe("prepare", "split-p", 1, {}, ())
    for recipe in (split, trained := Recipe("train_segmenter", "unet", 1, {}, (split.key,))):
        (store / recipe.folder).mkdir(parents=True)
        write_json(store / recipe.folder / RECIPE, asdict(recipe))
    return store / trained.folder


def fill(opened: WandbRun, trained: Path) -> None:
    """All kinds of lines."""
    opened.inputs(trained)
    for x in range(6):
        opened.log({"x": x})
    opened.output(trained)
    opened.table("table", ["x"], [[0]])
    opened.picture("picture", np.zeros((8, 8, 3), np.uint8))
    opened.summary({"dsc": 0.5})
    (opened.folder / "page.html").write_text("page")
    opened.page("page", [opened.folder / "page.html"], [])


def has_all(stub: Stub) -> bool:
    """The metrics once and in order, and the lineage."""
    made_by = {name.split("-")[0]: by for name, by in stub.artifacts.items()}
    lineage = made_by == {"split": None, "unet": "run", "run": "run", "page": "run"}
    return lineage and "UseArtifact" in stub.asked and [row["x"] for row in stub.rows if "x" in row] == [*range(6)]


def test_a_server_gets_the_metrics_and_the_lineage(tmp_path, stub, capsys):
    opened = open_run(tmp_path)
    fill(opened, store_of_two(tmp_path))
    opened.close(failed=False)
    assert (tmp_path / SENT).exists(), (tmp_path / "wandb.log").read_text()
    assert has_all(stub)
    assert not capsys.readouterr().out


def null(stub: Stub) -> None:
    stub.refuses = 200, b'{"data": null}'


def too_many(stub: Stub) -> None:
    stub.refuses = 429, b"{}"


@pytest.mark.parametrize("begun", [True, False], ids=["in_the_middle", "from_the_start"])
@pytest.mark.parametrize("fault", [Stub.die, Stub.hang, null, too_many], ids=["dies", "hangs", "null", "429"])
def test_a_server_at_fault_costs_seconds_and_no_metric(tmp_path, stub, capsys, monkeypatch, fault, begun):
    if not begun:
        fault(stub)
    opened = open_run(tmp_path, patience=3)
    while begun and "UpsertBucket" not in stub.asked:
        time.sleep(0.05)
    fault(stub)
    start = time.monotonic()
    fill(opened, store_of_two(tmp_path))
    opened.close(failed=False)
    assert time.monotonic() - start < 8
    assert not (tmp_path / SENT).exists()
    assert os.environ["WANDB_MODE"] == "offline"
    assert f"`python -m {SENDER} {tmp_path}` sends this one later" in capsys.readouterr().out
    assert open_run(tmp_path)._sender is None, "the next run does not wait again"


@pytest.mark.parametrize("fault", [Stub.hang, too_many], ids=["hangs", "429"])
def test_a_server_that_stalls_at_the_end_costs_seconds_and_no_metric(tmp_path, stub, fault):
    opened = open_run(tmp_path, patience=3)
    fill(opened, store_of_two(tmp_path))
    deadline = time.monotonic() + 60
    while len([row for row in stub.rows if "x" in row]) < 6:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    fault(stub)
    start = time.monotonic()
    opened.close(failed=False)
    assert time.monotonic() - start < 8
    assert not (tmp_path / SENT).exists(), "it is sent again, for nobody knows what arrived"


def test_what_was_not_sent_is_sent_later_once(tmp_path, stub):
    opened = open_run(tmp_path, offline=True)
    fill(opened, store_of_two(tmp_path))
    opened.close(failed=False)
    command = [sys.executable, "-m", SENDER, str(tmp_path)]
    for said in (f"sent: {tmp_path}\n", ""):
        ended = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True)
        assert ended.stdout == said
    assert has_all(stub)


def test_what_the_server_has_is_not_sent_again(tmp_path, monkeypatch):
    sent: list[Any] = []
    theirs = SimpleNamespace(
        step=3, define_metric=lambda *_, **__: None, finish=lambda exit_code: sent.append(exit_code)
    )
    theirs.log = lambda values, step: sent.append((step, values))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: theirs))
    written: list[Line] = [("start", {}), *(("log", {"x": x}) for x in range(3)), ("end", 1)]
    send(tmp_path, iter([*written, ("start", {}), ("log", {"x": 3}), ("end", 0)]))
    assert sent == [(3, {"x": 2}), (6, {"x": 3}), 0]


def test_a_closed_port_ends_no_training(tmp_path, capsys):
    run(tmp_path, *miniature("none", *SEGMENTER))
    (trained,) = (tmp_path / "store" / "train_segmenter").iterdir()
    assert [row for row in lines(trained, "log") if LOSS in row]
    assert "sends this one later" in capsys.readouterr().out


JOB = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from dermprompt.training.wandb_run import WandbRun
logger = SimpleNamespace(name="wandb", project="p", group="g", offline=False)
WandbRun(logger, Path(sys.argv[1]), "run", 60, name="n", job_type="j", config={}).log({"x": 1})
print("open", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_sender_outlives_a_killed_job(tmp_path, stub):
    stub.hang()
    job = subprocess.Popen([sys.executable, "-c", JOB, str(tmp_path)], cwd=Path(__file__).parents[2], stdout=-1)
    assert job.stdout.readline() == b"open\n"
    time.sleep(2)
    job.kill()
    job.wait()
    deadline = time.monotonic() + 20
    while processes_of(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_a_job_made_is_logged_once_and_after_a_kill_again(tmp_path):
    overrides = miniature("warp", "synthesis.count=4", "logger=wandb", OFFLINE, "stage=synthesize")
    run(tmp_path, *overrides)
    (samples,) = (tmp_path / "store" / "synthesize").iterdir()
    run(tmp_path, *overrides)
    assert len(lines(samples, "start")) == 1
    whole = (samples / LINES).read_text().splitlines(keepends=True)
    (samples / LINES).write_text("".join(whole[:-1]))
    run(tmp_path, *overrides)
    assert {one["id"] for one in lines(samples, "start")} == {samples.name}
    assert (len(lines(samples, "start")), lines(samples, "end")) == (2, [0])


def test_switched_off_it_logs_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run(tmp_path, *miniature("none", *SEGMENTER))
    assert not list(tmp_path.rglob(LINES))


def test_the_table_of_a_sweep(tmp_path):
    overrides = miniature("warp", "synthesis.count=4", "logger=wandb", OFFLINE, "name=swept")
    run(tmp_path, *overrides, job="sweep/first")
    sweep = tmp_path / "runs" / "sweep"
    log_sweep(sweep)
    ((name, columns, rows),) = lines(sweep, "table")
    assert (name, columns) == ("sweep/dsc", list(COLUMNS))
    assert ["warp", 4, "unet"] in [row[:3] for row in rows]
    report = artifacts(sweep / "first")
    assert {kind for _, kind, is_input in report if is_input} == {"split", "synthetic_set", "segmenter"}
    assert [kind for _, kind, is_input in report if not is_input][-1] == "report"
    (samples,) = (tmp_path / "store" / "synthesize").iterdir()
    ((_, picture),) = lines(samples, "image")
    assert "picture" in [kind for _, kind, is_input in artifacts(samples) if not is_input]
    pixels, drawn = np.asarray(Image.open(samples / picture)), load_samples(samples, 4, 64)
    assert pixels.shape == (2 * 64, 4 * 64, 3)
    assert np.array_equal(pixels[:64, :64], drawn.images[0])
    assert np.array_equal(pixels[64:, -64:, 0], 255 * drawn.masks[3])


@pytest.mark.slow
def test_two_ranks_log_one_run_and_tell_their_job_of_a_lost_server(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run(tmp_path, *on(TWO_RANKS, miniature("none", *SEGMENTER)))
    (trained,) = (tmp_path / "store" / "train_segmenter").iterdir()
    assert len(lines(trained, "start")) == 1
    assert [row for row in lines(trained, "log") if LOSS in row]
    assert os.environ["WANDB_MODE"] == "offline"
