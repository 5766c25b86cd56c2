"""A job that is killed again and again ends as if nobody had touched it, and does nothing twice."""

from __future__ import annotations

import hashlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from forked import start_command
from miniature import miniature

from dermprompt.training.callbacks import read_curves

REPOSITORY = Path(__file__).parents[2]


# What the job has left when it is killed: checkpoints of three trainings, and the first batch of samples.
MOMENTS = (
    "train_base/*.partial/last.ckpt",
    "train_generator/*.partial/last.ckpt",
    "synthesize/*/batches/*.json",
    "train_segmenter/*.partial/last.ckpt",
)


def job_for(kills: int) -> list[str]:
    """A job of every kind of work, the longer the more often it is to be killed."""
    return miniature(
        "controlnet",
        f"synthesis.count={16 if kills > 9 else 8}",
        "curation=memorisation",
        f"generator.max_steps={2 * kills}",
        f"generator.validation.every={kills}",
        f"generator.base.max_steps={4 * kills}",
        f"segmenter.max_epochs={max(3, 2 * kills // 5)}",
        "evaluation.reference.max_epochs=3",
    )


# Files that say when, how long or where; of a checkpoint what counts is in the weights that come of it.
VOLATILE = {"artifact.json", "recipe.json", "rate.json", "checkpoints.json", "last.ckpt", "previous.ckpt", "call.json"}


def command_line(folder: Path, overrides: Sequence[str]) -> list[str]:
    return [*overrides, f"paths.store={folder}/store", f"paths.runs={folder}/runs"]


@dataclass
class Kills:
    """Starts the same command, kills it again and again, and remembers what was finished when."""

    folder: Path
    start: Callable[[str], Any]
    finished: dict[Path, int] = field(default_factory=dict)
    redone: list[str] = field(default_factory=list)
    continued: int = 0
    attempts: int = 0

    def run(self, waits: Iterable[Callable[[Any], int | None]]) -> None:
        """Start the command, and kill it after each wait that it outlives; then let it end.

        On a machine whose load varies it may end before its last kills, but not before half of them.
        """
        waits = list(waits)
        for wait in waits:
            if self.attempt(wait) not in (None, -signal.SIGKILL):
                break
        assert self.attempts > len(waits) // 2, f"it ended before kill {self.attempts}"
        assert self.attempt(wait_for) == 0, self.log.read_text()[-3000:]

    @property
    def log(self) -> Path:
        return self.folder / f"attempt-{self.attempts}.log"

    def attempt(self, wait: Callable[[Any], int | None]) -> int | None:
        self.attempts += 1
        process = self.start(str(self.log))
        ended = wait(process)
        if ended is None:
            process.kill()
            wait_for(process)
        self.look_back()
        return ended

    def look_back(self) -> None:
        """Whatever had been finished before this attempt is as it was, and nobody has begun it again."""
        for path, inode in self.finished.items():
            if not path.exists() or path.stat().st_ino != inode:
                self.redone.append(str(path))
        said = self.log.read_text() if self.log.exists() else ""
        begun = set(re.findall(r"^── .*→  (.*)$", said, re.MULTILINE))
        self.redone += [str(path) for path in self.finished if str(path.parent) in begun]
        self.continued += said.count("resumes from step")
        for pattern in ("store/*/*/artifact.json", "store/*/*/batches/*.json"):
            for path in self.folder.glob(pattern):
                if path.parent.suffix != ".partial":
                    self.finished.setdefault(path, path.stat().st_ino)

    def __str__(self) -> str:
        return (
            f"{self.attempts - 1} kills: {len(self.finished)} artifacts and batches finished, {len(self.redone)} of "
            f"them made again; trainings went on from a checkpoint {self.continued} times"
        )


def wait_for(process: Any, seconds: float | None = None) -> int | None:
    """The exit code of a Popen or a Process; None where it has not ended within so long."""
    if isinstance(process, subprocess.Popen):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
    process.join(seconds)
    return process.exitcode


def until(pattern: str, folder: Path) -> Callable[[Any], int | None]:
    """Waits for a file in a folder; its wait is over, too, when the process has ended."""

    def wait(process: Any) -> int | None:
        while not (ended := process.exitcode is not None) and not list(folder.glob(pattern)):
            time.sleep(0.02)
        return process.exitcode if ended else None

    return wait


