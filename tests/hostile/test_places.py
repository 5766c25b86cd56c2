"""Where things may be written: over what this program wrote, in its own folders, under names that nobody else has."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from miniature import miniature, run
from overridden import frozen

from dermprompt.export.place import MARKER, check_replaceable, export_folder, new_path, replacing
from dermprompt.files import check_name, new_file, printable, write_bytes
from dermprompt.store.artifacts import batch_record
from dermprompt.synthesis.samples import read_all_records

EXPORTS = ("nnunet", "imagefolder", "isic", "generator")
HOSTILE_NAMES = (
    *("../x", "..", ".", "", "a/b", "/etc/passwd", ".hidden", "a\x00b", "a\nb", "a\n", "x" * 300, "a b", "{{7*7}}"),
    *("=cmd()", "<img onerror=x>", "é/..", "\u202ex", None, 7, ["a"]),
)


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder with what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def a_users_folder(place: Path) -> None:
    place.mkdir(parents=True)
    (place / "ISIC_original.txt").write_text("mine")


def a_link(place: Path) -> None:
    a_users_folder(place.parent.parent / "mine")
    place.parent.mkdir(parents=True)
    place.symlink_to(place.parent.parent / "mine")


def a_dangling_link(place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.symlink_to(place.parent.parent / "nowhere")


def a_file(place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_text("mine")


def an_export_with_a_note(place: Path) -> None:
    with replacing(place) as root:
        (root / "image.png").write_text("ours")
    (place / "note.txt").write_text("mine")


def a_planted_marker(place: Path) -> None:
    a_users_folder(place)
    (place / MARKER).write_text("[]")


def a_marker_that_is_a_link(place: Path) -> None:
    a_users_folder(place)
    (place.parent / "list.json").write_text('["ISIC_original.txt"]')
    (place / MARKER).symlink_to(place.parent / "list.json")


NOT_OURS = (a_users_folder, a_link, a_dangling_link, a_file, an_export_with_a_note, a_planted_marker)


@pytest.mark.parametrize("there", [*NOT_OURS, a_marker_that_is_a_link])
@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_replaces_nothing_of_a_users(export: str, there: Callable[[Path], None], tmp_path: Path) -> None:
    place = export_folder(frozen("controlnet", f"export={export}"), tmp_path / "run")
    there(place)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=str(place)), replacing(place) as root:
        (root / "image.png").write_text("ours")
    assert tree(tmp_path) == before
    assert place.is_symlink() == there.__name__.endswith("link") or there is a_marker_that_is_a_link


def test_an_export_replaces_an_export_whole(tmp_path: Path) -> None:
    for name in ("old.png", "new.png"):
        with replacing(tmp_path / "isic") as root:
            (root / "images").mkdir()
            (root / "images" / name).write_text(name)
    assert set(tree(tmp_path)) == {"isic/images/new.png", f"isic/{MARKER}"}


def test_an_export_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    with replacing(tmp_path / "isic") as root:
        (root / "image.png").write_text("old")
    before = tree(tmp_path)

    def fail() -> None:
        with replacing(tmp_path / "isic") as root:
            (root / "image.png").write_text("new")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert tree(tmp_path) == before
    check_replaceable(tmp_path / "isic")


def test_no_path_of_an_export_is_written_twice_or_lies_elsewhere(tmp_path: Path) -> None:
    new_path(tmp_path, tmp_path / "images/a.png").write_text("x")
    with pytest.raises(ValueError, match="twice"):
        new_path(tmp_path, tmp_path / "images/a.png")
    with pytest.raises(ValueError, match="leads out"):
        new_path(tmp_path, tmp_path / "images/../../a.png")


def test_a_job_says_so_before_it_works(tmp_path: Path) -> None:
    a_users_folder(tmp_path / "runs/job/isic")
    with pytest.raises(ValueError, match="isic was not written by an export"):
        run(tmp_path, *miniature("warp", "synthesis.count=4", "stage=export", "export=isic"))
    assert set(tree(tmp_path)) == {"runs/job/isic/ISIC_original.txt"}


@pytest.mark.parametrize("name", ["config.yaml", "split.json", "results.json", "samples.csv"])
@pytest.mark.parametrize("link", [False, True], ids=["file", "link"])
def test_a_job_writes_over_nothing_of_a_users(name: str, link: bool, tmp_path: Path) -> None:
    folder, mine = tmp_path / "runs/job", tmp_path / "mine"
    folder.mkdir(parents=True)
    mine.write_text("stage: mine")
    (folder / name).symlink_to(mine) if link else (folder / name).write_text("stage: mine")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=f"{name} was not written by a job"):
        run(tmp_path, *miniature("none", "synthesis.count=0", "stage=prepare"))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=repr)
def test_a_name_names_one_file(name: object) -> None:
    with pytest.raises(ValueError, match="the id") as refused:
        check_name("the id", name)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", [one for one in HOSTILE_NAMES if one not in ("a b",)], ids=repr)
def test_a_record_of_somebody_else_names_no_other_place(name: object, tmp_path: Path) -> None:
    origin = ("prompt", "diagnosis", "attributes", "mask_id", "source_mask_id", "generator")
    keys = (*origin, "image_sha256", "mask_sha256")
    record = batch_record(tmp_path, 0)
    record.parent.mkdir()
    record.write_text(json.dumps([{"id": name, "seed": 0, **dict.fromkeys(keys)}]))
    with pytest.raises(ValueError, match=r"00000\.json: the id .*; delete it"):
        read_all_records(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "5", "[1]", "[{}]", '[{"id": "SYN_1", "more": 1}]', "null", "[[[["])
def test_a_damaged_record_is_named_with_what_to_delete(content: str, tmp_path: Path) -> None:
    record = batch_record(tmp_path, 0)
    record.parent.mkdir()
    record.write_text(content)
    with pytest.raises(ValueError, match=r"00000\.json: .*; delete it to draw its batch again"):
        read_all_records(tmp_path)


def test_no_link_is_followed_while_writing(tmp_path: Path) -> None:
    victim, target = tmp_path / "victim", tmp_path / "config.yaml"
    victim.write_text("mine")
    target.symlink_to(victim)
    (tmp_path / "config.yaml.tmp").symlink_to(victim)
    write_bytes(target, b"ours")
    assert victim.read_text() == "mine"
    assert (target.read_bytes(), target.is_symlink()) == (b"ours", False)
    for name in ("config.yaml.tmp", "victim"):
        with pytest.raises(FileExistsError), new_file(tmp_path / name):
            pass
    assert victim.read_text() == "mine"


def test_writers_of_one_file_at_once_all_succeed(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(30):
                write_bytes(tmp_path / "one", bytes([number]) * 4096)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert len(set((tmp_path / "one").read_bytes())) == 1


def test_a_full_disk_is_named_by_the_file_that_had_no_room(tmp_path: Path) -> None:
    def write() -> None:
        with new_file(tmp_path / "results.json") as file:
            os.dup2(os.open("/dev/full", os.O_WRONLY), file.fileno())
            file.write(b"x" * 10)

    with pytest.raises(OSError, match="No space left") as failed:
        write()
    assert failed.value.filename == str(tmp_path / "results.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07", "\x9b1m", "a\rb", "\u202e", "\udc80", "\x7f", "\x00"])
def test_what_controls_a_terminal_is_escaped(text: str) -> None:
    shown = printable(f"name {text} é 日本")
    assert shown.isprintable()
    assert shown.encode()
    assert "é 日本" in shown
