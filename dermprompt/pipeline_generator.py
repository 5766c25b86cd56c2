"""The second chapter of :mod:`dermprompt.pipeline`: base, generator, masks, samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dermprompt import cost
from dermprompt.config.compose import plain, training_settings
from dermprompt.config.schema import SAMPLER
from dermprompt.data.datasets.folder import layout_of
from dermprompt.generator.source import stamps
from dermprompt.pipeline_data import DataPipeline
from dermprompt.store.artifacts import Artifact, Recipe


class GeneratorPipeline(DataPipeline):
    """The artifacts of a generator."""

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
            content["stamps"] = stamps(settings.path)
        recipe = Recipe("train_codec", settings.name, 1, content, self._training_data())
        fits = {"pca": "dermprompt.stages.train_codec:fit_pca", "tiny": "dermprompt.stages.train_codec:import_tiny"}
        return self._make(recipe, fits[settings.name], cost.codec(self.config), **self._training_paths())

    def _pretrained_base(self) -> Artifact:
        """Stable Diffusion is used where it is; its settings stand for its content."""
        settings = self.config.generator.base
        stands_for = repr((sorted(plain(settings).items()), stamps(settings.path)))
        return Artifact(Path(settings.path), hashlib.sha256(stands_for.encode()).hexdigest()[:16])

    @cached_property
    def generator(self) -> Artifact:
        """The trained generator; for ``warp`` the pairs that it warps."""
        config, base = self.config, self.base
        if config.generator.name == "warp":
            return self._warped_pairs()
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

    # How work is done.

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
