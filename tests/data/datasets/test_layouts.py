"""HAM10000, PH2 and an export of the ISIC Archive in the layouts in which they go about, with the real names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dermprompt.data.index import Index, load_index, read_index
from dermprompt.stages.prepare import _groups

HAM_IDS = ("ISIC_0027419", "ISIC_0025030", "ISIC_0026769")
CSV = """\
lesion_id,image_id,dx,dx_type,age,sex,localization
HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp
HAM_0000118,ISIC_0025030,bkl,histo,80.0,male,scalp
HAM_0002730,ISIC_0026769,mel,histo,80.0,male,scalp
"""
# As Dataverse gives it.
TAB = (
    '"lesion_id"\t"image_id"\t"dx"\t"dx_type"\t"age"\t"sex"\t"localization"\t"dataset"\n'
    '"HAM_0000118"\t"ISIC_0027419"\t"bkl"\t"histo"\t80.0\t"male"\t"scalp"\t"vidir_modern"\n'
    '"HAM_0000118"\t"ISIC_0025030"\t"bkl"\t"histo"\t80.0\t"male"\t"scalp"\t"vidir_modern"\n'
    '"HAM_0002730"\t"ISIC_0026769"\t"mel"\t"histo"\t80.0\t"male"\t"scalp"\t"vidir_modern"\n'
)


def put(path: Path, content: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name if content is None else content)


def ham_images(root: Path, *folders: str, end: str = "jpg") -> None:
    for number, id in enumerate(HAM_IDS):
        put(root / folders[number % len(folders)] / f"{id}.{end}")


def ham_masks(root: Path, folder: str, end: str = "_segmentation") -> None:
    for id in HAM_IDS:
        put(root / folder / f"{id}{end}.png")


PART = "HAM10000_images_part_"
OUTLINES = "HAM10000_segmentations_lesion_tschandl"


def dataverse(root: Path) -> None:
    ham_images(root, f"{PART}1", f"{PART}2")
    ham_masks(root, OUTLINES)
    put(root / "HAM10000_metadata.tab", TAB)


def kaggle(root: Path) -> None:
    """With every folder twice, once in lower case, and the archive of masks in a folder of its own name."""
    ham_images(root, f"{PART}1", f"{PART}2")
    ham_images(root, f"{PART}1".lower(), f"{PART}2".lower())
    ham_masks(root, f"{OUTLINES}/{OUTLINES}")
    put(root / "HAM10000_metadata.csv", CSV)
    put(root / "hmnist_28_28_RGB.csv", "pixel0000\n1\n")


def both_tables(root: Path) -> None:
    dataverse(root)
    put(root / "HAM10000_metadata.csv", CSV)


def isic_names(root: Path) -> None:
    ham_images(root, "ISIC2018_Task3_Training_Input")
    ham_masks(root, OUTLINES)
    truth = "ISIC2018_Task3_Training_GroundTruth"
    rows = "ISIC_0027419,0,0,0,0,1,0,0\nISIC_0025030,0,0,0,0,1,0,0\nISIC_0026769,1,0,0,0,0,0,0\n"
    put(root / truth / f"{truth}.csv", "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n" + rows)
    groups = "".join(f"{id},HAM_{number // 2},histopathology\n" for number, id in enumerate(HAM_IDS))
    put(
        root / truth / "ISIC2018_Task3_Training_LesionGroupings.csv",
        "image,lesion_id,diagnosis_confirm_type\n" + groups,
    )


def plain_folders(root: Path) -> None:
    ham_images(root, "images")
    ham_masks(root, "masks", "")
    put(root / "HAM10000_metadata", CSV)


def lower_case(root: Path) -> None:
    ham_images(root, f"{PART}1".lower(), f"{PART}2".lower())
    ham_masks(root, OUTLINES, "")
    put(root / "ham10000_metadata.csv", CSV)


def in_a_folder(root: Path) -> None:
    dataverse(root / "dataverse_files")


HAM: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "dataverse": (dataverse, ["delimiter"]),
    "kaggle": (kaggle, ["repeated_file"] * 3),
    "both tables": (both_tables, ["delimiter"]),
    "isic": (isic_names, []),
    "plain": (plain_folders, ["mask_suffix"]),
    "lower case": (lower_case, ["mask_suffix"]),
    "parent": (in_a_folder, ["delimiter"]),
}


@pytest.mark.parametrize("layout", HAM)
def test_ham10000_from_every_layout(layout: str, tmp_path: Path) -> None:
    build, said = HAM[layout]
    build(tmp_path)
    index = read_index("ham10000", tmp_path, tmp_path)
    assert {one.id: one.diagnosis for one in index.lesions} == dict(zip(HAM_IDS, ("BKL", "BKL", "MEL"), strict=True))
    assert [one.verdict for one in index.findings] == said
    (group,) = (one for one in _groups(list(index.lesions), None) if len(one) > 1)
    assert set(group) == set(HAM_IDS[:2])


PH2_TEXT = """\
||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment Network | Dots/Globules | Streaks | \
Regression Areas | Blue-Whitish Veil ||           Colors ||
|| IMD003 ||                        ||                  0 ||         0 |               T |             A |       A |\
                A |                 A ||                4 ||
