"""A training on two processes: one job, one folder, every rank its share."""

from __future__ import annotations

import json
import shutil

import pytest
from miniature import compose, miniature, run

from dermprompt import config as configuration
from dermprompt.launch import num_processes
from dermprompt.pipeline import Pipeline
from dermprompt.store import Store, Unfinished

TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def two_processes(name: str, *overrides: str) -> list[str]:
    return [one for one in miniature(name, *overrides) if one != "trainer=cpu"] + TWO


@pytest.mark.parametrize(("devices", "processes"), [(1, 1), (2, 2), ([0, 3], 2), ("2", 2)])
def test_devices(devices, processes):
    assert num_processes({"devices": devices}) == processes


def test_a_configuration_survives_its_file(tmp_path):
    for name in ("none", "controlnet", "pix2pixhd"):
        config = compose(*miniature(name, "synthesis.count=0"))
        configuration.dump(config, tmp_path / "config.yaml")
        assert configuration.thaw(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("name", ["controlnet", "pix2pixhd"])
def test_two_ranks_train_one_generator(name, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run(tmp_path, *two_processes(name, "stage=train_generator"))
    (trained,) = (tmp_path / "store" / "train_generator").iterdir()
    assert (trained / "artifact.json").exists()
    assert (trained / "last.ckpt").exists()


def test_two_ranks_stop_together_and_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    overrides = two_processes("pix2pixhd", "generator.max_steps=9", "stage=train_generator")
    with pytest.raises(Unfinished) as stopped:
        run(tmp_path, *overrides, "trainer.max_time=00:00:00:00")
    assert 0 < stopped.value.step < stopped.value.num_steps == 9
    run(tmp_path, *overrides)
    (trained,) = (tmp_path / "store" / "train_generator").iterdir()
    assert (trained / "artifact.json").exists()


def test_a_failing_rank_fails_the_job(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    overrides = two_processes("none", "synthesis.count=0", "stage=train_segmenter", "trainer.precision=nonsense")
    with pytest.raises(RuntimeError, match="a training on 2 devices ended with code"):
        run(tmp_path, *overrides)
    assert not list((tmp_path / "store" / "train_segmenter").glob("*/artifact.json"))


def test_two_processes_draw_what_one_does(tmp_path, monkeypatch):
    """Nothing that tells them apart reaches a sample's bytes, and one set grows from both."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    overrides = ["pix2pixhd", "synthesis.count=24", "stage=train_generator", "synthesis.batch_size=2"]
    run(tmp_path, *miniature(*overrides))
    sets = []
    for name, made_by in (("one", miniature(*overrides)), ("two", two_processes(*overrides))):
        shutil.copytree(tmp_path / "store", tmp_path / name)
        sets.append(Pipeline(compose(*made_by), Store(tmp_path / name)).samples.path)
    one, two = ({path.name: path.read_bytes() for path in folder.rglob("SYN_*")} for folder in sets)
    assert len(one) == 48
    assert one == two
    assert len(list(sets[1].glob("batches/*.json"))) == 12
    assert json.loads((sets[1] / "card.json").read_text())["samples"] == 24
