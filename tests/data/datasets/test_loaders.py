"""HAM10000, PH2 and a plain folder: small trees in each layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from miniature import miniature, run
from PIL import Image

from dermprompt.data.index import read_index


def picture(path: Path, seed: int = 0, mask: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = np.zeros((32, 32), np.uint8) if mask else rng.integers(0, 255, (32, 32, 3), np.uint8)
    if mask:
        pixels[8:20, 8:24] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def ham10000(tmp_path: Path) -> Path:
    for number, part in ((1, 1), (2, 2), (3, 2)):
        picture(tmp_path / f"HAM10000_images_part_{part}" / f"ISIC_{number}.jpg", number)
        folder = tmp_path / "HAM10000_segmentations_lesion_tschandl"
        picture(folder / f"ISIC_{number}_segmentation.png", mask=True)
    rows = (
        "lesion_id,image_id,dx,dx_type,age,sex,localization",
        "HAM_1,ISIC_1,akiec,histo,80.0,male,scalp",
        "HAM_2,ISIC_2,nv,consensus,,unknown,unknown",
        "HAM_2,ISIC_3,nv,consensus,0.0,female,back",
    )
    (tmp_path / "HAM10000_metadata.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_ham10000(ham10000: Path) -> None:
    index = read_index("ham10000", ham10000, ham10000)
    found = [(one.id, one.diagnosis, one.age, one.sex, one.site, one.lesion_id) for one in index.lesions]
    assert found == [
        ("ISIC_1", "AK", 80.0, "male", "scalp", "HAM_1"),
        ("ISIC_2", "NV", None, None, None, "HAM_2"),
        ("ISIC_3", "NV", None, "female", "back", "HAM_2"),
    ]
    assert index.findings == ()


def test_ham10000_table_without_an_ending_and_a_wrong_class(ham10000: Path) -> None:
    table = (ham10000 / "HAM10000_metadata.csv").rename(ham10000 / "HAM10000_metadata")
    table.write_text(table.read_text().replace("akiec", "wart"))
    index = read_index("ham10000", ham10000, ham10000)
    assert [one.diagnosis for one in index.lesions] == [None, "NV", "NV"]
    assert [(one.verdict, one.what) for one in index.findings] == [("bad_row", "HAM10000_metadata, line 2")]


def test_ham10000_without_masks(ham10000: Path) -> None:
    with pytest.raises(ValueError, match="no folder HAM10000_images_part_1; expected"):
        read_index("ham10000", ham10000 / "HAM10000_images_part_1", ham10000)


PH2_TEXT = """\
|| Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry || Pigment Network || Dots/Globules || Streaks ||
|| IMD003 ||                      ||        0           ||     0     || T || A || A || A || A || 1  4 ||
|| IMD058 ||  Melanoma            ||        2           ||     2     || AT || AT || P || A || P || 3  4 ||
"""


@pytest.fixture
def ph2(tmp_path: Path) -> Path:
    for number, name in enumerate(("IMD003", "IMD058")):
        folder = tmp_path / "PH2 Dataset images" / name
        picture(folder / f"{name}_Dermoscopic_Image" / f"{name}.bmp", number)
        picture(folder / f"{name}_lesion" / f"{name}_lesion.bmp", mask=True)
    (tmp_path / "PH2_dataset.txt").write_text(PH2_TEXT)
    return tmp_path


def write_sheet(path: Path, melanoma: str = "X") -> None:
    book = openpyxl.Workbook()
    title = ("Image Name", "Histological", "Common Nevus", "Atypical Nevus", "Melanoma", "Asymmetry\n(0/1/2)")
    book.active.append(["PH2 dataset"])
    book.active.append([*title, "Pigment Network\n(AT/T)", "Dots/Globules\n(A/AT/T)", "Streaks\n(A/P)"])
    book.active.append(["IMD003", None, "X", None, None, 0, "T", "A", "A"])
    book.active.append(["IMD058", "Melanoma", None, None, melanoma, 2, "AT", "AT", "P"])
    book.save(path)


def test_ph2_text_and_sheet_say_the_same(ph2: Path) -> None:
    expected = [("IMD003", "NV", ("pigment_network",)), ("IMD058", "MEL", ("globules", "pigment_network", "streaks"))]
    for tables in (("txt",), ("txt", "xlsx"), ("xlsx",)):
        if "xlsx" in tables:
            write_sheet(ph2 / "PH2_dataset.xlsx")
        if "txt" not in tables:
            (ph2 / "PH2_dataset.txt").unlink()
        index = read_index("ph2", ph2, ph2)
        assert [(one.id, one.diagnosis, one.attributes) for one in index.lesions] == expected
        assert len(index.coverages) == len(tables)
        assert index.findings == ()


def test_ph2_rows_and_sheets_that_say_nothing(ph2: Path) -> None:
    write_sheet(ph2 / "PH2_dataset.xlsx", melanoma="")
    (finding,) = read_index("ph2", ph2, ph2).findings
    assert (finding.verdict, finding.what) == ("bad_row", "PH2_dataset.xlsx, IMD058")
    (ph2 / "PH2_dataset.xlsx").write_bytes(b"PK damaged")
    (finding,) = read_index("ph2", ph2, ph2).findings
    assert (finding.verdict, finding.what) == ("unreadable_table", "PH2_dataset.xlsx")


def test_ph2_without_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image of PH2; expected"):
        read_index("ph2", tmp_path, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(40):
        picture(tmp_path / "images" / f"polyp{number}.png", number)
        picture(tmp_path / "masks" / f"polyp{number}.png", mask=True)
    rows = [
        f"polyp{n},{'sessile' if n % 2 else 'flat'},{'red; large' if n % 3 else 'none'},P{n // 2},x" for n in range(39)
    ]
    (tmp_path / "labels.csv").write_text(
        "\n".join(["id,diagnosis,attributes,lesion_id,notes", *rows, "polyp39,,,,"]) + "\n"
    )
    return tmp_path


def test_a_folder_of_ones_own(folder: Path) -> None:
    index = read_index("folder", folder, folder)
    known = {one.id: one for one in index.lesions}
    assert (known["polyp1"].diagnosis, known["polyp1"].attributes) == ("sessile", ("large", "red"))
    assert (known["polyp0"].attributes, known["polyp39"].attributes, known["polyp39"].diagnosis) == ((), None, None)
    assert [(one.verdict, one.detail) for one in index.findings] == [("extra_columns", "notes")]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("id,age", "polyp1,old", "column age is 'old', not a number"),
        ("id,part", "polyp1,train", "column part is 'train'; allowed are training, validation, test"),
        ("id,attributes", "polyp1,none;red", "column attributes is 'none;red'"),
    ],
)
def test_a_folder_with_a_wrong_cell(folder: Path, header: str, row: str, message: str) -> None:
    (folder / "labels.csv").write_text(f"{header}\n{row}\n")
    (finding,) = read_index("folder", folder, folder).findings
    assert finding.verdict == "bad_row"
    assert message in finding.detail


def test_a_folder_without_labels_and_without_masks(folder: Path) -> None:
    (folder / "labels.csv").unlink()
    assert all(one.diagnosis is None for one in read_index("folder", folder, folder).lesions)
    (folder / "masks").rename(folder / "elsewhere")
    with pytest.raises(ValueError, match="no folder masks; expected"):
        read_index("folder", folder, folder)


def test_the_job_takes_a_folder(folder: Path, tmp_path: Path) -> None:
    overrides = [one for one in miniature("none", "synthesis.count=0") if not one.startswith(("data=", "data.num"))]
    run(tmp_path, *overrides, "stage=prepare", "data=folder", f"data.root={folder}")
    (report,) = (tmp_path / "store" / "prepare").glob("coverage-*/coverage.json")
    found = json.loads(report.read_text())
    assert (found["images"], found["diagnosis"]) == (40, {"flat": 20, "sessile": 19})
    assert len(found["several_images"]) == 19
    assert all(len(set(parts.values())) == 1 for parts in found["several_images"].values())
