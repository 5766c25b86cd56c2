"""The queue: in order, each piece until it is done, what fails is no obstacle, what takes too long goes on later."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_queue", BENCHMARKS / "gpu_queue.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["gpu_queue"] = importlib.util.module_from_spec(spec)  # for its dataclass
    spec.loader.exec_module(module)
    return module


queue = load()


def script(name: str, code: str) -> queue.Piece:  # type: ignore[name-defined]
    return queue.Piece(name, ("sh", "-c", code), "nothing", 1)


def counting(name: str, folder: Path, calls: int) -> queue.Piece:  # type: ignore[name-defined]
    """A training of so many calls, each a line of a file."""
    return script(name, f"echo step >> {folder / name}; [ $(wc -l < {folder / name}) -ge {calls} ] || exit 75")


def test_a_training_is_called_until_it_is_done_and_only_then_the_next(tmp_path: Path) -> None:
    pieces = [counting("first", tmp_path, 3), counting("second", tmp_path, 1)]
    states = []
    for _ in range(5):
        assert queue.Queue(pieces, tmp_path).run(1, 1, queue.call_piece)
        states.append(queue.Queue(pieces, tmp_path).state)
    training, done = {"first": "unfinished"}, {"first": "done", "second": "done"}
    assert states == [training, training, {"first": "done"}, done, done]
    assert (tmp_path / "first").read_text().count("step") == 3
    assert (tmp_path / "second").read_text().count("step") == 1


def test_all_of_them_in_one_call(tmp_path: Path) -> None:
    one = queue.Queue([counting("first", tmp_path, 2), counting("second", tmp_path, 2)], tmp_path)
    assert one.run(0, 1, queue.call_piece)
    assert one.waiting() == []


def test_what_fails_is_said_and_tried_again_after_the_others(tmp_path: Path) -> None:
    pieces = [script("broken", "echo no such file >&2; exit 1"), counting("first", tmp_path, 2)]
    assert not queue.Queue(pieces, tmp_path).run(1, 1, queue.call_piece)
    assert "no such file" in (tmp_path / "broken.log").read_text()
    assert queue.Queue(pieces, tmp_path).run(1, 1, queue.call_piece)
    again = queue.Queue(pieces, tmp_path)
    assert not again.run(0, 1, queue.call_piece)
    assert again.state == {"broken": "failed", "first": "done"}
    assert [piece.name for piece in again.waiting()] == ["broken"]


def test_what_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    piece = script("long", f"(sleep 4; touch {tmp_path / 'alive'}) & wait")
    assert queue.call_piece(piece, tmp_path / "long.log", 1) == "unfinished"
    time.sleep(5)
    assert not (tmp_path / "alive").exists()


def test_the_plan_is_in_order_with_a_limit_for_every_training() -> None:
    pieces = queue.plan("/data", "/labels", 10, "/models/sd")
    names = [piece.name for piece in pieces]
    assert len(set(names)) == len(names)
    assert names.index("verify_sd") < names.index("isic_256_base") < names.index("fair_arms_256")
    jobs = [piece for piece in pieces if "dermprompt" in piece.command]
    assert len(jobs) == 5
    assert all("trainer.max_time=00:00:07:30" in piece.command for piece in jobs)
    assert "verify_sd" not in [piece.name for piece in queue.plan("/data", "/labels", 10, None)]


@pytest.mark.parametrize(("minutes", "limit"), [(10, "00:00:07:30"), (1, "00:00:01:00"), (70, "00:01:07:30")])
def test_limits(minutes: float, limit: str) -> None:
    assert queue.limit(minutes) == limit
