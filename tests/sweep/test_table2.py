"""The paper's Table 2, tiny: the command of the README; with the paper's counts, and on two ranks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from forked import Ended, command, command_on_forked_ranks

REPOSITORY = Path(__file__).parents[2]
COMMAND = "-m +experiment=table2 generator=controlnet,pix2pixhd"
TINY = [
    "data=phantom",
    "data.num_images=40",
    "segmenter=unet",
    "masks=realistic",
    "generator/base=scratch",
    "generator/base/codec=pca",
    "scale=tiny",
]
TINY += ["evaluation.gallery=2"]
TINY += [f"hydra.searchpath=[file://{REPOSITORY}/tests/conf]"]


def on_two_ranks(*arguments: str) -> Ended:
    return command_on_forked_ranks(*arguments, "trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true")


def on_one(*arguments: str) -> Ended:
    return command(*arguments, "trainer=cpu")


SIZES = [
    pytest.param(on_one, (4, 8), id="tiny"),
    pytest.param(on_one, (1000, 3000, 5000), id="the paper's counts", marks=pytest.mark.paper),
    pytest.param(on_two_ranks, (12,), id="two ranks", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("call", "counts"), SIZES)
def test_table2(call, counts, tmp_path):
    paths = [f"paths.store={tmp_path}/store", f"paths.runs={tmp_path}/runs"]
    samples = [f"synthesis.count={','.join(map(str, counts))}", f"synthesis.batch_size={max(4, counts[0] // 10)}"]
    ended = call(*COMMAND.split(), *samples, *TINY, *paths)
    assert ended.returncode == 0, ended.stderr[-3000:]
    work = f"1 bases trained, 2 generators trained, {2 * counts[-1]} samples drawn"
    assert f"made by the sweep so far: {work}, {1 + 2 * len(counts)} segmenters trained" in ended.stdout
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
