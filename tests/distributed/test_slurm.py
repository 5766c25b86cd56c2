"""Several machines for one training; on a real SLURM see tests/slurm."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dermprompt.config import compose as configuration
from dermprompt.distributed.processes import num_processes
from dermprompt.distributed.slurm import check_nodes, each_node, rendezvous


def test_one_node_needs_no_slurm(monkeypatch):
    for name in ("SLURM_JOB_NUM_NODES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    check_nodes({"devices": 4})
    assert each_node(1) == []
    assert rendezvous(1) == ["--standalone", "--local-addr=127.0.0.1"]


@pytest.mark.parametrize(("asked", "given"), [(2, None), (3, "2"), (0, "2")])
def test_nodes_are_those_of_the_allocation(asked, given, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    if given:
        monkeypatch.setenv("SLURM_JOB_NUM_NODES", given)
    with pytest.raises(ValueError, match=rf"trainer.num_nodes={asked}: 1 to {given or 1}, the nodes of this SLURM"):
        check_nodes({"num_nodes": asked})


def test_all_nodes_share_a_batch():
    assert num_processes({"devices": 4, "num_nodes": 3}) == 12


@pytest.mark.parametrize("nodes", [1, 2])
def test_ranks_leave_the_signal_to_their_job(nodes, monkeypatch):
    """And its command's arguments as they were."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    python = "import signal, sys; print(signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN, sys.argv[1:])"
    command = each_node(nodes)
    step = [*command[command.index("sh") :], sys.executable, "-c", python, "a b", "$c"]
    said = subprocess.run(step, capture_output=True, text=True, check=True).stdout
    assert said == "True ['a b', '$c']\n"


def test_run_folders_are_named_where_no_main_has_run():
    code = "import dermprompt.config.compose, omegaconf; print(omegaconf.OmegaConf.has_resolver('job_hash'))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ended.stdout == "True\n", ended.stderr


def test_a_job_elsewhere_keeps_its_sweeps_folder(monkeypatch):
    assert configuration.CONF.is_dir()
    sweep = OmegaConf.create({"folder": "${sweep_hash:}"})
    name = sweep.folder
    there = OmegaConf.create({"folder": "${sweep_hash:}"})
    OmegaConf.copy_cache(from_config=pickle.loads(pickle.dumps(sweep)), to_config=there)
    monkeypatch.setattr(sys, "argv", ["submitit", "folder"])
    assert there.folder == name
    assert OmegaConf.create({"folder": "${sweep_hash:}"}).folder != name


@pytest.mark.parametrize(
    ("accelerator", "devices", "gpus"), [("auto", 4, 4), ("auto", [0, 3], 2), ("cpu", 2, None), ("gpu", "2", 2)]
)
def test_gpus_of_a_node_are_the_trainers_devices(accelerator, devices, gpus):
    trainer = {"accelerator": accelerator, "devices": devices}
    asked = OmegaConf.create({"trainer": trainer, "gpus": "${gpus_per_node:${trainer.accelerator},${trainer.devices}}"})
    assert asked.gpus == gpus
