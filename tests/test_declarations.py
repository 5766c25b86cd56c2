"""What a stage can read is in its artifact's key: all settings by reflection, and nothing but them reaches a stage."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from miniature import compose, miniature

from dermprompt.config.schema import Config
from dermprompt.distributed.make import Maker
from dermprompt.pipeline import Pipeline
from dermprompt.store.artifacts import Declaration, PlanningStore

JOBS = {
    "controlnet": ["curation=agreement", "curation.folds=2"],
    "vae": ["generator/base/codec=vae", "prompts=balanced", "masks=transform", "curation=memorisation"],
    "pix2pixhd": ["masks=paper_code", "curation=random", "curation.folds=2", "curation.features=network"],
    "warp": ["curation=none"],
}


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> list[Declaration]:
    """What the jobs declare, each work once."""
    found: dict[str, Declaration] = {}
    declare = Maker.declare

    def noted(self: Maker, *arguments: Any, **named: Any) -> Declaration:
        one = declare(self, *arguments, **named)
        found.setdefault(one.work, one)
        return one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Maker, "declare", noted)
        for name, more in JOBS.items():
            generator = "controlnet" if name == "vae" else name
            pipeline = Pipeline(
                compose(*miniature(generator, "synthesis.count=8", *more)),
                PlanningStore(tmp_path_factory.mktemp("store")),
            )
            pipeline.prepare()
            pipeline.evaluate()
            _ = pipeline.curated, pipeline.duplicates, pipeline.classifier
    return list(found.values())


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All values below dataclasses, dicts and lists, with where they stand."""
    if dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            yield from leaves(getattr(value, one.name), (*place, one.name))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, (*place, key))
    else:
        yield place, value


def changed(value: Any, place: tuple[Any, ...], leaf: Any) -> Any:
    """The same with another leaf."""
    if not place:
        return leaf
    first, *rest = place
    if isinstance(value, dict):
        return {**value, first: changed(value[first], tuple(rest), leaf)}
    return dataclasses.replace(value, **{first: changed(getattr(value, first), tuple(rest), leaf)})


def test_any_setting_that_a_stage_can_read_changes_the_key(declared: list[Declaration]) -> None:
    assert len(declared) > 20
    for one in declared:
        for place, leaf in leaves(one.settings):
            other = dataclasses.replace(one, settings=changed(one.settings, place, [leaf, "another"]))
            assert other.recipe.key != one.recipe.key, (one.work, place)


def test_a_stage_gets_its_settings_and_the_folders_of_its_inputs(declared: list[Declaration]) -> None:
    for one in declared:
        work = pkgutil.resolve_name(one.work)
        first, second, *_ = inspect.signature(work).parameters
        assert (first, second) == ("settings", "runtime"), one.work
        assert Config not in typing.get_type_hints(work).values(), one.work
        assert isinstance(one.settings, typing.get_type_hints(work)["settings"]), one.work
        asked = set(inspect.signature(work).parameters) - {"settings", "runtime", "folder", "numbers"}
        assert set(one.inputs) <= asked, one.work


def test_a_stage_that_makes_no_batches_says_what_it_makes(declared: list[Declaration]) -> None:
    for one in declared:
        work = pkgutil.resolve_name(one.work)
        assert "numbers" in inspect.signature(work).parameters or work.makes, one.work


def test_the_seed_that_chooses_what_is_held_out_is_in_the_key(tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text("{}")
    for name in ("controlnet", "pix2pixhd"):
        trained = set()
        for seed in (0, 1):
            # The phantom is painted by the same seed; here it lies on the disk, as other data do.
            overrides = [one for one in miniature(name) if not one.startswith("data")]
            data = ["data=isic", f"data.root={tmp_path}", f"data.split.file={split}", f"data.split.seed={seed}"]
            pipeline = Pipeline(compose(*overrides, *data), PlanningStore(tmp_path))
            vars(pipeline)["_found"] = "no files", 0
            vars(pipeline)["indexed"] = vars(pipeline)["prepared"] = vars(pipeline)["generator_set"] = fixed(tmp_path)
            trained.add(pipeline.generator.path.name)
        assert len(trained) == 2


def fixed(folder: Path) -> Any:
    """One artifact for what both jobs have alike."""
    from dermprompt.store.artifacts import Artifact

    return Artifact(folder, "the same")
