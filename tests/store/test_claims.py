"""Several processes make one set: each batch once, none forgotten, whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dermprompt.files import write_json
from dermprompt.store.artifacts import batch_record, missing_batches
from dermprompt.store.claims import share_out

NUMBERS = list(range(12))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty set."""
    made = tmp_path / "synthesize" / "set-abc"
    (made / "batches").mkdir(parents=True)
    return made


def make(folder: Path, name: str, seconds: float = 0.0, dies_at: int | None = None, start: Any = None) -> None:
    """Make batches that say who made them; a process that dies leaves its claim behind."""
    if start is not None:
        start.wait(60)

    def work(unmade: Iterator[int]) -> None:
        for number in unmade:
            time.sleep(seconds)
            if number == dies_at:
                os._exit(1)
            with open(folder / f"made_{number}", "a") as file:
                file.write(name)
            write_json(batch_record(folder, number), name)

    ours = share_out(folder, NUMBERS, work, "things")
    (folder / f"count_{name}").write_text(str(ours))


def makers(folder: Path) -> str:
    return "".join((folder / f"made_{number}").read_text() for number in NUMBERS)


@pytest.mark.parametrize("dies_at", [None, 2])
def test_two_processes_make_each_batch_once_whoever_dies(folder, dies_at):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    workers = [context.Process(target=make, args=(folder, name, 0.3, dies_at, start)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    # With ``dies_at`` the one that takes that batch dies, and so does the other when it takes it over.
    assert [worker.exitcode for worker in workers] == ([0, 0] if dies_at is None else [1, 1])
    missing = missing_batches(folder, len(NUMBERS))
    assert missing == ([] if dies_at is None else [2])
    if missing:
        make(folder, "c")
        assert (folder / "made_2").read_text() == "c"
    assert len(makers(folder)) == len(NUMBERS)
    for name in {"a", "b", "c"} & set(makers(folder)) if dies_at is None else "c":
        assert (folder / f"count_{name}").read_text() == str(makers(folder).count(name)), "each counts its own"
    assert {"a", "b"} <= set(makers(folder))


def test_a_failure_gives_its_claims_up(folder):
    def fail(unmade: Iterator[int]) -> None:
        next(unmade)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        share_out(folder, NUMBERS, fail, "things")
    make(folder, "b")
    assert makers(folder) == "b" * 12


def test_a_claim_lasts_until_the_batch_is_written(folder):
    """A batch may be written while the next is made: nobody else makes it meanwhile."""

    class StopError(Exception):
        pass

    def late(unmade: Iterator[int]) -> None:
        claimed = [next(unmade), next(unmade)]
        others: list[int] = []
        with pytest.raises(StopError):
            share_out(folder, NUMBERS[:4], lambda free: others.extend(free) or stop(), "things")
        assert (claimed, others) == ([0, 1], [2, 3])
        for number in (*claimed, *unmade):
            write_json(batch_record(folder, number), "late")

    def stop() -> None:
        raise StopError

    share_out(folder, NUMBERS[:4], late, "things")
    assert missing_batches(folder, 4) == []
