"""A training on two processes: one job, one folder, every rank its share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from forked import fork_ranks, start, start_command
from miniature import TWO_RANKS, compose, miniature, on, run
from processes import processes_of
from rank_work import on_two_ranks
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from dermprompt.config import compose as configuration
from dermprompt.distributed.processes import num_processes
from dermprompt.distributed.ranks import describe
from dermprompt.pipeline import Pipeline
from dermprompt.store.artifacts import Store, Unfinished

REPOSITORY = Path(__file__).parents[2]


def slack() -> float:
    """Seconds for a machine that does much else; the promised times are those without it."""
    return 5 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def two_processes(name: str, *overrides: str) -> list[str]:
    return on(TWO_RANKS, miniature(name, *overrides))


@pytest.mark.parametrize(("devices", "processes"), [(1, 1), (2, 2), ([0, 3], 2), ("2", 2)])
def test_devices(devices, processes):
    assert num_processes({"devices": devices}) == processes


def test_a_configuration_survives_its_file(tmp_path):
    for name in ("none", "controlnet", "pix2pixhd"):
        config = compose(*miniature(name, "synthesis.count=0"))
        configuration.dump(config, tmp_path / "config.yaml")
        assert configuration.thaw(tmp_path / "config.yaml") == config


# By default test_resume.py trains one of them on two forked ranks, and test_a_killed_rank has torch's launcher.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["controlnet", "pix2pixhd"])
def test_two_ranks_train_one_generator(name, tmp_path, monkeypatch):
    fork_ranks(monkeypatch)
    run(tmp_path, *two_processes(name, "stage=train_generator"))
    (trained,) = (tmp_path / "store" / "train_generator").iterdir()
    assert (trained / "artifact.json").exists()
    assert (trained / "last.ckpt").exists()


# By default test_resume.py stops one trainer on two ranks.
@pytest.mark.slow
def test_two_ranks_stop_together_and_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    overrides = two_processes("pix2pixhd", "generator.max_steps=9", "stage=train_generator")
    with pytest.raises(Unfinished) as stopped:
        run(tmp_path, *overrides, "trainer.max_time=00:00:00:00")
    assert 0 < stopped.value.step < stopped.value.num_steps == 9
    run(tmp_path, *overrides)
    (trained,) = (tmp_path / "store" / "train_generator").iterdir()
    assert (trained / "artifact.json").exists()


@pytest.fixture
def _tests_for_ranks(monkeypatch):
    """The ranks find rank_work, as this process does."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "tests"), prepend=":")


@pytest.mark.usefixtures("_tests_for_ranks")
def test_a_failing_rank_fails_the_job(tmp_path):
    with pytest.raises(ChildProcessError, match="training on 2 devices failed: rank 1 failed with ValueError: nonse"):
        on_two_ranks("fail", tmp_path)


