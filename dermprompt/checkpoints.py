"""Checkpoints that neither a kill nor a full disk can cost: staged beside their target, the last two kept, hashed.

Lightning stages them in the folder for temporary files, which may be on another file system: moved from there a file
can end half written in the place of a good one.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from dermprompt.files import write_json

LAST, PREVIOUS, HASHES = "last.ckpt", "previous.ckpt", "checkpoints.json"


class SafeCheckpoints(TorchCheckpointIO):
    """Writes ``last.ckpt``, and keeps the one before as ``previous.ckpt``.

    A checkpoint is taken after an epoch's last step, and written when the epoch is over (:class:`WriteAtEpochEnd`).
    Between them lie the validation and the curves, which a training that went on from it would not make up for.
    """

    def __init__(self) -> None:
        self.taken: tuple[dict[str, Any], Path] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Take a checkpoint; its tensors are those of the training, which changes them with its next step."""
        self.taken = checkpoint, Path(path)

    def write(self) -> None:
        """Write what was taken; at every moment a good one is in its place or is the previous one."""
        if self.taken is None:
            return
        checkpoint, target = self.taken
        self.taken = None
        staged, previous = target.with_name(target.name + ".tmp"), target.with_name(PREVIOUS)
        with open(staged, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        known = _hashes(target.parent)
        # Written before the files move: whatever is interrupted, the hash of each that counts is there.
        write_json(target.parent / HASHES, [_sha256(staged), *known[:1]])
        if target.exists():
            os.replace(target, previous)
        os.replace(staged, target)


class WriteAtEpochEnd(Callback):
    """Has a checkpoint written once the epoch's validation and curves are done: it is the last of the callbacks."""

    def __init__(self, checkpoints: SafeCheckpoints) -> None:
        self.checkpoints = checkpoints

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write it, on the rank that has taken it."""
        self.checkpoints.write()


def newest_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint in ``folder`` that is as it was written, or the one before; None without one."""
    known = _hashes(folder)
    there = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    for path in there:
        if _sha256(path) in known:
            return path
        print(f"warning: {path} is not as it was written, and is not used")
    return None


def _hashes(folder: Path) -> list[str]:
    """The sha256 (hex) of the last checkpoint that was written, and of the one before."""
    return json.loads((folder / HASHES).read_text()) if (folder / HASHES).exists() else []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
