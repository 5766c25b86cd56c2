from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dermprompt.data.labels import ATTRIBUTES, Metadata, label_files, read_labels

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "isic_labels"
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"needs {REAL}")

HEAD_2017 = "image_id,melanoma,seborrheic_keratosis"
HEAD_2019 = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
HEAD_METADATA = "image,age_approx,anatom_site_general,lesion_id,sex"
FILE_2017 = "ISIC-2017_Training_Part3_GroundTruth.csv"
FILE_2019 = "ISIC_2019_Training_GroundTruth.csv"
FILE_METADATA = "ISIC_2019_Training_Metadata.csv"
FILE_ATTRIBUTES = "ISIC2018_Task2_Training_image_attributes.csv"
FOLDER_ATTRIBUTES = "ISIC2018_Task2_Training_GroundTruth_v3"


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n")


def write_attribute_masks(folder: Path, id: str, present: set[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ATTRIBUTES:
        mask = np.zeros((40, 50), np.uint8)
        mask[17, 23] = 255 * (name in present)
        cv2.imwrite(str(folder / f"{id}_attribute_{name}.png"), mask)


def test_2017_classes_become_2019_classes(tmp_path: Path) -> None:
    write(tmp_path / FILE_2017, HEAD_2017, "ISIC_1,0.0,0.0", "ISIC_2,1.0,0.0")
    write(tmp_path / "ISIC-2017_Validation_Part3_GroundTruth.csv", HEAD_2017, "ISIC_3,0.0,1.0")
    labels = read_labels(tmp_path)
    assert labels.diagnosis == {"ISIC_1": "NV", "ISIC_2": "MEL", "ISIC_3": "BKL"}
    assert labels.counts == {FILE_2017: 2, "ISIC-2017_Validation_Part3_GroundTruth.csv": 1}


def test_2019_each_class_is_read_from_its_own_column(tmp_path: Path) -> None:
    classes = HEAD_2019.split(",")[1:]
    rows = [f"{name}," + ",".join(str(float(name == column)) for column in classes) for name in classes]
    write(tmp_path / FILE_2019, HEAD_2019, *rows)
    assert read_labels(tmp_path).diagnosis == {name: name for name in classes if name != "UNK"}


def test_downsampled_ids_join_and_cells_may_be_empty(tmp_path: Path) -> None:
    write(tmp_path / FILE_2019, HEAD_2019, "ISIC_1_downsampled,1,0,0,0,0,0,0,0,0")
    write(tmp_path / FILE_2017, HEAD_2017, "ISIC_1,1,0")
    write(tmp_path / FILE_METADATA, HEAD_METADATA, "ISIC_1_downsampled,55,anterior torso,x,", "ISIC_2,,,,male")
    labels = read_labels(tmp_path)
    assert labels.diagnosis == {"ISIC_1": "MEL"}
    assert labels.metadata == {
        "ISIC_1": Metadata(55.0, None, "anterior torso"),
        "ISIC_2": Metadata(None, "male", None),
    }


@pytest.mark.parametrize("nesting", ["", FOLDER_ATTRIBUTES])
def test_attribute_masks_and_table_say_the_same(tmp_path: Path, nesting: str) -> None:
    masks, table = tmp_path / "masks", tmp_path / "table"
    for id, present in {"ISIC_1": {"streaks", "globules"}, "ISIC_2": set()}.items():
        write_attribute_masks(masks / FOLDER_ATTRIBUTES / nesting, id, present)
    table.mkdir()
    write(table / FILE_ATTRIBUTES, "image_id," + ",".join(ATTRIBUTES), "ISIC_1,1,0,0,0,1", "ISIC_2,0,0,0,0,0")
    from_masks = read_labels(masks).attributes
    assert from_masks == {"ISIC_1": ("globules", "streaks"), "ISIC_2": ()}
    assert read_labels(table).attributes == from_masks


def test_attribute_masks_and_table_that_disagree(tmp_path: Path) -> None:
    write_attribute_masks(tmp_path / FOLDER_ATTRIBUTES, "ISIC_1", {"streaks"})
    write(tmp_path / FILE_ATTRIBUTES, "image_id," + ",".join(ATTRIBUTES), "ISIC_1,1,0,0,0,1")
    with pytest.raises(ValueError, match=r"disagree on the attributes of ISIC_1"):
        read_labels(tmp_path)


def test_missing_attribute_mask_is_not_taken_for_absence(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER_ATTRIBUTES
    write_attribute_masks(folder, "ISIC_1", set())
    (folder / "ISIC_1_attribute_streaks.png").unlink()
    with pytest.raises(ValueError, match=r"each id needs the masks.*ISIC_1 \(globules"):
        read_labels(tmp_path)


def test_unreadable_attribute_mask(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER_ATTRIBUTES
    write_attribute_masks(folder, "ISIC_1", set())
    (folder / "ISIC_1_attribute_streaks.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"unreadable ISIC_1_attribute_streaks.png"):
        read_labels(tmp_path)


def test_no_label_files_at_all(tmp_path: Path) -> None:
    labels = read_labels(tmp_path)
    assert labels.diagnosis == labels.attributes == labels.metadata == labels.counts == {}


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere does not exist"):
        read_labels(tmp_path / "nowhere")


def test_sources_that_disagree_name_every_id(tmp_path: Path) -> None:
    write(tmp_path / FILE_2017, HEAD_2017, "ISIC_1,1,0", "ISIC_2,0,0", "ISIC_3,0,1")
    rows = [f"ISIC_{i},0,1,0,0,0,0,0,0,0" for i in (1, 2, 3)]
    write(tmp_path / FILE_2019, HEAD_2019, *rows)
    with pytest.raises(ValueError, match=r"disagree on the diagnosis of ISIC_1 \(MEL; in .* NV\), ISIC_3 \(BKL"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        (FILE_2017, ["image_id,melanoma", "a,0"], r"line 1: no column seborrheic_keratosis"),
        (FILE_2017, ["<html>"], r"line 1: no column image_id, melanoma"),
        (FILE_2017, [HEAD_2017, "a,0,0", "b,yes,0"], r"line 3: column melanoma is 'yes', not a number"),
        (FILE_2017, [HEAD_2017, "a,0"], r"line 2: column seborrheic_keratosis is None, not a number"),
        (FILE_2017, [HEAD_2017, "a,nan,0"], r"line 2: column melanoma is 'nan'"),
        (FILE_2017, [HEAD_2017, "a,0.5,0"], r"column melanoma is 0.5; allowed are 0 and 1"),
        (FILE_2017, [HEAD_2017, "a,1,1"], r"columns melanoma and seborrheic_keratosis are both 1"),
        (FILE_2017, [HEAD_2017, "a,1,0", "a,0,0"], r"line 3: a stands twice, as MEL and as NV"),
        (FILE_2019, [HEAD_2019, "a,0,0,0,0,0,0,0,0,0"], r"line 2: 0 of the columns"),
        (FILE_2019, [HEAD_2019, "a,1,1,0,0,0,0,0,0,0"], r"line 2: 2 of the columns"),
        (FILE_2019, [HEAD_2019.replace(",VASC", "")], r"no column VASC"),
        (FILE_METADATA, [HEAD_METADATA, "a,old,,,"], r"line 2: column age_approx is 'old'"),
        (FILE_METADATA, ["image,age_approx,sex"], r"no column anatom_site_general"),
        (FILE_ATTRIBUTES, ["image_id,globules"], r"no column milia_like_cyst"),
    ],
)
def test_malformed_table_names_file_line_and_column(tmp_path: Path, file: str, lines: list[str], message: str) -> None:
    write(tmp_path / file, *lines)
    with pytest.raises(ValueError, match=file + ".*" + message):
        read_labels(tmp_path)


def test_table_that_is_no_text_names_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE_2017).write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match=FILE_2017):
        read_labels(tmp_path)


def test_label_files_are_those_that_are_read(tmp_path: Path) -> None:
    write(tmp_path / FILE_2019, HEAD_2019)
    write(tmp_path / "notes.csv", "x")
    write_attribute_masks(tmp_path / FOLDER_ATTRIBUTES, "ISIC_1", set())
    names = [path.name for path in label_files(tmp_path)]
    assert names == [FILE_2019, *(f"ISIC_1_attribute_{name}.png" for name in ATTRIBUTES)]


@needs_data
def test_real_labels() -> None:
    labels = read_labels(REAL)
    assert sorted(labels.counts.values()) == [150, 2000, 2594, 25331, 25331]
    assert len(labels.diagnosis) == len(labels.metadata) == 25331
    assert not any(id.endswith("_downsampled") for id in labels.diagnosis)
    assert {name for names in labels.attributes.values() for name in names} == set(ATTRIBUTES)
    # Two rows read by eye.
    assert labels.metadata["ISIC_0000000"] == Metadata(55.0, "female", "anterior torso")
    assert labels.attributes["ISIC_0000001"] == ("globules", "pigment_network", "streaks")
