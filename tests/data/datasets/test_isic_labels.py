from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from real_data import REAL

from dermprompt.data.datasets.isic_labels import ATTRIBUTES, isic_label_files, read_isic_labels
from dermprompt.data.labels import Source

HEAD_2017 = "image_id,melanoma,seborrheic_keratosis"
HEAD_2019 = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
HEAD_METADATA = "image,age_approx,anatom_site_general,lesion_id,sex"
FILE_2017 = "ISIC-2017_Training_Part3_GroundTruth.csv"
FILE_2017_VALIDATION = "ISIC-2017_Validation_Part3_GroundTruth.csv"
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


def only(folder: Path) -> Source:
    (source,) = read_isic_labels(folder)
    return source


def said(source: Source, field: str) -> dict[str, Any]:
    return {id: row[field] for id, row in source.rows.items() if field in row}


def test_2017_classes_become_2019_classes(tmp_path: Path) -> None:
    write(tmp_path / FILE_2017, HEAD_2017, "ISIC_1,0.0,0.0", "ISIC_2,1.0,0.0")
    write(tmp_path / FILE_2017_VALIDATION, HEAD_2017, "ISIC_3,0.0,1.0")
    source = only(tmp_path)
    assert said(source, "diagnosis") == {"ISIC_1": "NV", "ISIC_2": "MEL", "ISIC_3": "BKL"}
    assert (source.files, source.num_rows) == ((FILE_2017, FILE_2017_VALIDATION), 3)


def test_2019_each_class_is_read_from_its_own_column(tmp_path: Path) -> None:
    classes = HEAD_2019.split(",")[1:]
    rows = [f"{name}," + ",".join(str(float(name == column)) for column in classes) for name in classes]
    write(tmp_path / FILE_2019, HEAD_2019, *rows)
    assert said(only(tmp_path), "diagnosis") == {name: name for name in classes if name != "UNK"}


def test_downsampled_ids_lose_their_ending_and_cells_may_be_empty(tmp_path: Path) -> None:
    write(tmp_path / FILE_METADATA, HEAD_METADATA, "ISIC_1_downsampled,55,anterior torso,x,", "ISIC_2,,,,male")
    assert only(tmp_path).rows == {
        "ISIC_1": {"age": 55.0, "site": "anterior torso", "lesion_id": "x"},
        "ISIC_2": {"sex": "male"},
    }


@pytest.mark.parametrize("nesting", ["", FOLDER_ATTRIBUTES])
def test_attribute_masks_and_table_say_the_same(tmp_path: Path, nesting: str) -> None:
    masks, table = tmp_path / "masks", tmp_path / "table"
    for id, present in {"ISIC_1": {"streaks", "globules"}, "ISIC_2": set()}.items():
        write_attribute_masks(masks / FOLDER_ATTRIBUTES / nesting, id, present)
    table.mkdir()
    write(table / FILE_ATTRIBUTES, "image_id," + ",".join(ATTRIBUTES), "ISIC_1,1,0,0,0,1", "ISIC_2,0,0,0,0,0")
    from_masks = said(only(masks), "attributes")
    assert from_masks == {"ISIC_1": ("globules", "streaks"), "ISIC_2": ()}
    assert said(only(table), "attributes") == from_masks


