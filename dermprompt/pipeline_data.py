"""The first chapter of :mod:`dermprompt.pipeline`: index, pictures, split, near-duplicates."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dermprompt import cost
from dermprompt.config.compose import plain
from dermprompt.config.schema import Arm, Config, Data
from dermprompt.data.clusters import clusters_path
from dermprompt.data.findings import DECODER
from dermprompt.data.index import fingerprint
from dermprompt.distributed import launch
from dermprompt.store.artifacts import Artifact, Recipe, Store

# At which size images are compared, whatever the experiment's.
DUPLICATES_SIZE = 256


class DataPipeline:
    """The artifacts of a data set."""

    def __init__(self, config: Config, store: Store) -> None:
        self.config, self.store = config, store

    def of(self, data: Data) -> DataPipeline:
        """The same of another data set, read as this one is."""
        return DataPipeline(replace(self.config, data=data), self.store)

    @cached_property
    def indexed(self) -> Artifact:
        """Names, labels and content hashes of the data set's files."""
        data = self.config.data
        if data.name == "phantom":
            painted = self._phantom()
            root, labels, files = painted.path, painted.path, painted.digest
        else:
            root = Path(str(data.root)).expanduser().resolve()
            labels = Path(str(data.labels)).expanduser().resolve()
            files = fingerprint(data.name, root, labels)
        settings = {"root": str(root), "labels": str(labels), "on_conflict": data.on_conflict}
        recipe = Recipe("prepare", f"index-{data.name}", 2, settings, (files,))
        return self._make(recipe, "dermprompt.stages.prepare:index_data", 1.0, root=root, labels=labels)

    def _phantom(self) -> Artifact:
        data = self.config.data
        settings = {"num_images": data.num_images, "size": self.config.image_size, "seed": data.split.seed}
        recipe = Recipe("prepare", "phantom", 1, settings)
        return self._make(recipe, "dermprompt.stages.prepare:paint_phantom", cost.pictures(data.num_images or 0))

    def cache(self, size: int) -> Artifact:
        """All pictures at ``size`` pixels; what was ever decoded to it is not decoded again."""
        data = self.config.data
        settings = {"size": size, "mask_threshold": data.mask_threshold, "decoder": DECODER}
        recipe = Recipe("prepare", f"pictures-{size}", 2, settings, (self.indexed.digest,))
        work = cost.pictures(data.num_images or sum(data.split.sizes))
        paths = {"indexed": self.indexed.path, "libraries": self.store.root / "pictures"}
        return self._make(recipe, "dermprompt.stages.prepare:cache_pictures", work, size=size, **paths)

    @cached_property
    def prepared(self) -> Artifact:
        """The lesions in use, their split and the coverage report."""
        data, cache = self.config.data, self.cache(self.config.image_size)
        settings = {
            "split": {**plain(data.split), "file": _content("data.split.file", data.split.file)},
            "clusters": _content("data.clusters", data.clusters and str(clusters_path(data.clusters))),
            "on_bad": data.on_bad,
            "max_bad_fraction": data.max_bad_fraction,
        }
        recipe = Recipe("prepare", f"split-{data.split.protocol}", 2, settings, (self.indexed.digest, cache.digest))
        return self._make(
            recipe, "dermprompt.stages.prepare:split_data", 1.0, indexed=self.indexed.path, cache=cache.path
        )

    @property
    def rules(self) -> Arm:
        """The arm that is asked for, where all of S.train is no number."""
        arm = self.config.arm
        return replace(arm, num_real=None) if arm.num_real == self.config.data.split.sizes[1] else arm

    @cached_property
    def known(self) -> Artifact:
        """The lesions that generators, masks and prompts may see; the same in all folds."""
        return self.known_in(self.rules.world)

    def known_in(self, world: str) -> Artifact:
        """The lesions that may be seen in a world."""
        settings = {"world": world, "num_real": self.rules.num_real if world == "closed" else None}
        recipe = Recipe("prepare", f"known-{world}", 1, settings, (self.prepared.digest,))
        return self._make(recipe, "dermprompt.stages.prepare:list_known", 0.1, prepared=self.prepared.path, **settings)

    @cached_property
    def duplicates(self) -> Artifact:
        """Near-duplicates of the data set, as a file for ``data.clusters``."""
        cache = self.cache(DUPLICATES_SIZE)
        recipe = Recipe("prepare", f"duplicates-{self.config.data.name}", 1, {}, (self.indexed.digest, cache.digest))
        paths = {"indexed": self.indexed.path, "cache": cache.path}
        return self._make(recipe, "dermprompt.stages.prepare:find_near_duplicates", 120.0, **paths)

    def _make(self, recipe: Recipe, work: str, cost: float, **arguments: Any) -> Artifact:
        return self.store.make(recipe, self._call(work, **arguments).here, cost)

    def _call(self, work: str, **arguments: Any) -> launch.Call:
        return launch.Call(work, self.config, arguments)


def _content(key: str, path: str | None) -> str | None:
    """The sha256 (hex) of a small file that a setting names."""
    if path is None:
        return None
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{key}={path}: no such file")
    return hashlib.sha256(file.read_bytes()).hexdigest()
