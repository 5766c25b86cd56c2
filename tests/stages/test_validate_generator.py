"""A generator is validated on images that neither it nor its reference segmenter trains on, and nothing of S."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import compose, miniature, run

from dermprompt.pipeline import Pipeline
from dermprompt.stages.arrays import held_out_rows, training_images
from dermprompt.store.artifacts import PlanningStore


def one(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.mark.parametrize("generator", ["controlnet", "pix2pixhd"])
def test_the_held_out_images_are_kept_out_of_training(tmp_path: Path, generator: str) -> None:
    overrides = miniature(generator, "generator.validation.every=2", "stage=train_generator")
    run(tmp_path, *overrides)
    trained = one(tmp_path, f"store/train_generator/{generator}-*")
    assert sorted(path.name for path in (trained / "samples").iterdir()) == ["0000002.png", "0000003.png"]
    curves = (trained / "curves.csv").read_text()
    assert "generator/val/agreement" in curves
    generator_set, cache = one(tmp_path, "store/prepare/known-open-*"), one(tmp_path, "store/prepare/pictures-64-*")
    held_out = Pipeline(compose(*overrides), PlanningStore(tmp_path)).held_out
    ids = [row["id"] for row in json.loads((generator_set / "known.json").read_text())]
    held = {ids[row] for row in held_out_rows(held_out, len(ids))}
    assert len(held) == len(ids) // 10
    assert set(training_images(held_out, generator_set, cache).ids) == set(ids) - held


def test_held_out_images_do_not_depend_on_the_sampler(tmp_path: Path) -> None:
    configs = (compose(*miniature("controlnet", f"generator.num_steps={n}")) for n in (4, 5))
    one_way, other = (Pipeline(config, PlanningStore(tmp_path)).held_out for config in configs)
    assert list(held_out_rows(one_way, 100)) == list(held_out_rows(other, 100))
    assert len(held_out_rows(one_way, 10_000)) == one_way.num_images
