"""Only what a stage needs is asked for: no network before a base is opened, no check of what nothing will use."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from miniature import TWO_RANKS, miniature, on, run

from dermprompt.config.schema import STAGES
from dermprompt.generator import source

# Stages that stop before a base is opened, which has not to be trained; the others of generator=controlnet ask for it.
WITHOUT_A_BASE = ("plan", "prepare", "find_duplicates", "train_base", "draw_masks")
WITH_A_BASE = ("train_generator", "synthesize", "train_segmenter", "evaluate", "report", "export")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection is an error, and a model that is asked for is noted in one."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(source, "_download", lambda path: (_ for _ in ()).throw(ConnectionError(f"asked for {path}")))


def job(*overrides: str) -> list[str]:
    """The default base, which is a hub's id."""
    scratch = ("generator.base", "generator/base")
    return [one for one in miniature("controlnet", "synthesis.count=4", *overrides) if not one.startswith(scratch)]


def test_every_stage_is_named_here():
    assert {*WITHOUT_A_BASE, *WITH_A_BASE, "train_codec"} == set(STAGES)


def test_stages_that_need_no_base_run_without_a_network(tmp_path: Path) -> None:
    for stage in WITHOUT_A_BASE:
        run(tmp_path, *job(f"stage={stage}"))
    assert list((tmp_path / "store" / "draw_masks").glob("*/batches/*.json"))


@pytest.mark.parametrize("stage", WITH_A_BASE)
def test_a_base_is_asked_for_before_any_work(stage: str, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="asked for stable-diffusion"):
        run(tmp_path, *job(f"stage={stage}"))
    assert not (tmp_path / "store").exists()


def test_other_generators_never_ask_for_a_base(tmp_path: Path) -> None:
    overrides = miniature("warp", "synthesis.count=4")
    for stage in ("train_segmenter", "evaluate", "export", "report"):
        run(tmp_path, *overrides, f"stage={stage}")
    assert list((tmp_path / "store" / "synthesize").glob("warp-*"))
    assert not (tmp_path / "store" / "train_base").exists()


def test_what_no_work_needs_is_not_checked(tmp_path: Path) -> None:
    missing = ["generator.perceptual=vgg19", f"generator.perceptual_weights={tmp_path}/none.pth"]
    run(tmp_path, *miniature("pix2pixhd", "stage=prepare", *missing))
    run(tmp_path, *on(TWO_RANKS, miniature("pix2pixhd", "stage=prepare", "segmenter.batch_size=3")))
    with pytest.raises(ValueError, match=r"none\.pth: no such file"):
        run(tmp_path, *miniature("pix2pixhd", "stage=train_generator", *missing))
    with pytest.raises(ValueError, match=r"segmenter\.batch_size=3: a multiple of the 2 devices"):
        run(
            tmp_path,
            *on(TWO_RANKS, miniature("none", "synthesis.count=0", "stage=train_segmenter", "segmenter.batch_size=3")),
        )
