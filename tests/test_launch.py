"""A training on two processes: one job, one folder, every rank its share."""

from __future__ import annotations

import pytest
from miniature import compose, miniature, run

from dermprompt import config as configuration
from dermprompt.launch import num_processes
from dermprompt.store import Unfinished

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
