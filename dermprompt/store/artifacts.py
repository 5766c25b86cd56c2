"""Finished work, addressed by content: an artifact is a folder that is complete or absent.

The folder's name ends in a key (:attr:`Recipe.key`), a hash of the stage, the version of its code, its settings
(except those at their defaults), and the digests of its inputs. The artifact's name, and where and on which
devices it was made, are not hashed. Until it is complete the folder is called ``*.partial``; an interrupted training
resumes from the checkpoints in it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from dermprompt.entry import takes_all
from dermprompt.files import flush_folder, read_json, reading, sha256, write_json
from dermprompt.store.locks import hold, print_now

RECORD = "artifact.json"
RECIPE = "recipe.json"
RATE = "rate.json"
DESCRIBED = "described.json"
# Field metadata: the field's former name, which recipes keep using.
WAS = "was"
# Field metadata: the value at which a field added later changes nothing, and at which recipes leave it out.
SINCE = "since"


class Unfinished(SystemExit):
    """A training was stopped before its last step; the same command resumes from its checkpoint.

    It is not an error, so not an ``Exception``: it completes no artifact and ends the whole sweep, whose jobs share
    the time limit. The process exits with sysexits' EX_TEMPFAIL (75), "try again".
    """

    def __init__(self, step: int, num_steps: int) -> None:
        super().__init__(os.EX_TEMPFAIL)
        self.step, self.num_steps = step, num_steps

    def __reduce__(self) -> tuple[type[Unfinished], tuple[int, int]]:
        # A sweep's jobs may run in other processes, which pass it on; exceptions are otherwise rebuilt from their code.
        return Unfinished, (self.step, self.num_steps)


@dataclass(frozen=True)
class Recipe:
    """Everything that determines an artifact.

    Args:
        stage: which stage makes it.
        name: for people only, not hashed.
        version: of the stage's code; raise it when results change.
        settings: the stage's own configuration, plain values.
        inputs: digests of the artifacts that it is made from.
    """

    stage: str
    name: str
    version: int
    settings: dict[str, Any]
    inputs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Hash of everything except the name."""
        parts = {key: value for key, value in vars(self).items() if key != "name"}
        return sha256(json.dumps(parts, sort_keys=True))[:16]

    @property
    def folder(self) -> str:
        """The artifact's folder, relative to the store."""
        return f"{self.stage}/{self.name}-{self.key}"


@dataclass(frozen=True)
class Artifact:
    """A finished folder, and the digest that represents its content in recipes that use it."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Declaration:
    """An artifact declared by the function that makes it, its settings and its inputs; its key follows from these.

    Args:
        work: full dotted path of a function ``work(settings, runtime, folder=…, **folders of inputs)``.
        stage, name, version: see :class:`Recipe`.
        settings: a dataclass of plain values, all that the work may read besides its inputs. Settings at their defaults
            are left out of the key, so that a stage can gain settings without invalidating earlier artifacts.
        inputs: the artifacts it is made from, by the argument that receives the folder; None if absent.
    """

    work: str
    stage: str
    name: str
    version: int
    settings: Any
    inputs: Mapping[str, Artifact | tuple[Artifact, ...] | None] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the digests of the inputs."""
        each = [one if isinstance(one, tuple) else (one,) for one in self.inputs.values()]
        digests = tuple("none" if one is None else one.digest for several in each for one in several)
        return Recipe(self.stage, self.name, self.version, _own_settings(self.settings), digests)

    @property
    def folders(self) -> dict[str, Path | list[Path] | None]:
        """The folders of its inputs."""
        return {name: _folders(one) for name, one in self.inputs.items()}


Work = TypeVar("Work", bound=Callable[..., Any])


def makes(*names: str) -> Callable[[Work], Work]:
    """Declare which files or folders the decorated function leaves in the artifact's folder."""

    def say(work: Work) -> Work:
        work.makes = names  # type: ignore[attr-defined]
        return work

    return say


def _own_settings(settings: Any) -> dict[str, Any]:
    changed = [one for one in fields(settings) if getattr(settings, one.name) != one.default]
    return {one.metadata.get(WAS, one.name): recorded(getattr(settings, one.name)) for one in changed}