def after(seconds: Iterable[float]) -> Iterable[Callable[[Any], int | None]]:
    """Waits of so long each."""
    return (lambda process, length=length: wait_for(process, length) for length in seconds)


def duration(start: Callable[[str], Any], log: Path) -> float:
    """How long the command takes in success (s)."""
    begin = time.monotonic()
    assert wait_for(start(str(log))) == 0, log.read_text()[-3000:]
    return time.monotonic() - begin


def contents(folder: Path) -> dict[str, str]:
    """Hashes of all that a store holds, by place; an index, and the coverage report, tell of their own folder."""
    found = {}
    for path in sorted((folder / "store").rglob("*")):
        place = path.relative_to(folder / "store")
        volatile = path.name in VOLATILE or place.parts[0].startswith(".") or "wandb" in place.parts
        if path.is_file() and not volatile and not place.parts[1:2][0].startswith(("index-", "coverage-")):
            found[str(place)] = hashlib.sha256(content(path, folder)).hexdigest()
    return found


def content(path: Path, folder: Path) -> bytes:
    """What a file says: not where it lies, and of curves not which steps an interrupted training made twice."""
    if path.name == "curves.csv":
        return repr(read_curves(path)).encode()
    return path.read_bytes().replace(str(folder).encode(), b"")


def results(folder: Path) -> list[dict[str, Any]]:
    """What the jobs found out, without times and places."""
    found = [json.loads(path.read_text()) for path in folder.glob("runs/**/results.json")]
    for known in found:
        for name in ("command", "work", "trainings", "seconds", "store", "environment"):
            known.pop(name, None)
    return sorted(found, key=lambda known: (known["generator"], known["count"]))


def check(killed: Kills, folder: Path, seconds: float) -> None:
    """Against the undisturbed run in ``folder``, which took so long."""
    print(f"undisturbed {seconds:.0f} s; {killed}")
    assert contents(killed.folder) == contents(folder)
    assert results(killed.folder) == results(folder)
    assert not killed.redone
    assert killed.continued


def starter(folder: Path, *overrides: str) -> Callable[[str], Any]:
    """Starts a job in a process that is forked from one that has imported all: a kill then meets work, not imports."""
    folder.mkdir(exist_ok=True)
    return lambda log: start_command(command_line(folder, overrides), Path(log))


def test_a_kill_in_each_kind_of_work_changes_nothing(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    job = job_for(len(MOMENTS))
    seconds = duration(starter(whole, *job), tmp_path / "whole.log")
    killed = Kills(folder, starter(folder, *job))
    killed.run(until(f"store/{moment}", folder) for moment in MOMENTS)
    check(killed, whole, seconds)


@pytest.mark.kill
def test_fifty_kills_at_random_change_nothing(tmp_path):
    whole, folder, number = tmp_path / "whole", tmp_path / "killed", 50
    job = job_for(number)
    seconds = duration(starter(whole, *job), tmp_path / "whole.log")
    to_begin = duration(starter(whole, *job, "stage=prepare"), tmp_path / "again.log")
    killed = Kills(folder, starter(folder, *job))
    draw = random.Random(0)
    # So that the last kill comes well before the end.
    killed.run(after(draw.uniform(0, to_begin + (seconds - to_begin) * 2 / number) for _ in range(number)))
    check(killed, whole, seconds)


@pytest.mark.kill
def test_fifty_kills_of_the_demo(tmp_path):
    """The same of the demo, in processes of their own; about three times as long as the demo."""

    def started(folder: Path) -> Callable[[str], Any]:
        def start(log: str) -> Any:
            command = [sys.executable, "-m", "dermprompt", *command_line(folder, ["+experiment=demo"])]
            with open(log, "ab") as out:
                return subprocess.Popen(command, cwd=REPOSITORY, stdout=out, stderr=out)

        return start

    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    seconds = duration(started(tmp_path / "whole"), tmp_path / "whole.log")
    killed = Kills(tmp_path / "killed", started(tmp_path / "killed"))
    draw = random.Random(0)
    # A process needs some seconds to begin.
    killed.run(after(draw.uniform(0, 10 + seconds / 50) for _ in range(50)))
    # A job tells how often the store has been scored: once more, so that each tells it of a whole sweep.
    for name in ("whole", "killed"):
        duration(started(tmp_path / name), tmp_path / "again.log")
    check(killed, tmp_path / "whole", seconds)
