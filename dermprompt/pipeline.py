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

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dermprompt import cost
from dermprompt.config import schema
from dermprompt.config.compose import plain
from dermprompt.config.schema import Segmenter
from dermprompt.generator.source import stamps
from dermprompt.pipeline_generator import GeneratorPipeline
from dermprompt.store.artifacts import Artifact, Recipe


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


class Pipeline(GeneratorPipeline):
    """The artifacts of one configuration; the first two chapters are :mod:`dermprompt.pipeline_data` and
    :mod:`dermprompt.pipeline_generator`.
    """

    def prepare(self) -> None:
        """All that the data give."""
        for size in sorted({arm.settings.image_size for arm in self.arms}):
            self.cache(size)
        _ = self.prepared, self.known

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
