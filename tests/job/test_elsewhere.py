"""What was made elsewhere: samples, predictions, data sets for a test; and an arm for another program."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from miniature import compose, miniature, run
from PIL import Image

from dermprompt.evaluation.scores import load_scores
from dermprompt.pipeline import Pipeline
from dermprompt.stages.curate import copied
from dermprompt.stages.score import read_prediction
from dermprompt.store.artifacts import Store
from dermprompt.synthesis.samples import IMAGES


def phantom(store: Path) -> Path:
    return next((store / "prepare").glob("phantom-*"))


def own_folder(tmp_path: Path, number: int, name: str = "theirs") -> Path:
    """Pairs of a phantom as a folder of one's own."""
    run(tmp_path, *miniature("none", "synthesis.count=0", "stage=prepare", "data.split.seed=5"), store="other")
    source, target = phantom(tmp_path / "other"), tmp_path / name
    for part in ("images", "masks"):
        (target / part).mkdir(parents=True)
    for i, image in enumerate(sorted((source / IMAGES).glob("*.jpg"))[:number]):
        shutil.copy(image, target / "images" / f"theirs{i}.jpg")
        mask = source / "ISIC2018_Task1_Training_GroundTruth" / f"{image.stem}_segmentation.png"
        shutil.copy(mask, target / "masks" / f"theirs{i}.png")
    return target


def test_samples_of_another_method_go_through_the_whole_evaluation(tmp_path: Path) -> None:
    theirs = own_folder(tmp_path, 7)
    small = [*miniature("folder"), f"generator.path={theirs}"]
    results = run(tmp_path, *small, "synthesis.count=6")
    only, added = results["segmentation"]
    assert (only["count"], added["count"], added["generator"]) == (0, 6, "folder")
    assert added["gain"] is not None
    assert results["distribution"]
    assert results["mask_fidelity"]["n"] == 6
    assert results["memorisation"]["n"] == 6
    assert len(results["samples"]) == 4
    page = (tmp_path / "runs/job/index.html").read_text()
    assert "another method" in page
    assert "closer to a real image of this study" in page
    assert not re.search(r"(its|the) generator has seen", page), "nobody here knows what it has seen"
    comment = next((tmp_path / "store").glob(f"collect/folder-*/{IMAGES}/*.jpg")).read_bytes()[:300]
    assert b"by another program, generator folder theirs" in comment
    run(tmp_path, *small, "synthesis.count=7", "stage=synthesize")
    with pytest.raises(ValueError, match=r"synthesis\.count=8: 7 usable pairs"):
        run(tmp_path, *small, "synthesis.count=8", "stage=synthesize")
    ours = sorted((phantom(tmp_path / "store") / IMAGES).glob("*.jpg"))
    shutil.copy(ours[3], theirs / "images" / "theirs1.jpg")
    Image.open(ours[5]).save(theirs / "images" / "theirs2.png")
    (theirs / "images" / "theirs2.jpg").unlink()
    shared = (
        r"generator.path=.*: 2 images are images of data.root too: theirs1 is ISIC_0000003 \(the same file\), "
        r"theirs2 is ISIC_0000005 \(the same pixels\); they are no samples"
    )
    with pytest.raises(ValueError, match=shared):
        run(tmp_path, *small, "synthesis.count=6")


def test_samples_from_elsewhere_are_compared_with_all_real_images(tmp_path: Path) -> None:
    """A sample that nearly is an image of S.test is named as one of G would be."""
    theirs = own_folder(tmp_path, 6)
    small = [*miniature("folder"), f"generator.path={theirs}", "synthesis.count=6"]
    run(tmp_path, *small, "stage=prepare")
    (split,) = (tmp_path / "store/prepare").glob("split-grouped-*/split.json")
    id = next(iter(json.loads(split.read_text())["parts"]["test"]))
    near = Image.open(phantom(tmp_path / "store") / IMAGES / f"{id}.jpg")
    near.save(theirs / "images" / "theirs4.jpg", quality=60)
    pipeline = Pipeline(compose(*small, f"paths.store={tmp_path / 'store'}"), Store(tmp_path / "store"))
    found = json.loads((pipeline.memorised.path / "nearest.json").read_text())
    assert found["nearest"][4] == id
    assert copied(found, 0.01).tolist() == [False] * 4 + [True, False]


