"""W&B: a run for each training and each job, with what it was made from. Imported there, and only there.

Without a server or an account, or when the server dies, a run goes on offline and loses nothing: ``wandb sync`` sends
its folder later.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

from dermprompt.files import read_json
from dermprompt.store.artifacts import RECIPE, RECORD, read_recipe

if TYPE_CHECKING:
    import numpy as np
    from wandb import Artifact, Run

# How long a server may keep a run waiting, at its start and at its end (s). The end of a training is among what has
# to be over 15 s after trainer.timeout; the rest is sent later.
INIT_SECONDS, FINISH_SECONDS = 10, 8
# How often what was logged is written to the run's file (s).
FLUSH_SECONDS = 1
# What the artifacts of a stage are called in W&B; others by their stage, or split.
KINDS = {
    "train_base": "base",
    "train_generator": "generator",
    "synthesize": "synthetic_set",
    "train_segmenter": "segmenter",
}


def is_asked(logger: Mapping[str, Any]) -> bool:
    """Whether the configuration's logger is W&B, and the user has not switched it off by ``WANDB_MODE``."""
    return str(logger["_target_"]).endswith("WandbLogger") and os.environ.get("WANDB_MODE") != "disabled"


def open_run(
    logger: Mapping[str, Any], folder: Path, identity: str, patience: float = FINISH_SECONDS, **settings: Any
) -> Run:
    """Start a run that lies in ``folder``, or go on with the one of that identity.

    Args:
        logger: the configuration's, with ``project`` and ``offline``.
        folder: gets a folder ``wandb``.
        identity: by which W&B knows the run again.
        patience: how long its end may take (s).
        settings: name, group, job_type, config …, of ``wandb.init``.
    """
    # W&B's reports about itself: at the end of a process they wait 10 s for a server that does not answer.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    if "wandb" not in sys.modules:
        # A service that is not this process's own could not be ended in close_run.
        os.environ.pop("WANDB_SERVICE", None)
    import wandb

    own = {"project": logger["project"], "dir": str(folder), "id": _legal(identity), "resume": "allow", **settings}
    limits = wandb.Settings(
        init_timeout=INIT_SECONDS,
        login_timeout=INIT_SECONDS,
        finish_timeout=patience,
        finish_timeout_raises=True,
        x_transaction_log_flush_interval=FLUSH_SECONDS,
    )
    try:
        run = wandb.init(**own, mode="offline" if logger["offline"] else None, settings=limits)
    except (wandb.Error, OSError) as error:
        # Its service still holds the run's id.
        wandb.teardown()
        _go_offline(error, folder, "wandb sync")
        run = wandb.init(**own, mode="offline", settings=limits)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return run


def close_run() -> None:
    """End the open run, if there is one; as failed while an exception is on its way."""
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    run, failed = wandb.run, sys.exc_info()[0] is not None
    # W&B's own limit does not hold while an artifact waits for the server.
    limit = Timer(run.settings.finish_timeout + 2 * FLUSH_SECONDS, _end_service, [wandb.setup()._connection])
    limit.start()
    try:
        run.finish(exit_code=int(failed))
    except Exception as error:  # W&B's, of its lost service too; the work is done, and its numbers are in the file
        with suppress(OSError):
            wandb.teardown()
        # To W&B a run that began online is one that has been sent.
        _go_offline(error, Path(run.dir).parent, "wandb sync --no-skip-online")
    finally:
        limit.cancel()


def _end_service(service: Any) -> None:
    """End W&B's own process, which by then has written all to the run's file."""
    if service._proc is not None:
        service._proc._process.kill()


def _go_offline(error: Exception, folder: Path, command: str) -> None:
    """Keep this process and those that it starts from waiting for the server again."""
    os.environ["WANDB_MODE"] = "offline"
    reason = (str(error) or "the server does not take its end").splitlines()[0].rstrip(".")
    place = str(folder).replace(".partial", "")
    print(f"W&B: {reason}. The run goes on offline; `{command}` sends what is in {place} later", flush=True)


def log_inputs(run: Run, folder: Path) -> None:
    """Note what the artifact in ``folder``, finished or not, is made from."""
    for path in find(folder.parents[1], read_recipe(folder).inputs):
        _log_input(run, path)


def _log_input(run: Run, path: Path) -> None:
    _log_artifact(run, describe(path), is_input=True)


def log_output(run: Run, folder: Path) -> None:
    """Note that the run has made the artifact in ``folder``."""
    _log_artifact(run, describe(folder))


def _log_artifact(run: Run, artifact: Artifact, is_input: bool = False) -> None:
    # The public use_artifact refuses to work offline; both it and log_artifact first ask the server, for half a minute
    # and to fail if it has died. What is published as here is in the run's file, and sent by its own process.
    artifact.finalize()
    assert run._interface is not None
    run._interface.publish_artifact(run, artifact, ["latest"], is_user_created=is_input, use_after_commit=is_input)


def log_table(run: Run, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Show a table."""
    import wandb

    # W&B keeps a table as an artifact.
    run.log_artifact = partial(_log_artifact, run)  # type: ignore[assignment,method-assign]
    run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})


def log_picture(run: Run, name: str, picture: np.ndarray) -> None:
    """Show a picture, uint8 HW3, and keep it as an artifact of the run."""
    import wandb

    image, kept = wandb.Image(picture), wandb.Artifact(_legal(f"{run.id}-{name}"), "picture")
    run.log({name: image})
    kept.add(image, "picture")
    _log_artifact(run, kept)


def log_page(run: Run, name: str, files: Iterable[Path], made_from: Iterable[Path]) -> None:
    """Send a report, and note the artifacts that it is about."""
    import wandb

    for path in made_from:
        _log_input(run, path)
    report = wandb.Artifact(_legal(name), "report")
    for file in files:
        report.add_file(str(file))
    _log_artifact(run, report)


def describe(folder: Path) -> Artifact:
    """W&B's entry of an artifact of the store: what determines it, and none of its files.

    Its name holds the digest, so that every run that makes or uses it means the same one.
    """
    import wandb

    recipe, digest = read_recipe(folder), _digest(folder)
    known = {"stage": recipe.stage, "version": recipe.version, "settings": recipe.settings, "inputs": recipe.inputs}
    kind = "split" if recipe.name.startswith("split-") else KINDS.get(recipe.stage, recipe.stage)
    return wandb.Artifact(_legal(f"{recipe.name}-{digest}"), kind, metadata={**known, "digest": digest})


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
