"""How a stage gets its processes: it runs in this one, or in one rank per device of each node.

Work on several devices runs under torch's own launcher, which starts the ranks, stops all of them when one dies
(:mod:`~dermprompt.distributed.ranks`) and frees their memory afterwards. The job itself stays a single process:
Lightning's launcher would rerun this process's command line, in a sweep the whole sweep.
"""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from dermprompt.distributed.processes import Runtime, is_first_rank, num_processes, rank_and_size
from dermprompt.distributed.slurm import each_node, num_nodes, rendezvous, wait_for_nodes
from dermprompt.files import read_json, write_json
from dermprompt.store.artifacts import Unfinished

CALL = "call.json"
UNFINISHED = "unfinished.json"
FAILED = "failed-{node}.json"
MADE = "made-{rank}.json"
OFFLINE = "offline"


@dataclass(frozen=True)
class Call:
    """A stage's function by its full dotted path, with its settings, its runtime and the folders of its inputs."""

    work: str
    settings: Any
    runtime: Runtime
    arguments: dict[str, Any]

    def here(self, folder: Path, **more: Any) -> Any:
        """Run the call in this process."""
        return pkgutil.resolve_name(self.work)(self.settings, self.runtime, **self.arguments, **more, folder=folder)

    def on_all_devices(self, folder: Path) -> Any:
        """Run the call in one process per device of the trainer."""
        devices = num_processes(self.runtime.trainer)
        if devices == 1:
            return self.here(folder)
        self._write(folder, folder)
        return self._run_ranks(folder, devices, f"training on {devices} devices", folder)

    def share_batches(self, folder: Path, numbers: list[int]) -> int:
        """Make batches of a growing set in one process per device; see :mod:`dermprompt.store.claims`.

        The processes do not communicate: each claims the batches that it makes. Returns how many they made.
        """
        processes = min(num_processes(self.runtime.trainer), len(numbers))
        if processes == 1:
            return int(self.here(folder, numbers=numbers))
        # Not in the set's folder, which another job may use at the same time, but where all nodes can see it.
        calls = folder.parents[1] / ".calls"
        calls.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=calls) as own:
            replace(self, arguments={**self.arguments, "numbers": numbers})._write(Path(own), folder)
            self._run_ranks(Path(own), processes, f"sampling on {processes} devices", folder)
            return sum(read_json(path, int) for path in Path(own).glob(MADE.format(rank="*")))

    def _write(self, at: Path, folder: Path) -> None:
        """Write what a rank needs to work in ``folder`` to ``at``."""
        (at / CALL).write_text(json.dumps({"call": self, "folder": folder}, default=_plain, indent=1))

    def _run_ranks(self, at: Path, processes: int, what: str, folder: Path) -> None:
        """Run the call that :meth:`_write` wrote to ``at``, in ``processes`` processes spread evenly over the nodes."""
        for left in (at / UNFINISHED, at / OFFLINE, *at.glob(FAILED.format(node="*"))):
            left.unlink(missing_ok=True)
        nodes = num_nodes(self.runtime.trainer)
        command = [*each_node(nodes), sys.executable, "-m", "dermprompt.distributed.ranks", str(at), str(os.getpid())]
        command += [str(-(-processes // nodes)), *rendezvous(nodes)]
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        # In a group of their own: Ctrl-C in a terminal is for this process, which ends them without their stacks.
        # Not with several nodes: there srun ends when the terminal does.
        ended = subprocess.run(command, env=environment, process_group=0 if nodes == 1 else None)
        if (at / OFFLINE).exists():
            # Otherwise the next training's ranks would wait for W&B's server again.
            os.environ["WANDB_MODE"] = "offline"
        if ended.returncode:
            wait_for_nodes(nodes)
            # The cause is a mistake or an external fault, so the user gets a sentence instead of a traceback.
            failures = sorted(read_json(path) for path in at.glob(FAILED.format(node="*")))
            said = failures[0][1] if failures else f"its launcher ended with {ended.returncode}"
            raise ChildProcessError(f"{what} failed: {said}. Its work is kept in {folder}; the same command continues")
        if (at / UNFINISHED).exists():
            raise Unfinished(*read_json(at / UNFINISHED))


def _plain(value: Any) -> Any:
    """Paths and dataclasses as JSON; :func:`_revive` reads them back."""
    if isinstance(value, Path):
        return {"class": "pathlib.Path", "of": str(value)}
    assert is_dataclass(value), value
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    return {"class": name, "of": {one.name: getattr(value, one.name) for one in fields(value)}}


def _revive(value: dict[str, Any]) -> Any:
    if set(value) != {"class", "of"}:
        return value
    kind, of = pkgutil.resolve_name(value["class"]), value["of"]
    return kind(**of) if isinstance(of, dict) else kind(of)


def work_of(folder: Path) -> None:
    """Run the call that :class:`Call` wrote to ``folder``, in each rank."""
    left = json.loads((folder / CALL).read_text(), object_hook=_revive)
    try:
        made = left["call"].here(left["folder"])
        if isinstance(made, int):
            write_json(folder / MADE.format(rank=rank_and_size()[0]), made)
    except Unfinished as stop:
        # For torch's launcher every exit code but 0 is a failure, so this is passed to the job through a file.
        if is_first_rank():
            (folder / UNFINISHED).write_text(json.dumps([stop.step, stop.num_steps]))
    finally:
        if is_first_rank() and os.environ.get("WANDB_MODE") == "offline":
            (folder / OFFLINE).touch()
