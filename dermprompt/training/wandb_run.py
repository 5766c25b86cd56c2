"""W&B: a run for each training and each job, linked to the artifacts that it was made from.

All that a run logs is first written to ``wandb.jsonl`` in its folder, a line for each call. A separate process sends
the lines as they are written (:mod:`dermprompt.training.wandb_send`), so that no server, however it behaves, costs
the job more than a few seconds at the end of the run. The same module can send the rest later.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dermprompt.config.secrets import mask
from dermprompt.files import read_json
from dermprompt.store.artifacts import RECIPE, RECORD, read_recipe

SENDER = "dermprompt.training.wandb_send"
# A run's lines; its sender's output; how many lines the server has accepted.
LINES, SAID, SENT = "wandb.jsonl", "wandb.log", "wandb.sent"
# How long a run waits for the server at its end (s). A training must have ended 15 s after trainer.timeout, including
# this; the rest is sent later.
FINISH_SECONDS = 8
# The type of a stage's artifacts in W&B; for other stages the stage's name, or split.
KINDS = {
    "train_base": "base",
    "train_generator": "generator",
    "synthesize": "synthetic_set",
    "train_segmenter": "segmenter",
}


def is_asked(logger: Any) -> bool:
    """Whether the configuration's logger is W&B and ``WANDB_MODE`` has not switched it off."""
    return logger.name == "wandb" and os.environ.get("WANDB_MODE") != "disabled"


class WandbRun:
    """A run recorded in ``folder``; with the same folder and identity, it continues that run.

    Args:
        logger: the configuration's, with ``project``, ``group`` and ``offline``.
        folder: gets the file ``wandb.jsonl``.
        identity: determines the run's id in W&B.
        patience: how long to wait for the server at the end (s).
        settings: name, job_type and config of ``wandb.init``.
    """

    def __init__(
        self, logger: Any, folder: Path, identity: str, patience: float = FINISH_SECONDS, **settings: Any
    ) -> None:
        self.folder, self.id, self.patience = folder, _legal(identity), patience
        lines = folder / LINES
        number = len(lines.read_text().splitlines()) if lines.exists() else 0
        self._file = open(lines, "a")  # noqa: SIM115
        self._write("start", {"id": self.id, "project": logger.project, "group": logger.group, **settings})
        offline = logger.offline or os.environ.get("WANDB_MODE") == "offline"
        self._sender = None if offline else _start_sender(folder, number)

    def _write(self, kind: str, value: Any) -> None:
        self._file.write(json.dumps({kind: mask(value)}) + "\n")
        self._file.flush()

    def log(self, values: Mapping[str, float]) -> None:
        """Log the values of one step."""
        self._write("log", dict(values))

    def summary(self, values: Mapping[str, float]) -> None:
        """Set values in W&B's table of runs."""
        self._write("summary", dict(values))

    def image(self, name: str, path: Path) -> None:
        """Log an image from the run's folder."""
        self._write("image", [name, str(path.relative_to(self.folder))])

    def picture(self, name: str, picture: np.ndarray) -> None:
        """Log an image, uint8 HW3, and keep it as an artifact of the run."""
        path = self.folder / f"{_legal(name)}.png"
        Image.fromarray(picture).save(path)
        self.image(name, path)
        self._artifact(f"{self.id}-{name}", "picture", files=[path])

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table."""
        self._write("table", [name, list(columns), [list(row) for row in rows]])

    def page(self, name: str, files: Iterable[Path], made_from: Iterable[Path]) -> None:
        """Send a report, and record the artifacts that it is based on."""
        for path in made_from:
            self._use(path)
        self._artifact(name, "report", files=list(files))

    def inputs(self, folder: Path) -> None:
        """Record what the artifact in ``folder``, finished or not, is made from."""
        for path in find(folder.parents[1], read_recipe(folder).inputs):
            self._use(path)

    def output(self, folder: Path) -> None:
        """Record that the run has made the artifact in ``folder``."""
        self._artifact(**describe(folder))

    def _use(self, folder: Path) -> None:
        self._artifact(**describe(folder), use=True)

    def _artifact(
        self,
        name: str,
        type: str,
        metadata: Mapping[str, Any] | None = None,
        files: Sequence[Path] = (),
        use: bool = False,
    ) -> None:
        paths = [str(path.relative_to(self.folder)) for path in files]
        known = {"name": _legal(name), "type": type, "metadata": dict(metadata or {})}
        self._write("artifact", {**known, "files": paths, "use": use})

    def close(self, failed: bool) -> None:
        """End the run; a second call does nothing."""
        if self._file.closed:
            return
        self._write("end", int(failed))
        self._file.close()
        if self._sender is not None:
            self._wait_for(self._sender)

    def _wait_for(self, sender: subprocess.Popen[bytes]) -> None:
        """Wait for the server for ``patience`` seconds; if that fails, switch to offline, so as not to wait again."""
        try:
            if sender.wait(self.patience) == 0:
                return
            said = (self.folder / SAID).read_text(errors="replace").strip() or "it ended"
            reason = said.splitlines()[-1].rstrip(".")
        except subprocess.TimeoutExpired:
            sender.kill()
            sender.wait()
            reason = f"the server did not accept everything within {self.patience:g} s"
        os.environ["WANDB_MODE"] = "offline"
        place = str(self.folder).replace(".partial", "")
        command = f"python -m {SENDER} {place}"
        print(f"W&B: {reason}. Runs continue offline; `{command}` sends this one later", flush=True)


def _start_sender(folder: Path, number: int) -> subprocess.Popen[bytes]:
    """Start sending lines from ``number`` on; the sender ends with this process, when its input closes."""
    # W&B's error reports would wait 10 s for a server that does not answer.
    environment = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", **os.environ}
    with open(folder / SAID, "w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", SENDER, "--follow", str(number), str(folder)],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
        )


def has_ended(folder: Path) -> bool:
    """Whether the folder has a run that ended successfully; an interrupted one may be logged again."""
    lines = folder / LINES
    return lines.exists() and lines.read_text().rstrip().endswith('{"end": 0}')


def describe(folder: Path) -> dict[str, Any]:
    """W&B's entry for an artifact of the store: what determines it, without its files.

    Its name contains the digest, so that all runs that make or use it refer to the same entry.
    """
    recipe, digest = read_recipe(folder), _digest(folder)
    known = {"stage": recipe.stage, "version": recipe.version, "settings": recipe.settings, "inputs": recipe.inputs}
    kind = "split" if recipe.name.startswith("split-") else KINDS.get(recipe.stage, recipe.stage)
    return {"name": f"{recipe.name}-{digest}", "type": kind, "metadata": {**known, "digest": digest}}


def _digest(folder: Path) -> str:
    return read_json(folder / RECORD)["digest"] if (folder / RECORD).exists() else read_recipe(folder).key


def find(store: Path, digests: Iterable[str]) -> list[Path]:
    """The artifacts of a store with these digests; external inputs, such as a pretrained base, are not in the store."""
    wanted = set(digests)
    folders = sorted({path.parent for file in (RECORD, RECIPE) for path in store.glob(f"*/*/{file}")})
    return [folder for folder in folders if folder.suffix != ".partial" and _digest(folder) in wanted]


def _legal(name: str) -> str:
    """A name with only the characters that W&B allows."""
    return re.sub(r"[^\w.-]", "-", name)[:128]
