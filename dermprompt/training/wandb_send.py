"""Sends recorded runs to W&B: ``python -m dermprompt.training.wandb_send FOLDER ...`` sends all runs below the folders.

``--follow N FOLDER`` follows one run's file until the run that starts at line N has ended. W&B is imported only here,
in a process that may wait for a server, fail or be killed without harm to any other.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from dermprompt.entry import in_words
from dermprompt.training.wandb_run import LINES, SENT

if TYPE_CHECKING:
    from wandb import Run

# Seconds between checks of the file.
INTERVAL = 0.5
Line = tuple[str, Any]


def follow(path: Path, begin: int) -> Iterator[Line]:
    """The lines of a run's file as they are written, up to the end of the section that starts at line ``begin``."""
    with open(path) as file:
        number, text = 0, ""
        while True:
            text += file.readline()
            if not text.endswith("\n"):  # no line yet, or an incomplete one
                time.sleep(INTERVAL)
                continue
            ((kind, value),) = json.loads(text).items()
            yield kind, value
            if kind == "end" and number > begin:
                return
            number, text = number + 1, ""


def read(path: Path) -> list[Line]:
    """The complete lines of a run's file."""
    whole = path.read_text().rpartition("\n")[0].splitlines()
    return [next(iter(json.loads(line).items())) for line in whole]


def send(folder: Path, lines: Iterator[Line]) -> None:
    """Send a run's lines; W&B's step is the line's number, so lines that were already logged are skipped."""
    import wandb

    run, number, code = None, 0, 1
    with tempfile.TemporaryDirectory() as own:
        for number, (kind, value) in enumerate(lines):
            if run is None:
                assert kind == "start", folder
                run = wandb.init(dir=own, resume="allow", **value)
                run.define_metric("trainer/global_step")
                run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
                logged = run.step
            elif kind == "end":
                code = value
            elif kind == "artifact":
                _send_artifact(run, folder, **value)
            elif kind == "summary":
                run.summary.update(value)
            elif kind != "start" and number >= logged:
                run.log(_shown(folder, kind, value), step=number)
        if run is not None:
            run.finish(exit_code=code)
    (folder / SENT).write_text(str(number + 1))


def _shown(folder: Path, kind: str, value: Any) -> dict[str, Any]:
    import wandb

    if kind == "image":
        return {value[0]: wandb.Image(str(folder / value[1]))}
    if kind == "table":
        return {value[0]: wandb.Table(columns=value[1], data=value[2])}
    return value


def _send_artifact(
    run: Run, folder: Path, name: str, type: str, metadata: dict[str, Any], files: list[str], use: bool
) -> None:
    import wandb

    artifact = wandb.Artifact(name, type, metadata=metadata)
    for file in files:
        artifact.add_file(str(folder / file))
    if use:
        run.use_artifact(artifact)
    else:
        run.log_artifact(artifact)


def _end_with_job() -> None:
    """End when the parent process is gone, which closes its end of the pipe."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main(arguments: list[str]) -> None:
    """Follow a run, or send all unsent runs below folders."""
    if arguments[:1] == ["--follow"]:
        Thread(target=_end_with_job, daemon=True).start()
        folder = Path(arguments[2])
        try:
            send(folder, follow(folder / LINES, int(arguments[1])))
        except Exception as error:  # whatever W&B raises: the job prints the last line, and nothing is lost
            traceback.print_exc()
            sys.exit(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        return
    runs = sorted({path.parent for root in arguments for path in Path(root).expanduser().rglob(LINES)})
    if not runs:
        sys.exit(f"usage: python -m dermprompt.training.wandb_send FOLDER ...   (below it no {LINES} was found)")
    for folder in runs:
        lines, sent = read(folder / LINES), folder / SENT
        if sent.exists() and int(sent.read_text()) >= len(lines):
            continue
        send(folder, iter(lines))
        print(f"sent: {folder}", flush=True)


if __name__ == "__main__":
    in_words(lambda: main(sys.argv[1:]))()