def test_a_folder_that_is_not_there_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"generator\.path=/nowhere: no such folder"):
        run(tmp_path, *miniature("folder", "generator.path=/nowhere", "synthesis.count=4"))
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("_with_samples")
def test_an_export_and_its_predictions_come_back_into_the_tables(tmp_path: Path) -> None:
    small = miniature("pix2pixhd", "synthesis.count=4", "synthesis.export_copies=true")
    run(tmp_path, *small, "stage=export")
    root = tmp_path / "runs/job/Dataset500_default"
    about, (fold,) = (json.loads((root / name).read_text()) for name in ("dataset.json", "splits_final.json"))
    train = {path.name.removesuffix("_0000.png") for path in (root / "imagesTr").iterdir()}
    assert train == {path.stem for path in (root / "labelsTr").iterdir()} == {*fold["train"], *fold["val"]}
    assert about["numTraining"] == len(train)
    assert sum(id.startswith("SYN_") for id in fold["train"]) == 4
    assert not {*fold["train"]} & {*fold["val"]}
    test = {path.stem for path in (root / "labelsTs").iterdir()}
    assert test == {path.name.removesuffix("_0000.png") for path in (root / "imagesTs").iterdir()}
    assert not test & train
    label = cv2.imread(str(next((root / "labelsTr").iterdir())), cv2.IMREAD_UNCHANGED)
    assert label.shape == (64, 64)
    assert set(np.unique(label)) <= {0, 1}

    predictions = tmp_path / "predictions"
    shutil.copytree(root / "labelsTs", predictions)
    theirs = ["segmenter.name=nnunet", f"segmenter.predictions={predictions}"]
    results = run(tmp_path, *small, *theirs, job="theirs")
    (cell,) = results["segmentation"]
    assert (cell["segmenter"], cell["dice"]["mean"], cell["gain"]) == ("nnunet", 1.0, None)
    assert set(load_scores(tmp_path / "runs/theirs" / cell["scores"])) == test
    next(predictions.iterdir()).unlink()
    with pytest.raises(ValueError, match=r"no .*\.png"):
        run(tmp_path, *small, *theirs, "stage=evaluate")


def test_predictions_of_other_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for shape, shown in (((30, 40), (30, 40)), ((16, 16), (30, 40))):
        cv2.imwrite(str(path), np.ones(shape, np.uint8))
        assert read_prediction(path, (30, 40), 16).shape == shown
    cv2.imwrite(str(path), np.zeros((16, 16), np.uint8))
    assert not read_prediction(path, (30, 40), 16).any()
    cv2.imwrite(str(path), np.ones((31, 40), np.uint8))
    with pytest.raises(ValueError, match=r"\(31, 40\) pixels .* allowed are those of the true mask, \(30, 40\)"):
        read_prediction(path, (30, 40), 16)
    cv2.imwrite(str(path), np.full((16, 16), 99, np.uint8))
    with pytest.raises(ValueError, match="grey_mask"):
        read_prediction(path, (30, 40), 16)
    path.write_text("no picture")
    with pytest.raises(ValueError, match="unreadable"):
        read_prediction(path, (30, 40), 16)


