"""The pipeline's part on generators: latent space, base, generator, and the reference segmenter for its validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

from dermprompt import cost
from dermprompt.config.compose import training_settings
from dermprompt.config.generators import ControlNetTraining, PretrainedBase, ScratchBase, VAECodec
from dermprompt.config.schema import SegmenterTraining, take
from dermprompt.distributed.make import Inputs
from dermprompt.files import stamps
from dermprompt.generator.source import pretrained_artifact, stamps_of
from dermprompt.pipeline_data import DataPipeline
from dermprompt.stages import settings as stage
from dermprompt.store.artifacts import Artifact, recorded
from dermprompt.weights.box import digest, in_box


class GeneratorPipeline(DataPipeline):
    """The artifacts of a configuration's generator."""

    @property
    def _g(self) -> Inputs:
        """The inputs that generators, masks and prompts learn from."""
        return {"generator_set": self.generator_set, "cache": self.images}

    @property
    def _images(self) -> Inputs:
        return {"prepared": self.prepared, "cache": self.images}

    @property
    def _seen(self) -> Inputs:
        """The inputs that the samples derive from; for warped images, the arm's own S.train."""
        world = self.config.generator.world
        return {"generator_set": self.generator_set_in(world) if world else self.generator_set, "cache": self.images}

    @property
    def base_pool(self) -> dict[str, Artifact]:
        """The images without a mask that the base learns from: with a base trained here, in an open world."""
        own = self.config.generator
        learns = own.has_base and isinstance(own.base, ScratchBase) and self.rules.world == "open"
        return self.pool if learns else {}

    @property
    def held_out(self) -> stage.HeldOut:
        """The images of G held out of all generators' training."""
        return stage.HeldOut(self.config.generator.validation.num_images, self.config.data.split.seed)

    @property
    def _text(self) -> dict[str, Any]:
        prompts = self.config.prompts
        return {"template": prompts.template, "prompt_dropout": prompts.dropout}

    @property
    def _trainer(self) -> dict[str, Any]:
        """The trainer's settings that affect the weights, such as precision."""
        return training_settings(self.config.trainer)

    @property
    def _training(self) -> dict[str, Any]:
        return {"seed": self.config.seed, "trainer": self._trainer}

    @cached_property
    def base(self) -> Artifact | None:
        """The frozen latent diffusion model; None if the generator has no base."""
        config = self.config
        if not config.generator.has_base:
            return None
        base = config.generator.base
        if isinstance(base, PretrainedBase):
            return pretrained_artifact(base.path, recorded(base))
        own, inputs = replace(base, codec=None), {**self._g, "codec": self.codec, **self.base_pool}
        settings = stage.TrainBase(own, self.held_out, config.image_size, **self._text, **self._training)
        work = "dermprompt.stages.train_generator.train_base"
        return self.train(work, base.name, 5, settings, inputs, cost.base(config), "train_base")

    @cached_property
    def codec(self) -> Artifact:
        """The latent space of a scratch base."""
        codec, seconds = self.config.generator.base.codec, cost.codec(self.config)
        if isinstance(codec, VAECodec):
            trained = stage.TrainVAE(codec, self.held_out, **self._training)
            return self.train("dermprompt.stages.train_codec.train_vae", "vae", 2, trained, self._g, seconds)
        files = None
        if codec.name == "tiny":
            files = [] if codec.path == "taef2" else stamps(codec.path)
        fits = {"pca": "dermprompt.stages.train_codec.fit_pca", "tiny": "dermprompt.stages.train_codec.import_tiny"}
        return self.make(fits[codec.name], codec.name, 1, stage.FitCodec(codec, files), self._g, cost=seconds)

    @cached_property
    def generator(self) -> Artifact:
        """What samples are generated with: a trained generator, unchanged pretrained weights, or, for a kind without
        networks, the data that it needs.
        """
        own = self.config.generator
        if own.is_trained and own.max_steps == 0:
            folder = in_box(own.init, own.name)
            return Artifact(folder, digest(folder)[:16])
        return GENERATORS[own.name](self)

    def controlnet(self) -> Artifact:
        """A ControlNet on its base."""
        own = replace(take(ControlNetTraining, self.config.generator), init=None)
        settings = stage.TrainControlNet(own, self._reading, self.held_out, **self._text, **self._training)
        work = "dermprompt.stages.train_generator.train_controlnet"
        return self._train_generator(work, 6, settings, {"base": self.base})

    def pix2pixhd(self) -> Artifact:
        """Pix2PixHD, the paper's GAN baseline."""
        weights = stamps_of(self.config.generator.perceptual_weights)
        return self.train_on_masks("dermprompt.stages.train_generator.train_pix2pixhd", 5, weights)

    def train_on_masks(self, work: str, version: int, stamps: stage.Stamps | None = None) -> Artifact:
        """A generator without text or base, trained by ``work``; ``stamps``: of pretrained weights that it uses."""
        own = replace(self.config.generator, base=None, init=None)
        settings = stage.TrainOnMasks(own, self.held_out, **self._training, stamps=stamps)
        return self._train_generator(work, version, settings, {})

    def _train_generator(self, work: str, version: int, settings: Any, more: Inputs) -> Artifact:
        own = self.config.generator
        inputs = {**self._g, "reference": self.validation_reference, **more}
        if own.init:
            inputs["init"] = Artifact(in_box(own.init, own.name), digest(in_box(own.init, own.name)))
        seconds = cost.generator(self.config)
        return self.train(work, own.name, version, settings, inputs, seconds, "train_generator")

    def warp(self) -> Artifact:
        """The arm's image-mask pairs of S.train, which are warped to new masks."""
        settings = stage.CollectPairs(self.rules.num_real, self.config.generator.best)
        work = "dermprompt.stages.synthesize.collect_pairs"
        return self.make(work, "warp", 1, settings, self._images, "collect", 1.0)

    @property
    def _reading(self) -> stage.OpenBase | None:
        base = self.config.generator.base
        return take(stage.OpenBase, base) if isinstance(base, PretrainedBase) else None

    @cached_property
    def validation_reference(self) -> Artifact:
        """The reference segmenter for validation: trained on the same images as the generator, and no others."""
        reference = take(SegmenterTraining, self.config.evaluation.reference)
        settings = stage.TrainReference(
            reference, self.held_out, self._trainer, stamps_of(reference.network.get("weights"))
        )
        seconds = cost.segmenter(self.config, self.config.evaluation.reference, self.config.data.split.sizes[0])
        work = "dermprompt.stages.validate_generator.train_reference"
        return self.train(work, "judge-G", 2, settings, self._g, seconds, "train_judge")


# What each kind of generator generates samples with; a new kind needs a line here.
GENERATORS: dict[str, Callable[[GeneratorPipeline], Artifact]] = {
    "controlnet": GeneratorPipeline.controlnet,
    "pix2pixhd": GeneratorPipeline.pix2pixhd,
    "warp": GeneratorPipeline.warp,
}
