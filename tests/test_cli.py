"""A user's mistakes end in one clear line, before any work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from forked import command
from miniature import CONF, TWO_RANKS, miniature, on, run

from dermprompt.data.datasets.phantom import write_phantom

REPOSITORY = Path(__file__).parents[1]
IMAGES, MASKS = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["synthesis.cuont=3"], ["cuont", "did you mean count"]),
        (["synthesis.count=-1"], ["synthesis.count=-1", "at least 0"]),
        (["stage=trian_generator"], ["stage=trian_generator", "did you mean train_generator"]),
        (["generator=pix2pix"], ["pix2pix", "pix2pixhd"]),
        (["+experiment=s_only", "synthesis.count=5"], ["synthesis.count=5", "generator=none"]),
        (["generator=pix2pixhd", "stage=train_base"], ["train_base", "pix2pixhd"]),
        (["image_size=70"], ["image_size=70", "multiple of 16"]),
        (["scale=box", "generator/base=scratch"], ["generator.init=box", "generator/base=box"]),
        (["data.root=/nowhere", "data=folder"], ["error: data.root=/nowhere: no such folder"]),
        (["stage=plan", "segmenter.predictions=/nowhere"], ["segmenter.predictions=/nowhere: no such folder"]),
        (["synthesis.count=8,-5", "-m"], ["synthesis.count=-5", "at least 0"]),
        (["trainer.devicse=3"], ["trainer.devicse"]),
        ([], ["data.root"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_on_the_command_line(overrides, words, tmp_path):
    data = [] if not overrides else ["data=phantom"]
    ended = command(*data, *overrides, f"paths.store={tmp_path}/store", f"hydra.run.dir={tmp_path}/run")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "Error executing job" not in ended.stderr, "Hydra prints all overrides there"
    for word in words:
        assert word in ended.stderr, ended.stderr
    assert not (tmp_path / "store").exists()


def test_a_misspelt_key_in_an_experiment_file(tmp_path):
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "experiment" / "mine.yaml").write_text("# @package _global_\nsegmenter:\n  max_epoch: 3\n")
    ended = command("--config-dir", str(conf), "+experiment=mine", "data=phantom", f"hydra.run.dir={tmp_path}/run")
    assert ended.returncode == 1
    assert "max_epoch" in ended.stderr
    assert "did you mean max_epochs" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_target_outside_the_allow_list(tmp_path):
    overrides = miniature("none", "synthesis.count=0", "segmenter.network._target_=os.system")
    with pytest.raises(ValueError, match=r"segmenter\.network\._target_=os\.system: not allowed"):
        run(tmp_path, *overrides)


@pytest.fixture
def isic(tmp_path):
    root = tmp_path / "isic"
    write_phantom(root, 12, 64, 0)
    return root


def spoil(root: Path, fault: str) -> None:
    image, mask = root / IMAGES / "ISIC_0000003.jpg", root / MASKS / "ISIC_0000003_segmentation.png"
    if fault == "no folder":
        shutil.rmtree(root / MASKS)
    elif fault == "no mask":
        mask.unlink()
    elif fault == "other size":
        cv2.imwrite(str(mask), np.full((32, 64), 255, np.uint8))
    elif fault == "other values":
        cv2.imwrite(str(mask), np.full((64, 64), 128, np.uint8))
    elif fault == "unreadable":
        image.write_bytes(image.read_bytes()[:300])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no folder", [MASKS, "isic"]),
        ("no mask", ["no_mask", "ISIC_0000003.jpg"]),
        ("other size", ["size_mismatch", "ISIC_0000003_segmentation.png", "32 × 64"]),
        ("other values", ["grey_mask", "ISIC_0000003_segmentation.png", "128"]),
        ("unreadable", ["unreadable", "ISIC_0000003.jpg"]),
    ],
)
def test_bad_data_is_named_before_any_training(isic, tmp_path, fault, words):
    spoil(isic, fault)
    overrides = miniature("none", "synthesis.count=0", "data=isic", f"data.root={isic}")
    with pytest.raises(ValueError, match="ISIC") as raised:
        run(tmp_path, *[one for one in overrides if one not in ("data=phantom", "data.num_images=40")])
    for word in words:
        assert word in str(raised.value)
    assert not list((tmp_path / "store").glob("train_*"))


def test_a_base_that_was_never_trained(tmp_path):
    overrides = miniature("controlnet", "synthesis.count=4")
    overrides = [one for one in overrides if not one.startswith(("generator.base", "generator/base"))]
    empty = tmp_path / "sd"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"generator\.base\.path=.*no unet, vae, text_encoder, scheduler"):
        run(tmp_path, *overrides, f"generator.base.path={empty}")
    assert not (tmp_path / "store").exists()


def test_prompts_that_cannot_be_drawn_are_said_before_any_training(isic, tmp_path):
    for table in isic.glob("*.csv"):
        table.unlink()
    overrides = miniature("controlnet", "synthesis.count=4", "data=isic", f"data.root={isic}")
    with pytest.raises(ValueError, match=r"data\.labels"):
        run(tmp_path, *[one for one in overrides if one not in ("data=phantom", "data.num_images=40")])
    assert not list((tmp_path / "store").glob("train_*"))


def test_a_batch_that_the_devices_cannot_share(tmp_path):
    overrides = on(TWO_RANKS, miniature("pix2pixhd", "generator.batch_size=1"))
    with pytest.raises(ValueError, match=r"generator\.batch_size=1: a multiple of the 2 devices"):
        run(tmp_path, *overrides)


def test_help_lists_what_there_is_to_choose():
    printed = command("--help").stdout
    assert printed.count("  dermprompt ") == 5
    for path in (CONF / "experiment").glob("*.yaml"):
        assert f"  {path.stem} " in printed
    assert "generator/base/codec" in printed
    assert "schema" not in printed
    assert "scaled" not in printed


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "error: data.root is not set: data.root=/data/isic2018"),
        (["data=phantom", "generator=folder"], "error: generator.path is not set: generator.path=/data/samples"),
        (["data=phantom", "prompts=fixed"], "error: prompts.diagnosis is not set: prompts.diagnosis=MEL"),
        (["-m", "+experiment=demo", "data=isic"], "error: data.root is not set: data.root=/data/isic2018"),
    ],
)
def test_a_key_that_is_not_set(overrides, words, tmp_path):
    ended = command(*overrides, f"paths.store={tmp_path}/store", f"paths.runs={tmp_path}/runs")
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith(words)
    assert "Missing" not in ended.stderr


def test_a_reader_that_closes_early_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "dermprompt", "--cfg", "job"], cwd=REPOSITORY, stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert ended.stderr == b""
