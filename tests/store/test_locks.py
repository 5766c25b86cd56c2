"""Who waits for a lock waits as long as its holder lives, says for whom, and for a silent one not for ever."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from dermprompt.store import locks
from dermprompt.store.artifacts import Recipe, Store
from dermprompt.store.locks import hold

REPOSITORY = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from dermprompt.store import locks
locks.BEAT = 0.05
with locks.hold(Path(sys.argv[1]), "it", print):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds that a test can wait for."""
    for name, seconds in {"POLL": 0.02, "SAY_AFTER": 0.1, "BEAT": 0.05, "LOCK_SILENCE": 1.0}.items():
        monkeypatch.setattr(locks, name, seconds)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "net.lock"


def start_holder(path: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that has the lock."""
    command = [sys.executable, "-c", HOLDER, str(path), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start_holder(path, 60)
    yield process
    process.kill()
    process.communicate()


def test_the_lock_of_a_killed_process_is_taken_over(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert json.loads(path.with_suffix(".holder").read_text())["pid"] == holder.pid
    start = time.monotonic()
    with hold(path, "it", print):
        assert time.monotonic() - start < locks.LOCK_SILENCE / 2
        assert json.loads(path.with_suffix(".holder").read_text())["pid"] == os.getpid()
    assert [one.name for one in path.parent.iterdir()] == ["net.lock"]


def test_a_holder_that_stands_still_is_named_and_given_up(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGSTOP)
    said: list[str] = []
    message = rf"^train/net is locked by process {holder.pid} on \S+ since .*no sign of life.*delete {path} and give"
    with pytest.raises(TimeoutError, match=message), hold(path, "train/net", said.append):
        pass
    assert len(said) == 1
    assert said[0].startswith(f"   waits for train/net, locked by process {holder.pid} on ")
    holder.send_signal(signal.SIGCONT)


def test_a_holder_that_lives_is_waited_for_however_long_it_takes(path: Path) -> None:
    process = start_holder(path, 3 * locks.LOCK_SILENCE)
    said: list[str] = []
    with hold(path, "it", said.append):
        assert process.wait(10) == 0
    assert len(said) == 1


def test_a_short_wait_is_not_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SAY_AFTER", 10.0)
    start_holder(path, 0.3)
    with hold(path, "it", lambda text: pytest.fail(text)):
        pass


def touched_with(path: Path, stamps: Iterator[int], ended: threading.Event) -> None:
    """Hold the lock as a machine whose clock shows these times."""
    with FileLock(path):
        path.with_suffix(".holder").write_text("{")
        while not ended.wait(0.05):
            os.utime(path.with_suffix(".holder"), ns=(0, next(stamps)))


@pytest.mark.parametrize(("step", "given_up"), [(-(10**9), False), (0, True)])
def test_only_changes_count_whatever_the_clocks_show(path: Path, step: int, given_up: bool) -> None:
    """A clock that is far behind and goes back still shows life; a time to come that stays shows none."""
    path.parent.mkdir()
    future, ended = time.time_ns() + 10**15, threading.Event()
    stamps = (future + step * k for k in range(10**6))
    thread = threading.Thread(target=touched_with, args=(path, stamps, ended))
    thread.start()
    time.sleep(0.2)
    threading.Timer(2.5 * locks.LOCK_SILENCE, ended.set).start()
    try:
        if given_up:
            with pytest.raises(TimeoutError, match="an unknown process"), hold(path, "it", print):
                pass
            assert not ended.is_set()
        else:
            with hold(path, "it", print):
                assert ended.is_set()
    finally:
        ended.set()
        thread.join()


def test_no_sign_of_life_costs_the_holder_its_work(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that fails under the thread, as on a stale handle."""
    tried = threading.Event()

    def fail(*args: object) -> None:
        tried.set()
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with hold(path, "it", print):
        monkeypatch.setattr("os.utime", fail)
        assert tried.wait(5)
        tried.clear()
        assert tried.wait(5), "it gave up after one failure"


def test_a_failure_gives_the_lock_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[FileLock] = []  # what is forgotten gives its lock up too
    monkeypatch.setattr(locks, "FileLock", lambda path: kept.append(FileLock(path)) or kept[-1])
    with pytest.raises(RuntimeError, match="power cut"), hold(path, "it", print):
        raise RuntimeError("power cut")
    assert not path.with_suffix(".holder").exists()
    with FileLock(path, timeout=0):
        pass


def test_a_store_says_whom_it_waits_for_and_gives_up_in_one_sentence(tmp_path: Path) -> None:
    recipe, said = Recipe("train", "net", 1, {}), []
    lock = tmp_path / ".locks" / (recipe.folder.replace("/", "-") + ".lock")
    process = start_holder(lock, 60)
    process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError, match=rf"^{recipe.folder} is locked by process {process.pid} "):
            Store(tmp_path, said.append).make(recipe, lambda folder: pytest.fail("made"))
    finally:
        process.kill()
        process.communicate()
    assert said == [one for one in said if one.startswith(f"   waits for {recipe.folder}, ")]
    assert len(said) == 1
    Store(tmp_path, said.append).make(recipe, lambda folder: None)