NAMELESS = ["unshare", "--uts", "sh", "-c", 'hostname nowhere.invalid && exec "$@"', "-"]


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*NAMELESS, "true"], capture_output=True).returncode != 0,
    reason="needs root, for a name of its own that does not resolve",
)
@pytest.mark.usefixtures("_tests_for_ranks")
def test_two_ranks_meet_on_a_machine_whose_name_does_not_resolve(tmp_path: Path) -> None:
    program = (
        f"from rank_work import on_two_ranks; from pathlib import Path; on_two_ranks('meet', Path({str(tmp_path)!r}))"
    )
    ended = subprocess.run([*NAMELESS, sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in tmp_path.glob("met-*")) == ["met-0", "met-1"]


@pytest.mark.slow
def test_a_failing_rank_fails_a_training(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    overrides = two_processes("none", "synthesis.count=0")
    run(tmp_path, *overrides, "stage=prepare")
    for path in (tmp_path / "store").glob("prepare/split-*/lesions.json"):
        path.write_text("nonsense")
    words = r"training on 2 devices failed: rank \d failed with \w+: .*lesions\.json: Expecting"
    with pytest.raises(ChildProcessError, match=words):
        run(tmp_path, *overrides, "stage=train_segmenter")
    assert not list((tmp_path / "store" / "train_segmenter").glob("*/artifact.json"))


Job = tuple[ForkServerProcess, dict[int, int]]


@contextmanager
def training_ranks(folder: Path, *overrides: str) -> Iterator[Job]:
    """A job as it trains a segmenter on two ranks, and their process ids by rank, once an epoch is over."""
    paths = [f"paths.store={folder / 'store'}", f"paths.runs={folder / 'runs'}"]
    long = ["synthesis.count=0", "stage=train_segmenter", "segmenter.max_epochs=100000"]
    job = start_command([*two_processes("none", *long, *overrides), *paths], folder / "log")
    with ending(job, folder):
        wait_for("store/train_segmenter/*/curves.csv", job, folder)
        yield job, ranks_of(folder)


@contextmanager
def working_ranks(folder: Path) -> Iterator[Job]:
    """The same of a job whose ranks do nothing but meet."""
    job = start(on_two_ranks, ("work_on", folder), folder / "log", folder / "log")
    with ending(job, folder):
        wait_for("begun", job, folder)
        yield job, ranks_of(folder)


def wait_for(pattern: str, job: ForkServerProcess, folder: Path) -> None:
    """Wait for a file in the folder of a job, which writes a log there."""
    while not list(folder.glob(pattern)):
        assert job.exitcode is None, (folder / "log").read_text()
        time.sleep(0.05)


@contextmanager
def ending(job: ForkServerProcess, folder: Path) -> Iterator[None]:
    """Leave no process of the job behind."""
    try:
        yield
    finally:
        job.kill()
        for pid in processes_of(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        job.join()


def ranks_of(folder: Path) -> dict[int, int]:
    """Process ids by rank."""
    found = {}
    for pid in processes_of(folder):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        rank = next((one for one in variables if one.startswith(b"RANK=")), None)
        if rank is not None:
            found[int(rank.removeprefix(b"RANK="))] = pid
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.usefixtures("_tests_for_ranks")
@pytest.mark.parametrize("running", [working_ranks, pytest.param(training_ranks, marks=pytest.mark.slow)])
def test_a_killed_rank_ends_the_job(running, tmp_path):
    with running(tmp_path) as (job, ranks):
        assert sorted(ranks) == [0, 1]
        os.kill(ranks[1], signal.SIGKILL)
        start = time.monotonic()
        job.join(15 + slack())
        said = (tmp_path / "log").read_text()
        seconds = time.monotonic() - start
        print(f"the job ended {seconds:.1f} s after a rank was killed")
        assert seconds < 5 + slack()
        assert "rror: training on 2 devices failed: rank 1 was killed by SIGKILL" in said
        assert "the same command continues" in said
        assert job.exitcode == 1
        assert not processes_of(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_stopped_rank_ends_the_job(tmp_path):
    with training_ranks(tmp_path, "trainer.timeout=8") as (job, ranks):
        os.kill(ranks[1], signal.SIGSTOP)
        start = time.monotonic()
        job.join(8 + 15 + slack())
        said = (tmp_path / "log").read_text()
        seconds = time.monotonic() - start
        print(f"the job ended {seconds:.1f} s after a rank was stopped, with trainer.timeout=8")
        assert seconds >= 6
        assert "rank 0 waited in vain for another rank, which hangs or takes longer than trainer.timeout" in said
        assert "the same command continues" in said
        assert not processes_of(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.usefixtures("_tests_for_ranks")
def test_ranks_do_not_outlive_their_job(tmp_path):
    with working_ranks(tmp_path) as (job, _):
        assert len(processes_of(tmp_path)) == 3
        job.kill()
        job.join()
        end = time.monotonic() + 5 + slack()
        while processes_of(tmp_path) and time.monotonic() < end:
            time.sleep(0.1)
        assert not processes_of(tmp_path)


def failure(exitcode: int, message: str | dict[str, str] = "", timestamp: int = 0) -> ProcessFailure:
    found = ProcessFailure(local_rank=0, pid=1, exitcode=exitcode, error_file="")
    found.message, found.timestamp = message, timestamp
    return found


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ({0: failure(1, "RuntimeError: Connection closed by peer"), 1: failure(-9)}, "rank 1 was killed by SIGKILL"),
        ({0: failure(-15), 1: failure(-9)}, "rank 1 was killed by SIGKILL"),
        ({0: failure(-15), 1: failure(1, "RuntimeError: Connection reset")}, "rank 0 was killed by SIGTERM"),
        ({0: failure(-15), 1: failure(1, "ValueError: step 3")}, "rank 1 failed with V"),
        (
            {0: failure(1, "RuntimeError: Connection reset"), 1: failure(1, "ValueError: step 3")},
            "rank 1 failed with V",
        ),
        (
            {0: failure(1, "RuntimeError: Connection reset"), 1: failure(-9, {"message": "ValueError: step 3"})},
            "rank 1 failed with V",
        ),
        ({1: failure(1, "RuntimeError: Timed out waiting 3000ms for recv")}, "rank 1 waited in vain"),
        ({1: failure(1, "RuntimeError: Application timeout caused pair closure")}, "rank 1 waited in vain"),
        ({1: failure(1, "DistStoreError: wait timeout after 8000ms, keys: /1")}, "rank 1 waited in vain"),
        (
            {0: failure(-9, timestamp=5), 1: failure(1, "RuntimeError: Timed out waiting 8000ms")},
            "rank 1 waited in vain",
        ),
    ],
)
def test_what_happened_comes_before_what_followed(failures, said):
    assert describe(failures)[1].startswith(said)


def test_two_processes_draw_what_one_does(tmp_path, monkeypatch):
    """Nothing that tells them apart reaches a sample's bytes, and one set grows from both."""
    fork_ranks(monkeypatch)
    overrides = ["pix2pixhd", "synthesis.count=24", "stage=train_generator", "synthesis.batch_size=2"]
    run(tmp_path, *miniature(*overrides))
    sets = []
    for name, made_by in (("one", miniature(*overrides)), ("two", two_processes(*overrides))):
        shutil.copytree(tmp_path / "store", tmp_path / name)
        sets.append(Pipeline(compose(*made_by), Store(tmp_path / name)).samples.path)
    one, two = ({path.name: path.read_bytes() for path in folder.rglob("SYN_*")} for folder in sets)
    assert len(one) == 48
    assert one == two
    assert len(list(sets[1].glob("batches/*.json"))) == 12
    assert json.loads((sets[1] / "card.json").read_text())["samples"] == 24


@pytest.mark.slow
def test_two_processes_score_what_one_does(tmp_path, monkeypatch, capfd):
    fork_ranks(monkeypatch)
    data = ["data.num_images=64", "data.split.sizes=[10,8,4,42]", "synthesis.count=0"]
    run(tmp_path, *miniature("none", *data, "stage=train_segmenter"))
    scored = []
    for name, made_by in (("one", miniature("none", *data)), ("two", two_processes("none", *data))):
        shutil.copytree(tmp_path / "store", tmp_path / name)
        pipeline = Pipeline(compose(*made_by), Store(tmp_path / name))
        scored.append((pipeline.scores(pipeline.arms[0]).path / "scores.csv").read_bytes())
    assert scored[0] == scored[1]
    assert scored[0].count(b"\n") == 1 + 42
    assert capfd.readouterr().out.count("scores: 2/2 batches") >= 2
