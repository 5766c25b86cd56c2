"""The ranks of a training, and what happens if one dies.

If any rank fails, all end: if it crashes or is killed, the others are stopped within seconds; if it hangs, they give
up after ``trainer.timeout``. No rank outlives the process that started it (on several nodes, SLURM's step). The
launcher reports which rank failed first, and why; the same command resumes from the last checkpoint.

``python -m dermprompt.distributed.ranks FOLDER PARENT NUMBER OPTIONS`` starts torch's launcher.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dermprompt.distributed.launch import FAILED, work_of
from dermprompt.files import write_json

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

# Ranks that have not ended this many seconds after another one died are killed.
SHUTDOWN_SECONDS = 5
_SET_DEATH_SIGNAL = 1  # of prctl(2)
# How gloo (two texts), NCCL and the ranks' store report a rank that did not answer in time (late) or that is gone.
_LATE = ("timed out waiting", "application timeout", "collective operation timeout", "wait timeout after")
_HINTS = {
    "SIGKILL": " (by hand, or because memory ran out)",
    "SIGABRT": " (after trainer.timeout in NCCL, or by a failed assertion)",
}
_GONE = ("connection closed", "connection reset", "broken pipe")


def launch(folder: Path, processes: int, rendezvous: list[str]) -> int:
    """Run the call in ``folder`` in ``processes`` ranks on this node; write a failure to ``failed-….json`` there."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    _end_the_rest_soon()
    options = [*rendezvous, f"--nproc-per-node={processes}", f"--shutdown-timeout={SHUTDOWN_SECONDS}"]
    try:
        run.main([*options, "-m", "dermprompt.distributed.ranks", str(folder), str(os.getpid())])
    except ChildFailedError as error:
        write_json(folder / FAILED.format(node=os.environ.get("SLURM_NODEID", "0")), describe(error.failures))
        return 1
    return 0


def _end_the_rest_soon() -> None:
    """Shorten the 30 s that the other ranks get when one fails: torch's --shutdown-timeout does not apply to them."""
    from torch.distributed.elastic.multiprocessing.api import PContext

    close = PContext.close

    def soon(self: PContext, death_sig: signal.Signals | None = None, timeout: int = SHUTDOWN_SECONDS) -> None:
        close(self, death_sig, timeout)

    PContext.close = soon  # type: ignore[method-assign]


def describe(failures: dict[int, ProcessFailure]) -> tuple[int, str]:
    """The cause in a sentence, not its consequences (ranks that lost, waited for or were stopped because of another).

    The number before it orders possible causes, the likeliest first, because each node knows only its own ranks.
    """
    first = min(failure.timestamp for failure in failures.values())
    at_once = [rank for rank in failures if failures[rank].timestamp - first < SHUTDOWN_SECONDS - 2]
    rank = min(at_once, key=lambda one: (_order(failures[one]), one))
    return _order(failures[rank]), _sentence(rank, failures[rank])


def _sentence(rank: int, failure: ProcessFailure) -> str:
    if not _raised(failure):
        return f"rank {rank} was killed by {failure.signal_name()}{_HINTS.get(failure.signal_name(), '')}"
    if _says(failure, _LATE):
        return f"rank {rank} waited in vain for another rank, which hangs or takes longer than trainer.timeout"
    return f"rank {rank} failed with {' '.join(_text(failure).split()).rstrip('.')}"


def _order(failure: ProcessFailure) -> int:
    """Causes before consequences; torch's launcher ends the other ranks with SIGTERM."""
    if not _raised(failure):
        return 2 if failure.exitcode == -signal.SIGTERM else 0
    return 3 if _says(failure, (*_LATE, *_GONE)) else 1


def _raised(failure: ProcessFailure) -> bool:
    """Whether it raised an exception, even if it then ended so slowly that the launcher killed it."""
    return failure.exitcode > 0 or isinstance(failure.message, dict)


def _says(failure: ProcessFailure, words: tuple[str, ...]) -> bool:
    return any(word in _text(failure).lower() for word in words)


def _text(failure: ProcessFailure) -> str:
    """The exception without its traceback."""
    return str(failure.message["message"] if isinstance(failure.message, dict) else failure.message)


def _end_with_parent(parent: int, by: signal.Signals) -> None:
    """Let Linux signal this process when its parent dies."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, int(by))
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Start the launcher; without a number of processes, be one of its ranks."""
    folder, parent, options = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[4:]
    if options:
        # On several nodes its parent is SLURM, which ends it with the job.
        if "--standalone" in options:
            _end_with_parent(parent, signal.SIGTERM)
        sys.exit(launch(folder, int(sys.argv[3]), options))
    _end_with_parent(parent, signal.SIGKILL)
    from torch.distributed.elastic.multiprocessing.errors import record

    record(work_of)(folder)


if __name__ == "__main__":
    main()