def test_missing_attribute_mask_is_not_taken_for_absence(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER_ATTRIBUTES
    write_attribute_masks(folder, "ISIC_1", set())
    (folder / "ISIC_1_attribute_streaks.png").unlink()
    source = only(tmp_path)
    assert source.rows == {}
    assert [(one.verdict, one.what) for one in source.findings] == [("incomplete_attributes", "ISIC_1")]


@pytest.mark.parametrize("data", [b"\x89PNG", b""])
def test_unreadable_attribute_mask(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / FOLDER_ATTRIBUTES
    write_attribute_masks(folder, "ISIC_1", set())
    (folder / "ISIC_1_attribute_streaks.png").write_bytes(data)
    source = only(tmp_path)
    assert source.rows == {}
    assert [(one.verdict, one.what) for one in source.findings] == [("unreadable", "ISIC_1_attribute_streaks.png")]


def test_no_label_files_at_all(tmp_path: Path) -> None:
    assert read_isic_labels(tmp_path) == []


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere does not exist"):
        read_isic_labels(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("file", "lines", "verdict", "message"),
    [
        (FILE_2017, ["image_id,melanoma", "a,0"], "missing_columns", "no column seborrheic_keratosis"),
        (FILE_2017, ["<html>"], "missing_columns", "no column image_id, melanoma"),
        (FILE_2017, [HEAD_2017, "a,0,0", "b,yes,0"], "bad_row", "column melanoma is 'yes', not a number"),
        (FILE_2017, [HEAD_2017, "a,0"], "bad_row", "2 cells under 3 columns"),
        (FILE_2017, [HEAD_2017, "a,nan,0"], "bad_row", "column melanoma is 'nan'"),
        (FILE_2017, [HEAD_2017, "a,0.5,0"], "bad_row", "column melanoma is 0.5; allowed are 0 and 1"),
        (FILE_2017, [HEAD_2017, "a,1,1"], "bad_row", "columns melanoma and seborrheic_keratosis are both 1"),
        (FILE_2019, [HEAD_2019, "a,0,0,0,0,0,0,0,0,0"], "bad_row", "0 of the columns"),
        (FILE_2019, [HEAD_2019, "a,1,1,0,0,0,0,0,0,0"], "bad_row", "2 of the columns"),
        (FILE_2019, [HEAD_2019.replace(",VASC", "")], "missing_columns", "no column VASC"),
        (FILE_METADATA, [HEAD_METADATA, "a,old,,,"], "bad_row", "column age_approx is 'old'"),
        (FILE_METADATA, ["image,age_approx,sex"], "missing_columns", "no column anatom_site_general, lesion_id"),
        (FILE_ATTRIBUTES, ["image_id,globules"], "missing_columns", "no column milia_like_cyst"),
    ],
)
def test_malformed_table_names_file_line_and_column(
    tmp_path: Path, file: str, lines: list[str], verdict: str, message: str
) -> None:
    write(tmp_path / file, *lines)
    (finding,) = only(tmp_path).findings
    assert finding.verdict == verdict
    assert finding.what == (file if verdict == "missing_columns" else f"{file}, line {len(lines)}")
    assert message in finding.detail


def test_validation_and_training_that_disagree(tmp_path: Path) -> None:
    write(tmp_path / FILE_2017, HEAD_2017, "ISIC_1,1,0")
    write(tmp_path / FILE_2017_VALIDATION, HEAD_2017, "ISIC_1,0,0")
    source = only(tmp_path)
    assert [(one.verdict, one.what) for one in source.findings] == [("duplicate_row", FILE_2017_VALIDATION)]
    assert said(source, "diagnosis") == {}


def test_label_files_are_those_that_are_read(tmp_path: Path) -> None:
    write(tmp_path / FILE_2019, HEAD_2019)
    write(tmp_path / "notes.csv", "x")
    write_attribute_masks(tmp_path / FOLDER_ATTRIBUTES, "ISIC_1", set())
    names = [path.name for path in isic_label_files(tmp_path)]
    assert names == [FILE_2019, *(f"ISIC_1_attribute_{name}.png" for name in ATTRIBUTES)]


@pytest.mark.real_data("isic_labels")
def test_real_labels() -> None:
    sources = {one.name: one for one in read_isic_labels(REAL / "isic_labels")}
    assert sorted(one.num_rows for one in sources.values()) == [2150, 2594, 25331, 25331]
    assert not any(id.endswith("_downsampled") for one in sources.values() for id in one.rows)
    attributes = said(sources["ISIC 2018 attribute table"], "attributes")
    assert {name for names in attributes.values() for name in names} == set(ATTRIBUTES)
    # Two rows read by eye.
    first = {"age": 55.0, "sex": "female", "site": "anterior torso"}
    assert sources["ISIC 2019 metadata"].rows["ISIC_0000000"] == first
    assert attributes["ISIC_0000001"] == ("globules", "pigment_network", "streaks")
