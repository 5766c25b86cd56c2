"""What ``pip install`` leaves: the package, its configuration, templates and weights, with no checkout beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from miniature import miniature

REPOSITORY = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "conf", "dermprompt")


def pip(*arguments: str) -> None:
    # The index cannot be asked; setuptools is the environment's.
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--no-index", "--no-deps"]
    subprocess.run(command, check=True, capture_output=True, text=True)


def files_below(folder: Path) -> set[str]:
    caches = ("*.pyc", "*.so")
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not any(path.match(one) for one in caches)
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:  # a copy: what a build leaves behind would come into the next wheel
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, source / name)
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    pip("install", "--no-compile", "--target", str(folder / "target"), str(wheel))
    shutil.rmtree(source)
    return folder / "target"


def call(installed: Path, cwd: Path, *arguments: str) -> str:
    """What a command prints that finds the installed package alone."""
    own = {**os.environ, "PYTHONPATH": str(installed)}
    # -P: not what lies in the working directory.
    ended = subprocess.run([sys.executable, "-P", *arguments], cwd=cwd, env=own, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_wheel_holds_all_files_of_the_package(installed):
    package = installed / "dermprompt"
    assert files_below(package) - {f"conf/{one}" for one in files_below(REPOSITORY / "conf")} == files_below(
        REPOSITORY / "dermprompt"
    )
    assert files_below(package / "conf") == files_below(REPOSITORY / "conf")


def test_an_installed_package_reads_its_own_configuration(installed, tmp_path):
    code = "from dermprompt.config.compose import CONF; print(CONF)"
    assert call(installed, tmp_path, "-c", code).strip() == str(installed / "dermprompt" / "conf")


def test_the_console_command_composes(installed, tmp_path):
    printed = call(installed, tmp_path, str(installed / "bin" / "dermprompt"), "--cfg", "job", "+experiment=s_plus_3k")
    assert "count: 3000" in printed


def test_an_installed_package_prepares_data(installed, tmp_path):
    printed = call(installed, tmp_path, "-m", "dermprompt", *miniature("none", "synthesis.count=0", "stage=prepare"))
    assert "coverage report: " in printed


@pytest.mark.slow
def test_an_installed_package_runs_a_job(installed, tmp_path):
    codec = ["generator/base/codec=tiny", "generator.base.prediction=v_prediction"]  # with the packaged weights
    printed = call(installed, tmp_path, "-m", "dermprompt", *miniature("controlnet", "synthesis.count=4", *codec))
    assert "report: " in printed
    (page,) = (tmp_path / "runs").rglob("index.html")
    assert page.stat().st_size > 10_000
