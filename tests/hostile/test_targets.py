"""An experiment file of somebody else runs no code, whatever part of the configuration it fills, and whoever asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
from miniature import CONF
from omegaconf import OmegaConf
from overridden import composed

from dermprompt.config import compose as configuration
from dermprompt.config.targets import check_composed

TOUCH = "{_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [MARKER]}}"
CASES = {
    "a callback": f"hydra: {{callbacks: {{x: {TOUCH}}}}}",
    "beside our own callback": f"hydra: {{callbacks: {{report: {{more: {TOUCH}}}}}}}",
    "torch.load": "hydra: {callbacks: {x: {_target_: torch.load, f: evil.pt, weights_only: false}}}",
    "a launcher": f"hydra: {{launcher: {TOUCH}}}",
    "a sweeper": "hydra: {sweeper: {_target_: os.getcwd}}",
    "a list": f"hydra: {{callbacks: {{report: {{more: [[{TOUCH}]]}}}}}}",
    "by a node": f"prompts: {{mix: {TOUCH}}}\nhydra: {{callbacks: {{x: '${{prompts.mix}}'}}}}",
    "by a text": "hydra: {callbacks: {x: '${oc.decode:caution}'}}",
    "a launcher by a text": "hydra: {launcher: '${oc.env:HOME}'}",
    "by an environment variable": "hydra: {callbacks: {x: {_target_: '${oc.env:HOME}'}}}",
    "by a key": "caution: os.getcwd\nhydra: {callbacks: {x: {_target_: '${caution}'}}}",
    "a partial": "hydra: {callbacks: {report: {_partial_: true}}}",
    "a log handler": "hydra: {job_logging: {handlers: {x: {(): os.mkdir, path: MARKER}}}}",
    "a handler's class": "hydra: {job_logging: {handlers: {x: {class: subprocess.Popen, args: [touch, MARKER]}}}}",
    "a formatter": "hydra: {hydra_logging: {formatters: {x: {(): os.mkdir, path: MARKER}}}}",
    "a formatter's class": "hydra: {hydra_logging: {formatters: {x: {class: os.mkdir}}}}",
    "a filter": "hydra: {job_logging: {filters: {x: {(): os.mkdir, path: MARKER}}}}",
    "an import": "hydra: {job_logging: {handlers: {console: {stream: 'ext://evil.module'}}}}",
    "an import in a list": "hydra: {job_logging: {handlers: {console: {x: ['ext://evil.module']}}}}",
    "a log elsewhere": "hydra: {job_logging: {handlers: {file: {filename: MARKER}}}}",
    "a log's name": "hydra: {job: {name: ../../MARKER}}",
    "Hydra's files elsewhere": "hydra: {output_subdir: ../MARKER}",
    "the environment": "hydra: {job: {env_set: {LD_PRELOAD: MARKER}}}",
    "a shell's line": "hydra: {launcher: {setup: ['touch MARKER']}}",
    "a line in a text": 'hydra: {launcher: {partition: "x\\ntouch MARKER"}}',
    "a network": "segmenter: {network: {_target_: os.mkdir, path: MARKER}}",
    "in a network": f"segmenter: {{network: {{norm: {TOUCH}}}}}",
    "in a network's list": f"segmenter: {{network: {{norm: [batch, {TOUCH}]}}}}",
    "a trainer": "trainer: {_target_: os.mkdir, path: MARKER}",
    "in a trainer": f"trainer: {{devices: {TOUCH}}}",
}
HEAD = "# @package _global_\n"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


def experiment(text: str, marker: Path) -> Path:
    """A folder for --config-dir with ``experiment/evil.yaml``."""
    folder = marker.with_name("conf")
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment/evil.yaml").write_text(HEAD + text.replace("MARKER", str(marker)))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_built_of_what_is_not_allowed(case: str, marker: Path) -> None:
    launcher = ["hydra/launcher=slurm"] if "launcher" in CASES[case] else []
    found = composed("data=phantom", "generator=none", *launcher)
    OmegaConf.set_struct(found, False)
    found.merge_with(OmegaConf.create(CASES[case].replace("MARKER", str(marker))))
    with pytest.raises(ValueError, match=r"=|not"):
        check_composed(found, CONF)
    assert not marker.exists()


@pytest.mark.parametrize("resolver", ["oc.create", "oc.decode"])
def test_no_text_becomes_a_dict(resolver: str) -> None:
    configuration.register()
    assert not OmegaConf.has_resolver(resolver)


@pytest.mark.parametrize("case", ["a callback", "a log handler", "a network"])
def test_whatever_hydra_composes_is_looked_at(case: str, marker: Path) -> None:
    configuration.register()
    found = f"hydra.searchpath=[file://{experiment(CASES[case], marker)}]"
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(ValueError, match="not allowed"):
        hydra.compose("config", [found, "+experiment=evil", "data=phantom"], return_hydra_config=True)


def test_a_sweep_looks_at_each_of_its_jobs(marker: Path) -> None:
    """The evil one is no part of what Hydra composes for the sweep itself."""
    folder = experiment(CASES["a callback"], marker)
    (folder / "experiment/fine.yaml").write_text(HEAD)
    sweep = ["+experiment=evil,fine", "data=phantom", "stage=plan"]
    sweep += [f"hydra.sweep.dir={marker.parent}/runs", f"paths.store={marker.parent}/store"]
    ended = subprocess.run(
        [sys.executable, "-m", "dermprompt", "-m", f"--config-dir={folder}", *sweep],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CONF.parent)},
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: hydra.callbacks.x._target_=pathlib.Path.touch: not allowed")
    assert "Traceback" not in ended.stderr
    assert not marker.exists()


def test_what_the_package_and_a_user_ask_for_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTILE", "x")
    configuration.register()
    asked = ["hydra.job.env_copy=[HOSTILE]", "hydra/job_logging=disabled", "hydra.job.name=mine"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("config", [*asked, "data=phantom"], return_hydra_config=True)
    assert (composed.hydra.job.name, list(composed.hydra.job.env_copy)) == ("mine", ["HOSTILE"])


@pytest.mark.parametrize("multirun", [[], ["-m"]], ids=["run", "sweep"])
def test_the_command_says_so_in_one_line(multirun: list[str], marker: Path) -> None:
    folder = experiment(CASES["a callback"], marker)
    ended = subprocess.run(
        [sys.executable, "-m", "dermprompt", *multirun, f"--config-dir={folder}", "+experiment=evil", "data=phantom"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CONF.parent)},
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: hydra.callbacks.x._target_=pathlib.Path.touch: not allowed")
    assert len(ended.stderr.splitlines()) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["experiment"]
    assert not marker.exists()
