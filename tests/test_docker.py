"""The images: what cannot be built without an engine is held together with what can be run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
LINES = (REPOSITORY / "docker" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in LINES if line and not line.startswith("#")]


def steps(folder: Path, target: str) -> list[str]:
    """What make would run for a target."""
    command = ["make", "--no-print-directory", "--dry-run", target]
    # These tests may be run by make themselves.
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    made = subprocess.run(command, cwd=folder, env=own, check=True, capture_output=True, text=True)
    return made.stdout.splitlines()


def test_an_image_installs_as_a_checkout_does(tmp_path):
    """Each make has the files that it needs, and together they run what make setup does."""
    image, checkout = tmp_path / "image", tmp_path / "checkout"
    image.mkdir()
    checkout.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, checkout)
    ran = []
    for kind, what in INSTRUCTIONS:
        if kind == "COPY":
            *sources, target = what.split()
            for source in sources:
                copy = shutil.copytree if (REPOSITORY / source).is_dir() else shutil.copy
                copy(REPOSITORY / source, image / (target if copy is shutil.copytree else ""))
        for target in re.findall(r"\bmake (\w+)", what) if kind == "RUN" else ():
            ran += steps(image, target)
            (image / ".venv").mkdir(exist_ok=True)
            for stamp in re.findall(r"^touch (\S+)$", "\n".join(ran), re.MULTILINE):
                (image / stamp).touch()
    assert ran == steps(checkout, "setup")
    assert len(ran) >= 6


def test_an_image_installs_python_packages_by_make_alone():
    commands = " ".join(what for kind, what in INSTRUCTIONS if kind == "RUN")
    assert not re.search(r"\b(pip|uv|conda)\b", commands)


def test_an_image_runs_as_an_ordinary_user_where_results_are_mounted():
    last = dict(INSTRUCTIONS)
    assert int(last["USER"]) >= 1000
    assert last["WORKDIR"] == "/work"
    assert "dermprompt" in last["ENTRYPOINT"]
    assert {what.split()[-1] for kind, what in INSTRUCTIONS if kind == "FROM"} == {"base", "gpu", "cpu"}
