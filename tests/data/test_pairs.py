"""Images and masks as people name them and lay them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dermprompt.data.index import Index, read_index

ODD_NAMES = (
    "with blanks",
    "a.b.c",
    "(1) [x]",
    "a,b;c",
    "x=1",
    "Läsion",
    "émile",
    "病变",
    "quote'\"",
    "$HOME `ls`",
    "-dash",
    "x" * 200,
)


def put(root: Path, *names: str) -> None:
    """Files of different contents."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def read(root: Path, suffix: str | None = None) -> Index:
    return read_index("folder", root, root, suffix=suffix)


def ids(index: Index) -> list[str]:
    return [one.id for one in index.lesions]


def verdicts(index: Index) -> list[str]:
    return [one.verdict for one in index.findings]


@pytest.mark.parametrize("end", ["", "_segmentation", "_mask", "-mask", "_label", "_GT", "_Segmentation", "_gt"])
@pytest.mark.parametrize("together", [False, True])
def test_the_ending_of_the_masks_names_is_found(end: str, together: bool, tmp_path: Path) -> None:
    if together and not end:
        pytest.skip("one name in one folder")
    images, masks = ("", "") if together else ("images/", "masks/")
    put(tmp_path, *(f"{images}a{n}.jpg" for n in range(3)), *(f"{masks}a{n}{end}.png" for n in range(3)))
    index = read(tmp_path)
    assert ids(index) == ["a0", "a1", "a2"]
    assert [one.mask.name for one in index.lesions] == [f"a{n}{end}.png" for n in range(3)]
    assert verdicts(index) == (["mask_suffix"] if end else [])


def test_a_pool_is_not_looked_for_where_masks_may_pass_for_images(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "a_mask.png", "b_mask.png", "c.jpg")
    with pytest.raises(ValueError, match="in one folder, where a mask without its image would pass for an image"):
        read_index("folder", tmp_path, tmp_path, without_mask="pool")


def test_an_ending_of_ones_own(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "masks/a_outline.png")
    assert verdicts(read(tmp_path)) == ["no_mask", "no_image"]
    assert ids(read(tmp_path, "_outline")) == ["a"]


