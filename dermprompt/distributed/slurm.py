"""Training on several machines of a SLURM allocation, while the job itself runs only once.

Each training is a step of the allocation (``srun``) that starts torch's launcher on every node; the launchers
connect to the job's node. SLURM ends the step if one of them fails.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from typing import Any

# Submitit's signal asks the job to requeue, but SLURM sends it to all processes. Ranks killed by it before the job
# requeues would look like a failure, so they ignore it; this survives exec.
_UNDISTURBED = ["sh", "-c", """trap '' USR2; exec "$0" "$@" """]

# Longer than the 5 minutes after which SLURM by default declares a node lost (SlurmdTimeout).
_PATIENCE = 900


def num_nodes(trainer: dict[str, Any]) -> int:
    """The number of machines of the trainer."""
    return int(trainer.get("num_nodes", 1))


def check_nodes(trainer: dict[str, Any]) -> None:
    """Check that the allocation has the trainer's machines.

    Raises:
        ValueError: it has fewer.
    """
    asked, given = num_nodes(trainer), int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if not 1 <= asked <= given:
        raise ValueError(
            f"trainer.num_nodes={asked}: 1 to {given}, the nodes of this SLURM allocation; "
            "without hydra/launcher=slurm start the command inside an allocation (sbatch --nodes)"
        )


def each_node(number: int) -> list[str]:
    """The prefix of a command that runs once on each of ``number`` nodes."""
    if number == 1:
        return _UNDISTURBED if "SLURM_JOB_ID" in os.environ else []
    # --overlap: the step uses the same resources as the job's own step.
    step = ["srun", f"--nodes={number}", f"--ntasks={number}", "--ntasks-per-node=1", "--overlap", "--input=none"]
    return [*step, "--kill-on-bad-exit=1", *_UNDISTURBED]


def rendezvous(number: int) -> list[str]:
    """The options of torch's launcher that let ``number`` nodes find each other."""
    if number == 1:
        # All ranks are on this machine, whose host name may not resolve.
        return ["--standalone", "--local-addr=127.0.0.1"]
    with socket.create_server(("", 0)) as free:
        endpoint = f"{socket.gethostname()}:{free.getsockname()[1]}"
    return [f"--nnodes={number}", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", f"--rdzv-id={endpoint}"]


def wait_for_nodes(number: int) -> None:
    """Return when all nodes of the allocation answer; if one is lost, SLURM requeues the job before that.

    When a node is lost, the other nodes' ranks fail at once; if the job ended with them, it would count as failed and
    not be requeued.
    """
    end = time.monotonic() + _PATIENCE
    while number > 1 and (left := end - time.monotonic()) > 0 and not _answer(number, left):
        time.sleep(5)


def _answer(number: int, seconds: float) -> bool:
    """Whether all nodes answer within ``seconds``; on a lost node, SLURM may try to start a step for ever."""
    try:
        return subprocess.run([*each_node(number), "true"], timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired:
        return False
