from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dermprompt.data.datasets.isic import IMAGES, MASKS, find_isic
from dermprompt.data.index import read_index
from dermprompt.data.pairs import pair

TRAINING = [layout.format("Training") for layout in (IMAGES, MASKS)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in TRAINING:
        (root / folder).mkdir(parents=True)
        for clutter in ("LICENSE.txt", "ATTRIBUTION.txt"):
            (root / folder / clutter).write_text("")
    images, masks = (root / folder for folder in TRAINING)
    for name in ("ISIC_2.jpg", "ISIC_10.png", "ISIC_2_superpixels.png"):
        (images / name).write_bytes(b"image")
    for id in ("ISIC_2", "ISIC_10"):
        (masks / f"{id}_segmentation.png").write_bytes(b"mask")
    return root


def nest(folder: Path) -> None:
    staged = folder.rename(folder.with_name("staged"))
    folder.mkdir()
    staged.rename(folder / folder.name)


def test_pairs_sorted_by_id_without_the_clutter(root: Path) -> None:
    lesions, findings = pair(find_isic(root, root))
    images, masks = (root / folder for folder in TRAINING)
    assert [(one.id, one.image, one.mask) for one in lesions] == [
        ("ISIC_10", images / "ISIC_10.png", masks / "ISIC_10_segmentation.png"),
        ("ISIC_2", images / "ISIC_2.jpg", masks / "ISIC_2_segmentation.png"),
    ]
    assert findings == []


@pytest.mark.parametrize("folder", TRAINING)
def test_folder_extracted_into_a_folder_of_its_name(root: Path, folder: str) -> None:
    nest(root / folder)
    lesions, _ = pair(find_isic(root, root))
    assert [one.id for one in lesions] == ["ISIC_10", "ISIC_2"]
    assert all(one.image.is_file() and one.mask.is_file() for one in lesions)


@pytest.mark.parametrize("folder", TRAINING)
def test_missing_folder_names_folder_root_and_layout(root: Path, folder: str) -> None:
    shutil.rmtree(root / folder)
    with pytest.raises(ValueError, match=f"no folder {folder}; expected ROOT/{TRAINING[0]}/ISIC"):
        find_isic(root, root)


def test_missing_root(root: Path) -> None:
    with pytest.raises(ValueError, match=r"/gone does not exist"):
        read_index("isic", root / "gone", root)


@pytest.mark.parametrize(
    ("images", "masks", "ending"),
    [
        ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", "_segmentation"),
        ("ISBI2016_ISIC_Part1_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth", "_Segmentation"),
        ("isic2018_task1-2_training_input", "ISIC2018 Task1 Training GroundTruth", "_segmentation"),
    ],
)
def test_earlier_challenges_and_other_spellings(tmp_path: Path, images: str, masks: str, ending: str) -> None:
    for folder in (tmp_path / "archive" / images, tmp_path / "archive" / masks):
        folder.mkdir(parents=True)
    for id in ("ISIC_1", "ISIC_2"):
        (tmp_path / "archive" / images / f"{id}.jpg").write_bytes(id.encode())
        (tmp_path / "archive" / images / f"{id}_superpixels.png").write_bytes(b"")
        (tmp_path / "archive" / masks / f"{id}{ending}.png").write_bytes(b"")
    lesions, findings = pair(find_isic(tmp_path, tmp_path))
    assert ([one.id for one in lesions], findings) == (["ISIC_1", "ISIC_2"], [])


def test_a_second_challenge_is_not_read_and_said(root: Path) -> None:
    (root / "ISIC-2017_Training_Data").mkdir()
    (finding,) = pair(find_isic(root, root))[1]
    assert (finding.verdict, finding.what) == ("unused_folder", "ISIC-2017_Training_Data")


def test_validation_and_test_folders_are_parts(root: Path) -> None:
    for part, id in (("Validation", "ISIC_3"), ("Test", "ISIC_4")):
        for layout, name in ((IMAGES, f"{id}.jpg"), (MASKS, f"{id}_segmentation.png")):
            (root / layout.format(part)).mkdir()
            (root / layout.format(part) / name).write_bytes(b"")
    lesions, _ = pair(find_isic(root, root))
    assert {one.id: one.part for one in lesions} == {
        "ISIC_10": "training",
        "ISIC_2": "training",
        "ISIC_3": "validation",
        "ISIC_4": "test",
    }


def test_images_of_a_part_without_its_masks(root: Path) -> None:
    (root / IMAGES.format("Test")).mkdir()
    with pytest.raises(ValueError, match=f"no folder {MASKS.format('Test')}"):
        find_isic(root, root)
