"""A studio that serves in a process of its own, with the worker of the tests or with the real one."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# Serves with the worker of the tests: what ``dermprompt studio`` does, but for the worker.
FAKE = """
import os
import sys
from pathlib import Path
from dermprompt.studio import command, guard
guard.BODY_SECONDS = float(os.environ.get("FAKE_BODY_SECONDS", guard.BODY_SECONDS))
command.worker_command = lambda config: [sys.executable, sys.argv[1], str(Path(config).parent)]
command.main(sys.argv[2:])
"""


@dataclass(frozen=True)
class Served:
    """Where a studio listens, its process, and the folder that holds all of its files."""

    address: str
    process: subprocess.Popen[str]
    folder: Path

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2].split("/")[0])

    @property
    def said(self) -> str:
        """What it has printed."""
        return (self.folder / "log.txt").read_text()


@contextmanager
def serve(folder: Path, *arguments: str, real: bool = False, **environment: str) -> Iterator[Served]:
    """A studio on a free port; its files lie below ``folder``."""
    folder.mkdir(exist_ok=True)
    paths = ["--port", "0", f"paths.store={folder / 'store'}", f"paths.runs={folder / 'runs'}"]
    fake = ["-c", FAKE, str(Path(__file__).with_name("fake_worker.py"))]
    command = [sys.executable, *(["-m", "dermprompt", "studio"] if real else fake), *paths, *arguments]
    own = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}", "OMP_NUM_THREADS": "1", **environment}
    with open(folder / "log.txt", "a") as log:
        process = subprocess.Popen(command, cwd=folder, env=own, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None, "no pipe"
        ready, _, _ = select.select([process.stdout], [], [], 120)
        line = process.stdout.readline() if ready else ""
        assert line.startswith("studio: "), (folder / "log.txt").read_text()
        yield Served(line.removeprefix("studio: ").strip(), process, folder)
    finally:
        process.terminate()
        process.wait(20)
