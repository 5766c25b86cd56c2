"""The whole pipeline on one page: each stage, what it needs, what it makes.

    data ─ index, split, cache ─┬─ base ─ generator ─┬─ samples of new masks ─ curation ─┐
                                │                    └─ samples of S.test's masks         │
                                ├─ S.train ─ reference ──── Table 1, mask fidelity        │
                                └─ S.train ─ segmenter, without and with the samples ◄────┘
                                                            Table 2 ─ report

A method requests the artifacts that it needs and declares the one that is made from them: the function that makes it
(by its full dotted path), its settings (:mod:`dermprompt.stages.settings`) and its inputs. Key, folders and arguments
follow from these. With a planning store, the same methods list what would run. No heavy module is imported here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dermprompt import cost
from dermprompt.config import schema
from dermprompt.config.generators import Sampler
from dermprompt.config.schema import Segmenter, SegmenterTraining, TrainingSet, take
from dermprompt.data.datasets.folder import layout_of
from dermprompt.data.reading import Reading
from dermprompt.distributed.make import Inputs
from dermprompt.files import write_json
from dermprompt.generator.source import given_artifact, stamped_artifact, stamps_of
from dermprompt.pipeline_data import DataPipeline
from dermprompt.pipeline_generators import GeneratorPipeline
from dermprompt.stages import settings as stage
from dermprompt.store.artifacts import Artifact, Declaration, Recipe

# Pairs of a sample and its nearest image of G that the report shows.
NUM_PAIRS = 8


@dataclass(frozen=True)
class Arm:
    """A segmenter's settings, what it trains on, and how many samples are added (``count``)."""

    settings: Segmenter
    count: int
    rules: schema.Arm