def test_the_ending_that_pairs_most_is_taken_and_others_are_said(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg", "masks/a_mask.png", "masks/b_mask.png", "masks/c.png")
    index = read(tmp_path)
    assert ids(index) == ["a", "b", "c"]
    (finding,) = index.findings
    assert finding.detail.startswith("2 masks are called ID_mask, 1 masks are called ID; data.mask_suffix")


def test_an_image_with_two_masks_names_both(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "masks/a.png", "masks/a_mask.png")
    finding = read(tmp_path).findings[-1]
    assert (finding.verdict, finding.detail) == ("duplicate_id", "a.png and a_mask.png")


def test_an_image_whose_name_ends_as_a_mask(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "images/a_mask.jpg", "masks/a.png", "masks/a_mask.png")
    assert ids(read(tmp_path)) == ["a", "a_mask"]


def test_names_of_any_kind(tmp_path: Path) -> None:
    put(tmp_path, *(f"images/{name}.jpg" for name in ODD_NAMES), *(f"masks/{name}.png" for name in ODD_NAMES))
    assert sorted(ids(read(tmp_path))) == sorted(ODD_NAMES)


def test_accents_as_macos_writes_them(tmp_path: Path) -> None:
    put(tmp_path, "images/La\u0308sion.jpg", "masks/L\u00e4sion_mask.png")
    (tmp_path / "labels.csv").write_text("id,diagnosis\nL\u00e4sion,MEL\n")
    assert [one.diagnosis for one in read(tmp_path).lesions] == ["MEL"]


@pytest.mark.parametrize("ending", ["JPG", "jpeg", "JPEG", "png", "tif", "TIFF", "bmp", "webp", "WebP"])
def test_endings_of_any_case(ending: str, tmp_path: Path) -> None:
    put(tmp_path, f"images/a.{ending}", f"masks/a.{ending}")
    assert ids(read(tmp_path)) == ["a"]


@pytest.mark.parametrize("folders", [("Images", "Masks"), ("imgs", "GT"), ("image", "Ground Truth")])
def test_folders_of_other_names(folders: tuple[str, str], tmp_path: Path) -> None:
    put(tmp_path, f"{folders[0]}/a.jpg", f"{folders[1]}/a.png")
    assert ids(read(tmp_path)) == ["a"]


@pytest.mark.parametrize("image", ["{}/images/{}.jpg", "images/{}/{}.jpg", "{}/{}.jpg"])
def test_folders_of_the_parts(image: str, tmp_path: Path) -> None:
    mask = image.replace("images", "masks").replace("}.jpg", "}_mask.png")
    for part, id in (("train", "a"), ("val", "b"), ("Test", "c")):
        put(tmp_path, image.format(part, id), mask.format(part, id))
    assert [(one.id, one.part) for one in read(tmp_path).lesions] == [
        ("a", "training"),
        ("b", "validation"),
        ("c", "test"),
    ]


def test_what_macos_and_windows_leave_there_is_no_picture(tmp_path: Path) -> None:
    put(
        tmp_path,
        "images/a.jpg",
        "images/._a.jpg",
        "images/.DS_Store",
        "images/Thumbs.db",
        "masks/a.png",
        "masks/._a.png",
    )
    index = read(tmp_path)
    assert (ids(index), verdicts(index), index.num_images) == (["a"], [], 1)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    put(tmp_path, *(f"images/{id}.jpg" for id in "ab"), *(f"masks/{id}.png" for id in "abcdef"))
    os.mkfifo(tmp_path / "images" / "c.jpg")
    (tmp_path / "images" / "d.jpg").mkdir()
    (tmp_path / "images" / "e.jpg").symlink_to("/dev/zero")
    (tmp_path / "images" / "f.jpg").symlink_to("nowhere")
    index = read(tmp_path)
    assert ids(index) == ["a", "b"]
    assert [(one.verdict, one.what, one.detail, one.id) for one in index.findings] == [
        ("not_a_file", "c.jpg", "no regular file", "c"),
        ("not_a_file", "d.jpg", "a folder", "d"),
        ("not_a_file", "e.jpg", "no regular file", "e"),
        ("not_a_file", "f.jpg", "a broken link", "f"),
    ]


def test_links_and_folders_that_cannot_be_written_to(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "a.jpg", "a.png")
    put(tmp_path / "root", "images/b.jpg", "masks/b.png")
    (tmp_path / "root" / "images" / "a.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "root" / "masks" / "a.png").symlink_to("../../elsewhere/a.png")
    (tmp_path / "link").symlink_to("root")
    for folder in ("root/images", "root/masks", "root"):
        (tmp_path / folder).chmod(0o555)
    try:
        assert ids(read(tmp_path / "root")) == ids(read(tmp_path / "link")) == ["a", "b"]
    finally:
        for folder in ("root", "root/images", "root/masks"):
            (tmp_path / folder).chmod(0o755)


def test_formats_that_are_not_read_are_said(tmp_path: Path) -> None:
    put(tmp_path, "images/a.heic", "images/b.jpg", "masks/a.png", "masks/b.png")
    (finding,) = read(tmp_path).findings
    assert (finding.verdict, finding.what, finding.id) == ("unknown_format", "a.heic", "a")


def test_a_file_that_lies_there_twice_counts_once(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "masks/a.png")
    (tmp_path / "images" / "a.JPG").write_bytes((tmp_path / "images" / "a.jpg").read_bytes())
    index = read(tmp_path)
    assert (ids(index), verdicts(index)) == (["a"], ["repeated_file"])


def test_a_table_that_is_not_read_is_said(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "masks/a.png", "diagnoses.csv")
    (finding,) = read(tmp_path).findings
    assert (finding.verdict, finding.what, finding.detail) == ("unread_table", "diagnoses.csv", "call it labels.csv")


@pytest.mark.parametrize(
    ("kind", "files", "hint"),
    [
        ("isic", ["images/a.jpg", "masks/a.png"], r"In .* there is: images/ \(1 \*\.jpg\).*Did you mean .*data=folder"),
        ("folder", ["trainx/a.jpg", "trainy/a.png"], "Rename trainx to images and trainy to masks"),
        ("ph2", ["ISIC2018_Task1-2_Training_Input/a.jpg", "ISIC2018_Task1_Training_GroundTruth/a.png"], "data=isic"),
        ("ham10000", ["images/a.jpg"], r"no folder HAM10000_segmentations_lesion_tschandl; expected ROOT"),
    ],
)
def test_what_is_not_found_says_what_is_there_and_what_fits(
    kind: str, files: list[str], hint: str, tmp_path: Path
) -> None:
    put(tmp_path, *files)
    with pytest.raises(ValueError, match=hint):
        read_index(kind, tmp_path, tmp_path)