def recorded(value: Any) -> Any:
    """Settings as plain values, under the names that recipes use."""
    if is_dataclass(value):
        told = [one for one in fields(value) if getattr(value, one.name) != one.metadata.get(SINCE, MISSING)]
        return {one.metadata.get(WAS, one.name): recorded(getattr(value, one.name)) for one in told}
    if isinstance(value, dict):
        return {key: recorded(one) for key, one in value.items()}
    return [recorded(one) for one in value] if isinstance(value, list | tuple) else value


def _folders(given: Artifact | tuple[Artifact, ...] | None) -> Path | list[Path] | None:
    if isinstance(given, tuple):
        return [one.path for one in given]
    return None if given is None else given.path


class Store:
    """Artifacts under one folder; several processes may share it.

    ``made`` counts what this process built, by stage; ``seconds`` how long that took.
    """

    def __init__(self, root: Path, say: Callable[[str], None] = print_now) -> None:
        self.root, self.say = root, say
        self.made: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def make(self, recipe: Recipe, build: Callable[[Path], str | None], cost: float = 0.0) -> Artifact:
        """Return the artifact, building it first when it is absent.

        ``build`` fills the given folder, and may return a digest of its content that represents the artifact in later
        recipes (by default its key does). If two processes need the artifact, one builds it and the other waits.

        Args:
            recipe: what determines the artifact.
            build: makes it; called again with the same folder if an earlier call did not finish.
            cost: roughly how many seconds that takes, for ``stage=plan``.

        Raises:
            OSError: the disk is full; names the folder. Finished artifacts are untouched.
            TimeoutError: another process is building it, but shows no sign of life.
            Unfinished: ``build`` stopped before its time limit; the artifact stays partial.
        """
        target = self.root / recipe.folder
        if (target / RECORD).exists():
            return read_artifact(target)
        with _full_disk_said(target), self.lock(recipe.folder):
            if not (target / RECORD).exists():
                self._build(recipe, build, target, cost)
        return read_artifact(target)

    def grow(
        self,
        recipe: Recipe,
        num_batches: int,
        build: Callable[[Path, list[int]], int],
        cost: float = 0.0,
        finish: Callable[[Path], None] | None = None,
    ) -> Artifact:
        """Return a set of at least ``num_batches`` aligned batches, building those that are missing.

        The set's name holds no count, so sets of different counts share their batches. ``build`` commits
        batch k by writing ``batches/k.json`` last (:func:`batch_record`); a batch without a record is made again.
        Processes that need the same set at the same time divide its batches: ``build`` uses
        :func:`~dermprompt.store.claims.share_out`, returns when all batches exist, whoever made them, and returns how
        many it made itself.

        Args:
            recipe: what determines a batch.
            num_batches: how many are needed.
            build: makes the batches of the given numbers.
            cost: roughly how many seconds a batch takes.
            finish: writes a description of the current set; runs in one process at a time.
        """
        folder = self.root / recipe.folder
        with _full_disk_said(folder):
            missing = missing_batches(folder, num_batches)
            if missing:
                self._grow(recipe, missing, build, folder, cost)
            if finish is not None and _num_described(folder) < num_batches:
                with self.lock(recipe.folder):
                    batches = len(list((folder / "batches").glob("*.json")))
                    finish(folder)
                    write_json(folder / DESCRIBED, {"batches": batches})
        return Artifact(folder, recipe.key)

    def _grow(
        self, recipe: Recipe, missing: list[int], build: Callable[[Path, list[int]], int], folder: Path, cost: float
    ) -> None:
        self.say(f"── {recipe.stage}: {recipe.name}, {len(missing)} batches  →  {folder}")
        start = time.monotonic()
        (folder / "batches").mkdir(parents=True, exist_ok=True)
        with self.lock(recipe.folder):
            write_json(folder / RECIPE, asdict(recipe))
        made = build(folder, missing)
        seconds = time.monotonic() - start
        with self.lock(recipe.folder):
            write_json(folder / RATE, {"seconds": seconds, "cost": cost * made})
        self.count(recipe.stage, made, seconds)

    def lock(self, name: str) -> AbstractContextManager[None]:
        """The lock between processes of one artifact; see :func:`~dermprompt.store.locks.hold`."""
        return hold(self.root / ".locks" / (name.replace("/", "-") + ".lock"), name, self.say)

    def _build(self, recipe: Recipe, build: Callable[[Path], str | None], target: Path, cost: float) -> None:
        partial = target.with_name(target.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        self.say(f"── {recipe.stage}: {recipe.name}  →  {target}")
        start = time.monotonic()
        write_json(partial / RECIPE, asdict(recipe))
        digest = build(partial)
        # The content must reach the disk before the record that declares it complete: a node may lose power.
        flush_folder(partial)
        seconds = time.monotonic() - start
        record = {**asdict(recipe), "digest": digest or recipe.key, "seconds": seconds, "cost": cost}
        write_json(partial / RECORD, record)
        os.replace(partial, target)
        self.count(recipe.stage, 1, seconds)

    def count(self, stage: str, number: int, seconds: float) -> None:
        """Count finished work."""
        self.made[stage] = self.made.get(stage, 0) + number
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


@dataclass(frozen=True)
class Planned:
    """A line of a plan: whether the artifact exists, and the estimated seconds to make it."""

    folder: str
    stage: str
    name: str
    exists: bool
    seconds: float


class PlanningStore(Store):
    """A store that builds nothing and records what was requested."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.plan: list[Planned] = []

    def make(self, recipe: Recipe, build: Callable[[Path], str | None], cost: float = 0.0) -> Artifact:
        """Record the artifact; see :meth:`Store.make`."""
        target = self.root / recipe.folder
        exists = (target / RECORD).exists()
        self.plan.append(Planned(recipe.folder, recipe.stage, recipe.name, exists, self.estimate(recipe.stage, cost)))
        return read_artifact(target) if exists else Artifact(target, recipe.key)

    def grow(
        self,
        recipe: Recipe,
        num_batches: int,
        build: Callable[[Path, list[int]], int],
        cost: float = 0.0,
        finish: Callable[[Path], None] | None = None,
    ) -> Artifact:
        """Record the missing batches; see :meth:`Store.grow`."""
        folder = self.root / recipe.folder
        missing = len(missing_batches(folder, num_batches))
        name = f"{recipe.name}, {missing or num_batches} batches"
        seconds = self.estimate(recipe.stage, cost * missing)
        self.plan.append(Planned(recipe.folder, recipe.stage, name, not missing, seconds))
        return Artifact(folder, recipe.key)

    def estimate(self, stage: str, cost: float) -> float:
        """``cost`` seconds, scaled by the median ratio of real to estimated time in this store."""
        paths = [path for file in (RECORD, RATE) for path in self.root.glob(f"{stage}/*/{file}")]
        records = [read_json(path, dict, f"delete {path.parent}") for path in paths]
        rates = sorted(r["seconds"] / r["cost"] for r in records if r.get("cost"))
        return cost * rates[len(rates) // 2] if rates else cost


def batch_record(folder: Path, number: int) -> Path:
    """The file whose presence marks a batch of a growing set as complete."""
    return folder / "batches" / f"{number:05d}.json"


def missing_batches(folder: Path, num_batches: int) -> list[int]:
    """The numbers below ``num_batches`` of batches that a growing set lacks."""
    return [number for number in range(num_batches) if not batch_record(folder, number).exists()]


def _num_described(folder: Path) -> int:
    """How many batches the description of a growing set covers."""
    path = folder / DESCRIBED
    return int(read_json(path, dict, "delete it")["batches"]) if path.exists() else 0


def read_artifact(folder: Path) -> Artifact:
    """Open a finished artifact.

    Raises:
        ValueError: its record is damaged; names it and what to delete.
    """
    return Artifact(folder, _record(folder, RECORD, "digest")["digest"])


def _record(folder: Path, name: str, *keys: str) -> dict[str, Any]:
    remedy = f"delete {folder} and give the same command again"
    with reading(folder / name, remedy):
        found = read_json(folder / name, dict, remedy)
        return {key: found[key] for key in keys}


def read_recipe(folder: Path) -> Recipe:
    """The recipe of the artifact in ``folder``, finished or not."""
    name = RECORD if (folder / RECORD).exists() else RECIPE
    known = _record(folder, name, "stage", "name", "version", "settings", "inputs")
    return Recipe(**{**known, "inputs": tuple(known["inputs"])})


@contextmanager
def _full_disk_said(folder: Path) -> Iterator[None]:
    """Name the folder and the free space when the disk is full; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not takes_all(sys.stdout):
            raise
        there = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(there).free / 2**20
        raise OSError(
            f"the disk is full: {free:.0f} MiB are free under {folder}; make room or set paths.store to another "
            "disk, then give the same command again: what is finished is kept"
        ) from error
