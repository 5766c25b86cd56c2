"""Training on several machines of a SLURM allocation, in which the job itself runs once.

Each training is a step of the allocation (``srun``) that starts torch's launcher on every node; the launchers
meet at the job's own node. SLURM ends the step when one of them fails.
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

# By default SLURM declares a node lost after 5 minutes (SlurmdTimeout); this is more.
_PATIENCE = 900


def num_nodes(trainer: dict[str, Any]) -> int:
    """Machines of the trainer."""
    return int(trainer.get("num_nodes", 1))


def check_nodes(trainer: dict[str, Any]) -> None:
    """Whether the machines are there.

    Raises:
        ValueError: they are not.
    """
    asked, given = num_nodes(trainer), int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if not 1 <= asked <= given:
        raise ValueError(
            f"trainer.num_nodes={asked}: 1 to {given}, the nodes of this SLURM allocation; "
            "without hydra/launcher=slurm start the command inside an allocation (sbatch --nodes)"
        )


def each_node(number: int) -> list[str]:
    """What a command begins with that runs once on each of ``number`` nodes."""
    if number == 1:
        return _UNDISTURBED if "SLURM_JOB_ID" in os.environ else []
    # Its resources are those that the job's own step holds.
    step = ["srun", f"--nodes={number}", f"--ntasks={number}", "--ntasks-per-node=1", "--overlap", "--input=none"]
    return [*step, "--kill-on-bad-exit=1", *_UNDISTURBED]


def rendezvous(number: int) -> list[str]:
    """Options of torch's launcher by which ``number`` nodes find each other."""
    if number == 1:
        # All ranks are on this machine, whose own name need not resolve.
        return ["--standalone", "--local-addr=127.0.0.1"]
    with socket.create_server(("", 0)) as free:
        endpoint = f"{socket.gethostname()}:{free.getsockname()[1]}"
    return [f"--nnodes={number}", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", f"--rdzv-id={endpoint}"]


def wait_for_nodes(number: int) -> None:
    """Come back when all nodes of the allocation answer; where one is lost, SLURM ends and queues the job before.

    The other nodes' ranks fail at once, and a job that ended with them would have failed and not be queued again.
    """
    end = time.monotonic() + _PATIENCE
    while number > 1 and (left := end - time.monotonic()) > 0 and not _answer(number, left):
        time.sleep(5)


def _answer(number: int, seconds: float) -> bool:
    """Whether all nodes answer within ``seconds``; on a lost one SLURM may try to start a step for ever."""
    try:
        return subprocess.run([*each_node(number), "true"], timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired:
        return False
