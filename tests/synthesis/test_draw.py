"""The loop that draws: batches written beside the next one's drawing, errors that surface, padding."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dermprompt.store.artifacts import batch_record
from dermprompt.synthesis import draw
from dermprompt.synthesis.draw import draw_batches, draw_images
from dermprompt.synthesis.samples import Condition


class Painter:
    """Grey images with one other pixel, brighter with the mask's share; counts its batches."""

    def __init__(self) -> None:
        self.batches = 0

    def generate(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        self.batches += 1
        images = (masks.mean((1, 2, 3), keepdim=True) * 2 - 1).repeat(1, 3, 16, 16)
        images[..., -1, -1] = torch.where(images[..., 0, 0] > 0, -1.0, 1.0)
        return images


def condition(index: int) -> Condition:
    mask = np.zeros((16, 16), np.uint8)
    mask[:, : index % 17] = 1
    return Condition(mask, str(index))


def drawn(folder: Path, painter: Painter, numbers: list[int], total: int | None = None) -> None:
    (folder / "batches").mkdir(exist_ok=True)
    draw_batches(painter, condition, numbers, 4, 0, folder, lambda n: batch_record(folder, n), "painter", total)


def test_the_last_batch_is_padded_and_the_padding_not_written(tmp_path):
    drawn(tmp_path, Painter(), [0, 1], total=6)
    rows = [len(json.loads(batch_record(tmp_path, n).read_text())) for n in (0, 1)]
    assert rows == [4, 2]
    assert len(list(tmp_path.glob("*/*.jpg"))) == 6


def test_images_go_to_the_host_as_they_are():
    conditions = [condition(i) for i in (0, 8, 16)]
    images = draw_images(Painter(), conditions, [0, 1, 2]).array()
    assert images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [0, 128, 255]


def test_a_batch_is_written_while_the_next_ones_are_drawn(tmp_path, monkeypatch):
    """Writing waits until two more batches are drawn; a loop that writes first would wait for ever."""
    painter, go_on = Painter(), threading.Event()
    write, generate = draw.write_batch, painter.generate

    def late(*arguments):
        assert go_on.wait(20), "nothing was drawn while a batch was written"
        write(*arguments)

    def tell(*arguments):
        images = generate(*arguments)
        if painter.batches == 3:
            go_on.set()
        return images

    monkeypatch.setattr(draw, "write_batch", late)
    monkeypatch.setattr(painter, "generate", tell)
    drawn(tmp_path, painter, list(range(5)))
    assert len(list(tmp_path.glob("batches/*.json"))) == 5


def test_memory_holds_few_batches(tmp_path, monkeypatch):
    """However slow the disk, the loop does not run ahead of it by more than two batches and the one in hand."""
    painter, write, ahead = Painter(), draw.write_batch, []

    def slow(folder, record, *rest):
        threading.Event().wait(0.05)
        write(folder, record, *rest)
        ahead.append(painter.batches - len(list(tmp_path.glob("batches/*.json"))))

    monkeypatch.setattr(draw, "write_batch", slow)
    drawn(tmp_path, painter, list(range(12)))
    assert max(ahead) <= draw.BEHIND + 1


def test_an_error_of_a_writer_is_the_loops(tmp_path, monkeypatch):
    write = draw.write_batch

    def fail(folder, record, *rest):
        if record.stem == "00001":
            raise OSError("no such disk")
        write(folder, record, *rest)

    monkeypatch.setattr(draw, "write_batch", fail)
    painter = Painter()
    with pytest.raises(OSError, match="no such disk"):
        drawn(tmp_path, painter, list(range(50)))
    assert painter.batches < 10
    assert not batch_record(tmp_path, 1).exists()


def test_what_is_drawn_before_an_error_is_written(tmp_path, monkeypatch):
    painter = Painter()
    generate = painter.generate
    monkeypatch.setattr(painter, "generate", lambda *a: generate(*a) if painter.batches < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drawn(tmp_path, painter, list(range(4)))
    assert sorted(path.stem for path in tmp_path.glob("batches/*.json")) == ["00000", "00001"]


def test_too_little_memory_names_the_setting(tmp_path, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    painter = Painter()
    monkeypatch.setattr(painter, "generate", full)
    with pytest.raises(ValueError, match=r"synthesis.batch_size=4: .*lower it"):
        drawn(tmp_path, painter, [0])