|| IMD058 ||               Melanoma ||                  2 ||         2 |              AT |            AT |       P |\
                A |                 P ||             3  4 ||

Legends:
Histological Diagnosis: empty - not available
""".replace("\n", "\r\n")
PH2_IDS = ("IMD003", "IMD058")


def official(root: Path, ending: str = "bmp", blanks: str = "_") -> None:
    for id in PH2_IDS:
        folder = root / "PH2 Dataset images" / id
        put(folder / f"{id}_Dermoscopic_Image".replace("_", blanks) / f"{id}.bmp")
        put(folder / f"{id}_lesion".replace("_", blanks) / f"{id}_lesion.{ending}")
        put(folder / f"{id}_roi".replace("_", blanks) / f"{id}_R1_Label4.bmp")
    (root / "PH2_dataset.txt").write_bytes(PH2_TEXT.encode())


def flat(root: Path) -> None:
    for id in PH2_IDS:
        put(root / "images" / f"{id}.bmp")
        put(root / "masks" / f"{id}_lesion.bmp")
    (root / "PH2_dataset.txt").write_bytes(PH2_TEXT.encode())


def flat_of_one_name(root: Path) -> None:
    for id in PH2_IDS:
        put(root / "Images" / f"{id}.png")
        put(root / "Masks" / f"{id}.png")
    (root / "PH2_dataset.txt").write_bytes(PH2_TEXT.encode())


PH2: dict[str, Callable[[Path], None]] = {
    "official": official,
    "its parent": lambda root: official(root / "PH2Dataset"),
    "jpeg masks": lambda root: official(root, "jpg"),
    "blanks": lambda root: official(root, blanks=" "),
    "flat": flat,
    "flat, one name": flat_of_one_name,
}


@pytest.mark.parametrize("layout", PH2)
def test_ph2_from_every_layout(layout: str, tmp_path: Path) -> None:
    PH2[layout](tmp_path)
    index = read_index("ph2", tmp_path, tmp_path)
    assert [(one.id, one.diagnosis, one.attributes) for one in index.lesions] == [
        ("IMD003", "NV", ("pigment_network",)),
        ("IMD058", "MEL", ("globules", "pigment_network", "streaks")),
    ]
    assert not [one for one in index.findings if one.bad]


def test_an_id_that_stands_twice_in_ph2s_table(tmp_path: Path) -> None:
    official(tmp_path)
    row = next(line for line in PH2_TEXT.split("\r\n") if "IMD003" in line)
    table = tmp_path / "PH2_dataset.txt"
    table.write_text(PH2_TEXT + row + "\r\n")
    assert [one.verdict for one in read_index("ph2", tmp_path, tmp_path).findings] == ["repeated_row"]
    table.write_text(PH2_TEXT + row.replace(" 0 ||", " 2 ||", 1) + "\r\n")
    index = read_index("ph2", tmp_path, tmp_path)
    assert [one.verdict for one in index.findings] == ["duplicate_row"]
    assert index.lesions[0].diagnosis is None


METADATA = """\
isic_id,attribution,copyright_license,age_approx,anatom_site_general,diagnosis_1,diagnosis_2,diagnosis_3,lesion_id,\
patient_id,sex
ISIC_0000001,A,CC-0,30,head/neck,Benign,Benign melanocytic proliferations,Nevus,IL_1,IP_1,male
ISIC_0000002,A,CC-0,,,Malignant,Malignant melanocytic proliferations (Melanoma),"Melanoma, NOS",IL_2,IP_1,
ISIC_0000003,A,CC-0,50,,Benign,Benign epidermal proliferations,Wart,IL_3,IP_2,female
"""


def archive(root: Path, *masks: str) -> None:
    for number in range(1, 4):
        put(root / f"ISIC_000000{number}.jpg")
    for id in masks:
        put(root / "masks" / f"{id}_segmentation.png")
    put(root / "metadata.csv", METADATA)


def read_archive(root: Path) -> Index:
    return read_index("isic_archive", root, root)


def test_an_export_of_the_archive_with_masks_of_some_images(tmp_path: Path) -> None:
    archive(tmp_path, "ISIC_0000001", "ISIC_0000002")
    index = read_archive(tmp_path)
    found = [(one.id, one.diagnosis, one.age, one.site, one.sex, one.patient_id) for one in index.lesions]
    assert found == [
        ("ISIC_0000001", "NV", 30.0, "head/neck", "male", "IP_1"),
        ("ISIC_0000002", "MEL", None, None, None, "IP_1"),
    ]
    assert [(one.verdict, one.what, one.detail) for one in index.findings] == [
        ("unlabelled", "1 images", "ISIC_0000003.jpg"),
        ("unknown_diagnosis", "metadata.csv", "Wart, 1 rows"),
    ]
    assert ("ISIC_0000001", "ISIC_0000002") in _groups(list(index.lesions), None)


def test_images_of_the_archive_without_masks_are_a_pool_if_that_is_said(tmp_path: Path) -> None:
    archive(tmp_path / "root", "ISIC_0000001", "ISIC_0000002")
    root, without = tmp_path / "root", read_archive(tmp_path / "root")
    index = read_index("isic_archive", root, root, without_mask="pool")
    (alone,) = index.pool
    assert (alone.id, alone.mask, alone.age, alone.patient_id) == ("ISIC_0000003", None, 50.0, "IP_2")
    assert (without.pool, without.lesions) == ((), index.lesions)
    assert without.contents == {one.id: index.contents[one.id] for one in index.lesions}
    assert index.contents[alone.id][1] == ""
    assert index.coverages[0].matched == ("ISIC_0000001", "ISIC_0000002", "ISIC_0000003")
    index.save(tmp_path / "index.json")
    assert load_index(tmp_path / "index.json") == index
    relabelled = replace(index, pool=(replace(alone, diagnosis="MEL"),))
    assert len({one.digest for one in (index, without, relabelled)}) == 3
    put(root / "masks" / "ISIC_0000003_segmentation.png")
    with pytest.raises(ValueError, match=r"data.without_mask=pool: there is no image without a mask"):
        read_index("isic_archive", root, root, without_mask="pool")
    shutil.rmtree(root / "masks")
    with pytest.raises(ValueError, match="none of the 3 images has a mask"):
        read_index("isic_archive", root, root, without_mask="pool")


def test_an_export_of_the_archive_without_masks_says_what_it_is_good_for(tmp_path: Path) -> None:
    archive(tmp_path)
    with pytest.raises(ValueError, match=r"none of the 3 images has a mask.*data=isic data.labels=ITS FOLDER"):
        read_archive(tmp_path)


def test_the_archives_metadata_label_isics_images(tmp_path: Path) -> None:
    archive(tmp_path / "archive")
    images, masks = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"
    for number in range(1, 3):
        put(tmp_path / images / f"ISIC_000000{number}.jpg")
        put(tmp_path / masks / f"ISIC_000000{number}_segmentation.png")
    index = read_index("isic", tmp_path, tmp_path / "archive")
    assert [one.diagnosis for one in index.lesions] == ["NV", "MEL"]
    shutil.rmtree(tmp_path / "archive")
