"""An artifact is complete or absent, made once, and nothing finished is lost."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from small_disk import small_disk

from dermprompt.files import write_json
from dermprompt.store.artifacts import (
    SINCE,
    WAS,
    Declaration,
    PlanningStore,
    Recipe,
    Store,
    batch_record,
    missing_batches,
    recorded,
)

RECIPE = Recipe("train", "net", 1, {"width": 3}, ("abc",))


def build(folder: Path) -> None:
    (folder / "weights").write_text("42")


def test_an_artifact_is_made_once(tmp_path):
    store = Store(tmp_path)
    first = store.make(RECIPE, build)
    again = Store(tmp_path)
    assert again.make(RECIPE, lambda folder: pytest.fail("made twice")) == first
    assert (first.path / "weights").read_text() == "42"
    assert (store.made, again.made) == ({"train": 1}, {})


@pytest.mark.parametrize(
    "other",
    [
        Recipe("train", "net", 2, {"width": 3}, ("abc",)),
        Recipe("train", "net", 1, {"width": 4}, ("abc",)),
        Recipe("train", "net", 1, {"width": 3}, ("abd",)),
        Recipe("draw", "net", 1, {"width": 3}, ("abc",)),
    ],
)
def test_whatever_determines_an_artifact_changes_its_key(other):
    assert other.key != RECIPE.key
    assert Recipe("train", "other words", 1, {"width": 3}, ("abc",)).key == RECIPE.key


def test_a_failed_artifact_is_absent_and_goes_on_in_its_folder(tmp_path):
    store = Store(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "last.ckpt").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        store.make(RECIPE, fail)
    assert not (tmp_path / RECIPE.folder).exists()
    seen = []
    store.make(RECIPE, lambda folder: seen.append((folder / "last.ckpt").read_text()))
    assert seen == ["half"]


def test_a_digest_of_the_content_stands_for_the_artifact(tmp_path):
    assert Store(tmp_path).make(RECIPE, lambda folder: "content").digest == "content"
    assert Store(tmp_path).make(RECIPE, build).digest == "content"


def _slow(root: Path) -> None:
    def work(folder: Path) -> None:
        with open(folder / "log", "a") as file:
            file.write("built\n")
        time.sleep(0.3)

    Store(root).make(RECIPE, work)


def test_of_two_processes_one_builds(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_slow, args=(tmp_path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert (tmp_path / RECIPE.folder / "log").read_text() == "built\n"


def draw(folder: Path, numbers: list[int]) -> int:
    for number in numbers:
        write_json(batch_record(folder, number), [number])
    return len(numbers)


def test_a_growing_set_draws_what_is_missing(tmp_path):
    store = Store(tmp_path)
    folder = store.grow(RECIPE, 2, draw).path
    batch_record(folder, 0).unlink()
    asked = []
    store.grow(RECIPE, 4, lambda folder, numbers: asked.extend(numbers) or draw(folder, numbers))
    assert asked == [0, 2, 3]
    assert missing_batches(folder, 4) == []
    assert store.made == {"train": 5}
    store.grow(RECIPE, 3, lambda folder, numbers: pytest.fail("drawn twice"))


def test_a_full_disk_is_said_and_costs_nothing_finished(tmp_path):
    store = Store(tmp_path)
    finished = store.make(Recipe("prepare", "index", 1, {}), build)

    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"the disk is full: \d+ MiB are free under .*paths.store"):
        store.make(RECIPE, fill)
    with pytest.raises(OSError, match=r"the disk is full: \d+ MiB are free under .*paths.store"):
        store.grow(Recipe("draw", "set", 1, {}), 1, draw, finish=fill)
    assert (finished.path / "weights").read_text() == "42"


def test_a_really_full_disk(tmp_path):
    with small_disk(tmp_path, 1 << 20):
        store = Store(tmp_path)
        finished = store.make(Recipe("prepare", "index", 1, {}), build)
        with pytest.raises(OSError, match="the disk is full"):
            store.make(RECIPE, lambda folder: (folder / "big").write_bytes(bytes(2 << 20)) and None)
        assert json.loads((finished.path / "artifact.json").read_text())["stage"] == "prepare"
        assert not (tmp_path / RECIPE.folder).exists()
        with pytest.raises(OSError, match="the disk is full"):  # also for the lock
            store.make(RECIPE, build)
        (tmp_path / f"{RECIPE.folder}.partial" / "big").unlink()
        assert (store.make(RECIPE, build).path / "weights").read_text() == "42"


def test_a_plan_builds_nothing_and_learns_from_earlier_runs(tmp_path):
    Store(tmp_path).make(RECIPE, build, cost=10.0)
    record = tmp_path / RECIPE.folder / "artifact.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "seconds": 20.0}))
    plan = PlanningStore(tmp_path)
    plan.make(RECIPE, lambda folder: pytest.fail("built"))
    plan.make(Recipe("train", "wider", 1, {"width": 8}), lambda folder: pytest.fail("built"), cost=30.0)
    plan.grow(Recipe("draw", "set", 1, {}), 5, lambda folder, numbers: pytest.fail("drawn"), cost=2.0)
    assert [(one.exists, one.seconds) for one in plan.plan] == [(True, 0.0), (False, 60.0), (False, 10.0)]


def test_what_describes_a_set_is_made_up_for(tmp_path):
    """Also where all batches were there when the process ended."""
    store, described = Store(tmp_path, say=lambda _: None), []

    def killed(folder):
        raise KeyboardInterrupt

    recipe = Recipe("draw", "set", 1, {})
    with pytest.raises(KeyboardInterrupt):
        store.grow(recipe, 3, draw, finish=killed)
    for number in (3, 3, 2, 5):
        store.grow(recipe, number, draw, finish=described.append)
    assert len(described) == 2


@dataclass(frozen=True)
class Inner:
    guidance_scale: float = field(metadata={WAS: "guidance"})
    guidance_end: float = field(metadata={SINCE: 1.0}, default=1.0)


@dataclass(frozen=True)
class Outer:
    inner: list[Inner]
    ema_decay: float = field(metadata={WAS: "ema"}, default=0.5)


def test_a_recipe_knows_settings_as_they_were_before_they_were_renamed_or_added():
    assert recorded(Outer([Inner(1.0)])) == {"inner": [{"guidance": 1.0}], "ema": 0.5}
    assert recorded(Inner(1.0, 0.5)) == {"guidance": 1.0, "guidance_end": 0.5}
    for settings, ema in ((Outer([]), {}), (Outer([], 0.9), {"ema": 0.9})):
        assert Declaration("a.b", "stage", "name", 1, settings).recipe.settings == {"inner": [], **ema}
