"""Makes declared artifacts: in this process, on all the trainer's devices, or batch by batch."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dermprompt.distributed.launch import Call
from dermprompt.distributed.processes import Runtime
from dermprompt.store.artifacts import Artifact, Declaration, Store

Inputs = Mapping[str, Artifact | tuple[Artifact, ...] | None]


class Maker:
    """Makes artifacts in a store, with a runtime."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self.store, self.runtime = store, runtime

    def make(
        self,
        work: str,
        name: str,
        version: int,
        settings: Any,
        inputs: Inputs | None = None,
        stage: str | None = None,
        cost: float = 1.0,
    ) -> Artifact:
        """The artifact of a :class:`~dermprompt.store.artifacts.Declaration`; ``cost``: estimated seconds."""
        declared = self.declare(work, name, version, settings, inputs or {}, stage)
        return self.store.make(declared.recipe, _checked(work, self.call(declared).here), cost)

    def train(
        self, work: str, name: str, version: int, settings: Any, inputs: Inputs, cost: float, stage: str | None = None
    ) -> Artifact:
        """Like :meth:`make`, but on all the trainer's devices."""
        declared = self.declare(work, name, version, settings, inputs, stage)
        return self.store.make(declared.recipe, _checked(work, self.call(declared).on_all_devices), cost)

    def grow(self, declared: Declaration, num_batches: int, cost: float) -> Artifact:
        """A set of at least ``num_batches`` batches; ``cost``: estimated seconds per batch."""
        call = self.call(declared)
        return self.store.grow(declared.recipe, num_batches, lambda at, numbers: call.here(at, numbers=numbers), cost)

    def draw(
        self, declared: Declaration, num_batches: int, cost: float, finish: Callable[[Path], None] | None = None
    ) -> Artifact:
        """Like :meth:`grow`, but on all the trainer's devices."""
        return self.store.grow(declared.recipe, num_batches, self.call(declared).share_batches, cost, finish)

    def declare(
        self, work: str, name: str, version: int, settings: Any, inputs: Inputs, stage: str | None = None
    ) -> Declaration:
        """Declare an artifact; ``stage``: its folder in the store, by default the name of the module of ``work``."""
        return Declaration(work, stage or work.split(".")[-2], name, version, settings, inputs)

    def call(self, declared: Declaration) -> Call:
        """The call that makes a declared artifact."""
        return Call(declared.work, declared.settings, self.runtime, declared.folders)


def _checked(work: str, build: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """``build``, followed by a check that all declared files exist before the artifact counts as finished."""

    def built(folder: Path) -> Any:
        digest = build(folder)
        missing = [name for name in getattr(pkgutil.resolve_name(work), "makes", ()) if not (folder / name).exists()]
        if missing:
            raise RuntimeError(f"{work} has not made {missing[0]} in {folder}")
        return digest

    return built
