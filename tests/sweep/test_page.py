"""A sweep from the command line: one page for all jobs, a failing job stops no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked import command
from miniature import miniature, on
from processes import processes_of

REPOSITORY = Path(__file__).parents[2]


def test_a_failing_job_stops_no_other_and_is_shown(tmp_path):
    paths = [f"paths.store={tmp_path}/store", f"paths.runs={tmp_path}/runs", "name=swept"]
    choices = ["data.num_images=4,40"]
    overrides = [one for one in miniature("none", "synthesis.count=0") if not one.startswith("data.num_images")]
    ended = command("-m", *overrides, *choices, *paths)
    assert ended.returncode == 1
    assert "at least 8" in ended.stderr
    assert "Traceback" not in ended.stderr
    (sweep,) = (tmp_path / "runs").glob("swept-sweep-*")
    assert len(list(sweep.glob("*/results.json"))) == 1
    assert len(list(sweep.glob("*/error.txt"))) == 1
    page = (sweep / "index.html").read_text()
    assert "at least 8" in page
    assert f"report of the sweep: {sweep}/index.html" in ended.stdout
    assert "made by the sweep so far: 0 bases trained, 0 generators trained" in ended.stdout

    again = command("-m", *overrides, *choices, *paths)
    assert again.returncode == 1
    assert list((tmp_path / "runs").glob("swept-sweep-*")) == [sweep]
    assert "train_segmenter" not in again.stdout


def test_jobs_of_two_processes_share_what_they_make(tmp_path):
    """The same, two at once: Hydra's workers are started anew, so this is a process of its own."""
    paths = [f"paths.store={tmp_path}/store", f"paths.runs={tmp_path}/runs", "name=swept"]
    overrides = [one for one in miniature("none", "synthesis.count=0") if not one.startswith("data.num_images")]
    choices = ["hydra/launcher=local", "stage=prepare", "data.num_images=4,40", "segmenter.seed=0,1"]
    swept = [sys.executable, "-m", "dermprompt", "-m", *overrides, *choices, *paths]
    ended = subprocess.run(swept, cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "at least 8" in ended.stderr
    assert ended.stdout.count("the sweep continues") == 2
    assert ended.stdout.count("── prepare: phantom") == 2, "each data set is painted once"
    assert len(list((tmp_path / "store" / "prepare").glob("coverage-*"))) == 1


# By default test_pipeline.py shows that devices change no name, and test_launch.py what a job says of its ranks.
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_jobs_of_several_devices_are_one_sweep(tmp_path):
    """Two ranks, then one, each also with a job whose loss becomes NaN."""
    paths = [f"paths.store={tmp_path}/store", f"paths.runs={tmp_path}/runs", "name=swept"]
    job = on(
        ["trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true"], miniature("none", "synthesis.count=0")
    )
    act, steep = "[LeakyReLU,{negative_slope:0.1}]", "[LeakyReLU,{negative_slope:1e30}]"
    choices = ["trainer.devices=2,1", f"+segmenter.network.act={act},{steep}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    swept = [sys.executable, "-m", "dermprompt", "-m", *job, *choices, *paths]
    ended = subprocess.run(swept, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert not processes_of(tmp_path)

    (sweep,) = (tmp_path / "runs").iterdir()
    # A job's folder is named by what is asked, and not by what it runs on.
    assert len(list(sweep.glob("*/results.json"))) == len(list(sweep.glob("*/error.txt"))) == 1
    assert "training on 2 devices failed: rank" in ended.stderr
    assert "lower its learning rate" in next(sweep.glob("*/error.txt")).read_text()
    assert ended.stdout.count("── train_segmenter") == 3
    assert ended.stderr.count("GLOBAL_RANK: 1, MEMBER: 2/2") == 2

    # Alone it makes the same: each rank had its seed and its settings.
    alone = [*job, "trainer.devices=2", f"+segmenter.network.act={act}", f"paths.store={tmp_path}/alone", paths[1]]
    run = [sys.executable, "-m", "dermprompt", *alone, "stage=train_segmenter"]
    subprocess.run(run, cwd=REPOSITORY, env=environment, check=True)
    (expected,) = (tmp_path / "alone" / "train_segmenter").glob("*/network.safetensors")
    ours = tmp_path / "store" / "train_segmenter" / expected.parent.name / expected.name
    assert ours.read_bytes() == expected.read_bytes()