def test_another_data_set_is_tested_on_and_never_trained_on(tmp_path: Path) -> None:
    theirs = own_folder(tmp_path, 5)
    small = miniature("none", "synthesis.count=0")
    run(tmp_path, *small, "stage=prepare")
    with pytest.raises(ValueError, match=r"are images of data\.root too"):
        run(tmp_path, *small, "+data@external=isic", f"external.root={phantom(tmp_path / 'store')}")
    external = ["+data@external=folder", f"external.root={theirs}"]
    results = run(tmp_path, *miniature("none", "synthesis.count=0"), *external)
    (row,) = results["external"]
    assert (row["dataset"], row["arm"], row["dice"]["n"]) == ("folder", "default", 5)
    page = (tmp_path / "runs/job/index.html").read_text()
    assert "Elsewhere" in page
    assert "Large images are decoded at 1/2, 1/4 or 1/8 scale if that is still twice" in page
    trained = len(list((tmp_path / "store/train_segmenter").iterdir()))
    for mask in (theirs / "masks").iterdir():
        mask.unlink()
    with pytest.raises(ValueError, match="no_mask"):
        run(tmp_path, *miniature("none", "synthesis.count=0"), *external)
    with pytest.raises(ValueError, match="no usable image with a mask"):
        run(
            tmp_path,
            *miniature("none", "synthesis.count=0"),
            *external,
            "external.on_bad=skip",
            "external.max_bad_fraction=1",
        )
    assert len(list((tmp_path / "store/train_segmenter").iterdir())) == trained


def test_an_export_of_the_archive_is_tested_on_by_diagnosis(tmp_path: Path) -> None:
    """Its images, masks of some of them, and its own table."""
    pairs, root = own_folder(tmp_path, 5), tmp_path / "archive"
    (root / "masks").mkdir(parents=True)
    ids = [f"ISIC_900000{k}" for k in range(5)]
    for id, image in zip(ids, sorted((pairs / "images").iterdir()), strict=True):
        shutil.copy(image, root / f"{id}.jpg")
        shutil.copy(pairs / "masks" / f"{image.stem}.png", root / f"masks/{id}_segmentation.png")
    (root / "masks" / f"{ids[4]}_segmentation.png").unlink()
    named = ("Nevus", "Melanoma, NOS", "Nevus", "", "Nevus")
    rows = "".join(f'{id},"{name}",IP_{k}\n' for k, (id, name) in enumerate(zip(ids, named, strict=True)))
    (root / "metadata.csv").write_text("isic_id,diagnosis_3,patient_id\n" + rows)
    external = ["+data@external=isic_archive", f"external.root={root}"]
    results = run(tmp_path, *miniature("none", "synthesis.count=0"), *external)
    (row,) = results["external"]
    groups = {one["name"]: one["dice"]["n"] for one in row["groups"] if one["kind"] == "diagnosis"}
    assert (row["dice"]["n"], groups) == (4, {"MEL": 1, "NV": 2, "unknown": 1})
    assert "<td>MEL</td>" in (tmp_path / "runs/job/index.html").read_text()


@pytest.mark.parametrize("how", ["id", "file", "picture"])
def test_external_images_of_the_study_are_refused_before_any_training(how: str, tmp_path: Path) -> None:
    small = miniature("none", "synthesis.count=0")
    run(tmp_path, *small, "stage=prepare")
    ours, theirs = phantom(tmp_path / "store"), own_folder(tmp_path, 5)
    image = ours / IMAGES / "ISIC_0000003.jpg"
    target = theirs / "images" / "theirs1.jpg"
    if how == "file":
        shutil.copy(image, target)
    elif how == "picture":
        Image.open(image).resize((90, 90)).save(target, quality=80)
        mask = cv2.imread(str(theirs / "masks" / "theirs1.png"), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(theirs / "masks" / "theirs1.png"), cv2.resize(mask, (90, 90), interpolation=cv2.INTER_NEAREST))
    else:
        for part, ending in (("images", "jpg"), ("masks", "png")):
            (theirs / part / f"theirs1.{ending}").rename(theirs / part / f"isic_0000003.{ending}")
    with pytest.raises(ValueError, match=rf"external.root=.*: 1 images .* is ISIC_0000003 \(the same {how}\)"):
        run(tmp_path, *small, "+data@external=folder", f"external.root={theirs}")
    assert not (tmp_path / "store/train_segmenter").exists()


def test_an_external_root_that_is_not_there_is_said_by_its_own_name(tmp_path: Path) -> None:
    small = miniature("none", "synthesis.count=0")
    with pytest.raises(ValueError, match=r"external\.root=/nowhere: no such folder"):
        run(tmp_path, *small, "+data@external=ph2", "external.root=/nowhere")
    assert not (tmp_path / "store/train_segmenter").exists()
