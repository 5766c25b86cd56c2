"""Labels, splits, prompts and masks as a job meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from miniature import compose, miniature, run

from dermprompt.data.datasets.isic_labels import ATTRIBUTES
from dermprompt.data.datasets.phantom import ATTRIBUTE_TABLE, write_phantom
from dermprompt.stages.prepare import load_generator_set, load_lesions
from dermprompt.stages.synthesize import _sampler, check_prompts


def one(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def isic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("conditioning") / "isic"
    write_phantom(root, 40, 64, seed=1)
    return root


def overrides(isic: Path, *more: str, generator: str = "controlnet") -> list[str]:
    given = miniature(generator, "synthesis.count=4", *more)
    kept = [item for item in given if not item.startswith(("data=", "data.num_images"))]
    return [*kept, "data=isic", f"data.root={isic}"]


def test_preparing_prints_and_saves_the_coverage_report(
    isic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, *overrides(isic, "stage=prepare"))
    printed = capsys.readouterr().out
    saved = one(tmp_path, "store/prepare/coverage-*/coverage.txt")
    assert saved.read_text() in printed
    report = json.loads(saved.with_suffix(".json").read_text())
    assert (report["images"], report["masks"], report["pairs"], report["skipped"]) == (40, 40, 40, [])
    sources = {source["source"]: source for source in report["sources"]}
    assert len(sources["ISIC 2019 diagnosis"]["matched"]) == 40
    (line,) = (line for line in printed.splitlines() if line.startswith("ISIC 2019 diagnosis"))
    assert line.split()[3:] == ["40", "40", "0", "0", "0"]


def test_both_forms_of_attributes_give_the_same_prompts(isic: Path, tmp_path: Path) -> None:
    """The masks of Task 2, made from the table."""
    other = tmp_path / "isic"
    shutil.copytree(isic, other)
    folder = other / "ISIC2018_Task2_Training_GroundTruth_v3"
    folder.mkdir()
    head, *rows = (line.split(",") for line in (other / ATTRIBUTE_TABLE).read_text().splitlines())
    for id, *cells in rows:
        for name, cell in zip(head[1:], cells, strict=True):
            mask = np.zeros((64, 64), np.uint8)
            mask[20:23, 30] = 255 * int(cell)
            cv2.imwrite(str(folder / f"{id}_attribute_{name}.png"), mask)
    assert set(head[1:]) == set(ATTRIBUTES)
    (other / ATTRIBUTE_TABLE).unlink()
    prepared = []
    for name, root in (("table", isic), ("masks", other)):
        run(tmp_path / name, *overrides(root, "stage=prepare"))
        prepared.append(one(tmp_path / name, "store/prepare/split-grouped-*"))
    labels = [[(v.diagnosis, v.attributes) for v in load_lesions(folder)[0].values()] for folder in prepared]
    assert labels[0] == labels[1]
    sampling = compose(*overrides(isic))
    known = [one(tmp_path / name, "store/prepare/known-open-*") for name in ("table", "masks")]
    sources = [_sampler(sampling.prompts, sampling.seed, load_generator_set(folder)) for folder in known]
    assert [sources[0].sample(i) for i in range(30)] == [sources[1].sample(i) for i in range(30)]


def test_a_split_file_is_used_and_other_images_stop_with_the_difference(isic: Path, tmp_path: Path) -> None:
    run(tmp_path, *overrides(isic, "stage=prepare", "data.split.seed=5"))
    drawn = one(tmp_path, "store/prepare/split-grouped-*/split.json")
    given = shutil.copy(drawn, tmp_path / "published.json")
    again = tmp_path / "again"
    run(again, *overrides(isic, "stage=prepare", f"data.split.file={given}"))
    assert one(again, "store/prepare/split-grouped-*/split.json").read_bytes() == drawn.read_bytes()
    fewer = tmp_path / "fewer"
    shutil.copytree(isic, fewer)
    for path in fewer.glob("*/ISIC_0000003*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"split is of 40 other images; 1 missing: ISIC_0000003"):
        run(tmp_path / "other", *overrides(fewer, "stage=prepare", f"data.split.file={given}"))
    with pytest.raises(ValueError, match=r"data.split.file=.*nowhere.json: no such file"):
        run(again, *overrides(isic, "stage=prepare", "data.split.file=nowhere.json"))


@pytest.mark.parametrize(
    "prompts", [["prompts=fixed", "prompts.diagnosis=VASC"], ["prompts=target", "prompts.mix={DF:1}"]]
)
def test_prompts_for_what_g_lacks_are_said_or_stop(
    prompts: list[str], isic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, *overrides(isic, "stage=prepare"))
    known = one(tmp_path, "store/prepare/known-open-*")
    capsys.readouterr()
    check_prompts(compose(*overrides(isic, *prompts)).prompts, 0, known)
    said = capsys.readouterr().out
    assert said.startswith("warning: prompts ask for the diagnosis")
    assert "MEL" in said
    with pytest.raises(ValueError, match=r"prompts.unseen=error: prompts ask for the diagnosis"):
        run(tmp_path, *overrides(isic, *prompts, "prompts.unseen=error"))
    assert not list((tmp_path / "store").glob("train_*"))


def test_the_card_has_the_samplers_histogram(isic: Path, tmp_path: Path) -> None:
    for count in (4, 8):
        run(
            tmp_path,
            *overrides(
                isic, "prompts=target", "prompts.mix={MEL:3,NV:1}", f"synthesis.count={count}", "stage=synthesize"
            ),
        )
    folder = one(tmp_path, "store/synthesize/controlnet-*")
    card = json.loads((folder / "card.json").read_text())
    assert card["samples"] == 8
    shares = {}
    for row in card["histogram"]:
        shares[row["diagnosis"]] = shares.get(row["diagnosis"], 0) + row["asked"]
    assert shares == pytest.approx({"MEL": 0.75, "NV": 0.25})
    assert sum(row["drawn"] for row in card["histogram"]) == 8
    assert card["training_images"] >= sum(row["training"] for row in card["histogram"]) > 0
    text = (folder / "card.md").read_text()
    assert "synthetic" in text
    assert "| MEL: " in text


def test_a_transformed_mask_says_which_of_gs_masks_it_was(isic: Path, tmp_path: Path) -> None:
    run(tmp_path, *overrides(isic, "masks=transform", "stage=synthesize", generator="pix2pixhd"))
    folder = one(tmp_path, "store/synthesize/pix2pixhd-*")
    assert "feature matching × 10, no perceptual loss" in (folder / "card.md").read_text()
    rows = json.loads(one(folder, "batches/*.json").read_text())
    _, split = load_lesions(one(tmp_path, "store/prepare/split-grouped-*"))
    assert {row["source_mask_id"] for row in rows} <= set(split.generator)
    masks = one(tmp_path, "store/draw_masks/transform-*")
    assert [row["source"] for row in json.loads(one(masks, "batches/*.json").read_text())] == [
        row["source_mask_id"] for row in rows
    ]


@pytest.mark.parametrize("masks", ["paper_code", "paper_text"])
def test_other_masks_have_no_source(masks: str, isic: Path, tmp_path: Path) -> None:
    run(tmp_path, *overrides(isic, f"masks={masks}", "stage=draw_masks", generator="pix2pixhd"))
    rows = json.loads(one(tmp_path, f"store/draw_masks/{masks}-*/batches/*.json").read_text())
    assert [row["source"] for row in rows] == [None] * 4


def test_near_duplicates_become_a_file_that_a_split_takes(isic: Path, tmp_path: Path) -> None:
    root = tmp_path / "isic"
    shutil.copytree(isic, root)
    for image in (root / "ISIC2018_Task1-2_Training_Input").glob("*.jpg"):
        cv2.imwrite(str(image), cv2.resize(cv2.imread(str(image)), (256, 256), interpolation=cv2.INTER_CUBIC))
    for mask in (root / "ISIC2018_Task1_Training_GroundTruth").glob("*.png"):
        cv2.imwrite(str(mask), cv2.resize(cv2.imread(str(mask), 0), (256, 256), interpolation=cv2.INTER_NEAREST))
    first = root / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000000.jpg"
    cv2.imwrite(
        str(first.with_name("ISIC_0000001.jpg")), np.clip(cv2.imread(str(first)) * 0.8, 0, 255).astype(np.uint8)
    )
    run(tmp_path, *overrides(root, "stage=find_duplicates"))
    clusters = one(tmp_path, "store/prepare/duplicates-isic-*/clusters.json")
    (pair,) = json.loads(clusters.read_text())["pairs"]
    assert (pair["first"], pair["second"]) == ("ISIC_0000000", "ISIC_0000001")
    for seed in range(3):
        run(tmp_path, *overrides(root, "stage=prepare", f"data.clusters={clusters}", f"data.split.seed={seed}"))
    for split in (tmp_path / "store" / "prepare").glob("split-grouped-*/split.json"):
        parts = json.loads(split.read_text())["parts"]
        assert len([name for name, ids in parts.items() if {"ISIC_0000000", "ISIC_0000001"} & ids.keys()]) == 1
