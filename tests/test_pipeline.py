"""What determines an artifact is in its recipe, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import compose, miniature

from dermprompt.pipeline import Pipeline
from dermprompt.store.artifacts import PlanningStore


def plan(folder: Path, *overrides: str) -> dict[str, str]:
    """The planned folders by stage and name, without building anything."""
    config = compose(*miniature("controlnet", "synthesis.count=8", *overrides))
    pipeline = Pipeline(config, PlanningStore(folder))
    assert pipeline.base is not None
    return {
        "base": pipeline.base.path.name,
        "generator": pipeline.generator.path.name,
        "masks": pipeline.masks.path.name,
        "samples": pipeline.samples.path.name,
        "S only": pipeline.segmenter(pipeline.arms[0]).path.name,
        "S + N": pipeline.segmenter(pipeline.arms[1]).path.name,
    }


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("synthesis.count=4", {"S + N"}),
        ("stage=synthesize", set()),
        ("name=other", set()),
        ("logger=wandb", set()),
        ("trainer.devices=2", set()),
        ("generator.guidance_scale=3.5", {"samples", "S + N"}),
        ("generator.conditioning_scale=1.1", {"samples", "S + N"}),
        ("synthesis.precision=bf16-true", {"samples", "S + N"}),
        ("synthesis.compile=true", {"samples", "S + N"}),
        ("prompts.sampler=balanced", {"samples", "S + N"}),
        ("masks.jitter=0.2", {"masks", "samples", "S + N"}),
        ("generator.learning_rate=1e-3", {"generator", "samples", "S + N"}),
        ("generator.base.learning_rate=1e-3", {"base", "generator", "samples", "S + N"}),
        ("generator.base.codec.channels=8", {"base", "generator", "samples", "S + N"}),
        ("segmenter.learning_rate=1e-2", {"S only", "S + N"}),
        ("trainer.precision=bf16-mixed", {"base", "generator", "samples", "S only", "S + N"}),
        ("seed=1", {"base", "generator", "masks", "samples", "S only", "S + N"}),
        ("data.split.seed=1", {"base", "generator", "masks", "samples", "S only", "S + N"}),
    ],
)
def test_a_setting_changes_what_it_determines(tmp_path, override, changed):
    before, after = plan(tmp_path), plan(tmp_path, override)
    assert {name for name in before if before[name].split("-")[-1] != after[name].split("-")[-1]} == changed


def test_a_codec_is_shared_by_seeds_and_bases_and_its_weights_are_its_content(tmp_path):
    def codec(*overrides: str) -> str:
        config = compose(*miniature("controlnet", *overrides))
        return Pipeline(config, PlanningStore(tmp_path)).codec.digest

    assert codec() == codec("seed=1", "generator.base.max_steps=9", "trainer.precision=bf16-mixed")
    assert codec() != codec("image_size=128")
    vae = "generator/base/codec=vae"
    assert len({codec(vae), codec(vae, "seed=1"), codec(vae, "trainer.precision=bf16-mixed")}) == 3
    weights, digests = tmp_path / "tiny" / "x_encoder.pth", set()
    weights.parent.mkdir()
    for content in ("one", "other"):
        weights.write_text(content)
        digests.add(codec("generator/base/codec=tiny", f"generator.base.codec.path={weights.parent}"))
    assert len(digests) == 2


def test_a_base_that_changes_in_its_folder_is_another(tmp_path):
    overrides = [one for one in miniature("controlnet") if not one.startswith(("generator.base", "generator/base"))]
    (tmp_path / "sd" / "unet").mkdir(parents=True)
    weights = tmp_path / "sd" / "unet" / "weights"
    digests = []
    for content in ("one", "other"):
        weights.write_text(content)
        config = compose(*overrides, f"generator.base.path={tmp_path}/sd")
        base = Pipeline(config, PlanningStore(tmp_path)).base
        assert base is not None
        digests.append(base.digest)
    assert len(set(digests)) == 2
