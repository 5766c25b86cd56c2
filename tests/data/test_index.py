from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from real_data import REAL

from dermprompt.data.datasets.phantom import write_phantom
from dermprompt.data.index import Index, find_files, fingerprint, load_index, read_index
from dermprompt.lesion import Lesion

needs_data = pytest.mark.real_data("isic2018_256", "isic_labels")
IMAGES, MASKS = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_phantom(tmp_path / "root", 3, 32, seed=0)
    return tmp_path / "root"


def test_an_index_comes_back_as_it_was(root: Path, tmp_path: Path) -> None:
    index = read_index("isic", root, root)
    index.save(tmp_path / "index.json")
    assert load_index(tmp_path / "index.json") == index
    assert len(index.lesions) == index.num_images == index.num_masks == 3
    assert all(one.diagnosis is not None and one.attributes is not None for one in index.lesions)


def test_no_images(root: Path) -> None:
    for path in (root / IMAGES).iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=rf"data=isic: no images\. In {root} there is: .*Input/ \(empty\)"):
        read_index("isic", root, root)


def test_the_digest_is_of_content_and_labels_not_of_places(root: Path) -> None:
    index = read_index("isic", root, root)
    moved = root.rename(root.with_name("moved"))
    assert read_index("isic", moved, moved).digest == index.digest
    assert (
        replace(index, lesions=(replace(index.lesions[0], diagnosis="DF"), *index.lesions[1:])).digest != index.digest
    )
    (moved / IMAGES / "ISIC_0000001.jpg").write_bytes(b"another")
    assert read_index("isic", moved, moved).digest != index.digest


def test_one_content_under_two_ids_is_said(root: Path) -> None:
    for folder, ending in ((IMAGES, ".jpg"), (MASKS, "_segmentation.png")):
        (root / folder / f"ISIC_9{ending}").write_bytes((root / folder / f"ISIC_0000001{ending}").read_bytes())
    (finding,) = read_index("isic", root, root).findings
    assert (finding.verdict, finding.what, finding.bad) == ("duplicate_content", "ISIC_9", False)


def fingerprint_of(root: Path, labels: Path) -> str:
    return fingerprint(find_files("isic", root, labels), root, labels)


def test_fingerprint_changes_with_every_file_used(root: Path) -> None:
    used = [*root.glob("*/ISIC_*"), *root.glob("*.csv")]
    seen = {fingerprint_of(root, root)}
    for path in used:
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
        seen.add(fingerprint_of(root, root))
    stamp = used[0].stat().st_mtime_ns
    used[0].write_bytes(b"another size")
    os.utime(used[0], ns=(stamp, stamp))
    seen.add(fingerprint_of(root, root))
    used[0].unlink()
    seen.add(fingerprint_of(root, root))
    assert len(used) == 3 + 3 + 3
    assert len(seen) == 1 + 9 + 2


def test_fingerprint_ignores_clutter_and_place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint_of(root, root)
    (root / IMAGES / "LICENSE.txt").write_text("new")
    (root / "notes.txt").write_text("new")
    moved = root.rename(root.with_name("moved"))
    assert fingerprint_of(moved, moved) == first
    monkeypatch.chdir(moved)
    assert fingerprint_of(Path("."), Path("../moved")) == first


def test_index_starts_without_heavy_imports() -> None:
    heavy = "{'torch', 'cv2', 'numpy', 'lightning', 'PIL', 'openpyxl'}"
    code = f"import sys, dermprompt.data.index; print(*{heavy} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@pytest.fixture(scope="module")
def real() -> Index:
    return read_index("isic", REAL / "isic2018_256", REAL / "isic_labels")


@needs_data
def test_known_truth_of_isic_2018(real: Index) -> None:
    assert real.num_images == real.num_masks == len(real.lesions) == 2594
    matched = {one.source: (len(one.matched), len(one.unmatched), len(one.conflicting)) for one in real.coverages}
    assert matched["ISIC 2019 diagnosis"] == (2593, 1, 0)
    assert matched["ISIC 2017 diagnosis"] == (1921, 673, 0)
    diagnoses = [one.diagnosis for one in real.lesions]
    assert [diagnoses.count(code) for code in ("NV", "MEL", "BKL", None)] == [1866, 519, 208, 1]
    # Counted in the table by other means.
    assert sum("pigment_network" in (one.attributes or ()) for one in real.lesions) == 1523
    assert not [one for one in real.findings if one.bad]


@needs_data
def test_by_plain_ids_most_of_2019_is_lost(real: Index, tmp_path: Path) -> None:
    """1,821 of the 2,593 ids stand in ISIC 2019 with ``_downsampled`` alone."""
    table = (REAL / "isic_labels" / "ISIC_2019_Training_GroundTruth.csv").read_text()
    plain = {line.split(",")[0] for line in table.splitlines()[1:]}
    lost = [one.id for one in real.lesions if one.id not in plain and f"{one.id}_downsampled" in plain]
    assert len(lost) == 1821
    assert all(one.diagnosis is not None for one in real.lesions if one.id in set(lost))


@needs_data
def test_twelve_lesions_have_several_images(real: Index) -> None:
    by_lesion: dict[str, list[Lesion]] = {}
    for one in real.lesions:
        if one.lesion_id is not None:
            by_lesion.setdefault(one.lesion_id, []).append(one)
    assert sum(len(images) > 1 for images in by_lesion.values()) == 12


@needs_data
def test_real_fingerprint_opens_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise AssertionError(f"{self} was opened")

    for name in ("open", "read_bytes", "read_text"):
        monkeypatch.setattr(Path, name, refuse)
    assert len(fingerprint_of(REAL / "isic2018_256", REAL / "isic_labels")) == 64
