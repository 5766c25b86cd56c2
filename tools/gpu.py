"""What a GPU gives in ten minutes, in one command: tests, benchmarks, both generators at 256 pixels (``make gpu``).

    python tools/gpu.py OUT --minutes 9 --packed FOLDER [--carried FOLDER] [--small]

For a bare node without network. ``--packed`` holds ``wheels`` for what its Python lacks, ``isic2018_256`` and
``isic_labels``; this file itself needs the standard library alone. In order, each with its own limit: the tests that
need a GPU, the benchmarks (Pix2PixHD's where ``--packed`` holds the original's source, ``pix2pixHD``), ``isic_256``.
With ``--carried``, the ``OUT`` of an earlier call, ``isic_256`` alone goes on from its weights. After each command OUT
is complete: at most 8 files of 16 MiB, so that nothing is lost whenever the node is taken away. ``--small`` is the
rehearsal: the same commands in miniature, on a CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
MAX_BYTES = 16 * 2**20
DIGEST = 32  # bytes at the end of the weights
GRACE_SECONDS = 5
# Of nine minutes, in seconds: other times are divided alike.
LIMITS = {"install": 45, "tests": 60, "benchmarks": 135, "isic_256": 270, "pack": 30}
ONCE = ("tests", "benchmarks")  # not again in a call that goes on from an earlier one's weights
# A joint step of base and ControlNet takes so many times a step of the base; what comes after it, and so many seconds.
JOINT, START_UP = 1.6, 35
RATE = re.compile(r"step (\d+)/\d+, ([\d.]+)/s")
PICTURES = (".json", ".md", ".svg", ".png", ".jpg", ".csv")

Command = list[str]


@dataclass
class Call:
    """One call: where its files lie, until when it may take, and what became of each command."""

    out: Path
    packed: Path
    carried: Path | None
    small: bool
    work: Path
    start: float = field(default_factory=time.monotonic)
    minutes: float = 9.0
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)
    stopped: bool = False

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def end_of(self, piece: str) -> float:
        """When a piece has to be over, in seconds since the start."""
        limits = {name: limit for name, limit in LIMITS.items() if not (self.carried and name in ONCE)}
        names = list(limits)
        share = sum(limits[name] for name in names[: names.index(piece) + 1]) / sum(limits.values())
        return 60 * self.minutes * share

    def log(self, name: str) -> Path:
        """Where a command's output goes."""
        return self.work / "logs" / f"{name}.log"

    def run(self, name: str, command: Command, until: float) -> bool:
        """Run a command to its end, or end it with all that it started; whether it succeeded."""
        seconds = until - self.now()
        if self.stopped or seconds < 1:
            self.note(name, "no time", 0.0)
            return False
        start, log = self.now(), self.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"$ {' '.join(command)}\n")
            file.flush()
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=self.environment(), **OWN_GROUP
            )
            self.running.add(process.pid)
            outcome = _wait(process, seconds)
            self.running.discard(process.pid)
        self.note(name, outcome, self.now() - start)
        self.gather()
        return outcome == "done"

    def environment(self) -> dict[str, str]:
        """What commands find their packages by."""
        path = [str(REPOSITORY), str(self.work / "site"), os.environ.get("PYTHONPATH", "")]
        more = {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
        return {**os.environ, "OMP_NUM_THREADS": "1" if self.small else "4", **more}

    def note(self, name: str, outcome: str, seconds: float) -> None:
        """Keep what became of a command, and say it."""
        self.outcomes[name] = {"outcome": outcome, "seconds": round(seconds, 1)}
        print(f"{self.now():6.1f} s  {name}: {outcome} after {seconds:.1f} s", flush=True)

    def gather(self) -> None:
        """Rewrite OUT: each file is complete or as it was."""
        with self.lock:
            summary = {"minutes": self.minutes, "small": self.small, "device": device(), "commands": self.outcomes}
            _put(self.out / "summary.json", json.dumps(summary, indent=1).encode())
            _tar(self.out / "logs.tar.gz", self.work / "logs", sorted((self.work / "logs").glob("*.log")))
            found = {p.parent.name: json.loads(p.read_text()) for p in self.reports("results.json")}
            if found:
                _put(self.out / "results.json", json.dumps(found).encode())
                files = [p for p in self.reports("*") if p.suffix in PICTURES and p.name != "results.json"]
                _tar(self.out / "report.tar.gz", self.work / "runs", files)

    def reports(self, pattern: str) -> list[Path]:
        """Files of the run folders, small ones first."""
        found = (p for p in (self.work / "runs").rglob(pattern) if p.is_file())
        return sorted(found, key=lambda p: (p.stat().st_size, str(p)))


OWN_GROUP: dict[str, Any] = {"start_new_session": True}


def device() -> str:
    """The GPU's name, or that there is none."""
    if not shutil.which("nvidia-smi"):
        return "CPU"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or "CPU"


def _wait(process: subprocess.Popen[bytes], seconds: float) -> str:
    try:
        code = process.wait(seconds)
        return "done" if code == 0 else f"failed ({code})"
    except subprocess.TimeoutExpired:
        _end(process.pid)
        return "out of time"


def _end(pid: int) -> None:
    """End a process and all that it started."""
    for kind, patience in ((signal.SIGINT, GRACE_SECONDS), (signal.SIGKILL, 0)):
        try:
            os.killpg(pid, kind)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline and os.waitpid(pid, os.WNOHANG) == (0, 0):
                time.sleep(0.1)
        except (ProcessLookupError, ChildProcessError):
            continue


def _put(path: Path, content: bytes) -> None:
    """A file as a whole, or not at all; the staged one lies beside OUT."""
    assert len(content) <= MAX_BYTES, (path, len(content))
    staged = path.parent.with_name(f"{path.parent.name}.{path.name}.tmp")  # beside OUT, where it does not count
    staged.write_bytes(content)
    os.replace(staged, path)


def _tar(path: Path, root: Path, files: Sequence[Path]) -> None:
    """As many of the files as fit into one file of OUT, with a list of those that do not."""
    buffer, left_out = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for file in files:
            content = file.read_bytes()
            if buffer.tell() + len(content) > MAX_BYTES - 2**16:
                left_out.append(str(file.relative_to(root)))
                continue
            entry = tarfile.TarInfo(str(file.relative_to(root)))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        listed = "\n".join(left_out)[: 2**15].encode()
        entry = tarfile.TarInfo("left_out.txt")
        entry.size = len(listed)
        tar.addfile(entry, io.BytesIO(listed))
    _put(path, buffer.getvalue())


# The commands.


def install(packed: Path, site: Path) -> Iterator[tuple[str, Command]]:
    """What the node's Python lacks, from wheels; nothing where none are packed."""
    wheels = sorted(map(str, (packed / "wheels").glob("*.whl")))
    pip = ("pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade")
    if wheels:
        yield "install", [sys.executable, "-m", *pip, "--target", str(site), *wheels]


def tests() -> Command:
    """All tests that need a GPU."""
    return [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]


def benchmarks(call: Call) -> Iterator[tuple[str, float, Command]]:
    """Each with its share of the time: ours beside its peer, at full size where there is a GPU."""
    peer = call.packed / "pix2pixHD"
    for name, (share, full, small) in BENCHMARKS.items():
        options = (small if call.small else full).split()
        if name == "pix2pixhd_step":
            if not peer.is_dir():
                continue
            options += ["--peer", str(peer)]
        yield name, share, [sys.executable, f"benchmarks/{name}.py", *options]


# Of each its share of the time, its options on a GPU, and those of the rehearsal.
BENCHMARKS = {
    "masks": (0.1, "--device cuda --rounds 3 --number 2048", "--rounds 1 --number 2"),
    "segmenter_input": (0.1, "", "--images 64 --size 64 --batch 16 --width 4 --steps 1"),
    "pix2pixhd_step": (0.15, "--steps 8", "--steps 1 --size 64 --width 4"),
    "controlnet_step": (0.3, "--batch 16 --pairs 8 --no-compile", "--size 64 --batch 1 --pairs 1"),
    "synthesis": (
        0.35,
        "--images 16 --repeats 1 --batches 16",
        "--size 64 --images 1 --steps 1 --repeats 1 --batches 1",
    ),
}
SMALL_NETWORKS = (
    "generator.validation.every=2",
    "evaluation.gallery=2",
    "evaluation.quiz=0",
    "synthesis.batch_size=4",
    "data.num_images=60",
    "image_size=64",
    "evaluation.reference.image_size=32",
    "evaluation.reference.max_epochs=1",
    "segmenter.image_size=32",
    "segmenter.max_epochs=1",
    "trainer=cpu",
)
SMALL = {
    "base": ("generator.base.max_steps=2", "generator.base.batch_size=2", "generator.base.channels=[32,32,32]"),
    "controlnet": ("generator.batch_size=2", "generator.num_steps=2", "generator.validation.num_steps=2"),
    "pix2pixhd": ("generator.max_steps=2", "generator.batch_size=2", "generator.decay_from_step=1"),
}
PIX2PIXHD = ("generator.max_steps=900", "generator.decay_from_step=450", "generator.validation.every=300")
# Segmenters that take seconds; what they find compares moments of one training, and is no measure.
SEGMENTERS = (
    "evaluation.reference.network.features=[8,16,32,64,64,8]",
    "evaluation.reference.image_size=128",
    "evaluation.reference.batch_size=64",
    "evaluation.reference.max_epochs=4",
    "evaluation.reference.augmentation=flips",
    "segmenter.network.features=[8,16,32,64,64,8]",
    "segmenter.image_size=128",
    "segmenter.batch_size=64",
    "segmenter.max_epochs=4",
)


def job(call: Call, generator: str, *more: str) -> Command:
    """A command of ``dermprompt`` on the packed images; from the carried weights where there are any."""
    weights, experiment = call.work / "carried", "isic_256"
    own: list[str] = []
    if (weights / "base").is_dir():
        experiment = "isic_256_more"
        own.append(f"generator.base.path={weights / 'base'}")
    if (weights / generator).is_dir():
        own.append(f"generator.init={weights / generator}")
    small = [*SMALL_NETWORKS, *SMALL[generator]] if call.small else []
    small += SMALL["base"] if call.small and experiment == "isic_256" else []
    places = [f"paths.store={call.work / 'store'}", f"paths.runs={call.work / 'runs'}"]
    data = [f"data.root={call.packed / 'isic2018_256'}", f"data.labels={call.packed / 'isic_labels'}"]
    run = ["hydra.mode=RUN", f"hydra.run.dir={call.work / 'runs' / generator}", "trainer.precision=32-true"]
    words = [f"+experiment={experiment}", f"generator={generator}", *run[: 3 if call.small else 2], *places, *data]
    return [sys.executable, "-m", "dermprompt", *words, *SEGMENTERS, *own, *small, *more]


def train_controlnet(call: Call, until: float) -> None:
    """Base, then base and ControlNet together for as many steps as the time leaves, then the report."""
    carried, left = (call.work / "carried" / "base").is_dir(), 0.65
    rate = 8.0
    if not carried:
        fast = () if call.small else ("generator.base.max_steps=200",)
        if not call.run("base", job(call, "controlnet", "stage=train_base", *fast), until):
            return
        pack_weights(call)
        rate = float((RATE.findall(call.log("base").read_text()) or [("", rate)])[-1][1])
    trained = call.now() + left * (until - call.now())
    steps = max(50, int((trained - call.now() - START_UP) * rate / JOINT / 50) * 50)
    steps = 2 if call.small else steps
    more = [f"generator.max_steps={steps}", f"generator.validation.every={max(1, steps // 4)}"]
    more += [] if call.small or carried else ["generator.base.max_steps=200"]
    if call.run("controlnet", job(call, "controlnet", "stage=train_generator", *more), until):
        pack_weights(call)
        call.run("controlnet_report", job(call, "controlnet", *count(call), *more), until)


def train_pix2pixhd(call: Call, until: float) -> None:
    """Pix2PixHD, then its report."""
    more = [] if call.small else list(PIX2PIXHD)
    if call.run("pix2pixhd", job(call, "pix2pixhd", "stage=train_generator", *more), until):
        pack_weights(call)
        call.run("pix2pixhd_report", job(call, "pix2pixhd", *count(call), *more), until)


def count(call: Call) -> list[str]:
    """How many samples a report has."""
    return [f"synthesis.count={8 if call.small else 500}", "stage=report"]


def pack_weights(call: Call) -> None:
    """Put what is trained so far into OUT, in the form in which a later call starts from it."""
    script = Path(__file__).with_name("gpu_weights.py")
    with call.lock:
        call.run("pack", [sys.executable, str(script), str(call.work), str(call.out)], call.end_of("pack"))


def unpack_weights(call: Call) -> None:
    """Unpack the weights of an earlier call where this one starts from them."""
    shutil.rmtree(call.work / "carried", ignore_errors=True)
    parts = sorted(call.carried.glob("weights.tar.*")) if call.carried else []
    if call.carried and not parts:
        sys.exit(f"error: --carried {call.carried}: no weights.tar.* in it")
    whole = b"".join(part.read_bytes() for part in parts)
    content, digest = whole[:-DIGEST], whole[-DIGEST:]
    if parts and hashlib.sha256(content).digest() != digest:
        sys.exit(f"error: --carried {call.carried}: its weights.tar.* do not belong together")
    if parts:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(call.work / "carried", filter="data")


def measure(call: Call) -> None:
    """Tests and benchmarks."""
    call.run("tests", tests(), call.now() + call.end_of("tests") - call.end_of("install"))
    until, start = call.end_of("benchmarks"), call.now()
    for name, share, command in benchmarks(call):
        call.run(f"benchmark_{name}", command, min(until, call.now() + share * (until - start)))


def work_on(call: Call) -> None:
    """All pieces, in order."""
    site = call.work / "site"
    for name, command in install(call.packed, site):
        call.run(name, command, call.end_of("install"))
        # kornia imports it, for image files alone.
        (site / "kornia_rs.py").write_text("io = None\n")
    if not call.carried:
        measure(call)
    until = call.end_of("isic_256")
    chains = [threading.Thread(target=chain, args=(call, until)) for chain in (train_controlnet, train_pix2pixhd)]
    for chain in chains:
        chain.start()
    for chain in chains:
        chain.join()
    call.gather()


def main() -> None:
    """Run everything; ended from outside, what it had finished lies in OUT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--packed", type=Path, required=True)
    parser.add_argument("--carried", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/gpu"), help="what does not come back")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if not (options.packed / "isic2018_256").is_dir():
        sys.exit(f"error: --packed {options.packed}: no folder isic2018_256 in it")
    out, packed, work = (path.resolve() for path in (options.out, options.packed, options.work))
    for folder in (out, work / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    call = Call(out, packed, options.carried, options.small, work, minutes=options.minutes)
    if not options.small and device() == "CPU":
        sys.exit("error: no GPU here; --small rehearses on a CPU")

    def stop(*_: object) -> None:
        call.stopped = True
        for pid in list(call.running):
            _end(pid)
        call.gather()
        os._exit(143)

    signal.signal(signal.SIGTERM, stop)
    unpack_weights(call)
    call.gather()
    work_on(call)
    print(f"{call.now():6.1f} s  {', '.join(sorted(path.name for path in out.iterdir()))} in {out}")


if __name__ == "__main__":
    main()
