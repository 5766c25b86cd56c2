"""A GPU in nine minutes: each piece within its limit, and OUT complete whenever the call is ended."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import ModuleType

import pytest

from dermprompt.weights.box import SAMPLE

REPOSITORY = Path(__file__).parents[2]
NODE = Path(os.environ.get("DERMPROMPT_NODE", REPOSITORY.parent / "nodevenv"))
MAX_FILES, MAX_BYTES = 8, 16 * 2**20


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu", REPOSITORY / "tools" / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["gpu"] = importlib.util.module_from_spec(spec)  # for its dataclass
    spec.loader.exec_module(module)
    return module


gpu = load()

COMMANDS = ["tests", "benchmark_masks", "base", "controlnet", "controlnet_report", "pix2pixhd", "pix2pixhd_report"]


def drive(hangs: str, work: str) -> None:
    """The call with stand-ins for all that takes long: ``hangs`` never ends, and says that it was begun."""

    def stand_in(name: str) -> list[str]:
        run = f"mkdir -p {work}/runs/{name}; echo '[1]' > {work}/runs/{name}/results.json"
        return ["sh", "-c", f"touch {work}/at-{name}; sleep 1000" if name == hangs else run]

    def job(call: object, generator: str, *more: str) -> list[str]:
        name = "base" if "stage=train_base" in more else generator
        return stand_in(name + ("_report" if "stage=report" in more else ""))

    def pack(call: gpu.Call) -> None:  # type: ignore[name-defined]
        for number in range(3):
            gpu._put(call.out / f"weights.tar.{number}", b"0" * 2**20)

    gpu.job, gpu.pack_weights = job, pack
    gpu.benchmarks = lambda small: [("masks", 0.5, stand_in("benchmark_masks"))]
    gpu.tests = lambda: stand_in("tests")
    gpu.main()


def packed(folder: Path) -> Path:
    """The package's own images as those of a packed folder."""
    folder.mkdir()
    for name in ("isic2018_256", "isic_labels"):
        (folder / name).symlink_to(SAMPLE)
    return folder


def start(folder: Path, hangs: str, minutes: float) -> subprocess.Popen[bytes]:
    (folder / "work").mkdir()
    code = f"import test_gpu; test_gpu.drive({hangs!r}, {str(folder / 'work')!r})"
    own = [str(folder / "out"), "--minutes", str(minutes), "--packed", str(packed(folder / "packed"))]
    path = os.pathsep.join([str(Path(__file__).parent), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code, *own, "--small", "--work", str(folder / "work")]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})


def check(out: Path) -> dict[str, str]:
    """What became of each command, where OUT is complete and within its limits."""
    files = list(out.iterdir())
    assert len(files) <= MAX_FILES
    assert all(file.stat().st_size <= MAX_BYTES for file in files)
    for archive in out.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            assert "left_out.txt" in tar.getnames()
    if (out / "results.json").exists():
        assert json.loads((out / "results.json").read_text())
    found = json.loads((out / "summary.json").read_text())["commands"]
    return {name: one["outcome"] for name, one in found.items()}


@pytest.mark.parametrize("hangs", ["tests", "benchmark_masks", "base", "controlnet_report"])
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_ended_from_outside_nothing_finished_is_lost(hangs: str, kind: signal.Signals, tmp_path: Path) -> None:
    call = start(tmp_path, hangs, minutes=10)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "work" / f"at-{hangs}").exists():
            assert call.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)  # the other generator's commands
    finally:
        call.send_signal(kind)
        call.wait(60)
    earlier = COMMANDS[: COMMANDS.index(hangs)]
    outcomes = check(tmp_path / "out")
    assert {name: outcomes.get(name) for name in earlier} == dict.fromkeys(earlier, "done")
    assert outcomes.get(hangs) != "done"


def test_a_piece_that_hangs_takes_its_time_and_no_more(tmp_path: Path) -> None:
    call = start(tmp_path, "tests", minutes=0.5)
    assert call.wait(60) == 0
    outcomes = check(tmp_path / "out")
    assert outcomes.pop("tests") == "out of time"
    assert outcomes == dict.fromkeys(COMMANDS[1:], "done")
    assert len(list((tmp_path / "out").glob("weights.tar.*"))) == 3
    assert set(json.loads((tmp_path / "out" / "results.json").read_text())) >= {"controlnet_report"}


def test_what_does_not_fit_is_left_out_and_named(tmp_path: Path) -> None:
    for name, size in (("small", 100), ("large", MAX_BYTES)):
        (tmp_path / name).write_bytes(os.urandom(size))
    (tmp_path / "out").mkdir()
    gpu._tar(tmp_path / "out" / "a.tar.gz", tmp_path, [tmp_path / "large", tmp_path / "small"])
    with tarfile.open(tmp_path / "out" / "a.tar.gz") as tar:
        assert tar.getnames() == ["small", "left_out.txt"]
        left_out = tar.extractfile("left_out.txt")
        assert left_out is not None
        assert left_out.read() == b"large"


def test_the_limits_of_all_pieces_are_within_the_call(tmp_path: Path) -> None:
    call = gpu.Call(tmp_path, tmp_path, None, False, tmp_path, minutes=9)
    ends = [call.end_of(name) for name in gpu.LIMITS]
    assert ends == sorted(ends)
    assert ends[-1] == pytest.approx(540)


def test_no_images_and_no_weights_are_said_at_once(tmp_path: Path) -> None:
    for own in (["--packed", str(tmp_path)], ["--packed", str(packed(tmp_path / "p")), "--carried", str(tmp_path)]):
        command = [sys.executable, str(REPOSITORY / "tools/gpu.py"), str(tmp_path / "out"), *own, "--small"]
        ended = subprocess.run(
            [*command, "--work", str(tmp_path / "work")], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 1
        assert "error: --packed" in ended.stderr or "error: --carried" in ended.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (NODE / "bin/python").exists(), reason=f"no environment like a bare node's in {NODE}")
def test_the_rehearsal_in_an_environment_like_the_nodes(tmp_path: Path) -> None:
    """The very command, in miniature on a CPU, and a second call from the weights that the first brought back."""
    environment = {**os.environ, "PYTHONPATH": str(NODE / "site"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    places = [f"PACKED={packed(tmp_path / 'packed')}", f"VENV={NODE}", "MINUTES=60"]
    for name, more in (("first", []), ("second", [f"CARRIED={tmp_path / 'first'}"])):
        work = f'ARGS=--small --work "{tmp_path}/work-{name}"'
        command = ["make", "-s", "gpu", f"OUT={tmp_path / name}", work, *places, *more]
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)
        outcomes = check(tmp_path / name)
        trained = {"controlnet", "pix2pixhd"} | ({"base"} if name == "first" else set())
        assert {one for one, outcome in outcomes.items() if outcome == "done"} >= trained | {
            "controlnet_report",
            "pix2pixhd_report",
            "tests",
        }, outcomes
        parts = sorted((tmp_path / name).glob("weights.tar.*"))
        with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as tar:
            weights = {Path(one).parts[0] for one in tar.getnames() if len(Path(one).parts) > 1}
        assert weights == {"base", "controlnet", "pix2pixhd"}
