"""The paper's Table 2, tiny: the command of the README on two ranks; slowly, with the paper's counts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND = "-m +experiment=table2 generator=controlnet,pix2pixhd trainer=ddp"
TINY = [
    "data=phantom",
    "data.num_images=40",
    "segmenter=unet",
    "masks=realistic",
    "generator/base=scratch",
    "scale=tiny",
]
TINY += ["trainer.accelerator=cpu", "trainer.precision=32-true", "evaluation.gallery=2"]
TINY += [f"hydra.searchpath=[file://{REPOSITORY}/tests/conf]"]


@pytest.mark.parametrize("counts", [(10, 30, 50), pytest.param((1000, 3000, 5000), marks=pytest.mark.slow)])
def test_table2_on_two_ranks(counts, tmp_path):
    paths = [f"paths.store={tmp_path}/store", f"paths.runs={tmp_path}/runs"]
    samples = [f"synthesis.count={','.join(map(str, counts))}", f"synthesis.batch_size={max(10, counts[0] // 10)}"]
    command = [sys.executable, "-m", "dermprompt", *COMMAND.split(), *samples, *TINY, *paths]
    ended = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    work = f"1 bases trained, 2 generators trained, {2 * counts[-1]} samples drawn, 7 segmenters trained"
    assert f"made by the sweep so far: {work}" in ended.stdout
    (sweep,) = (tmp_path / "runs").iterdir()
    cells = {}
    for path in sweep.glob("*/results.json"):
        known = json.loads(path.read_text())
        cells[known["generator"], known["count"]] = known["segmentation"][-1]["dice"]["mean"]
    assert set(cells) == {(name, count) for name in ("controlnet", "pix2pixhd") for count in counts}
    shown = rows((sweep / "report.md").read_text())
    for title, name in (("Pix2PixHD", "pix2pixhd"), ("ours (ControlNet) (scratch)", "controlnet")):
        assert [value for value, _ in shown[title]][1:] == [f"{cells[name, n]:.3f}" for n in counts]


def rows(report: str) -> dict[str, list[tuple[str, str]]]:
    """Table 2's rows by generator: the number and what follows it in each column."""
    table = report.split("## Table 2")[1].split("\n## ")[0]
    found = {}
    for line in table.splitlines():
        name, *columns = [cell.strip(" *") for cell in line.strip("|").split("|")]
        found.setdefault(name, [re.match(r"\**([\d.]+)(.*)", one).groups() for one in columns if one[:1].isdigit()])
    return found
