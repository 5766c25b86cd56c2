"""A real SLURM of two virtual nodes on this machine: Debian's, as root, in a folder and on ports of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

PACKAGES = ("slurm-wlm", "munge")
NODES = ("n1", "n2")
POLICY = Path("/usr/sbin/policy-rc.d")
CONFIG = """
ClusterName=dermprompt
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
SlurmctldPort={controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdTimeout=10
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=2 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=2 RealMemory=4000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def install() -> None:
    """Install SLURM where it is missing, with none of its services started.

    Raises:
        RuntimeError: this is not Debian, or not root.
    """
    if os.geteuid() or shutil.which("apt-get") is None:
        raise RuntimeError("make test-slurm installs and starts a SLURM: on Debian and its kin, as root, only")
    if all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        return
    with ExitStack() as undo:
        if not POLICY.exists():
            POLICY.write_text("#!/bin/sh\nexit 101\n")
            POLICY.chmod(0o755)
            undo.callback(POLICY.unlink)
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", *command], check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def wait(until: Callable[[], Any], seconds: float, what: str) -> Any:
    """What ``until`` returns as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return found


class Cluster:
    """Starts with the context, and ends with it, by process id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> Cluster:
        self._configure()
        try:
            key, sock = self.folder / "munge.key", self.folder / "munge.sock"
            names = [f"--{one}-file={self.folder}/munge.{one}" for one in ("pid", "log", "seed")]
            self._start("munged", "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={sock}", *names)
            wait(sock.exists, 20, "munged's socket")
            self._start("slurmctld", "slurmctld", "-D", "-c", "-f", self.environment["SLURM_CONF"])
            for node in NODES:
                self.start_node(node)
            wait(lambda: self.states() == dict.fromkeys(NODES, "idle"), 60, "idle nodes")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop()

    def _configure(self) -> None:
        # munged refuses a folder that others may write to, the sockets' one has to be open to all.
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        with ExitStack() as opened:
            ports = [opened.enter_context(socket.create_server(("", 0))).getsockname()[1] for _ in range(3)]
        places = {"host": socket.gethostname(), "folder": self.folder}
        text = CONFIG.format(**places, **dict(zip(("controller", *NODES), ports, strict=True)))
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)

    def _start(self, name: str, *command: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def start_node(self, node: str) -> None:
        """Start a node's daemon."""
        self._start(node, "slurmd", "-D", "-f", self.environment["SLURM_CONF"], "-N", node)

    def kill_node(self, node: str) -> None:
        """Lose a node: its daemon, SLURM's processes on it and the job's all end at once (kill -9)."""
        self.daemons[node].kill()
        self.daemons.pop(node).wait()
        ours = self.processes(node)
        for pid in [*{_parent(pid) for pid in ours if _name(_parent(pid)) == "slurmstepd"}, *ours]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, node: str = "") -> list[int]:
        """Processes of this cluster's jobs, on one node or on all."""
        marks = {f"SLURM_CONF={self.folder}/slurm.conf".encode(), f"SLURMD_NODENAME={node}".encode() if node else b""}
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else ()
                if marks <= {*variables, b""} and any(one.startswith(b"SLURM_JOB_ID=") for one in variables):
                    found.append(int(entry.name))
        return found

    def run(self, *command: str) -> str:
        """The output of one of SLURM's commands."""
        return subprocess.run(
            command, env=self.environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60
        ).stdout

    def states(self) -> dict[str, str]:
        """Each node's state."""
        with suppress(subprocess.CalledProcessError):
            return dict(line.split() for line in self.run("sinfo", "-h", "-N", "-o", "%N %T").splitlines())
        return {}

    def jobs(self) -> dict[str, str]:
        """The state of each job that has not ended, by its id."""
        return dict(line.split() for line in self.run("squeue", "-h", "-r", "-o", "%i %T").splitlines())

    def shown(self, job: str) -> dict[str, str]:
        """What SLURM knows of a job, for example ``Restarts``."""
        return dict(one.split("=", 1) for one in self.run("scontrol", "show", "job", job).split() if "=" in one)

    def _stop(self) -> None:
        with suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired, AssertionError):
            self.run("scancel", "--user=root")
            wait(lambda: not self.jobs(), 20, "an empty queue")
        for name in (*NODES, "slurmctld", "munged"):
            if name in self.daemons:
                self.daemons[name].terminate()
                try:
                    self.daemons[name].wait(10)
                except subprocess.TimeoutExpired:
                    self.daemons[name].kill()
                    self.daemons[name].wait()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
