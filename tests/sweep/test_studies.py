"""The studies at 128 pixels: every cell composes, an arm takes as many steps as its control, a small cell runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import SEGMENTER, UNET, compose, composed, run

from dermprompt.config.schema import PURPOSES
from dermprompt.cost import images_an_epoch
from dermprompt.results import load_results
from dermprompt.sweep.comparison import arm_tables, primary_of, records_of

STUDIES = ("fair_arms_128", "text", "masks", "dose", "curation")
TINY = ["data=sample", "arm.num_real=12", "data.split.fold=1", f"segmenter.{UNET}", *SEGMENTER, "image_size=128"]
TINY += ["segmenter.validate_every=1"]


def cells(study: str) -> list[list[str]]:
    """Every arm of a study, with the first of its numbers of real images."""
    params = composed(f"+experiment={study}", return_hydra_config=True).hydra.sweeper.params
    assert (params["segmenter.seed"], params["data.split.fold"]) == ("0,1,2,3,4", "0,1,2,3,4")
    names = [name.strip() for name in params["arm"].split(",")]
    first = str(params["arm.num_real"]).split(",")[0]
    return [[f"arm={name}", f"arm.num_real={first}"] for name in names]


@pytest.mark.parametrize("study", STUDIES)
def test_every_cell_composes_and_has_a_control_of_as_many_steps(study: str) -> None:
    configs = [compose(f"+experiment={study}", *cell, "data.root=/data") for cell in cells(study)]
    for config in configs:
        assert config.image_size == 128
        assert config.generator.name in ("none", "warp") or config.generator.max_steps == 0
    epochs = {config.arm.name: images_an_epoch(config, config.arm, config.synthesis.count) for config in configs}
    controls = {number for name, number in epochs.items() if name.startswith(PURPOSES["sharing"].control)}
    sampled = [config for config in configs if config.synthesis.count]
    assert sampled
    assert {epochs[config.arm.name] for config in sampled} <= controls
    assert all(c.arm.augmentation == "strong" for c in sampled)


def test_the_regime_is_named() -> None:
    primary = compose("+experiment=fair_arms_128", "data.root=/data").evaluation.primary
    assert (primary.ours, primary.purpose, primary.num_real) == ("controlnet_strong_1k", "sharing", [35, 70])


def test_small_cells_run_and_are_compared(tmp_path: Path) -> None:
    own = [
        "+experiment=fair_arms_128",
        "evaluation.primary.num_real=[12]",
        "evaluation.primary.ours=pix2pixhd_strong_1k",
    ]
    for arm, more in (
        ("s_strong_1k", ["arm.steps_of=4"]),
        ("pix2pixhd_strong_1k", ["synthesis.count=4", "synthesis.batch_size=4"]),
        ("warped_strong_1k", ["synthesis.count=4", "synthesis.batch_size=4"]),
    ):
        run(tmp_path, *own, f"arm={arm}", *TINY, *more, job=arm)
    jobs = [(path.parent, load_results(path)) for path in sorted((tmp_path / "runs").glob("*/results.json"))]
    closed, opened = arm_tables(records_of(jobs), primary_of(jobs))
    assert [(row.purpose, row.arm) for row in closed.purposes] == [("more", "warped_strong_1k")]
    assert [(row.purpose, row.arm) for row in opened.purposes] == [("sharing", "pix2pixhd_strong_1k")]
    assert [row.arm for row in opened.rows if row.primary] == ["pix2pixhd_strong_1k"]
