"""A sweep from the command line: one page for all jobs, a failing job stops no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from miniature import miniature

REPOSITORY = Path(__file__).parents[1]


def test_a_failing_job_stops_no_other_and_is_shown(tmp_path):
    paths = [f"paths.store={tmp_path}/store", f"paths.runs={tmp_path}/runs", "name=swept"]
    choices = ["data.num_images=4,40", "seed=0,1"]
    overrides = [one for one in miniature("none", "synthesis.count=0") if not one.startswith("data.num_images")]
    command = [sys.executable, "-m", "dermprompt", "-m", *overrides, *choices, *paths]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "at least 8" in ended.stderr
    assert "Traceback" not in ended.stderr
    (sweep,) = (tmp_path / "runs").glob("swept-sweep-*")
    assert len(list(sweep.glob("*/results.json"))) == 2
    assert len(list(sweep.glob("*/error.txt"))) == 2
    page = (sweep / "index.html").read_text()
    assert "at least 8" in page
    assert f"report of the sweep: {sweep}/index.html" in ended.stdout
    assert "made by the sweep so far: 0 bases trained, 0 generators trained" in ended.stdout

    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert list((tmp_path / "runs").glob("swept-sweep-*")) == [sweep]
    assert "train_segmenter" not in again.stdout
