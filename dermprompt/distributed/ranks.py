"""The processes of one training.

``python -m dermprompt.distributed.ranks FOLDER PARENT NUMBER OPTIONS`` starts torch's launcher. Whichever of the
processes ends, all end: a rank that dies takes the others with it within seconds, one that stands still does when they
have waited for ``trainer.timeout``, and none outlives the process that started it (on several nodes, SLURM's step).
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

# Ranks that do not end within these seconds after another has died are killed.
SHUTDOWN_SECONDS = 5
_SET_DEATH_SIGNAL = 1  # of prctl(2)
# What gloo and NCCL say of a rank that did not answer in time, and of one that is gone.
_LATE = ("timed out waiting", "collective operation timeout")
_HINTS = {
    "SIGKILL": " (by hand, or because memory is out)",
    "SIGABRT": " (as NCCL does when it has waited for trainer.timeout, and a failed assertion)",
}
_GONE = ("connection closed", "connection reset", "broken pipe")


def launch(folder: Path, processes: int, rendezvous: list[str]) -> int:
    """Run the call in ``folder`` in so many ranks on this node; what ended them goes into ``failed-….json`` there."""
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
    """Torch's option --shutdown-timeout does not reach the ranks that are left when one fails: they have 30 s."""
    from torch.distributed.elastic.multiprocessing.api import PContext

    close = PContext.close

    def soon(self: PContext, death_sig: signal.Signals | None = None, timeout: int = SHUTDOWN_SECONDS) -> None:
        close(self, death_sig, timeout)

    PContext.close = soon  # type: ignore[method-assign]


def describe(failures: dict[int, ProcessFailure]) -> tuple[int, str]:
    """What happened, in a sentence, and not what followed: ranks that lost or waited for another, or were ended.

    The number before it is the lower, the more likely it is the cause: each node knows of its own ranks alone.
    """
    first = min(failure.timestamp for failure in failures.values())
    at_once = [rank for rank in failures if failures[rank].timestamp - first < SHUTDOWN_SECONDS - 2]
    rank = min(at_once, key=lambda one: (_order(failures[one]), one))
    return _order(failures[rank]), _sentence(rank, failures[rank])


def _sentence(rank: int, failure: ProcessFailure) -> str:
    if not _raised(failure):
        return f"rank {rank} was ended by {failure.signal_name()}{_HINTS.get(failure.signal_name(), '')}"
    if _says(failure, _LATE):
        return f"rank {rank} waited in vain for another one, which stands still or takes longer than trainer.timeout"
    return f"rank {rank} failed with {_in_a_line(failure)}"


def _order(failure: ProcessFailure) -> int:
    """Causes before consequences; torch's launcher ends the rest by SIGTERM."""
    if not _raised(failure):
        return 2 if failure.exitcode == -signal.SIGTERM else 0
    return 3 if _says(failure, (*_LATE, *_GONE)) else 1


def _raised(failure: ProcessFailure) -> bool:
    """Whether it left an exception, as also a rank does that then ends so slowly that the launcher kills it."""
    return failure.exitcode > 0 or isinstance(failure.message, dict)


def _says(failure: ProcessFailure, words: tuple[str, ...]) -> bool:
    return any(word in _text(failure).lower() for word in words)


def _in_a_line(failure: ProcessFailure) -> str:
    return " ".join(_text(failure).split()).rstrip(".")


def _text(failure: ProcessFailure) -> str:
    """The exception, without its stack."""
    return str(failure.message["message"] if isinstance(failure.message, dict) else failure.message)


def _end_with_parent(parent: int, by: signal.Signals) -> None:
    """Have Linux send this process a signal when the one that started it is gone."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, int(by))
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Be the launcher, or without a number of processes one of its ranks."""
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
