"""A GPU in nine minutes: each piece within its limit, and OUT complete whenever the call is ended."""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch
from gpu_call import gpu, load

from dermprompt.config.compose import compose
from dermprompt.tensors import load_tensors
from dermprompt.weights.box import BOX, SAMPLE

REPOSITORY = Path(__file__).parents[2]
NODE = Path(os.environ.get("DERMPROMPT_NODE", REPOSITORY.parent / "nodevenv"))
MAX_FILES, MAX_BYTES = 8, 16 * 2**20

JOBS = ["base", "controlnet", "controlnet_report", "pix2pixhd", "pix2pixhd_report"]
COMMANDS = ["tests", "benchmark_masks", *JOBS]


def packed(folder: Path) -> Path:
    """The package's own images as those of a packed folder."""
    folder.mkdir()
    for name in ("isic2018_256", "isic_labels"):
        (folder / name).symlink_to(SAMPLE)
    return folder


def start(folder: Path, hangs: str, minutes: float) -> subprocess.Popen[bytes]:
    (folder / "work").mkdir()
    code = f"import gpu_call; gpu_call.drive({hangs!r}, {str(folder / 'work')!r})"
    own = [str(folder / "out"), "--minutes", str(minutes), "--packed", str(packed(folder / "packed"))]
    path = os.pathsep.join([str(REPOSITORY / "tests"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code, *own, "--small", "--work", str(folder / "work")]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})


def check_limits(out: Path) -> None:
    files = list(out.iterdir())
    assert len(files) <= MAX_FILES
    assert all(file.stat().st_size <= MAX_BYTES for file in files)


def check(out: Path) -> dict[str, str]:
    """What became of each command, where OUT is complete and within its limits."""
    check_limits(out)
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
    call = start(tmp_path, "tests", minutes=1)
    assert call.wait(300) == 0
    outcomes = check(tmp_path / "out")
    assert outcomes.pop("tests") == "out of time"
    assert outcomes == dict.fromkeys(COMMANDS[1:], "done")
    assert len(list((tmp_path / "out").glob("weights.tar.*"))) == 3
    assert set(json.loads((tmp_path / "out" / "results.json").read_text())) >= {"controlnet_report"}


@pytest.mark.parametrize("small", [False, True], ids=["full size", "in miniature"])
@pytest.mark.parametrize("carried", [(), ("base",), ("base", "controlnet", "pix2pixhd")], ids=len)
def test_every_job_can_be_composed(small: bool, carried: tuple[str, ...], tmp_path: Path) -> None:
    """From whatever an earlier call brought back; at full size no CPU can try it."""
    for name in carried:
        (tmp_path / "carried" / name).mkdir(parents=True)
    call, commands = gpu.Call(tmp_path / "out", packed(tmp_path / "packed"), None, small, tmp_path), []
    call.run = lambda name, command, until: commands.append((name, command)) or True
    (tmp_path / "logs").mkdir()
    call.log("base").write_text("step 200/200, 11.5/s")
    gpu.train_controlnet(call, 300.0)
    gpu.train_pix2pixhd(call, 300.0)
    jobs = [(name, command[3:]) for name, command in commands if name != "pack"]
    assert [name for name, _ in jobs] == [name for name in JOBS if name != "base" or not carried]
    for name, words in jobs:
        config = compose([word for word in words if not word.startswith("hydra.")])
        generator = name.removesuffix("_report").replace("base", "controlnet")
        assert config.image_size == (64 if small else 256)
        assert config.generator.init == (str(tmp_path / "carried" / generator) if generator in carried else None)


class Parsed(Exception):
    """Options are understood."""


