"""CONTRIBUTING's promise: a new kind of generator is a module, a schema class, a yaml and a line for each table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from miniature import compose, miniature, run

from dermprompt.config import schema
from dermprompt.pipeline import Pipeline
from dermprompt.pipeline_generators import GENERATORS
from dermprompt.store.artifacts import PlanningStore

# A colour inside of the mask and one outside, both learnt.
MODULE = """
from dataclasses import dataclass
import json, torch, lightning
from dermprompt.config.generators import Generator, Training
from dermprompt.generator.batches import ImageBatches
from dermprompt.generator.export import load_weights, save_weights
from dermprompt.stages.arrays import training_images
from dermprompt.stages.validate_generator import make_validation
from dermprompt.training.trainer import fit_on_images

@dataclass
class TwoColours(Training, Generator):
    is_trained = True
    opens = "two_colours.load"

class Painter(lightning.LightningModule):
    def __init__(self, learning_rate=0.0):
        super().__init__()
        self.colours, self.learning_rate, self.networks = torch.nn.Conv2d(1, 3, 1), learning_rate, ()
    def generate(self, masks, prompts, seeds):
        return self.colours(masks.to(self.device)).clamp(-1, 1).detach()
    sample = generate
    def ema_model(self):
        return self.colours
    def training_step(self, batch, batch_idx):
        loss = (self.colours(batch["masks"]) - batch["images"]).square().mean()
        self.log("generator/train/loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.learning_rate)

def train(settings, runtime, generator_set, cache, reference, folder):
    of, data = settings.generator, training_images(settings.held_out, generator_set, cache)
    torch.manual_seed(settings.seed)
    module, batches = Painter(of.learning_rate), ImageBatches(data, of.augmentation)
    more = runtime, generator_set, cache, reference, folder
    validation = make_validation(of.validation, settings.held_out, settings.seed, None, *more)
    fit_on_images(settings, runtime, module, batches, data.ids, of, "generator", folder, callbacks=(validation,))
    save_weights(module, folder / "generator.safetensors")
    (folder / "config.json").write_text(json.dumps({}))

def load(folder):
    return load_weights(Painter(), folder / "generator.safetensors")
"""
YAML = """
defaults: [/schema/generator/two_colours@_here_, _self_]
name: two_colours
init: null
validation: {num_images: 4, every: 2}
learning_rate: 0.1
batch_size: 4
max_steps: 4
ema_decay: 0.0
augmentation: none
"""


@pytest.fixture
def overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those of a miniature with the new kind."""
    (tmp_path / "two_colours.py").write_text(MODULE)
    (tmp_path / "conf" / "generator").mkdir(parents=True)
    (tmp_path / "conf" / "generator" / "two_colours.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(tmp_path)
    import two_colours

    monkeypatch.setitem(schema.KINDS["generator"], "two_colours", two_colours.TwoColours)
    monkeypatch.setitem(GENERATORS, "two_colours", lambda all: all.train_on_masks("two_colours.train", 1))
    yield [f"hydra.searchpath=[file://{tmp_path / 'conf'}]", *miniature("warp", "generator=two_colours")]
    del sys.modules["two_colours"]


def test_a_new_kind_of_generator_is_composed_planned_trained_drawn_from_and_exported(overrides, tmp_path):
    config = compose(*overrides, "synthesis.count=4")
    assert config.generator.is_trained
    plan = PlanningStore(tmp_path / "store")
    Pipeline(config, plan).evaluate()
    assert ("train_generator", "two_colours") in [(one.stage, one.name) for one in plan.plan]
    results = run(tmp_path, *overrides, "synthesis.count=4")
    assert results["image_quality"][0]["name"] == "two_colours"
    assert results["work"]["generators trained"] == 1
    assert (tmp_path / "runs" / "job" / "training" / "0000004.png").exists()
    run(tmp_path, *overrides, "synthesis.count=4", "stage=export", "export=generator")
    card = (tmp_path / "runs" / "job" / "generator" / "README.md").read_text()
    assert "from two_colours import load" in card


def test_its_settings_are_checked_by_those_that_all_trainings_share(overrides):
    with pytest.raises(ValueError, match=r"generator\.augmentation=flips.*did you mean flip"):
        compose(*overrides, "generator.augmentation=flips")
    with pytest.raises(ValueError, match=r"generator\.max_steps=0 with generator\.init=null"):
        compose(*overrides, "generator.max_steps=0")
