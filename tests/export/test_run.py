"""What leaves for other programs, on the miniature: files as they were drawn, an index that holds, a card."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from miniature import compose, miniature, run
from PIL import Image

from dermprompt.data.index import read_index
from dermprompt.export.place import MARKER
from dermprompt.synthesis.index import COLUMNS
from dermprompt.synthesis.samples import IMAGES, MASKS, image_path, mask_path

COUNT = 8
SMALL = miniature("controlnet", f"synthesis.count={COUNT}", "synthesis.export_copies=true", "stage=export")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one job, with all that it can export."""
    folder = tmp_path_factory.mktemp("exported")
    for name in ("imagefolder", "isic", "generator", "nnunet"):
        run(folder, *SMALL, f"export={name}")
    return folder / "runs/job"


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def store(exported: Path, pattern: str) -> Path:
    (found,) = exported.parents[1].glob(f"store/{pattern}")
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def front_matter(card: str) -> dict[str, object]:
    head = card.split("---\n")[1]
    return {key: json.loads(value) for key, value in (line.split(": ", 1) for line in head.splitlines())}


@pytest.mark.parametrize("name", ["imagefolder", "isic", "Dataset500_default"])
def test_the_index_names_every_sample_with_its_files_and_settings(exported: Path, name: str) -> None:
    root = exported / name
    rows = table(root / "samples.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert [row["id"] for row in rows] == [f"SYN_{i:07d}" for i in range(COUNT)]
    for row in rows:
        for kind in ("image", "mask"):
            assert sha256(root / row[kind]) == row[f"{kind}_sha256"]
        assert (row["sampler"], row["num_steps"], row["guidance_scale"], row["eta"]) == ("ddim", "4", "9.0", "0.0")
        assert row["generator"] == store(exported, "train_generator/controlnet-*").name
        assert row["prompt"].startswith("dermoscopic image of")
        assert row["decision"] == "keep"
        assert (row["attributes"] in ("", "none")) == (" with " not in row["prompt"])
    assert len({row["seed"] for row in rows}) == COUNT


def test_every_synthetic_image_says_so_and_no_real_one_does(exported: Path) -> None:
    generator = store(exported, "train_generator/controlnet-*").name
    root = exported / "Dataset500_default"
    for path in (root / "imagesTr").iterdir():
        said = Image.open(path).info.get("Comment", "")
        assert said.startswith(f"synthetic image by dermprompt, generator {generator}, sample ") == (
            path.name.startswith("SYN_")
        )
        assert bool(said) == path.name.startswith("SYN_")
    for name in ("imagefolder", "isic"):
        images = list((exported / name).rglob("*.jpg"))
        assert len(images) == COUNT
        assert all(b"synthetic image by dermprompt" in path.read_bytes()[:400] for path in images)


def test_an_image_folder_has_two_picture_columns(exported: Path) -> None:
    train, samples = exported / "imagefolder/train", store(exported, "synthesize/controlnet-*")
    rows = table(train / "metadata.csv")
    assert list(rows[0])[:3] == ["file_name", "mask_file_name", "id"]
    # They become the columns image and mask, which no other column may be named.
    assert not {"image", "mask"} & rows[0].keys()
    for row in rows:
        assert (train / row["file_name"]).read_bytes() == image_path(samples, row["id"]).read_bytes()
        assert (train / row["mask_file_name"]).read_bytes() == mask_path(samples, row["id"]).read_bytes()
    pictures = {path for path in train.rglob("*") if path.suffix in (".jpg", ".png")}
    assert pictures == {train / row[key] for row in rows for key in ("file_name", "mask_file_name")}
    assert len(read_index("folder", train, train).lesions) == COUNT


def test_isics_layout_is_read_as_a_data_set(exported: Path) -> None:
    root, samples = exported / "isic", store(exported, "synthesize/controlnet-*")
    assert [one.id for one in read_index("isic", root, root).lesions] == [f"SYN_{i:07d}" for i in range(COUNT)]
    for name in (IMAGES, MASKS):
        for path in (root / name).iterdir():
            assert path.read_bytes() == (samples / name / path.name).read_bytes()


@pytest.mark.parametrize("name", ["imagefolder", "isic", "Dataset500_default"])
def test_a_data_set_has_its_card(exported: Path, name: str) -> None:
    card, rows = (exported / name / "README.md").read_text(), table(exported / name / "samples.csv")
    head = front_matter(card)
    assert (head["license"], head["size_categories"]) == ("unknown", ["n<1K"])
    assert "synthetic" in head["tags"]
    assert f"| synthetic images | {COUNT} |" in card
    assert "Unknown: see source" in card
    assert store(exported, "train_generator/controlnet-*").name in card
    for row in rows:
        prompt = row["prompt"]
        assert f"| {prompt} | {sum(one['prompt'] == prompt for one in rows)} |" in card
    assert all(f"| {column} |" in card for column in COLUMNS)
    assert str(exported.parents[1]) not in card
    assert ("real images for training" in card) == name.startswith("Dataset")


def test_a_controlnet_leaves_in_both_formats_with_its_base(exported: Path) -> None:
    from dermprompt.generator.cldm import load_original
    from dermprompt.generator.controlnet.base import load_base
    from dermprompt.generator.export import load_controlnet

    root = exported / "generator"
    found = {path.name for path in root.iterdir()} - {MARKER}
    assert found == {"README.md", "base", "controlnet", "controlnet.safetensors"}
    theirs = ControlNetModel.from_pretrained(root / "controlnet")
    single = load_original(root / "controlnet.safetensors", json.loads((root / "controlnet/config.json").read_text()))
    assert all(torch.equal(single.state_dict()[key], value) for key, value in theirs.state_dict().items())
    masks = torch.zeros(2, 1, 64, 64)
    masks[:, :, 20:40, 20:40] = 1
    asked = masks, ["", "a"], [1, 2]
    own = load_controlnet(root, load_base(str(root / "base")), num_steps=4).generate(*asked)
    base = load_base(str(store(exported, "train_base/scratch-*")))
    stored = load_controlnet(store(exported, "train_generator/controlnet-*"), base, num_steps=4).generate(*asked)
    assert torch.equal(own, stored)


def test_a_generators_card_says_what_it_is_and_what_was_measured(exported: Path) -> None:
    card = (exported / "generator/README.md").read_text()
    head = front_matter(card)
    assert (head["license"], head["library_name"]) == ("unknown", "diffusers")
    assert "base_model" not in head
    assert "not a medical device" in card
    assert '"max_steps": 3' in card
    assert "template dermoscopy" in card
    assert "Nothing yet" in card
    folder = exported.parents[1]
    report = [one for one in SMALL if not one.startswith("stage=")]
    obeyed = run(folder, *report)["mask_fidelity"]
    run(folder, *SMALL, "export=generator")
    card = (exported / "generator/README.md").read_text()
    assert "Nothing yet" not in card
    assert f"generated {obeyed['generated']:.4g}" in card


def test_a_licence_beside_the_images_goes_with_what_was_made_of_them(exported: Path, tmp_path: Path) -> None:
    source = store(exported, "prepare/phantom-*")
    for name, text in {f"{IMAGES}/LICENSE.txt": "\nCC0 1.0\nmore", "ATTRIBUTION.txt": "The painters"}.items():
        (source / name).write_text(text)
    small = miniature("pix2pixhd", "synthesis.count=4", "synthesis.export_copies=true", "stage=export")
    small = ["data=isic" if one == "data=phantom" else one for one in small if not one.startswith("data.num_images")]
    small.append(f"data.root={source}")
    for name in ("generator", "isic"):
        run(tmp_path, *small, f"export={name}")
        root = tmp_path / "runs/job" / name
        card = (root / "README.md").read_text()
        assert front_matter(card)["license"] == "other"
        assert "](licences/1-LICENSE.txt): CC0 1.0" in card
        assert "](licences/0-ATTRIBUTION.txt): The painters" in card
        assert (root / "licences/1-LICENSE.txt").read_text() == "\nCC0 1.0\nmore"
    assert {".dermprompt-export.json", "README.md", "config.json", "generator.safetensors", "licences"} == {
        path.name for path in (tmp_path / "runs/job/generator").iterdir()
    }
    row = table(tmp_path / "runs/job/isic/samples.csv")[0]
    assert (row["sampler"], row["guidance_scale"], row["prompt"], row["attributes"]) == ("", "", "", "")


def test_a_curated_set_has_the_relabelled_masks_and_lacks_what_was_dropped(tmp_path: Path) -> None:
    small = [*miniature("pix2pixhd", "synthesis.count=4", "synthesis.export_copies=true"), "curation=agreement"]
    small += ["curation.folds=2", "curation.keep=1", "curation.relabel=0", "segmenter.image_size=32"]
    small += ["stage=export", "export=isic"]
    run(tmp_path, *small)
    root, (samples,) = tmp_path / "runs/job/isic", (tmp_path / "store").glob("synthesize/pix2pixhd-*")
    (path,) = (tmp_path / "store").glob("curate/agreement-*/decisions.json")
    decided = json.loads(path.read_text())
    for row, decision in zip(decided["rows"], ("drop", "relabel", "keep", "drop"), strict=True):
        row["decision"] = decision
    path.write_text(json.dumps(decided))
    run(tmp_path, *small)
    relabelled, kept = table(root / "samples.csv")
    assert [relabelled["id"], kept["id"]] == ["SYN_0000001", "SYN_0000002"]
    assert {one.stem for one in (root / IMAGES).iterdir()} == {"SYN_0000001", "SYN_0000002"}
    mask = cv2.imread(str(root / relabelled["mask"]), cv2.IMREAD_UNCHANGED)
    found = np.load(path.parents[1] / decided["predictions"])[1]
    assert mask.shape == (64, 64)
    assert np.array_equal(mask[::2, ::2], found * 255)
    assert sha256(root / relabelled["mask"]) == relabelled["mask_sha256"]
    assert (root / kept["mask"]).read_bytes() == mask_path(samples, kept["id"]).read_bytes()
    card = (root / "README.md").read_text()
    for what, number in {
        "synthetic images": 2,
        "of them with a reference segmenter's mask": 1,
        "samples that the curation left out": 2,
    }.items():
        assert f"| {what} | {number} |" in card


def test_what_cannot_be_exported_is_said_before_any_work() -> None:
    with pytest.raises(ValueError, match=r"export=zip: allowed are nnunet, imagefolder, isic, generator"):
        compose(*miniature("none", "synthesis.count=0", "export=zip"))
    with pytest.raises(ValueError, match=r"export=isic with synthesis\.count=0"):
        compose(*miniature("none", "synthesis.count=0", "stage=export", "export=isic"))
    with pytest.raises(ValueError, match=r"export=generator with generator=warp: nothing was trained"):
        compose(*miniature("warp", "synthesis.count=4", "stage=export", "export=generator"))
