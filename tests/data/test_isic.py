from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dermprompt.data.isic import IMAGES, MASKS, coverage, fingerprint, read_isic
from dermprompt.lesion import Lesion

REAL = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not (REAL / "isic2018_256").is_dir(), reason=f"needs {REAL}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in (IMAGES, MASKS):
        (root / folder).mkdir(parents=True)
        for clutter in ("LICENSE.txt", "ATTRIBUTION.txt"):
            (root / folder / clutter).write_text("")
    for name in ("ISIC_2.jpg", "ISIC_10.png", "ISIC_2_superpixels.png"):
        (root / IMAGES / name).write_bytes(b"image")
    for id in ("ISIC_2", "ISIC_10"):
        (root / MASKS / f"{id}_segmentation.png").write_bytes(b"mask")
    return root


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    table = "image_id,melanoma,seborrheic_keratosis\nISIC_2,1,0\n"
    (folder / "ISIC-2017_Training_Part3_GroundTruth.csv").write_text(table)
    return folder


def nest(folder: Path) -> None:
    staged = folder.rename(folder.with_name("staged"))
    folder.mkdir()
    staged.rename(folder / folder.name)


def test_pairs_sorted_by_id_without_the_clutter(root: Path, labels: Path) -> None:
    assert read_isic(root, labels) == [
        Lesion("ISIC_10", root / IMAGES / "ISIC_10.png", root / MASKS / "ISIC_10_segmentation.png"),
        Lesion("ISIC_2", root / IMAGES / "ISIC_2.jpg", root / MASKS / "ISIC_2_segmentation.png", "MEL"),
    ]


@pytest.mark.parametrize("folder", [IMAGES, MASKS])
def test_folder_extracted_into_a_folder_of_its_name(root: Path, labels: Path, folder: str) -> None:
    flat = [lesion.id for lesion in read_isic(root, labels)]
    nest(root / folder)
    lesions = read_isic(root, labels)
    assert [lesion.id for lesion in lesions] == flat
    assert all(lesion.image.is_file() and lesion.mask.is_file() for lesion in lesions)


@pytest.mark.parametrize("folder", [IMAGES, MASKS])
def test_missing_folder_names_folder_root_and_layout(root: Path, labels: Path, folder: str) -> None:
    shutil.rmtree(root / folder)
    with pytest.raises(ValueError, match=f"no folder {folder} in data root {root}; expected ROOT/{IMAGES}/ISIC"):
        read_isic(root, labels)


def test_missing_root_and_missing_labels(root: Path, labels: Path) -> None:
    with pytest.raises(ValueError, match=r"data root .*gone does not exist"):
        read_isic(root / "gone", labels)
    with pytest.raises(ValueError, match=r"labels folder .*gone does not exist"):
        read_isic(root, labels / "gone")


def test_no_images(root: Path, labels: Path) -> None:
    for path in (root / IMAGES).glob("ISIC_*[0-9].*"):
        path.unlink()
    with pytest.raises(ValueError, match=rf"no .jpg or .png images in .*{IMAGES}"):
        read_isic(root, labels)


def test_unpaired_files_are_counted_and_named(root: Path, labels: Path) -> None:
    for i in range(20, 27):
        (root / IMAGES / f"ISIC_{i}.jpg").write_bytes(b"")
    (root / MASKS / "ISIC_99_segmentation.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"7 images have no ") as error:
        read_isic(root, labels)
    assert "ISIC_20, ISIC_21, ISIC_22, ISIC_23, ISIC_24, … (7 in all)" in str(error.value)
    assert "1 masks have no image" in str(error.value)
    assert str(error.value).endswith("ISIC_99")


def test_two_images_of_one_id(root: Path, labels: Path) -> None:
    (root / IMAGES / "ISIC_2.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"two images of one id, ISIC_2.jpg and ISIC_2.png"):
        read_isic(root, labels)


def test_fingerprint_changes_with_every_file_used(root: Path, labels: Path) -> None:
    used = [*root.glob("*/ISIC_*[0-9].*"), *root.glob("*/*_segmentation.png"), *labels.iterdir()]
    seen = {fingerprint(root, labels)}
    for path in used:
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
        seen.add(fingerprint(root, labels))
    stamp = used[0].stat().st_mtime_ns
    used[0].write_bytes(b"another size")
    os.utime(used[0], ns=(stamp, stamp))
    seen.add(fingerprint(root, labels))
    (root / MASKS / "ISIC_10_segmentation.png").rename(root / MASKS / "ISIC_11_segmentation.png")
    seen.add(fingerprint(root, labels))
    assert len(used) == 5
    assert len(seen) == 1 + 5 + 2


def test_fingerprint_ignores_clutter_and_place(root: Path, labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint(root, labels)
    (root / IMAGES / "LICENSE.txt").write_text("changed")
    (labels / "notes.txt").write_text("new")
    moved = root.rename(root.with_name("moved"))
    assert fingerprint(moved, labels) == first
    monkeypatch.chdir(moved)
    assert fingerprint(Path("."), Path("../labels")) == first


def test_coverage_by_hand() -> None:
    here = Path()
    lesions = [
        Lesion("a", here, here, "NV", ("globules", "streaks")),
        Lesion("b", here, here, "NV", ()),
        Lesion("c", here, here, "MEL", ("streaks",)),
        Lesion("d", here, here),
    ]
    assert coverage(lesions) == {
        "images": 4,
        "diagnosis": {"NV": 2, "MEL": 1},
        "unknown_diagnosis": 1,
        "attributes": {"globules": 1, "streaks": 2},
        "with_attributes": 3,
    }


def test_index_starts_without_heavy_imports() -> None:
    heavy = "{'torch', 'cv2', 'numpy', 'lightning'}"
    code = f"import sys, dermprompt.data.isic; print(*{heavy} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@needs_data
def test_real_data() -> None:
    lesions = read_isic(REAL / "isic2018_256", REAL / "isic_labels")
    counts = coverage(lesions)
    assert counts["images"] == 2594
    assert counts["diagnosis"] == {"NV": 1866, "MEL": 519, "BKL": 208}
    assert counts["unknown_diagnosis"] == 1
    assert counts["with_attributes"] == 2594
    # Counted in the table by other means.
    assert counts["attributes"]["pigment_network"] == 1523
    assert counts["attributes"]["streaks"] == 100
    assert [lesion.id for lesion in lesions] == sorted(lesion.id for lesion in lesions)


@needs_data
def test_real_fingerprint_is_quick() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        fingerprint(REAL / "isic2018_256", REAL / "isic_labels")
        return time.perf_counter() - start

    assert min(seconds() for _ in range(4)) < 0.2
