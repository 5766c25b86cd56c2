"""Checkpoints that survive kills and full disks: staged next to their target, hashed, and the last two kept.

Lightning stages checkpoints in the system's temporary folder, which may be on another file system, so an interrupted
move could replace a good checkpoint with half of one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from dermprompt.files import read_json, sha256, write_json
from dermprompt.upstream import save_to_disk

LAST, PREVIOUS, HASHES = "last.ckpt", "previous.ckpt", "checkpoints.json"


class SafeCheckpoints(TorchCheckpointIO):
    """Writes ``last.ckpt``, and keeps the checkpoint before it as ``previous.ckpt``.

    A checkpoint is taken after an epoch's last step, but written only at the end of the epoch
    (:class:`WriteAtEpochEnd`), after validation and curves: a training resumed from it would not catch up on these.
    A training begins with :meth:`newest`, so that the good checkpoint is known, and hashed only once.
    """

    def __init__(self) -> None:
        self.taken: tuple[dict[str, Any], Path] | None = None
        self.good: tuple[Path, str] | None = None

    def newest(self, folder: Path) -> Path | None:
        """The newest undamaged checkpoint in ``folder``, the last or the previous one; None if there is none."""
        self.good = _newest(folder)
        return self.good[0] if self.good else None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Take a checkpoint; its tensors are the training's own, which the next step changes."""
        self.taken = checkpoint, Path(path)

    def write(self) -> None:
        """Write the taken checkpoint; at every moment, ``last.ckpt`` or ``previous.ckpt`` is good."""
        if self.taken is None:
            return
        checkpoint, target = self.taken
        self.taken = None
        staged, previous = target.with_name(target.name + ".tmp"), target.with_name(PREVIOUS)
        save_to_disk(checkpoint, staged)
        good, new = self.good, sha256(staged)
        # The hashes are written before the files move, so the good file's hash is known whatever is interrupted.
        write_json(target.parent / HASHES, [new, good[1]] if good else [new])
        if good and good[0] == target:
            os.replace(target, previous)
        os.replace(staged, target)
        self.good = target, new


class WriteAtEpochEnd(Callback):
    """Writes the checkpoint after the epoch's validation and curves; it must be the last callback."""

    def __init__(self, checkpoints: SafeCheckpoints) -> None:
        self.checkpoints = checkpoints

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the checkpoint, on the rank that has taken it."""
        self.checkpoints.write()


class RoomForCheckpoints(Callback):
    """Fails before a training's first step if the disk is too small for its checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Check, on the rank that will write them."""
        if trainer.is_global_zero:
            check_room(self.folder, _num_bytes(trainer, module))


def check_room(folder: Path, size: int) -> None:
    """Check that the disk has room for the two checkpoints that are kept and the next one.

    Existing checkpoints count: they occupy room already, and their size is more accurate than the estimate.

    Args:
        folder: the checkpoints' folder.
        size: estimated bytes of a checkpoint.

    Raises:
        OSError: the disk is too small.
    """
    there = [path.stat().st_size for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    staged = folder / (LAST + ".tmp")
    left = staged.stat().st_size if staged.exists() else 0
    needed = 3 * max(there, default=size) - sum(there) - left
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"the disk is too small for the training's checkpoints: they need {needed / 2**20:.0f} MiB more and "
            f"{free / 2**20:.0f} MiB are free under {folder}; make room or set paths.store to another disk"
        )


def _num_bytes(trainer: Trainer, module: LightningModule) -> int:
    """Estimated bytes of a checkpoint: what the module saves, and Adam's two averages for each trained weight."""
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    saved = [value for value in checkpoint["state_dict"].values() if isinstance(value, torch.Tensor)]
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    trained = [weight for group in groups for weight in group["params"]]
    return sum(value.nbytes for value in saved) + 2 * sum(weight.nbytes for weight in trained)


def _newest(folder: Path) -> tuple[Path, str] | None:
    """The newest undamaged checkpoint with its hash."""
    known = _hashes(folder)
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        found = sha256(path)
        if found in known:
            return path, found
        print(f"warning: {path} is not as it was written: it is ignored")
    return None


def _hashes(folder: Path) -> list[str]:
    """The sha256 (hex) of the last checkpoint written, and of the one before."""
    known = folder / HASHES
    return read_json(known, list, f"delete {folder} to train again") if known.exists() else []
