"""The story on one page: each stage, what it needs, what it makes.

    data ─ index, split, cache ─┬─ base ─ generator ─┬─ samples of new masks ─ curation ─┐
                                │                    └─ samples of S.test's masks         │
                                ├─ S.train ─ judge ──────── Table 1, masks obeyed         │
                                └─ S.train ─ segmenter, without and with the samples ◄────┘
                                                            Table 2 ─ report

A method asks for what it needs, states the recipe and hands the work to :mod:`dermprompt.launch`. Asked of a
planning store, the same methods say what would run. Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dermprompt import cost, launch, schema
from dermprompt.config import plain, training_settings
from dermprompt.generator.source import stamps
from dermprompt.pipeline_data import DataPipeline
from dermprompt.schema import Segmenter
from dermprompt.store import Artifact, Recipe

# Settings of a ControlNet that decide its samples, not its weights.
SAMPLER = ("num_steps", "guidance", "control_scale", "eta")


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


class Pipeline(DataPipeline):
    """The artifacts of one configuration; those of the data are in :mod:`dermprompt.pipeline_data`."""

    def prepare(self) -> None:
        """All that the data give."""
        for size in sorted({arm.settings.image_size for arm in self.arms}):
            self.cache(size)
        _ = self.prepared, self.known

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
        content = {"base": plain(settings), **self._conditioning()}
        recipe = Recipe("train_base", settings.name, 1, content, self._training_data())
        return self._train(recipe, "train:train_base", cost.base(config), **self._training_paths())

    def _pretrained_base(self) -> Artifact:
        """Stable Diffusion is used where it is; its settings stand for its content."""
        settings = self.config.generator.base
        stands_for = repr((sorted(plain(settings).items()), stamps(settings.path)))
        return Artifact(Path(settings.path), hashlib.sha256(stands_for.encode()).hexdigest()[:16])

    @cached_property
    def generator(self) -> Artifact:
        """The trained generator."""
        config, base = self.config, self.base
        content = {
            "generator": self._training_settings(),
            "image_size": config.image_size,
            "seed": config.seed,
        }
        if base is None:
            recipe = Recipe("train_generator", "pix2pixhd", 1, content, self._training_data())
            work = "train:train_pix2pixhd"
            return self._train(recipe, work, cost.generator(config), **self._training_paths())
        content |= self._conditioning()
        recipe = Recipe("train_generator", "controlnet", 1, content, (*self._training_data(), base.digest))
        paths = {**self._training_paths(), "base": base.path}
        return self._train(recipe, "train:train_controlnet", cost.generator(config), **paths)

    def _training_settings(self) -> dict[str, Any]:
        """What decides the weights: the sampler's settings and the base (its digest) stand elsewhere."""
        sampling = (*SAMPLER, "base")
        settings = {key: value for key, value in plain(self.config.generator).items() if key not in sampling}
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
        return self._grow(recipe, self.num_batches, "synthesize:draw_masks", work, **self._training_paths())

    @cached_property
    def samples(self) -> Artifact:
        """Samples of new masks and prompts; the set has no count."""
        prompts = {} if self.base is None else plain(self.config.prompts)
        prompts.pop("unseen", None)  # it says what is warned of, not what is drawn
        recipe = self._drawing("synthesize", {"prompts": prompts}, self.known.digest, self.masks.digest)
        paths = {"known": self.known.path, "masks": self.masks.path, **self._generator_paths()}
        return self._grow(recipe, self.num_batches, "synthesize:synthesize", cost.batch(self.config), **paths)

    @cached_property
    def reproduced(self) -> Artifact:
        """Samples of S.test's masks with empty prompts (paper, section 3.3)."""
        num_test = cost.split_sizes(self.config, self.prepared.path)["test"]
        recipe = self._drawing("reproduce", {}, self.prepared.digest, "S.test")
        paths = {**self._prepared_paths(), **self._generator_paths()}
        batches = -(-num_test // self.config.synthesis.batch_size)
        return self._grow(recipe, batches, "synthesize:reproduce", cost.batch(self.config), **paths)

    def _drawing(self, stage: str, settings: dict[str, Any], lesions: str, masks: str) -> Recipe:
        config = self.config
        keys = SAMPLER if config.generator.name == "controlnet" else ()
        settings |= {key: getattr(config.generator, key) for key in keys}
        inputs = (lesions, self.generator.digest, masks)
        return Recipe(stage, config.generator.name, 1, settings | self._sampling(), inputs)

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
        """The arm that is asked for; before it S only, as far as the arm has it, where samples are added."""
        config = self.config
        own = Arm(config.segmenter, config.synthesis.count, self.rules)
        return (Arm(config.segmenter, 0, s_only(self.rules.num_real)), own) if own.count else (own,)

    @property
    def judge(self) -> Artifact:
        """The fixed segmenter that says whether masks are obeyed: trained on all of S.train alone."""
        return self.segmenter(Arm(self.config.evaluation.judge, 0, s_only()))

    def segmenter(self, arm: Arm) -> Artifact:
        """A trained segmenter. S only is the same for all generators."""
        cache, rules = self.cache(arm.settings.image_size), plain(arm.rules)
        for key in ("name", "world"):  # the world is the samples' affair
            rules.pop(key)
        sources: dict[str, Any] = {"samples": None, "count": arm.count, "decisions": None, **rules}
        inputs: tuple[str, ...] = (self.prepared.digest, cache.digest)
        if arm.count:
            curated = self.curated
            sources |= {"samples": self.samples.path, "decisions": curated.path if curated else None}
            inputs += (self.samples.digest, curated.digest if curated else "all")
        settings = {"segmenter": plain(arm.settings), "count": arm.count, "arm": rules}
        name = arm.settings.name + (f"-{self.config.generator.name}-{arm.count}" if arm.count else "-S")
        recipe = Recipe("train_segmenter", name, 2, settings, inputs)
        paths = {"prepared": self.prepared.path, "cache": cache.path, "sources": sources}
        work = cost.segmenter(self.config, arm.settings, arm.count)
        return self._train(recipe, "train:train_segmenter", work, settings=arm.settings, **paths)

    @cached_property
    def curated(self) -> Artifact | None:
        """Which samples are used; None for all."""
        config, size = self.config, self.config.segmenter.image_size
        if config.curation.name == "none":
            return None
        judge, cache = self.judge, self.cache(size)
        settings = {"curation": plain(config.curation), "count": config.synthesis.count, "size": size}
        inputs = (self.samples.digest, judge.digest, cache.digest)
        paths = {"prepared": self.prepared.path, "cache": cache.path, "samples": self.samples.path}
        recipe = Recipe("curate", config.generator.name, 1, settings, inputs)
        return self._make(recipe, "evaluate:curate", 5.0, judge=judge.path, **paths)

    # Evaluation.

    def scores(self, arm: Arm) -> Artifact:
        """Scores of every image of S.test."""
        trained, cache = self.segmenter(arm), self.cache(arm.settings.image_size)
        recipe = Recipe("evaluate", f"scores-{trained.path.name}", 1, {}, (trained.digest, cache.digest))
        paths = {"prepared": self.prepared.path, "cache": cache.path, "trained": trained.path}
        return self._make(recipe, "evaluate:evaluate_segmenter", 5.0, settings=arm.settings, **paths)

    @cached_property
    def trivial_quality(self) -> Artifact:
        """Table 1's rows without a generator."""
        settings = {"seed": self.config.data.split.seed}
        inputs = (self.prepared.digest, self.cache(self.config.image_size).digest)
        recipe = Recipe("evaluate", "trivial", 1, settings, inputs)
        return self._make(recipe, "evaluate:evaluate_trivial", 40.0, **self._prepared_paths())

    @cached_property
    def generator_quality(self) -> Artifact:
        """Table 1's row of the generator, and whether masks are obeyed."""
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
        return self._make(recipe, "evaluate:evaluate_generator", 15.0, **paths)

    @cached_property
    def distribution(self) -> Artifact | None:
        """How far the samples, as a set, are from real images that no generator has seen."""
        config = self.config
        if not config.synthesis.count:
            return None
        features = plain(config.evaluation.features)
        settings = {"count": config.synthesis.count, **features, "stamps": stamps(features["weights"] or "")}
        inputs = (self.samples.digest, self.prepared.digest, *self._training_data())
        paths = {"prepared": self.prepared.path, "samples": self.samples.path, **self._training_paths()}
        recipe = Recipe("evaluate", f"distribution-{config.generator.name}", 1, settings, inputs)
        return self._make(recipe, "sets:evaluate_distribution", 60.0, **paths)

    @cached_property
    def text_quality(self) -> Artifact | None:
        """Whether text is obeyed: only the phantom's colours can be read by a fixed rule."""
        config = self.config
        if config.data.name != "phantom" or self.base is None or not config.synthesis.count:
            return None
        settings = {"count": config.synthesis.count, "seed": config.seed}
        recipe = Recipe("evaluate", "text", 1, settings, (self.samples.digest,))
        paths = {"samples": self.samples.path, "count": config.synthesis.count}
        return self._make(recipe, "evaluate:evaluate_text", 2.0, **paths)

    def evaluate(self) -> None:
        """Everything that the report shows."""
        _ = self.trivial_quality
        for arm in self.arms:
            self.scores(arm)
        if self.config.generator.name != "none":
            _ = self.generator_quality, self.text_quality, self.distribution

    # How work is done.

    def _train(self, recipe: Recipe, work: str, cost: float, **arguments: Any) -> Artifact:
        """As :meth:`_make`, on all the devices of the trainer; its precision and the like are in the recipe."""
        recipe = replace(recipe, settings={**recipe.settings, "trainer": training_settings(self.config.trainer)})
        call = launch.Call(work, self.config, arguments)
        return self.store.make(recipe, call.on_all_devices, cost)

    def _grow(self, recipe: Recipe, num_batches: int, work: str, cost: float, **arguments: Any) -> Artifact:
        call = launch.Call(work, self.config, arguments)
        return self.store.grow(recipe, num_batches, lambda folder, numbers: call.here(folder, numbers=numbers), cost)