class Pipeline(GeneratorPipeline):
    """The artifacts of one configuration."""

    def prepare(self) -> None:
        """Make all that depends on the data alone."""
        for size in sorted({arm.settings.image_size for arm in self.arms}):
            self.cache(size)
        _ = self.prepared, self.generator_set, self.coverage

    # Samples.

    @property
    def num_batches(self) -> int:
        """How many batches hold ``synthesis.count`` samples."""
        return -(-self.config.synthesis.count // self.config.synthesis.batch_size)

    @property
    def mask_settings(self) -> stage.DrawMasks:
        """How new masks are drawn."""
        config = self.config
        given = isinstance(config.masks, schema.FolderMasks)
        masks = replace(config.masks, path=None) if given else config.masks  # the files are an input instead
        return stage.DrawMasks(masks, config.synthesis.batch_size, config.image_size, config.seed)

    @property
    def mask_inputs(self) -> dict[str, Artifact]:
        """What new masks are made from: nothing, given files, or real masks."""
        masks = self.config.masks
        if isinstance(masks, schema.AutomaticMasks):
            return {}
        if isinstance(masks, schema.FolderMasks):
            return {"given": given_artifact("masks.path", str(masks.path))}
        return {"generator_set": self.generator_set, "cache": self.images}

    @cached_property
    def masks(self) -> Artifact:
        """New masks; they depend on the data only if they are derived from real masks."""
        masks = self.config.masks
        work = "dermprompt.stages.synthesize.draw_masks"
        version = 3 if isinstance(masks, schema.AutomaticMasks) else 2
        declared = self.declare(work, masks.name, version, self.mask_settings, self.mask_inputs, "draw_masks")
        return self.grow(declared, self.num_batches, cost.masks(self.config.synthesis.batch_size))

    @cached_property
    def samples(self) -> Artifact:
        """Samples from new masks and prompts. The set can grow: its key does not contain a count."""
        config = self.config
        if not config.generator.is_drawn_from:
            return self._samples_made_elsewhere()
        prompts = take(schema.DrawnPrompts, config.prompts) if config.generator.has_text else None
        inputs = {"generator_set": self.generator_set, **self._drawn_by, "masks": self.masks}
        declared = self._drawing("synthesize", replace(self._sampling, prompts=prompts), inputs)
        card = self.call(replace(declared, work="dermprompt.stages.synthesize.describe"))
        return self.draw(declared, self.num_batches, cost.batch(config), card.here)

    @cached_property
    def made_elsewhere(self) -> DataPipeline:
        """The image-mask pairs of ``generator.path`` as a data set."""
        path = Path(self.config.generator.path).expanduser().resolve()
        name, root = layout_of(path), str(path)
        # A sample needs its mask.
        data = replace(self.config.data, name=name, root=root, labels=root, num_images=None, without_mask="leave_out")
        return self.of(data, "generator.path")

    def _samples_made_elsewhere(self) -> Artifact:
        """The pairs of ``generator.path``, sorted by id, as samples."""
        config, path = self.config, Path(self.config.generator.path).expanduser().resolve()
        foreign = self.made_elsewhere
        usable = (config.data.on_bad, config.data.max_bad_fraction)
        settings = stage.ImportSamples(*usable, path.name, config.synthesis.batch_size)
        inputs = {"indexed": foreign.indexed, "cache": foreign.images}
        work = "dermprompt.stages.synthesize.import_samples"
        return self.grow(self.declare(work, "folder", 2, settings, inputs, "collect"), self.num_batches, 1.0)

    @cached_property
    def reproduced(self) -> Artifact:
        """Samples from S.test's masks with empty prompts (paper, section 3.3)."""
        num_test = cost.split_sizes(self.config, self.prepared.path)["test"]
        batches = -(-num_test // self.config.synthesis.batch_size)
        declared = self._drawing("reproduce", self._sampling, {**self._images, **self._drawn_by})
        return self.draw(declared, batches, cost.batch(self.config))

    def _drawing(self, work: str, settings: stage.DrawSamples, inputs: Inputs) -> Declaration:
        name = self.config.generator.name
        return self.declare(f"dermprompt.stages.synthesize.{work}", name, 3, settings, inputs, work)

    @property
    def _sampling(self) -> stage.DrawSamples:
        own, how = self.config.generator, self.config.synthesis
        return stage.DrawSamples(
            generator=own.name,
            batch_size=how.batch_size,
            seed=self.config.seed,
            # These change samples only up to rounding, but a set must be reproducible byte for byte.
            precision=how.precision if own.is_trained else None,
            compile=how.compile if own.is_trained else None,
            base=self._reading if own.has_base else None,
            sampler=take(Sampler, own) if own.has_base else None,
        )

    @property
    def _drawn_by(self) -> Inputs:
        trained: Inputs = {"trained": self.generator}
        return {**trained, "base": self.base} if self.config.generator.has_base else trained

    # Segmenters.

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The requested arm, preceded by its S-only baseline if it adds samples that a segmenter trains on here."""
        config = self.config
        augmentation = self.rules.augmentation or config.segmenter.augmentation
        own = Arm(replace(config.segmenter, augmentation=augmentation), config.synthesis.count, self.rules)
        if not own.count or config.segmenter.predictions:
            return (own,)
        return Arm(config.segmenter, 0, schema.s_only(self.rules.num_real)), own

    @property
    def reference(self) -> Artifact:
        """The reference segmenter that measures mask fidelity: trained on S.train alone, the same for all arms."""
        return self.segmenter(Arm(self.config.evaluation.reference, 0, schema.s_only()))

    @property
    def cross_fitted(self) -> tuple[Artifact, ...]:
        """Reference segmenters for curation, each trained without a different fold of the arm's S.train."""
        arm = Arm(self.config.evaluation.reference, 0, schema.s_only(self.rules.num_real))
        folds = self.config.curation.folds
        return tuple(self.segmenter(arm, left_out=(fold, folds)) for fold in range(folds))

    def segmenter(self, arm: Arm, left_out: tuple[int, int] | None = None) -> Artifact:
        """A trained segmenter; S only is shared by all generators. ``left_out``: (fold of S.train, number of folds)."""
        inputs: dict[str, Any] = {"prepared": self.prepared, "cache": self.cache(arm.settings.image_size)}
        if arm.count:
            inputs |= {"samples": self.samples, "decisions": self.curated}
        if arm.rules.real == "s_decoded":
            inputs["base"] = self.base
        own = take(SegmenterTraining, arm.settings)
        settings = stage.TrainSegmenter(
            segmenter=own,
            arm=take(TrainingSet, arm.rules),  # without the world, which affects only the samples
            count=arm.count,
            trainer=self._trainer,
            left_out=left_out,
            stamps=stamps_of(own.network.get("weights")),
        )
        name = own.name + (f"-{self.config.generator.name}-{arm.count}" if arm.count else "-S")
        seconds = cost.segmenter(self.config, arm.settings, cost.images_an_epoch(self.config, arm.rules, arm.count))
        return self.train("dermprompt.stages.train_segmenter.train_segmenter", name, 2, settings, inputs, seconds)

    # Curation.

    @cached_property
    def agreement(self) -> Artifact:
        """How well cross-fitted reference segmenters agree with each sample's mask, independently of thresholds."""
        config = self.config
        settings = stage.ScoreAgreement(config.synthesis.count, config.segmenter.image_size, self.rules.num_real)
        cache = self.cache(config.evaluation.reference.image_size)
        inputs: Inputs = {
            "samples": self.samples,
            "cache": cache,
            "references": self.cross_fitted,
            "prepared": self.prepared,
        }
        work = "dermprompt.stages.curate.score_agreement"
        return self.make(work, f"agreement-{config.generator.name}", 1, settings, inputs, cost=10.0)

    @cached_property
    def memorised(self) -> Artifact:
        """The distance of each sample to the nearest image that its generator has seen."""
        config, features = self.config, self.config.curation.features
        network = stage.FeatureNetwork(**self._features) if features == "network" else None
        # What another program has seen is unknown.
        of_all = not config.generator.is_drawn_from
        settings = stage.FindNearest(config.synthesis.count, features, network, of_all)
        inputs = {"samples": self.samples, "prepared": self.prepared, **self._seen}
        inputs |= self.pool if of_all else self.base_pool
        work = "dermprompt.stages.curate.find_nearest"
        return self.make(work, f"memorisation-{config.generator.name}", 3, settings, inputs, cost=20.0)

    @property
    def _features(self) -> dict[str, Any]:
        """The feature network, with the stamps of its weights' file."""
        features = self.config.evaluation.features
        return {**asdict(features), "stamps": stamps_of(features.weights) or []}

    @cached_property
    def curated(self) -> Artifact | None:
        """Which samples are used; None for all."""
        config, curation = self.config, self.config.curation
        if curation.name == "none":
            return None
        copies = curation.name == "memorisation"
        rule = take(stage.DropCopies, curation) if copies else take(stage.KeepAgreeing, curation)
        settings = stage.DecideOnSamples(rule, config.synthesis.count, config.segmenter.image_size, config.seed)
        inputs = {"scored": self.memorised if copies else self.agreement, "samples": self.samples}
        work = "dermprompt.stages.curate.decide_on_samples"
        return self.make(work, f"{rule.name}-{config.generator.name}", 2, settings, inputs)

    # Evaluation.

    @cached_property
    def declared(self) -> Artifact:
        """The primary comparison as it was when S.test was first scored; later changes have no effect here.

        No stage makes it, because a stage sees only what is in its key.
        """
        recipe = Recipe("evaluate", "primary", 1, {}, (self.prepared.digest,))
        return self.store.make(recipe, lambda folder: write_json(folder / "primary.json", self.primary_rule), 0.1)

    @property
    def primary_rule(self) -> dict[str, Any]:
        """The primary comparison, and the rule by which it is decided."""
        from dermprompt.evaluation.statistics import MARGIN, MIN_SEEDS

        rule = {"measure": "dice", "margin": MARGIN, "min_seeds": MIN_SEEDS}
        return {**asdict(self.config.evaluation.primary), **rule}

    def scores(self, arm: Arm) -> Artifact:
        """Scores of every image of S.test; the first scoring of a split fixes the primary comparison."""
        _ = self.declared
        if arm.settings.predictions:
            return self._scores_of_predictions(arm.settings.predictions)
        settings = stage.ScoreImages(**vars(take(Reading, self.config.data)))
        return self._score(f"scores-{self.segmenter(arm).path.name}", 2, settings, self, arm)

    def external(self, arm: Arm) -> Artifact | None:
        """Scores of every image of the external data set; None if none is configured."""
        data = self.config.external
        if data is None or arm.settings.predictions:
            return None
        settings = stage.ScoreImages(**vars(take(Reading, data)), usable=take(stage.Usable, data))
        assert self.external_data is not None
        return self._score(f"external-{data.name}", 1, settings, self.external_data, arm)

    @cached_property
    def external_data(self) -> DataPipeline | None:
        """The external data set, which nothing is trained on, if there is one."""
        return None if self.config.external is None else self.of(self.config.external, "external")

    def _score(self, name: str, version: int, settings: stage.ScoreImages, data: DataPipeline, arm: Arm) -> Artifact:
        """Scores of a data set's images, in batches that the trainer's devices share."""
        cache = data.cache(arm.settings.image_size)
        inputs = {"trained": self.segmenter(arm), "cache": cache, "indexed": data.indexed, "prepared": self.prepared}
        declared = self.declare("dermprompt.stages.score.score_images", name, version, settings, inputs, "evaluate")

        def build(folder: Path) -> None:
            from dermprompt.stages.score import gather_scores, list_batches

            batches = list_batches(settings, self.prepared.path, data.indexed.path, cache.path)
            self.call(declared).share_batches(folder, batches)
            gather_scores(folder)

        return self.store.make(declared.recipe, build, 5.0)

    def _scores_of_predictions(self, predictions: str) -> Artifact:
        """Scores of masks that another program predicted."""
        reading = vars(take(Reading, self.config.data))
        settings = stage.ScorePredictions(**reading, size=self.config.segmenter.image_size)
        masks = stamped_artifact(predictions)
        inputs = {"prepared": self.prepared, "indexed": self.indexed, "predictions": masks}
        work = "dermprompt.stages.score.score_predictions"
        return self.make(work, "scores-predictions", 2, settings, inputs, "evaluate", 5.0)

    def measured(self, arm: Arm) -> Artifact:
        """What the report shows about an arm's scores; for an arm with samples, also the gain over S only."""
        scored, inputs = self.scores(arm), {"prepared": self.prepared}
        if arm.count and len(self.arms) > 1:
            inputs["baseline"] = self.scores(self.arms[0])
        return self._measure({"scored": scored, **inputs}, f"arm-{scored.path.name.removeprefix('scores-')}")

    def measured_external(self, arm: Arm) -> Artifact | None:
        """What the report shows about an arm's scores on the external data set."""
        scored = self.external(arm)
        if scored is None:
            return None
        assert self.external_data is not None
        return self._measure({"scored": scored, "indexed": self.external_data.indexed}, f"arm-{scored.path.name}")

    def _measure(self, inputs: Inputs, name: str) -> Artifact:
        work = "dermprompt.stages.evaluate_arm.evaluate_arm"
        return self.make(work, name, 2, stage.Nothing(), inputs, "evaluate", 2.0)

    @cached_property
    def tallied(self) -> Artifact | None:
        """How many samples the curation kept, relabelled and dropped; None if all are used."""
        config, curation = self.config, self.config.curation
        if self.curated is None or not config.synthesis.count:
            return None
        settings = stage.TallySamples(config.synthesis.count, config.segmenter.image_size, curation.relabel)
        inputs = {"curated": self.curated, "samples": self.samples}
        if curation.name == "agreement":
            inputs["agreement"] = self.agreement
        work = "dermprompt.stages.evaluate_arm.tally_samples"
        return self.make(work, f"tally-{curation.name}", 1, settings, inputs, "evaluate", 2.0)

    @cached_property
    def copies(self) -> Artifact:
        """How many samples are copies, and the nearest pairs."""
        settings = stage.CountCopies(self.config.curation.quantile, min(NUM_PAIRS, self.config.evaluation.gallery))
        inputs = {"memorised": self.memorised}
        return self.make("dermprompt.stages.evaluate_arm.count_copies", "copies", 2, settings, inputs, "evaluate", 0.1)

    @cached_property
    def trivial_quality(self) -> Artifact:
        """Table 1's rows without a generator."""
        settings = stage.EvaluateTrivial(self.config.data.split.seed)
        return self.make("dermprompt.stages.evaluate.evaluate_trivial", "trivial", 1, settings, self._images, cost=40.0)

    @cached_property
    def generator_quality(self) -> Artifact:
        """Table 1's row of the generator, and its mask fidelity."""
        own, seed, reference = self.config.generator, self.config.seed, self.reference
        reference_cache = self.cache(self.config.evaluation.reference.image_size)
        if not own.is_drawn_from:
            # The samples are not of S.test's masks, so their fidelity to their own masks is measured.
            inputs = {
                "samples": self.samples,
                "reference": reference,
                "cache": reference_cache,
                "prepared": self.prepared,
            }
            settings = stage.EvaluateSamples(self.config.synthesis.count, seed)
            return self.make("dermprompt.stages.evaluate.evaluate_samples", own.name, 2, settings, inputs, cost=15.0)
        row = stage.EvaluateGenerator(own.name, "generator" if own.is_trained else "trivial", seed)
        drawn: Inputs = {
            "reproduced": self.reproduced,
            "reference": reference,
            "reference_cache": reference_cache,
            **self._images,
        }
        if own.has_base:
            drawn = {**drawn, "base": self.base}
        return self.make("dermprompt.stages.evaluate.evaluate_generator", own.name, 3, row, drawn, cost=15.0)

    @cached_property
    def distribution(self) -> Artifact | None:
        """How far the samples, as a set, are from real images that no generator has seen."""
        name, count = self.config.generator.name, self.config.synthesis.count
        if not count:
            return None
        settings = stage.EvaluateDistribution(**self._features, name=name, count=count)
        inputs = {"samples": self.samples, "prepared": self.unrotated, **self._seen}
        work = "dermprompt.stages.evaluate_distribution.evaluate_distribution"
        return self.make(work, f"distribution-{name}", 2, settings, inputs, "evaluate", 60.0)

    @cached_property
    def colours(self) -> Artifact | None:
        """The samples' colours, and those of real images that no generator has seen."""
        name, count = self.config.generator.name, self.config.synthesis.count
        if not count:
            return None
        inputs = {"samples": self.samples, "prepared": self.unrotated, **self._seen}
        work = "dermprompt.stages.evaluate_distribution.evaluate_colours"
        return self.make(work, f"colours-{name}", 1, stage.EvaluateColours(name, count), inputs, "evaluate", 5.0)

    @cached_property
    def text_quality(self) -> Artifact | None:
        """Text fidelity, if there is text: by a fixed rule on the phantom's colours, otherwise by classifiers trained
        on real images.
        """
        config = self.config
        if not config.generator.has_text or not config.synthesis.count:
            return None
        settings = stage.EvaluateText(config.synthesis.count, config.seed, config.image_size)
        if config.data.name == "phantom":
            work = "dermprompt.stages.evaluate.evaluate_text"
            return self.make(work, "text", 1, settings, {"samples": self.samples}, cost=2.0)
        if config.prompts.sampler == "empty":
            return None
        inputs = {"samples": self.samples, "classifier": self.classifier}
        work = "dermprompt.stages.evaluate_labels.evaluate_labels"
        return self.make(work, "labels", 1, settings, inputs, "evaluate", 40.0)

    @cached_property
    def classifier(self) -> Artifact:
        """Linear classifiers of the labels, trained on G and S.train; the same for all arms and generators."""
        settings = stage.TrainClassifier(**self._features, seed=self.config.data.split.seed)
        work = "dermprompt.stages.evaluate_labels.train_classifier"
        return self.make(work, "classifier", 1, settings, self._images, "evaluate", 200.0)

    def evaluate(self) -> None:
        """Make all that the report shows."""
        _ = self.trivial_quality
        for arm in self.arms:
            _ = self.measured(arm), self.measured_external(arm)
        if self.config.generator.draws:
            _ = self.generator_quality, self.text_quality, self.distribution, self.colours
        if self.config.synthesis.count:
            _ = self.copies, self.tallied

    def export(self) -> None:
        """Make all that the export needs."""
        _ = self.prepared
        if self.config.export == "generator":
            _ = self.generator, self.base
        elif self.config.synthesis.count:
            _ = self.samples, self.curated
        if self.rules.real == "s_decoded":
            _ = self.base
