"""The promises of the main job, on the miniature: everything there, nothing twice, the same bytes."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from forked import start_command
from miniature import miniature, run

from dermprompt.job.run import format_plan
from dermprompt.store.artifacts import Planned

GENERATORS = ("controlnet", "pix2pixhd")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Both generators at two counts in one store; the results of the four jobs in order."""
    folder = tmp_path_factory.mktemp("swept")
    jobs = {
        (name, count): run(folder, *miniature(name, f"synthesis.count={count}"), job=f"{name}-{count}")
        for name in GENERATORS
        for count in (4, 8)
    }
    return folder, jobs


def digests(samples: Path) -> dict[str, str]:
    files = [path for path in samples.glob("ISIC*/*") if path.suffix in (".jpg", ".png")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def one(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_a_plan_lists_each_artifact_once_and_those_of_one_name_apart():
    one, other = (Planned(f"train_segmenter/unet-S-{key}", "train_segmenter", "unet-S", False, 60.0) for key in "ab")
    there = Planned("prepare/sample-c", "prepare", "sample", True, 5.0)
    assert format_plan([there, one, other, one]).splitlines() == [
        "there              prepare: sample",
        "to do       ~60 s  train_segmenter: unet-S",
        "to do       ~60 s  train_segmenter: unet-S",
        "about 2 min to do",
    ]


def test_a_job_ends_in_results_and_a_page(swept):
    folder, jobs = swept
    results = jobs["controlnet", 8]
    assert {row["count"] for row in results["segmentation"]} == {0, 8}
    assert results["segmentation"][0]["gain"] is None
    assert results["segmentation"][1]["gain"]["n"] == results["data"]["split"]["test"]
    assert results["image_quality"][0]["name"] == "controlnet"
    assert {row["kind"] for row in results["image_quality"][1:]} == {"trivial"}
    assert results["text_fidelity"] is not None
    assert jobs["pix2pixhd", 8]["text_fidelity"] is None
    page = (folder / "runs" / "controlnet-8" / "index.html").read_text()
    assert "61.64" in page
    assert "0.861" in page


def test_a_sweep_trains_each_generator_once_and_draws_the_largest_count(swept):
    _, jobs = swept
    made = [job["work"] for job in jobs.values()]
    assert [job["generators trained"] for job in made] == [1, 0, 1, 0]
    assert [job["samples drawn"] for job in made] == [4, 4, 4, 4]
    assert [job["bases trained"] for job in made] == [1, 0, 0, 0]
    # S only and the reference segmenter differ in no setting but the name of their keys: one training for all jobs.
    assert [job["segmenters trained"] for job in made] == [2, 1, 1, 1]


@pytest.mark.parametrize("name", GENERATORS)
def test_a_second_run_redoes_nothing(swept, name):
    folder, _ = swept
    again = run(folder, *miniature(name, "synthesis.count=8"), job=f"{name}-8")
    assert set(again["work"].values()) == {0}
    assert again["seconds"] == {}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_smaller_set_is_the_first_part_of_a_larger_one(swept, tmp_path, name):
    folder, _ = swept
    shutil.copytree(folder / "store", tmp_path / "store", ignore=shutil.ignore_patterns("synthesize"))
    run(tmp_path, *miniature(name, "synthesis.count=4", "stage=synthesize"))
    small = digests(one(tmp_path, f"store/synthesize/{name}-*"))
    large = digests(one(folder, f"store/synthesize/{name}-*"))
    assert len(small) == 8
    assert len(large) == 16
    assert small.items() <= large.items()


def test_samples_lie_in_isics_layout_with_their_provenance(swept):
    from dermprompt.data.index import read_index
    from dermprompt.synthesis.samples import read_records

    folder, _ = swept
    samples = one(folder, "store/synthesize/controlnet-*")
    assert [one.id for one in read_index("isic", samples, samples).lesions] == [f"SYN_{i:07d}" for i in range(8)]
    rows = read_records(samples, 8)
    assert all(row.prompt.startswith("dermoscopic image of") for row in rows)
    assert len({row.seed for row in rows}) == 8
    assert rows[5].generator == one(folder, "store/train_generator/controlnet-*").name
    assert (folder / "runs" / "controlnet-8" / "samples.csv").read_text().count("SYN_") >= 8
    rival = read_records(one(folder, "store/synthesize/pix2pixhd-*"), 8)
    assert {(row.prompt, row.diagnosis, row.attributes) for row in map(_hashable, rival)} == {("", None, None)}


def _hashable(row):
    assert row.attributes is None
    return row


def test_a_killed_synthesis_goes_on_to_the_same_bytes(swept, tmp_path):
    folder, _ = swept
    shutil.copytree(folder / "store", tmp_path / "store", ignore=shutil.ignore_patterns("synthesize"))
    paths = [f"paths.runs={tmp_path}/runs", f"paths.store={tmp_path}/store"]
    killed = start_command(
        [*miniature("controlnet", "synthesis.count=32", "stage=synthesize"), *paths], tmp_path / "log"
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("store/synthesize/*/batches/*.json"))) < 2:
        assert time.monotonic() < deadline
        assert killed.exitcode is None, "it ended before it could be killed"
        time.sleep(0.01)
    killed.kill()
    killed.join()
    assert len(list(tmp_path.glob("store/synthesize/*/batches/*.json"))) < 8
    run(tmp_path, *miniature("controlnet", "synthesis.count=32", "stage=synthesize"))
    straight = run(folder, *miniature("controlnet", "synthesis.count=32", "stage=synthesize"))
    assert straight == {}
    resumed = digests(one(tmp_path, "store/synthesize/controlnet-*"))
    assert len(resumed) == 64
    assert resumed == digests(one(folder, "store/synthesize/controlnet-*"))


def test_every_checkpoint_opens_without_running_code(swept):
    folder, _ = swept
    checkpoints = list((folder / "store").rglob("*.ckpt"))
    assert len(checkpoints) >= 5
    for path in checkpoints:
        assert torch.load(path, weights_only=True)["global_step"] >= 1


def test_diffusers_opens_the_trained_controlnet(swept):
    from dermprompt.generator.controlnet.base import control, load_base, predict

    folder, _ = swept
    exported = one(folder, "store/train_generator/controlnet-*") / "controlnet"
    theirs = ControlNetModel.from_pretrained(exported)
    base = load_base(str(one(folder, "store/train_base/scratch-*")))
    latents, masks = torch.randn(2, 12, 16, 16), torch.ones(2, 1, 64, 64)
    text, step = base.text_encoder.encode(["", "a"]), torch.tensor(500)
    with torch.no_grad():
        without = predict(base, latents, step, text)
        with_control = predict(base, latents, step, text, control(theirs, latents, step, text, masks))
    assert not torch.equal(without, with_control)
    checkpoint = torch.load(exported.parent / "last.ckpt", weights_only=True)["state_dict"]
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, checkpoint[f"averaged.module.controlnet.{key}"])
