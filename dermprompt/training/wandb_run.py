"""W&B: a run for each training and each job, with what it was made from.

What a run holds is first written to ``wandb.jsonl`` in its folder, a line for each call. A process of its own sends the
lines as they come (:mod:`dermprompt.training.wandb_send`), so that no server, whatever it answers, costs the job more
than a few seconds at the end of the run. What it did not take then is sent later by the same module.
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
# A run's lines; what its sender says; how many lines a server has taken.
LINES, SAID, SENT = "wandb.jsonl", "wandb.log", "wandb.sent"
# How long a server may keep a run waiting at its end (s). The end of a training is among what has to be over 15 s after
# trainer.timeout; the rest is sent later.
FINISH_SECONDS = 8
# What the artifacts of a stage are called in W&B; others by their stage, or split.
KINDS = {
    "train_base": "base",
    "train_generator": "generator",
    "synthesize": "synthetic_set",
    "train_segmenter": "segmenter",
}


def is_asked(logger: Any) -> bool:
    """Whether the configuration's logger is W&B, and the user has not switched it off by ``WANDB_MODE``."""
    return logger.name == "wandb" and os.environ.get("WANDB_MODE") != "disabled"


class WandbRun:
    """A run that lies in ``folder``; on the same folder it goes on with the run of that identity.

    Args:
        logger: the configuration's, with ``project``, ``group`` and ``offline``.
        folder: gets the file ``wandb.jsonl``.
        identity: by which W&B knows the run again.
        patience: how long its end may take (s).
        settings: name, job_type and config, of ``wandb.init``.
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
        """Show numbers of one step."""
        self._write("log", dict(values))

    def summary(self, values: Mapping[str, float]) -> None:
        """Numbers for W&B's table of runs."""
        self._write("summary", dict(values))

    def image(self, name: str, path: Path) -> None:
        """Show a picture below the run's folder."""
        self._write("image", [name, str(path.relative_to(self.folder))])

    def picture(self, name: str, picture: np.ndarray) -> None:
        """Show a picture, uint8 HW3, and keep it as an artifact of the run."""
        path = self.folder / f"{_legal(name)}.png"
        Image.fromarray(picture).save(path)
        self.image(name, path)
        self._artifact(f"{self.id}-{name}", "picture", files=[path])

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table."""
        self._write("table", [name, list(columns), [list(row) for row in rows]])

    def page(self, name: str, files: Iterable[Path], made_from: Iterable[Path]) -> None:
        """Send a report, and note the artifacts that it is about."""
        for path in made_from:
            self._use(path)
        self._artifact(name, "report", files=list(files))

    def inputs(self, folder: Path) -> None:
        """Note what the artifact in ``folder``, finished or not, is made from."""
        for path in find(folder.parents[1], read_recipe(folder).inputs):
            self._use(path)

    def output(self, folder: Path) -> None:
        """Note that the run has made the artifact in ``folder``."""
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
        """Give the server its seconds; if it does not take them, keep this process from waiting for it again."""
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
    """Send the lines from this one on as they come; the sender ends when this process is gone and its input closes."""
    # W&B's reports about itself wait 10 s for a server that does not answer.
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
    """Whether the folder has a run that ended; one that was interrupted may be logged again."""
    lines = folder / LINES
    return lines.exists() and lines.read_text().rstrip().endswith('{"end": 0}')


def describe(folder: Path) -> dict[str, Any]:
    """W&B's entry of an artifact of the store: what determines it, and none of its files.

    Its name holds the digest, so that every run that makes or uses it means the same one.
    """
    recipe, digest = read_recipe(folder), _digest(folder)
    known = {"stage": recipe.stage, "version": recipe.version, "settings": recipe.settings, "inputs": recipe.inputs}
    kind = "split" if recipe.name.startswith("split-") else KINDS.get(recipe.stage, recipe.stage)
    return {"name": f"{recipe.name}-{digest}", "type": kind, "metadata": {**known, "digest": digest}}


def _digest(folder: Path) -> str:
    return read_json(folder / RECORD)["digest"] if (folder / RECORD).exists() else read_recipe(folder).key


def find(store: Path, digests: Iterable[str]) -> list[Path]:
    """The artifacts of a store with these digests; those from elsewhere, as a pretrained base, are not in it."""
    wanted = set(digests)
    folders = sorted({path.parent for file in (RECORD, RECIPE) for path in store.glob(f"*/*/{file}")})
    return [folder for folder in folders if folder.suffix != ".partial" and _digest(folder) in wanted]


def _legal(name: str) -> str:
    """A name with characters that W&B allows alone."""
    return re.sub(r"[^\w.-]", "-", name)[:128]