@pytest.mark.parametrize("name", gpu.BENCHMARKS)
def test_every_benchmark_knows_its_options(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(parser: argparse.ArgumentParser) -> None:
        parse(parser)
        raise Parsed

    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
    (tmp_path / "pix2pixHD").mkdir()
    for small in (False, True):
        call = gpu.Call(tmp_path, tmp_path, None, small, tmp_path)
        found = {one: command[1:] for one, _, command in gpu.benchmarks(call)}
        monkeypatch.setattr(sys, "argv", found[name])
        with pytest.raises(Parsed):
            runpy.run_path(str(REPOSITORY / found[name][0]), run_name="__main__")


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


def finish(work: Path, *names: str) -> None:
    """Artifacts of a call's store, as large as the box's networks."""
    for name in names:
        made = work / "store" / ("train_base/1" if name == "base" else f"train_generator/{name}-1")
        shutil.copytree(BOX / name, made)
        (made / "artifact.json").touch()


def pack(work: Path, out: Path) -> None:
    out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gpu_weights.py", str(work), str(out)])
        load("gpu_weights").main()


def carry(out: Path, work: Path) -> set[str]:
    """Which networks a call finds that goes on from OUT; each is checked to be the box's."""
    gpu.unpack_weights(gpu.Call(work / "out", work, out, True, work))
    found = {path.name for path in (work / "carried").iterdir()}
    for name in found:
        for file in (BOX / name).rglob("*.safetensors"):
            ours, theirs = load_tensors(work / "carried" / name / file.relative_to(BOX / name)), load_tensors(file)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    return found


def test_weights_travel_and_are_carried_on(tmp_path: Path) -> None:
    """A call that begins with the ControlNet of an earlier one and trains Pix2PixHD brings both back."""
    first, second = tmp_path / "first", tmp_path / "second"
    finish(first, "base", "controlnet")
    pack(first, tmp_path / "out-1")
    assert carry(tmp_path / "out-1", second) == {"base", "controlnet"}
    finish(second, "pix2pixhd")
    pack(second, tmp_path / "out-2")
    check_limits(tmp_path / "out-2")
    assert carry(tmp_path / "out-2", tmp_path / "third") == {"base", "controlnet", "pix2pixhd"}
    # Parts of two calls, whole as each of them is.
    shutil.copy(tmp_path / "out-1" / "weights.tar.0", tmp_path / "out-2")
    with pytest.raises(SystemExit, match="do not belong together"):
        carry(tmp_path / "out-2", tmp_path / "fourth")


def make(folder: Path, name: str, *more: str) -> subprocess.Popen[bytes]:
    """The very command, on whatever environment is most like a bare node's, without network."""
    node = (NODE / "bin/python").exists()
    path = {"PYTHONPATH": str(NODE / "site")} if node else {}
    places = [f"PACKED={folder / 'packed'}", f"VENV={NODE if node else sys.prefix}", f"OUT={folder / name}"]
    work = f'ARGS=--small --work "{folder}/work-{name}"'
    command = ["make", "-s", "gpu", "MINUTES=60", work, *places, *more]
    offline = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    environment = {**os.environ, **path, **offline}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, start_new_session=True)


def networks(out: Path, folder: Path) -> set[str]:
    """Those whose weights came back."""
    gpu.unpack_weights(gpu.Call(folder, folder, out, True, folder))
    return {path.name for path in (folder / "carried").iterdir()}


@pytest.mark.slow
def test_the_rehearsal(tmp_path: Path) -> None:
    """In miniature on a CPU: a call that is ended while the ControlNet trains, then two that go on from the last."""
    packed(tmp_path / "packed")
    first = make(tmp_path, "first")
    while first.poll() is None and not (tmp_path / "work-first/logs/controlnet.log").exists():
        time.sleep(0.5)
    os.killpg(first.pid, signal.SIGTERM)
    assert first.wait(60) != 0
    found = check(tmp_path / "first")
    done = {name for name, outcome in found.items() if outcome == "done"}
    assert done >= {"tests", "benchmark_masks", "base", "pack"}, found
    assert "base" in networks(tmp_path / "first", tmp_path)
    for name, before in (("second", "first"), ("third", "second")):
        assert make(tmp_path, name, f"CARRIED={tmp_path / before}").wait() == 0
        found = check(tmp_path / name)
        assert found == dict.fromkeys([*JOBS[1:], "pack"], "done")
        assert set(json.loads((tmp_path / name / "results.json").read_text())) == {"controlnet", "pix2pixhd"}
        assert networks(tmp_path / name, tmp_path) == {"base", "controlnet", "pix2pixhd"}
