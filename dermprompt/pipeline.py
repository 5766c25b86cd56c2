"""The story on one page: each stage, what it needs, what it makes.

    data ─ index, split, cache ─┬─ base ─ generator ─┬─ samples of new masks ─ curation ─┐
                                │                    └─ samples of S.test's masks         │
                                ├─ S.train ─ judge ──────── Table 1, masks obeyed         │
                                └─ S.train ─ segmenter, without and with the samples ◄────┘
                                                            Table 2 ─ report

A method asks for what it needs, states the recipe and hands the work to :mod:`dermprompt.distributed.launch`. Asked
of a planning store, the same methods say what would run. Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dermprompt import cost
from dermprompt.config import schema
from dermprompt.config.compose import plain, training_settings
from dermprompt.config.schema import SAMPLER, Config, Data, Segmenter
from dermprompt.data.clusters import clusters_path
from dermprompt.data.datasets.folder import layout_of
from dermprompt.data.findings import DECODER
from dermprompt.data.index import fingerprint
from dermprompt.distributed import launch
from dermprompt.generator.source import stamps
from dermprompt.store.artifacts import Artifact, Recipe, Store
from dermprompt.weights.box import SAMPLE, digest, in_box

# At which size images are compared, whatever the experiment's.
DUPLICATES_SIZE = 256


@dataclass(frozen=True)
class Arm:
    """What a segmenter is, what it trains on, and ``count`` samples when there are any."""

    settings: Segmenter
    count: int
    rules: schema.Arm


def s_only(num_real: int | None = None) -> schema.Arm:
    """The rules of S only, with all of S.train or so many."""
    fixed = {"real": "s", "batches": "concatenated", "finetune": False, "steps_of": None, "world": "open"}
    return schema.Arm(name="s_only", num_real=num_real, **fixed)  # type: ignore[arg-type]


class Pipeline:
    """The artifacts of one configuration."""

    def __init__(self, config: Config, store: Store) -> None:
        self.config, self.store = config, store

    def of(self, data: Data) -> Pipeline:
        """The same of another data set, read as this one is."""
        return Pipeline(replace(self.config, data=data), self.store)

    def prepare(self) -> None:
        """All that the data give."""
        for size in sorted({arm.settings.image_size for arm in self.arms}):
            self.cache(size)
        _ = self.prepared, self.known

    # Data.

    @cached_property
    def indexed(self) -> Artifact:
        """Names, labels and content hashes of the data set's files."""
        data = self.config.data
        if data.name == "phantom":
            painted = self._phantom()
            root, labels, files = painted.path, painted.path, painted.digest
        elif data.name == "sample":
            root, labels, files = SAMPLE, SAMPLE, digest(SAMPLE)
        else:
            root = Path(str(data.root)).expanduser().resolve()
            labels = Path(str(data.labels)).expanduser().resolve()
            files = fingerprint(data.name, root, labels)
        place = {"root": "sample"} if data.name == "sample" else {"root": str(root), "labels": str(labels)}
        settings = {**place, "on_conflict": data.on_conflict}
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
    def rules(self) -> schema.Arm:
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
        recipe = Recipe("prepare", f"duplicates-{self.config.data.name}", 2, {}, (self.indexed.digest, cache.digest))
        paths = {"indexed": self.indexed.path, "cache": cache.path}
        return self._make(recipe, "dermprompt.stages.prepare:find_near_duplicates", 1000.0, **paths)

    # Generators.

    @cached_property
    def base(self) -> Artifact | None:
        """The frozen latent diffusion model; None where there is none under the generator."""
        config = self.config
        if config.generator.name != "controlnet":
            return None
        settings = config.generator.base
        if settings.name != "scratch":
            return self._pretrained_base()
        own = {key: value for key, value in plain(settings).items() if key != "codec"}
        content = {"base": own, "held_out": config.generator.watch.num_images, **self._conditioning()}
        recipe = Recipe("train_base", settings.name, 2, content, (*self._training_data(), self.codec.digest))
        paths = {**self._training_paths(), "codec": self.codec.path}
        return self._train(recipe, "dermprompt.stages.train_generator:train_base", cost.base(config), **paths)

    @cached_property
    def codec(self) -> Artifact:
        """The latent space of a scratch base."""
        settings = self.config.generator.base.codec
        content: dict[str, Any] = {"codec": plain(settings)}
        if settings.name == "vae":
            content |= {"seed": self.config.seed, "held_out": self.config.generator.watch.num_images}
            recipe = Recipe("train_codec", "vae", 1, content, self._training_data())
            return self._train(
                recipe, "dermprompt.stages.train_codec:train_vae", cost.codec(self.config), **self._training_paths()
            )
        if settings.name == "tiny":
            content["stamps"] = [] if settings.path == "taef2" else stamps(settings.path)
        recipe = Recipe("train_codec", settings.name, 1, content, self._training_data())
        fits = {"pca": "dermprompt.stages.train_codec:fit_pca", "tiny": "dermprompt.stages.train_codec:import_tiny"}
        return self._make(recipe, fits[settings.name], cost.codec(self.config), **self._training_paths())

    def _pretrained_base(self) -> Artifact:
        """Stable Diffusion is used where it is; its settings stand for its content."""
        settings = self.config.generator.base
        files = digest(in_box("box", "base")) if settings.path == "box" else stamps(settings.path)
        stands_for = repr((sorted(plain(settings).items()), files))
        return Artifact(Path(settings.path), hashlib.sha256(stands_for.encode()).hexdigest()[:16])

    @cached_property
    def generator(self) -> Artifact:
        """The trained generator; for ``warp`` the pairs that it warps."""
        config, base = self.config, self.base
        if config.generator.name == "warp":
            return self._warped_pairs()
        if config.generator.max_steps == 0:
            return self._ready_generator()
        content = {
            "generator": self._training_settings(),
            "image_size": config.image_size,
            "seed": config.seed,
        }
        inputs = (*self._training_data(), self.watch_judge.digest)
        paths = {**self._training_paths(), "judge": self.watch_judge.path}
        if base is None:
            recipe = Recipe("train_generator", "pix2pixhd", 3, content, inputs)
            return self._train(
                recipe, "dermprompt.stages.train_generator:train_pix2pixhd", cost.generator(config), **paths
            )
        content |= self._conditioning()
        recipe = Recipe("train_generator", "controlnet", 2, content, (*inputs, base.digest))
        return self._train(
            recipe,
            "dermprompt.stages.train_generator:train_controlnet",
            cost.generator(config),
            **paths,
            base=base.path,
        )

    def _ready_generator(self) -> Artifact:
        """A generator that is drawn from as it is."""
        settings = self.config.generator
        folder = in_box(settings.init, settings.name)
        return Artifact(folder, digest(folder)[:16])

    @cached_property
    def watch_judge(self) -> Artifact:
        """The segmenter that a generator's training is watched with: of what that trains on, and nothing else."""
        config, judge = self.config, self.config.evaluation.judge
        own = plain(judge)
        own.pop("predictions")
        settings = {"judge": own, "held_out": config.generator.watch.num_images, "image_size": config.image_size}
        recipe = Recipe("train_judge", "judge-G", 1, settings, self._training_data())
        work = cost.segmenter(config, judge, 0)
        return self._train(
            recipe, "dermprompt.stages.watch_generator:train_judge", work, settings=judge, **self._training_paths()
        )

    def _warped_pairs(self) -> Artifact:
        """The arm's pairs of S.train, from which ``warp`` draws."""
        settings = {"num_real": self.rules.num_real}
        inputs = (self.prepared.digest, self.cache(self.config.image_size).digest)
        recipe = Recipe("collect", "warp", 1, settings, inputs)
        return self._make(
            recipe, "dermprompt.stages.synthesize:collect_pairs", 1.0, **settings, **self._prepared_paths()
        )

    def _training_settings(self) -> dict[str, Any]:
        """What decides the weights: the sampler's settings and the base (its digest) stand elsewhere."""
        sampling = (*SAMPLER, "base")
        settings = {key: value for key, value in plain(self.config.generator).items() if key not in sampling}
        if settings["init"]:
            settings["init"] = digest(in_box(settings["init"], settings["name"]))
        perceptual = settings.get("perceptual_weights")
        return settings | ({"perceptual_stamps": stamps(perceptual)} if perceptual else {})

    def _conditioning(self) -> dict[str, Any]:
        config = self.config
        dropout, template = config.prompts.dropout, config.prompts.template
        return {
            "prompt_dropout": dropout,
            "template": template,
            "image_size": config.image_size,
            "seed": config.seed,
        }

    def _training_data(self) -> tuple[str, str]:
        return self.known.digest, self.cache(self.config.image_size).digest

    def _training_paths(self) -> dict[str, Path]:
        return {"known": self.known.path, "cache": self.cache(self.config.image_size).path}

    def _seen_data(self) -> tuple[str, str]:
        return self._seen.digest, self.cache(self.config.image_size).digest

    def _seen_paths(self) -> dict[str, Path]:
        return {"known": self._seen.path, "cache": self.cache(self.config.image_size).path}

    @property
    def _seen(self) -> Artifact:
        """What the samples are made from: of warped images the arm's own S.train."""
        return self.known_in("closed") if self.config.generator.name == "warp" else self.known

    # Samples.

    @property
    def num_batches(self) -> int:
        """How many batches hold ``synthesis.count`` samples."""
        return -(-self.config.synthesis.count // self.config.synthesis.batch_size)

    @cached_property
    def masks(self) -> Artifact:
        """New masks; they depend on the data only where they come from real ones."""
        config = self.config
        inputs = self._training_data() if config.masks.name in ("realistic", "transform") else ()
        settings = {"masks": plain(config.masks), **self._sampling()}
        recipe = Recipe("draw_masks", config.masks.name, 2, settings, inputs)
        work = cost.masks(config.synthesis.batch_size)
        return self._grow(
            recipe, self.num_batches, "dermprompt.stages.synthesize:draw_masks", work, **self._training_paths()
        )

    @cached_property
    def samples(self) -> Artifact:
        """Samples of new masks and prompts; the set has no count."""
        if self.config.generator.name == "folder":
            return self._samples_made_elsewhere()
        prompts = {} if self.base is None else plain(self.config.prompts)
        prompts.pop("unseen", None)  # it says what is warned of, not what is drawn
        recipe = self._drawing("synthesize", {"prompts": prompts}, self.known.digest, self.masks.digest)
        paths = {"known": self.known.path, "masks": self.masks.path, **self._generator_paths()}
        describe = self._call("dermprompt.stages.synthesize:describe", known=paths["known"], trained=paths["trained"])
        return self._draw(recipe, self.num_batches, "dermprompt.stages.synthesize:synthesize", describe.here, **paths)

    def _samples_made_elsewhere(self) -> Artifact:
        """The pairs of a folder, sorted by id, as samples."""
        config, path = self.config, str(Path(self.config.generator.path).expanduser().resolve())
        found = replace(config.data, name=layout_of(Path(path)), root=path, labels=path, num_images=None)
        foreign = self.of(found)
        cache = foreign.cache(config.image_size)
        size = {"batch_size": config.synthesis.batch_size, "image_size": config.image_size}
        recipe = Recipe("collect", "folder", 1, size, (foreign.indexed.digest, cache.digest))
        paths = {"indexed": foreign.indexed.path, "cache": cache.path}
        return self._grow(recipe, self.num_batches, "dermprompt.stages.synthesize:import_samples", 1.0, **paths)

    @cached_property
    def reproduced(self) -> Artifact:
        """Samples of S.test's masks with empty prompts (paper, section 3.3)."""
        num_test = cost.split_sizes(self.config, self.prepared.path)["test"]
        recipe = self._drawing("reproduce", {}, self.prepared.digest, "S.test")
        paths = {**self._prepared_paths(), **self._generator_paths()}
        batches = -(-num_test // self.config.synthesis.batch_size)
        return self._draw(recipe, batches, "dermprompt.stages.synthesize:reproduce", None, **paths)

    def _drawing(self, stage: str, settings: dict[str, Any], lesions: str, masks: str) -> Recipe:
        config = self.config
        keys = SAMPLER if config.generator.name == "controlnet" else ()
        settings |= {key: getattr(config.generator, key) for key in keys}
        if config.generator.name != "warp":
            # How the network is run: up to rounding the same samples, but a set is of one kind, byte for byte.
            settings |= {"precision": config.synthesis.precision, "compile": config.synthesis.compile}
        inputs = (lesions, self.generator.digest, masks)
        return Recipe(stage, config.generator.name, 2, settings | self._sampling(), inputs)

    def _prepared_paths(self) -> dict[str, Path]:
        return {"prepared": self.prepared.path, "cache": self.cache(self.config.image_size).path}

    def _sampling(self) -> dict[str, Any]:
        config = self.config
        size = {"batch_size": config.synthesis.batch_size, "image_size": config.image_size}
        return {**size, "seed": config.seed}

    def _generator_paths(self) -> dict[str, Path | None]:
        return {"trained": self.generator.path, "base": self.base.path if self.base else None}

    # Segmenters.

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arm that is asked for; before it S only, as far as the arm has it, where samples are added.

        Of predictions that were made elsewhere there is the one arm that they belong to.
        """
        config = self.config
        own = Arm(config.segmenter, config.synthesis.count, self.rules)
        if not own.count or config.segmenter.predictions:
            return (own,)
        return Arm(config.segmenter, 0, s_only(self.rules.num_real)), own

    @property
    def judge(self) -> Artifact:
        """The fixed segmenter that says whether masks are obeyed: trained on all of S.train alone."""
        return self.segmenter(Arm(self.config.evaluation.judge, 0, s_only()))

    @property
    def cross_fitted(self) -> tuple[Artifact, ...]:
        """Segmenters of which each has left out another fold of the arm's S.train."""
        arm = Arm(self.config.evaluation.judge, 0, s_only(self.rules.num_real))
        folds = self.config.curation.folds
        return tuple(self.segmenter(arm, left_out=[fold, folds]) for fold in range(folds))

    def segmenter(self, arm: Arm, left_out: list[int] | None = None) -> Artifact:
        """A trained segmenter. S only is the same for all generators. ``left_out``: a fold of S.train, of so many."""
        cache, rules = self.cache(arm.settings.image_size), plain(arm.rules)
        for key in ("name", "world"):  # the world is the samples' affair
            rules.pop(key)
        sources: dict[str, Any] = {"samples": None, "count": arm.count, "decisions": None, **rules}
        inputs: tuple[str, ...] = (self.prepared.digest, cache.digest)
        if arm.count:
            curated = self.curated
            sources |= {"samples": self.samples.path, "decisions": curated.path if curated else None}
            inputs += (self.samples.digest, curated.digest if curated else "all")
        if arm.rules.real == "s_decoded":
            assert self.base is not None
            sources["base"], inputs = self.base.path, (*inputs, self.base.digest)
        own = plain(arm.settings)
        own.pop("predictions")
        if own["network"].get("weights"):
            own["stamps"] = stamps(own["network"]["weights"])
        settings: dict[str, Any] = {"segmenter": own, "count": arm.count, "arm": rules}
        if left_out is not None:
            settings["left_out"] = sources["left_out"] = left_out
        name = arm.settings.name + (f"-{self.config.generator.name}-{arm.count}" if arm.count else "-S")
        recipe = Recipe("train_segmenter", name, 2, settings, inputs)
        paths = {"prepared": self.prepared.path, "cache": cache.path, "sources": sources}
        work = cost.segmenter(self.config, arm.settings, arm.count)
        return self._train(
            recipe, "dermprompt.stages.train_segmenter:train_segmenter", work, settings=arm.settings, **paths
        )

    # Curation.

    @cached_property
    def agreement(self) -> Artifact:
        """How well cross-fitted judges find each sample's mask again; whatever thresholds are then set."""
        config, judges = self.config, self.cross_fitted
        cache = self.cache(config.evaluation.judge.image_size)
        settings = {"count": config.synthesis.count, "size": config.segmenter.image_size}
        inputs = (self.samples.digest, cache.digest, *(one.digest for one in judges))
        paths = {"prepared": self.prepared.path, "cache": cache.path, "samples": self.samples.path}
        recipe = Recipe("curate", f"agreement-{config.generator.name}", 1, settings, inputs)
        trained = [str(one.path) for one in judges]
        return self._make(
            recipe,
            "dermprompt.stages.curate:score_agreement",
            10.0,
            judges=trained,
            num_real=self.rules.num_real,
            **paths,
        )

    @cached_property
    def memorised(self) -> Artifact:
        """How near each sample comes to an image that its generator has seen."""
        config = self.config
        settings: dict[str, Any] = {"count": config.synthesis.count, "features": config.curation.features}
        if config.curation.features == "network":
            settings["network"] = self._features()
        inputs = (self.samples.digest, self.prepared.digest, *self._seen_data())
        paths = {"prepared": self.prepared.path, "samples": self.samples.path, **self._seen_paths()}
        recipe = Recipe("curate", f"memorisation-{config.generator.name}", 2, settings, inputs)
        return self._make(recipe, "dermprompt.stages.curate:find_nearest", 20.0, **paths)

    def _features(self) -> dict[str, Any]:
        """The network that compares images, with its weights' file."""
        features = plain(self.config.evaluation.features)
        return {**features, "stamps": stamps(features["weights"]) if features["weights"] else []}

    @cached_property
    def curated(self) -> Artifact | None:
        """Which samples are used; None for all."""
        config = self.config
        name = config.curation.name
        if name == "none":
            return None
        scored = self.memorised if name == "memorisation" else self.agreement
        keys = ("name", "quantile") if name == "memorisation" else ("name", "keep", "relabel", "folds")
        rule = {key: getattr(config.curation, key) for key in keys}
        settings = {"curation": rule, "count": config.synthesis.count, "seed": config.seed}
        recipe = Recipe("curate", f"{name}-{config.generator.name}", 2, settings, (scored.digest,))
        return self._make(
            recipe, "dermprompt.stages.curate:decide_on_samples", 1.0, samples=self.samples.path, scored=scored.path
        )

    # Evaluation.

    @cached_property
    def declared(self) -> Artifact:
        """The primary comparison that was named when S.test was first scored; a later one changes nothing here."""
        recipe = Recipe("evaluate", "primary", 1, {}, (self.prepared.digest,))
        return self._make(recipe, "dermprompt.stages.evaluate:declare_primary", 0.1)

    def scores(self, arm: Arm) -> Artifact:
        """Scores of every image of S.test; the first ones of a split bind the primary comparison."""
        _ = self.declared
        if arm.settings.predictions:
            return self._scores_of_predictions(arm.settings.predictions)
        trained, cache = self.segmenter(arm), self.cache(arm.settings.image_size)
        settings = {"mask_threshold": self.config.data.mask_threshold}
        inputs = (trained.digest, cache.digest, self.indexed.digest)
        recipe = Recipe("evaluate", f"scores-{trained.path.name}", 2, settings, inputs)
        scored = {"external": False, "indexed": self.indexed.path, "cache": cache.path}
        return self._score(recipe, arm.settings, trained, scored)

    def _score(self, recipe: Recipe, settings: Segmenter, trained: Artifact, data: dict[str, Any]) -> Artifact:
        """Scores of a data set's images, whose batches the devices of the trainer share."""
        data = {**data, "prepared": self.prepared.path}

        def build(folder: Path) -> None:
            batches = self._call("dermprompt.stages.score:list_batches", data=data).here(folder)
            score = self._call(
                "dermprompt.stages.score:score_images", settings=settings, data=data, trained=trained.path
            )
            score.share_batches(folder, batches)
            self._call("dermprompt.stages.score:gather_scores").here(folder)

        return self.store.make(recipe, build, 5.0)

    def _scores_of_predictions(self, folder: str) -> Artifact:
        """Scores of masks that were predicted elsewhere."""
        config = self.config
        settings = {"predictions": stamps(folder), "size": config.segmenter.image_size}
        settings["mask_threshold"] = config.data.mask_threshold
        inputs = (self.prepared.digest, self.indexed.digest)
        recipe = Recipe("evaluate", "scores-predictions", 2, settings, inputs)
        paths = {"prepared": self.prepared.path, "indexed": self.indexed.path, "predictions": folder}
        return self._make(recipe, "dermprompt.stages.score:score_predictions", 5.0, **paths)

    def external(self, arm: Arm) -> Artifact | None:
        """Scores of every image of a data set that nothing was trained on; None where none is configured."""
        data = self.config.external
        if data is None or arm.settings.predictions:
            return None
        foreign, trained = self.of(data), self.segmenter(arm)
        cache = foreign.cache(arm.settings.image_size)
        settings = {key: getattr(data, key) for key in ("on_bad", "max_bad_fraction", "mask_threshold")}
        inputs = (trained.digest, cache.digest, foreign.indexed.digest)
        recipe = Recipe("evaluate", f"external-{data.name}", 1, settings, inputs)
        scored = {"external": True, "indexed": foreign.indexed.path, "cache": cache.path}
        return self._score(recipe, arm.settings, trained, scored)

    @cached_property
    def trivial_quality(self) -> Artifact:
        """Table 1's rows without a generator."""
        settings = {"seed": self.config.data.split.seed}
        inputs = (self.prepared.digest, self.cache(self.config.image_size).digest)
        recipe = Recipe("evaluate", "trivial", 1, settings, inputs)
        return self._make(recipe, "dermprompt.stages.evaluate:evaluate_trivial", 40.0, **self._prepared_paths())

    @cached_property
    def generator_quality(self) -> Artifact:
        """Table 1's row of the generator, and whether masks are obeyed."""
        if self.config.generator.name == "folder":
            return self._obedience_of_samples()
        judge, size = self.judge, self.config.evaluation.judge.image_size
        inputs = (self.reproduced.digest, judge.digest, self.cache(size).digest)
        recipe = Recipe("evaluate", self.config.generator.name, 2, {"seed": self.config.seed}, inputs)
        paths = {
            "prepared": self.prepared.path,
            "caches": {s: self.cache(s).path for s in (size, self.config.image_size)},
            "reproduced": self.reproduced.path,
            "judge": judge.path,
            "base": self.base.path if self.base else None,
        }
        return self._make(recipe, "dermprompt.stages.evaluate:evaluate_generator", 15.0, **paths)

    def _obedience_of_samples(self) -> Artifact:
        """Of samples made elsewhere, which are not of S.test's masks: whether their own are obeyed."""
        config, judge = self.config, self.judge
        cache = self.cache(config.evaluation.judge.image_size)
        inputs = (self.samples.digest, judge.digest, cache.digest)
        settings = {"count": config.synthesis.count, "seed": config.seed}
        recipe = Recipe("evaluate", "folder", 1, settings, inputs)
        paths = {"prepared": self.prepared.path, "cache": cache.path, "samples": self.samples.path}
        return self._make(recipe, "dermprompt.stages.evaluate:evaluate_samples", 15.0, judge=judge.path, **paths)

    @cached_property
    def distribution(self) -> Artifact | None:
        """How far the samples, as a set, are from real images that no generator has seen."""
        config = self.config
        if not config.synthesis.count:
            return None
        settings = {"count": config.synthesis.count, **self._features()}
        inputs = (self.samples.digest, self.prepared.digest, *self._seen_data())
        paths = {"prepared": self.prepared.path, "samples": self.samples.path, **self._seen_paths()}
        recipe = Recipe("evaluate", f"distribution-{config.generator.name}", 2, settings, inputs)
        return self._make(recipe, "dermprompt.stages.evaluate_distribution:evaluate_distribution", 60.0, **paths)

    @cached_property
    def text_quality(self) -> Artifact | None:
        """Whether text is obeyed, where there is any: a fixed rule reads the phantom's colours, and a classifier
        that real images have taught all else.
        """
        config = self.config
        if self.base is None or not config.synthesis.count:
            return None
        if config.data.name != "phantom":
            return None if config.prompts.sampler == "empty" else self._labels_found()
        settings = {"count": config.synthesis.count, "seed": config.seed}
        recipe = Recipe("evaluate", "text", 1, settings, (self.samples.digest,))
        paths = {"samples": self.samples.path, "count": config.synthesis.count}
        return self._make(recipe, "dermprompt.stages.evaluate:evaluate_text", 2.0, **paths)

    @cached_property
    def classifier(self) -> Artifact:
        """Linear classifiers of the labels, taught by G and S.train whatever the arm; the same for all generators."""
        settings = {"seed": self.config.data.split.seed, **self._features()}
        inputs = (self.prepared.digest, self.cache(self.config.image_size).digest)
        recipe = Recipe("evaluate", "classifier", 1, settings, inputs)
        return self._make(recipe, "dermprompt.stages.evaluate_labels:train_classifier", 200.0, **self._prepared_paths())

    def _labels_found(self) -> Artifact:
        config, classifier = self.config, self.classifier
        settings = {"count": config.synthesis.count, "seed": config.seed}
        recipe = Recipe("evaluate", "labels", 1, settings, (self.samples.digest, classifier.digest))
        paths = {"samples": self.samples.path, "count": config.synthesis.count, "classifier": classifier.path}
        return self._make(recipe, "dermprompt.stages.evaluate_labels:evaluate_labels", 40.0, **paths)

    def evaluate(self) -> None:
        """Everything that the report shows."""
        _ = self.trivial_quality
        for arm in self.arms:
            _ = self.scores(arm), self.external(arm)
        if self.config.generator.name != "none":
            _ = self.generator_quality, self.text_quality, self.distribution
        if self.config.synthesis.count:
            _ = self.memorised

    # How work is done.

    def _make(self, recipe: Recipe, work: str, cost: float, **arguments: Any) -> Artifact:
        return self.store.make(recipe, self._call(work, **arguments).here, cost)

    def _call(self, work: str, **arguments: Any) -> launch.Call:
        return launch.Call(work, self.config, arguments)

    def _train(self, recipe: Recipe, work: str, cost: float, **arguments: Any) -> Artifact:
        """As :meth:`_make`, on all the devices of the trainer; its precision and the like are in the recipe."""
        recipe = replace(recipe, settings={**recipe.settings, "trainer": training_settings(self.config.trainer)})
        return self.store.make(recipe, self._call(work, **arguments).on_all_devices, cost)

    def _draw(
        self, recipe: Recipe, num_batches: int, work: str, finish: Callable[[Path], None] | None, **arguments: Any
    ) -> Artifact:
        """As :meth:`_grow`, on all the devices of the trainer."""
        build = self._call(work, **arguments).share_batches
        return self.store.grow(recipe, num_batches, build, cost.batch(self.config), finish)

    def _grow(self, recipe: Recipe, num_batches: int, work: str, cost: float, **arguments: Any) -> Artifact:
        call = self._call(work, **arguments)
        return self.store.grow(recipe, num_batches, lambda folder, numbers: call.here(folder, numbers=numbers), cost)


def _content(key: str, path: str | None) -> str | None:
    """The sha256 (hex) of a small file that a setting names."""
    if path is None:
        return None
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{key}={path}: no such file")
    return hashlib.sha256(file.read_bytes()).hexdigest()
