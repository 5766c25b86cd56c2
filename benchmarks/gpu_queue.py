"""The work that waits for a GPU, most valuable first, in pieces of minutes (``make gpu``).

A piece is one command. It ends by itself within ``--minutes``, or with exit code 75 when its training goes on in the
next call: the same command continues from its checkpoint. One that is still at work then is ended, and what it had
finished is kept, batch by batch and training by training. What was done, and each piece's output, lie in ``--folder``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

STATE = "state.json"
# Of a piece's time its training leaves these to what comes before and after it.
MARGIN_SECONDS = 150
GRACE_SECONDS = 20


@dataclass(frozen=True)
class Piece:
    """A command, what it gives, and roughly how many minutes it takes in all on one H100 (not measured)."""

    name: str
    command: tuple[str, ...]
    gives: str
    minutes: int


def plan(
    root: str, labels: str, minutes: float, stable_diffusion: str | None = None, pix2pixhd: str | None = None
) -> list[Piece]:
    """The queue; two of its pieces need a folder from elsewhere."""
    python = sys.executable

    def benchmark(name: str, gives: str, *options: str) -> Piece:
        return Piece(name, (python, f"benchmarks/{name}.py", *options), f"a row of benchmarks/README.md: {gives}", 5)

    def job(name: str, gives: str, total: int, *overrides: str) -> Piece:
        data = (f"data.root={root}", f"data.labels={labels}", f"trainer.max_time={limit(minutes)}")
        return Piece(name, (python, "-m", "dermprompt", *overrides, *data), gives, total)

    isic = ("+experiment=isic_256", "hydra.mode=RUN")
    real = (
        [Piece("verify_sd", (python, "-m", "dermprompt.verify", stable_diffusion), "experiments/verify_sd", 8)]
        if stable_diffusion
        else []
    )
    original = [
        benchmark("pix2pixhd_step", "Pix2PixHD's training step beside the original's", "--peer", str(pix2pixhd))
    ]
    return [
        Piece("tests", (python, "-m", "pytest", "-m", "gpu"), "the tests that need a GPU", 3),
        *real,
        benchmark("controlnet_step", "the ControlNet's training step beside diffusers' script"),
        benchmark("synthesis", "samples a second beside diffusers' pipeline"),
        *(original if pix2pixhd else []),
        benchmark("segmenter_input", "how long a segmenter waits for its batches"),
        job("isic_256_base", "the base's weights and curve", 30, *isic, "stage=train_base"),
        job("isic_256_controlnet", "weights, curve, grids", 30, *isic, "generator=controlnet", "stage=train_generator"),
        job("isic_256_pix2pixhd", "weights, curve, grids", 40, *isic, "generator=pix2pixhd", "stage=train_generator"),
        job("isic_256", "pictures, Table 1 and throughput: the report of both generators", 40, "+experiment=isic_256"),
        Piece(
            "isic_256_weights",
            (python, "-m", "dermprompt.generator.shards", "pack", "store/train_generator", "runs/gpu/weights"),
            "the generators in bfloat16 files of at most 16 MiB, to be carried",
            1,
        ),
        job("fair_arms_256", "the arms' tables, a row more with every job", 600, "+experiment=fair_arms_256"),
    ]


def limit(minutes: float) -> str:
    """``trainer.max_time`` of a piece."""
    seconds = max(60, int(60 * minutes - MARGIN_SECONDS))
    return f"00:{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


class Queue:
    """The pieces with what became of them: ``done``, ``unfinished`` or ``failed``, by name."""

    def __init__(self, pieces: Sequence[Piece], folder: Path) -> None:
        self.pieces, self.folder = pieces, folder
        path = folder / STATE
        self.state: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def waiting(self) -> list[Piece]:
        """What is not done, in order; what failed comes last, so that it holds nothing up."""
        left = [piece for piece in self.pieces if self.state.get(piece.name) != "done"]
        return sorted(left, key=lambda piece: self.state.get(piece.name) == "failed")

    def run(self, number: int, minutes: float, call: Callable[[Piece, Path, float], str]) -> bool:
        """Make ``number`` calls (0: until all is done or has failed); whether none failed."""
        failed: set[str] = set()
        calls = 0
        while calls < number or not number:
            left = [piece for piece in self.waiting() if piece.name not in failed]
            if not left:
                break
            piece, calls = left[0], calls + 1
            print(f"── {piece.name}: {' '.join(piece.command)}", flush=True)
            start = time.monotonic()
            self._note(piece, call(piece, self.folder / f"{piece.name}.log", 60 * minutes))
            outcome = self.state[piece.name]
            print(f"   {outcome} after {(time.monotonic() - start) / 60:.1f} min: {self.folder / piece.name}.log")
            if outcome == "failed":
                failed.add(piece.name)
        return not failed

    def _note(self, piece: Piece, outcome: str) -> None:
        self.state[piece.name] = outcome
        staged = self.folder / f"{STATE}.tmp"
        staged.write_text(json.dumps(self.state, indent=1))
        os.replace(staged, self.folder / STATE)

    def show(self) -> str:
        """A table of all pieces."""
        rows = [
            f"{self.state.get(piece.name, 'to do'):10} ~{piece.minutes:3} min  {piece.name}: {piece.gives}"
            for piece in self.pieces
        ]
        return "\n".join(rows)


def call_piece(piece: Piece, log: Path, seconds: float) -> str:
    """Run a piece's command, its output to the end of ``log``; what became of it."""
    with log.open("a") as file:
        file.write(f"$ {' '.join(piece.command)}\n")
        file.flush()
        # A group of its own, so that what it has started ends with it.
        process = subprocess.Popen(piece.command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            return "unfinished"
        except BaseException:
            _end(process)
            raise
    return {0: "done", os.EX_TEMPFAIL: "unfinished"}.get(code, "failed")


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    """Run the next pieces, or with ``--plan`` show them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="data.root")
    parser.add_argument("--labels", required=True, help="data.labels")
    parser.add_argument("--stable-diffusion", help="a folder in diffusers' format, to be verified")
    parser.add_argument("--pix2pixhd", help="a checkout of https://github.com/NVIDIA/pix2pixHD, to be measured beside")
    parser.add_argument("--pieces", type=int, default=0, help="how many calls to make (0: until all is done)")
    parser.add_argument("--minutes", type=float, default=10.0, help="that a call may take")
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--plan", action="store_true")
    options = parser.parse_args()
    folders = options.stable_diffusion, options.pix2pixhd
    queue = Queue(plan(options.root, options.labels, options.minutes, *folders), options.folder)
    print(queue.show(), flush=True)
    if options.plan:
        return
    import torch

    if not torch.cuda.is_available():
        sys.exit("error: no GPU here; above is what waits for one")
    options.folder.mkdir(parents=True, exist_ok=True)
    if not queue.run(options.pieces, options.minutes, call_piece):
        sys.exit("error: a piece failed; its log says why, and the next call tries it again after all others")


if __name__ == "__main__":
    main()
