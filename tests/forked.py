"""The program in processes of its own, forked from one that has imported everything: imports are paid for once.

A fork server (and not a fork of the tests' process, which has threads) serves all the tests of a worker.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest

import dermprompt

STAGES = sorted(path.stem for path in (Path(dermprompt.__file__).parent / "stages").glob("[a-z]*.py"))
IMPORTED = ["dermprompt.__main__", "dermprompt.job.summary", "dermprompt.report.page"]
IMPORTED += [f"dermprompt.stages.{name}" for name in STAGES]
# By its path from the repository: a server of CPython 3.11 does not have the path of the tests.
IMPORTED += ["tests.warmed"]


@functools.cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def start(function: Callable[..., None], arguments: Sequence[Any], out: Path, err: Path) -> ForkServerProcess:
    """Call the function in a process of its own, with this one's environment; it appends what it says to the files."""
    process = _server().Process(target=_process, args=(function, arguments, dict(os.environ), out, err))
    process.start()
    return process


def _process(
    function: Callable[..., None], arguments: Sequence[Any], env: dict[str, str], out: Path, err: Path
) -> None:
    os.environ.clear()
    os.environ.update(env)
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    function(*arguments)


def main(*arguments: str) -> None:
    """What ``python -m dermprompt`` does."""
    sys.argv = ["dermprompt", *arguments]
    from dermprompt.__main__ import main as run

    run()


def start_command(arguments: Sequence[str], log: Path) -> ForkServerProcess:
    """``python -m dermprompt`` with these arguments, as it goes on; all it says is appended to the log."""
    return start(main, arguments, log, log)


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    returncode: int | None
    stdout: str
    stderr: str


def command(*arguments: str, function: Callable[..., None] = main) -> Ended:
    """``python -m dermprompt`` with these arguments, to its end."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(function, arguments, out, err)
        process.join()
        return Ended(process.exitcode, out.read_text(), err.read_text())


def command_on_forked_ranks(*arguments: str) -> Ended:
    """The same, with forked ranks for trainings on several devices."""
    return command(*arguments, function=_main_on_forked_ranks)


def _main_on_forked_ranks(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        fork_ranks(monkeypatch)
        main(*arguments)


def fork_ranks(monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], None] | None = None) -> None:
    """Have trainings on several devices run in forked ranks, which call ``prepare`` first, without torch's launcher."""
    run = functools.partial(_run_ranks, prepare=prepare)
    monkeypatch.setattr("dermprompt.distributed.launch.subprocess", SimpleNamespace(run=run))


def _run_ranks(
    command: list[str], env: dict[str, str], prepare: Callable[[], None] | None, **_: Any
) -> SimpleNamespace:
    """As ``python -m dermprompt.distributed.ranks``; a rank that fails stops no other."""
    folder, number = Path(command[3]), int(command[5])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with TemporaryDirectory() as logs:
        log = Path(logs, "log")
        ranks = [start(_rank, (folder, {**env, **_strings(shared, rank)}, prepare), log, log) for rank in range(number)]
        for rank in ranks:
            rank.join()
        print(log.read_text(), flush=True)
    return SimpleNamespace(returncode=max(rank.exitcode != 0 for rank in ranks))


def _strings(shared: dict[str, Any], rank: int) -> dict[str, str]:
    own = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "forked"}
    return {name: str(value) for name, value in {**shared, **own}.items()}


def _rank(folder: Path, env: dict[str, str], prepare: Callable[[], None] | None) -> None:
    os.environ.update(env)
    if prepare is not None:
        prepare()
    from dermprompt.distributed.launch import work_of

    work_of(folder)
