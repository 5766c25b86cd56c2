"""Sweeps on a real SLURM: one array, several nodes a job, and trainings that go on after a signal and a lost node."""

from __future__ import annotations

import functools
import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from miniature import TWO_RANKS, miniature, on
from slurm.cluster import NODES, Cluster, install, wait

pytestmark = pytest.mark.slurm

REPOSITORY = Path(__file__).parents[2]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.mem_gb=1"]
SLURM += ["hydra.launcher.cpus_per_task=1"]
TWO_NODES = [*TWO_RANKS, "trainer.devices=1", "trainer.num_nodes=2"]
# Seconds; only for failing, on machines that do much else.
PATIENCE = 1800
LONG = ["stage=train_generator", "generator.max_steps=200", "generator.validation.every=100000"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        install()
    except (RuntimeError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no SLURM here: {error}")
    with Cluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


class Submitted:
    """A sweep as the user starts it: the command stays until SLURM has done all of its jobs."""

    def __init__(self, cluster: Cluster, folder: Path, process: subprocess.Popen[str]) -> None:
        self.cluster, self.folder, self.process = cluster, folder, process

    def job(self) -> str:
        """The id of its only job, once SLURM has it."""
        return wait(lambda: next(iter(self.cluster.jobs()), None), PATIENCE, "a job")

    def checkpoint(self) -> Path:
        """The first checkpoint of its generator, once it is there and the training goes on."""

        def found() -> Path | None:
            assert self.process.poll() is None, self.output()
            return next(self.folder.glob("store/train_generator/*.partial/last.ckpt"), None)

        return wait(found, PATIENCE, "a checkpoint")

    def output(self) -> str:
        """What its jobs have written so far."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("runs/*/.submitit/*/*_log.*")))

    def finish(self, seconds: float = PATIENCE) -> str:
        """Wait for its end in success; all that was written."""
        said = self.process.communicate(timeout=seconds)[0]
        assert self.process.returncode == 0, said + self.output()
        return said + self.output()


@contextmanager
def submit(cluster: Cluster, folder: Path, *overrides: str) -> Iterator[Submitted]:
    process = subprocess.Popen(
        _command(folder, "-m", *overrides, *SLURM),
        cwd=REPOSITORY,
        env=_environment(cluster),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    submitted = Submitted(cluster, folder, process)
    try:
        yield submitted
    finally:
        process.kill()
        process.communicate()
        cluster.run("scancel", "--user=root")
        wait(lambda: not cluster.jobs(), 60, "an empty queue")


def _command(folder: Path, *overrides: str) -> list[str]:
    paths = [f"paths.store={folder}/store", f"paths.runs={folder}/runs"]
    return [sys.executable, "-m", "dermprompt", *overrides, *paths]


def _environment(cluster: Cluster) -> dict[str, str]:
    return {**cluster.environment, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """Says what a command makes without SLURM."""

    @functools.cache
    def give(*overrides: str) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("undisturbed")
        subprocess.run(_command(folder, *overrides), cwd=REPOSITORY, env=_environment(cluster), check=True)
        return made(folder)

    return give


def made(folder: Path) -> dict[str, str]:
    """Hashes of a store's networks and samples, by their place."""
    files = [path for pattern in ("*.safetensors", "SYN_*") for path in (folder / "store").rglob(pattern)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def continued(output: str) -> list[int]:
    """Steps at which trainings went on."""
    return [int(step) for step in re.findall(r"resumes from step (\d+)", output)]


def test_a_sweep_is_one_array(cluster, tmp_path):
    start = time.monotonic()
    with submit(cluster, tmp_path, *miniature("pix2pixhd"), "seed=0,1", "synthesis.count=4,8") as sweep:
        first = sweep.job()
        ids = {one.split("_")[0] for one in cluster.jobs()}
        said = sweep.finish()
    print(f"4 jobs in {time.monotonic() - start:.0f} s")
    assert ids == {first.split("_")[0]}
    (folder,) = (tmp_path / "runs").iterdir()
    assert len(list(folder.glob("*/results.json"))) == 4
    assert "<dt>Jobs</dt><dd>4</dd>" in (folder / "index.html").read_text()
    assert said.count("── train_generator") == 2
    assert len(list((tmp_path / "store" / "train_generator").glob("*/artifact.json"))) == 2


def test_a_training_on_two_nodes(cluster, undisturbed, tmp_path):
    start = time.monotonic()
    overrides = miniature("pix2pixhd", "synthesis.count=8", "stage=synthesize", "synthesis.batch_size=2")
    with submit(cluster, tmp_path / "nodes", *on(TWO_NODES, overrides)) as sweep:
        wait(lambda: all(_ranks(cluster, node) for node in NODES), PATIENCE, "a rank on each node")
        sweep.finish()
    print(f"on two nodes in {time.monotonic() - start:.0f} s")
    expected = undisturbed(*on(TWO_RANKS, overrides))
    assert len(expected) >= 17
    assert made(tmp_path / "nodes") == expected


def _ranks(cluster: Cluster, node: str) -> list[int]:
    return [pid for pid in cluster.processes(node) if b"dermprompt.distributed.ranks" in _read(f"/proc/{pid}/cmdline")]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("trainer", [[], TWO_RANKS, TWO_NODES], ids=["one_rank", "two_ranks", "two_nodes"])
def test_a_signal_queues_the_job_again(cluster, undisturbed, tmp_path, trainer):
    overrides = miniature("pix2pixhd", *LONG)
    with submit(cluster, tmp_path / "signal", *(on(trainer, overrides) if trainer else overrides)) as sweep:
        job = sweep.job()
        sweep.checkpoint()
        start = time.monotonic()
        cluster.run("scancel", "--signal=USR2", job)
        wait(lambda: cluster.shown(job)["Restarts"] == "1", 60, "the job in the queue again")
        said = sweep.finish()
    print(f"signalled, went on from step {continued(said)}, {time.monotonic() - start:.0f} s later done")
    assert len(continued(said)) == 1
    expected = undisturbed(*(on(TWO_RANKS, overrides) if trainer else overrides))
    assert made(tmp_path / "signal") == expected


@pytest.mark.parametrize("trainer", [[], TWO_NODES], ids=["the_only_node", "the_second_node"])
def test_the_loss_of_a_node_queues_the_job_again(cluster, undisturbed, tmp_path, trainer):
    overrides = miniature("pix2pixhd", *LONG)
    with submit(cluster, tmp_path / "lost", *(on(trainer, overrides) if trainer else overrides)) as sweep:
        job = sweep.job()
        sweep.checkpoint()
        lost = "n2" if trainer else cluster.shown(job)["NodeList"]
        start = time.monotonic()
        cluster.kill_node(lost)
        wait(lambda: cluster.states()[lost].startswith("down"), 120, "a node that is down")
        print(f"{lost} down after {time.monotonic() - start:.0f} s", end=", ")
        cluster.start_node(lost)
        wait(lambda: cluster.shown(job)["Restarts"] == "1", 60, "the job in the queue again")
        said = sweep.finish()
    print(f"went on from step {continued(said)}, {time.monotonic() - start:.0f} s after the loss done")
    assert len(continued(said)) == 1
    expected = undisturbed(*(on(TWO_RANKS, overrides) if trainer else overrides))
    assert made(tmp_path / "lost") == expected
