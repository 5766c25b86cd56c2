"""Curation as a job does it: scores once, any threshold from them; copies found, and refused at export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from miniature import compose, miniature, run

from dermprompt.pipeline import Pipeline
from dermprompt.stages.train_segmenter import kept
from dermprompt.store.artifacts import Store

FOLDS = ["curation.folds=2"]


def decided(store: Path, name: str) -> list[list[dict[str, Any]]]:
    folders = sorted((store / "curate").glob(f"{name}-*/decisions.json"), key=lambda path: path.stat().st_mtime)
    return [json.loads(path.read_text())["rows"] for path in folders]


@pytest.mark.usefixtures("_with_samples")
def test_another_threshold_needs_no_new_scores(tmp_path: Path) -> None:
    small = [*miniature("pix2pixhd", "synthesis.count=8", "stage=train_segmenter"), *FOLDS]
    for keep, relabel in ((1.0, 0.0), (0.0, 0.0)):
        run(tmp_path, *small, "curation=agreement", f"curation.keep={keep}", f"curation.relabel={relabel}")
    references = list((tmp_path / "store/train_segmenter").glob("unet-S-*"))
    assert len(references) == 1 + 2  # S only, and two cross-fitted ones
    scored = list((tmp_path / "store/curate").glob("agreement-*/scores.json"))
    assert len(scored) == 1
    scores = json.loads(scored[0].read_text())
    assert len(scores["real"]) == 11
    relabelled, every = decided(tmp_path / "store", "agreement")
    assert {row["decision"] for row in relabelled} <= {"relabel", "keep"}
    assert {row["decision"] for row in every} == {"keep"}
    assert [row["score"] for row in every] == scores["samples"]


@pytest.mark.usefixtures("_with_samples")
def test_judges_look_at_their_own_size(tmp_path: Path) -> None:
    small = [*miniature("pix2pixhd", "synthesis.count=4", "stage=train_segmenter"), *FOLDS]
    run(tmp_path, *small, "curation=agreement", "curation.relabel=0", "evaluation.reference.image_size=32")
    (scored,) = (tmp_path / "store/curate").glob("agreement-*/predictions.npy")
    assert np.load(scored).shape == (4, 64, 64)
    assert [row["id"] for row in decided(tmp_path / "store", "agreement")[0]] == [f"SYN_{k:07d}" for k in range(4)]


def test_no_reference_segmenter_has_seen_its_fold() -> None:
    rows = [kept(10, fold, 3) for fold in range(3)]
    assert [sum(k in one for one in rows) for k in range(10)] == [2] * 10


@pytest.mark.usefixtures("_with_samples")
def test_the_controls_keep_as_many(tmp_path: Path) -> None:
    rule = ["curation.keep=0.3", "curation.relabel=0.2", *FOLDS]
    small = [*miniature("pix2pixhd", "synthesis.count=12", "stage=train_segmenter"), *rule]
    score = {"samples": [0.1, 0.25, 0.5] * 4, "real": [0.5] * 11}
    config = compose(*small, f"paths.store={tmp_path}/store")
    pipeline = Pipeline(config, Store(tmp_path / "store"))
    (pipeline.agreement.path / "scores.json").write_text(json.dumps(score))
    for name in ("agreement", "random", "quotas"):
        run(tmp_path, *small, f"curation={name}")
    used = {name: decided(tmp_path / "store", name)[0] for name in ("random", "quotas")}
    assert all(sum(row["decision"] != "drop" for row in rows) == 8 for rows in used.values())
    # Where the filter would have replaced a mask, so do its controls: they differ in their choice alone.
    relabelled = [row["score"] for rows in used.values() for row in rows if row["decision"] == "relabel"]
    assert set(relabelled) == {0.25}


@pytest.mark.usefixtures("_with_samples")
def test_all_dropped_is_said(tmp_path: Path) -> None:
    small = [*miniature("pix2pixhd", "synthesis.count=4", "stage=train_segmenter"), *FOLDS]
    said = r"drops all 4 samples; .* at most 0\.\d\d, that of real images 0\.\d\d .*evaluation\.reference\.max_epochs"
    with pytest.raises(ValueError, match=said):
        run(tmp_path, *small, "curation=agreement", "curation.keep=1.0", "curation.relabel=1.0")


@pytest.mark.usefixtures("_with_samples")
def test_the_report_says_what_became_of_the_samples(tmp_path: Path) -> None:
    small = [*miniature("pix2pixhd", "synthesis.count=8"), *FOLDS, "curation.keep=0.5", "curation.relabel=0.0"]
    results = run(tmp_path, *small, "curation=agreement")
    curation, memorisation = results["curation"], results["memorisation"]
    assert curation["kept"] + curation["relabelled"] + curation["dropped"] == 8
    assert sum(drawn for kind, _, drawn, _ in curation["groups"] if kind == "size") == 8
    assert 0 <= curation["real"] <= 1
    assert (memorisation["n"], len(memorisation["pairs"])) == (8, 2)
    page = (tmp_path / "runs/job/index.html").read_text()
    assert "What the rule favours" in page
    assert "count as copies" in page


def test_copies_are_found_dropped_and_not_exported(tmp_path: Path) -> None:
    run(tmp_path, *miniature("none", "synthesis.count=0", "stage=prepare"))
    (lesions,) = (tmp_path / "store").glob("prepare/split-*/lesions.json")
    rows = {row["id"]: row for row in json.loads(lesions.read_text())}
    seen = json.loads((lesions.parent / "split.json").read_text())["parts"]["generator"]
    seen = list(seen)
    for name in ("images", "masks"):
        (tmp_path / "theirs" / name).mkdir(parents=True)
    for k in range(8):
        row = rows[seen[k]]
        image = cv2.flip(cv2.imread(row["image"]), 1) if k < 2 else _noise(k)
        cv2.imwrite(str(tmp_path / f"theirs/images/x{k}.png"), image)
        shutil.copy(row["mask"], tmp_path / f"theirs/masks/x{k}.png")
    theirs = [*miniature("folder", "synthesis.count=8"), f"generator.path={tmp_path}/theirs"]
    with pytest.raises(ValueError, match=r"2 of 8 samples count as copies of real images: SYN_0000000, SYN_0000001"):
        run(tmp_path, *theirs, "stage=export")
    run(tmp_path, *theirs, "stage=export", "curation=memorisation")
    images = sorted((tmp_path / "runs/job/Dataset500_default/imagesTr").glob("SYN_*"))
    assert [path.name[:11] for path in images] == [f"SYN_{k:07d}" for k in range(2, 8)]
    run(tmp_path, *theirs, "stage=export", "synthesis.export_copies=true")
    assert len(list((tmp_path / "runs/job/Dataset500_default/imagesTr").glob("SYN_*"))) == 8
    card = (tmp_path / "runs/job/Dataset500_default/README.md").read_text()
    assert "is its author's word" in card
    assert "no patient was photographed" not in card


def test_a_generator_that_knows_forty_images_by_heart_is_not_exported(tmp_path: Path) -> None:
    """Its masks are those of its training set, and for each it gives back the image, as an overtrained network does."""
    unchanged = ["max_rotation=0", "scale_range=[1,1]", "elastic_sigma=[]", "elastic_points=[]"]
    masks = ["masks=transform", *(f"masks.{one}" for one in unchanged), "arm.world=closed"]
    learnt = [*miniature("warp", "synthesis.count=12", "generator.best=1"), *masks, "data.split.sizes=[4,28,4,4]"]
    for export in ("nnunet", "isic", "imagefolder"):
        with pytest.raises(ValueError, match=r"12 of 12 samples count as copies of real images: SYN_0000000, "):
            run(tmp_path, *learnt, "stage=export", f"export={export}")
    assert not list((tmp_path / "runs").rglob("*.jpg"))
    assert not list((tmp_path / "runs").rglob("*.png"))


def test_a_generator_that_ignores_its_condition_is_called_by_its_name(tmp_path: Path) -> None:
    """Control switched off, and one step of training: the page says that masks are not obeyed, and of no gain."""
    ignores = miniature("controlnet", "synthesis.count=8", "generator.max_steps=1", "generator.conditioning_scale=0")
    results = run(tmp_path, *ignores)
    fidelity = results["mask_fidelity"]
    assert fidelity["generated"] <= max(fidelity["shuffled"], fidelity["chance"])
    page = (tmp_path / "runs/job/index.html").read_text()
    assert "not above chance, so the images do not follow their masks" in page
    assert "above 0" not in page


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
