"""The pipeline's part on data: index, images, split, and the training set of the generators."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from dermprompt import cost
from dermprompt.config import schema
from dermprompt.config.schema import Config, Data, Split, take
from dermprompt.data.clusters import clusters_path
from dermprompt.data.findings import DECODER
from dermprompt.data.index import find_files, fingerprint
from dermprompt.data.reading import Reading
from dermprompt.distributed.make import Maker
from dermprompt.distributed.processes import Runtime
from dermprompt.generator.source import file_artifact
from dermprompt.stages import settings as stage
from dermprompt.store.artifacts import Artifact, Store
from dermprompt.weights.box import SAMPLE, digest

# Images are compared at this size, whatever the experiment's image size.
DUPLICATES_SIZE = 256


class DataPipeline(Maker):
    """The artifacts of a configuration's data."""

    def __init__(self, config: Config, store: Store, key: str = "data") -> None:
        super().__init__(store, Runtime.of(config))
        self.config, self.key = config, key

    def of(self, data: Data, key: str) -> DataPipeline:
        """The pipeline of another data set, described by the configuration's section ``key``."""
        return DataPipeline(replace(self.config, data=data), self.store, key)

    @cached_property
    def indexed(self) -> Artifact:
        """Names, labels and content hashes of the data set's files."""
        data = self.config.data
        root, labels = str(data.root), str(data.labels)
        if data.name == "phantom":
            files = self._phantom
            root = labels = str(files.path)
        elif data.name == "sample":
            files, root, labels = Artifact(SAMPLE, digest(SAMPLE)), "sample", ""
        else:
            root, labels = (str(Path(one).expanduser().resolve()) for one in (root, labels))
            files = Artifact(Path(root), self._found[0])
        settings = stage.IndexData(data.name, root, labels, data.on_conflict, data.mask_suffix, data.without_mask)
        work = "dermprompt.stages.prepare.index_data"
        return self.make(work, f"index-{data.name}", 2, settings, {"files": files}, cost=1.0)

    @cached_property
    def _found(self) -> tuple[str, int]:
        """The fingerprint of a data set's files on disk, and how many of them are images."""
        data = self.config.data
        root, labels = (Path(str(one)).expanduser().resolve() for one in (data.root, data.labels))
        if "." not in self.key and root.is_dir() and not labels.is_dir():
            raise ValueError(f"{self.key}.labels={labels}: no such folder")
        try:
            files = find_files(data.name, root, labels)
            return fingerprint(files, root, labels), len(files.images)
        except (ValueError, PermissionError) as error:
            key = self.key if "." in self.key else f"{self.key}.root"
            raise ValueError(f"{key}={root}: {error}") from None

    @cached_property
    def _phantom(self) -> Artifact:
        data = self.config.data
        settings = stage.PaintPhantom(data.num_images or 0, self.config.image_size, data.split.seed)
        work = "dermprompt.stages.prepare.paint_phantom"
        return self.make(work, "phantom", 1, settings, cost=cost.pictures(data.num_images or 0))

    def cache(self, size: int, with_pool: bool = False) -> Artifact:
        """All images at ``size`` pixels, on request with those of the pool; each is decoded only once per size."""
        data = self.config.data
        pooled = with_pool and data.without_mask == "pool"
        settings = stage.CachePictures(**vars(take(Reading, data)), size=size, decoder=DECODER, with_pool=pooled)
        painted = data.name in ("phantom", "sample")
        seconds = cost.pictures(data.num_images or sum(data.split.sizes) if painted else self._found[1])
        inputs = {"indexed": self.indexed}
        work = "dermprompt.stages.prepare.cache_pictures"
        return self.make(work, f"pictures-{size}", 2, settings, inputs, cost=seconds)

    @property
    def images(self) -> Artifact:
        """All images at the generator's size."""
        return self.cache(self.config.image_size)

    @cached_property
    def prepared(self) -> Artifact:
        """The lesions in use and their split."""
        return self._split(self.config.data.split)

    @cached_property
    def unrotated(self) -> Artifact:
        """The split before S was rotated: whatever needs all of S, in any parts, is made once for all folds."""
        return self._split(replace(self.config.data.split, fold=None))

    def _split(self, split: Split) -> Artifact:
        data = self.config.data
        file = file_artifact("data.split.file", split.file) if split.file else None
        settings = stage.SplitData(data.on_bad, data.max_bad_fraction, replace(split, file=None))
        inputs = {"indexed": self.indexed, "cache": self.images, "file": file, "clusters": self._clusters}
        work = "dermprompt.stages.prepare.split_data"
        return self.make(work, f"split-{split.protocol}", 2, settings, inputs, cost=1.0)

    @property
    def _clusters(self) -> Artifact | None:
        clusters = self.config.data.clusters
        return file_artifact("data.clusters", str(clusters_path(clusters))) if clusters else None

    @cached_property
    def pool(self) -> dict[str, Artifact]:
        """The images without a mask that a base may see besides G, and the cache that holds both; usually nothing."""
        data = self.config.data
        if data.without_mask != "pool":
            return {}
        cache = self.cache(self.config.image_size, with_pool=True)
        inputs = {"indexed": self.indexed, "cache": cache, "prepared": self.prepared, "clusters": self._clusters}
        settings = take(stage.Usable, data)
        return {"cache": cache, "pool": self.make("dermprompt.stages.prepare.list_pool", "pool", 1, settings, inputs)}

    @cached_property
    def coverage(self) -> Artifact:
        """The coverage report. Its key depends on the files themselves, other artifacts' keys on the files' content."""
        indexed = replace(self.indexed, digest=self.indexed.path.name)
        inputs = {"indexed": indexed, "cache": self.images, "prepared": self.prepared, **self.pool}
        return self.make("dermprompt.stages.prepare.report_coverage", "coverage", 1, stage.Nothing(), inputs, cost=0.1)

    def overlap(self, other: DataPipeline) -> Artifact:
        """The images that this data set shares with another one."""
        usable = take(stage.Usable, other.config.data)
        cache = self.cache(self.config.image_size, with_pool=True)
        inputs = {"indexed": self.indexed, "cache": cache, "other": other.indexed, "other_cache": other.images}
        return self.make("dermprompt.stages.overlap.find_overlap", "overlap", 1, usable, inputs, "prepare", 5.0)

    @property
    def rules(self) -> schema.Arm:
        """The requested arm; ``num_real`` is None if it means all of S.train."""
        arm = self.config.arm
        return replace(arm, num_real=None) if arm.num_real == self.config.data.split.sizes[1] else arm

    @cached_property
    def generator_set(self) -> Artifact:
        """The lesions that generators, masks and prompts may learn from; the same in all folds."""
        return self.generator_set_in(self.rules.world)

    def generator_set_in(self, world: str) -> Artifact:
        """The lesions that a world's generators may learn from."""
        settings = stage.ListGeneratorSet(world, self.rules.num_real if world == "closed" else None)
        work = "dermprompt.stages.prepare.list_generator_set"
        return self.make(work, f"known-{world}", 1, settings, {"prepared": self.prepared}, cost=0.1)

    @cached_property
    def duplicates(self) -> Artifact:
        """Near-duplicates of the data set, as a file for ``data.clusters``."""
        inputs = {"indexed": self.indexed, "cache": self.cache(DUPLICATES_SIZE, with_pool=True)}
        name = f"duplicates-{self.config.data.name}"
        work = "dermprompt.stages.prepare.find_near_duplicates"
        return self.make(work, name, 3, stage.Nothing(), inputs, cost=200.0)
