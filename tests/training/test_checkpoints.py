"""Checkpoints: two are kept, nothing half-written counts, and what was interrupted or damaged is noticed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_disk import fill, small_disk

from dermprompt.training.checkpoints import LAST, PREVIOUS, SafeCheckpoints, check_room


def save(folder: Path, step: int) -> None:
    checkpoints = SafeCheckpoints()
    checkpoints.newest(folder)
    checkpoints.save_checkpoint({"step": step, "weights": torch.full((10_000,), float(step))}, folder / LAST)
    checkpoints.write()


def newest(folder: Path) -> Path | None:
    return SafeCheckpoints().newest(folder)


def step_of(path: Path | None) -> int:
    assert path is not None
    return torch.load(path, weights_only=True)["step"]


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    for step in range(4):
        save(tmp_path, step)
    assert step_of(newest(tmp_path)) == step_of(tmp_path / LAST) == 3
    assert step_of(tmp_path / PREVIOUS) == 2
    assert not list(tmp_path.glob("*.tmp"))


def test_a_damaged_one_is_said_and_the_one_before_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    data = bytearray((tmp_path / LAST).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / LAST).write_bytes(data)
    assert step_of(newest(tmp_path)) == 1
    assert "last.ckpt is not as it was written" in capsys.readouterr().out
    (tmp_path / PREVIOUS).write_bytes(b"")
    assert newest(tmp_path) is None


@pytest.mark.parametrize("fails_at", range(3))
def test_wherever_it_is_interrupted_a_good_one_is_left(
    tmp_path: Path, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    calls = 0
    replace = os.replace

    def interrupted(*paths: Any) -> None:
        nonlocal calls
        # Of the hashes' file, of the last one, of the staged one; without a last one the third is the second.
        if calls == fails_at or Path(paths[1]).name == LAST:
            raise OSError("no space left")
        calls += 1
        replace(*paths)

    for step in (3, 3):  # also when what goes on is interrupted again
        calls = 0
        monkeypatch.setattr("os.replace", interrupted)
        with pytest.raises(OSError, match="no space left"):
            save(tmp_path, step)
        monkeypatch.undo()
        assert step_of(newest(tmp_path)) == 2
    save(tmp_path, 4)
    assert step_of(newest(tmp_path)) == 4


@pytest.mark.parametrize("room", [0, 16 << 10])  # none for its first byte, or for a part of it
def test_a_full_disk_costs_no_good_checkpoint_and_with_room_it_goes_on(tmp_path: Path, room: int) -> None:
    with small_disk(tmp_path, 1 << 20):
        save(tmp_path, 1)
        save(tmp_path, 2)
        filler = tmp_path / "filler"
        fill(filler)
        os.truncate(filler, filler.stat().st_size - room)
        with pytest.raises(OSError, match="No space left on device") as error:
            save(tmp_path, 3)
        assert error.value.errno == errno.ENOSPC
        assert not list(tmp_path.glob("*.tmp")), "what was half written keeps its room"
        assert step_of(newest(tmp_path)) == 2
        filler.unlink()
        save(tmp_path, 4)
        assert step_of(newest(tmp_path)) == 4
        assert step_of(tmp_path / PREVIOUS) == 2


@pytest.mark.parametrize(
    ("there", "needed"),
    [
        ({}, 30),
        ({LAST: 12}, 24),
        ({LAST: 12, PREVIOUS: 12}, 12),
        # What an interrupted one has left is written over.
        ({LAST: 12, PREVIOUS: 12, f"{LAST}.tmp": 5}, 7),
    ],
)
def test_room_for_three_is_asked_for_less_what_is_there(
    tmp_path: Path, there: dict[str, int], needed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in there.items():
        (tmp_path / name).write_bytes(bytes(size << 20))
    free = needed << 20
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    check_room(tmp_path, 10 << 20)
    free -= 1 << 20
    message = rf"need {needed} MiB more and {needed - 1} MiB are free under {tmp_path}; .* paths\.store"
    with pytest.raises(OSError, match=message):
        check_room(tmp_path, 10 << 20)


def test_a_damaged_one_does_not_take_the_place_of_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    (tmp_path / LAST).write_bytes(b"damaged")
    replace = os.replace

    def interrupted(source: Any, target: Any) -> None:
        if Path(target).name == LAST:
            raise OSError("no space left")
        replace(source, target)

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(OSError, match="no space left"):
        save(tmp_path, 3)
    assert step_of(newest(tmp_path)) == 1
