"""What a generator trains on: what it may know, but for a few images that its training is watched on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dermprompt.config.schema import Config
from dermprompt.generator.batches import TrainingImages
from dermprompt.prompts.template import TEMPLATES
from dermprompt.stages.parts import load_known_part


def training_images(config: Config, known: Path, cache: Path) -> TrainingImages:
    """What a generator may see, with its prompts."""
    part = load_known_part(known, cache)
    part = part.without(watched_rows(config, len(part.lesions)))
    images, masks = part.tensors()
    ids = tuple(one.id for one in part.lesions)
    return TrainingImages(images, masks, part.prompts(TEMPLATES[config.prompts.template]), ids)


def watched_rows(config: Config, number: int) -> np.ndarray:
    """The rows of ``number`` known images that are kept out of training."""
    order = np.random.default_rng([config.data.split.seed, 2]).permutation(number)
    return np.sort(order[: held_out(config, number)])


def held_out(config: Config, number: int) -> int:
    """How many of ``number`` known images are kept out of training: at most a tenth."""
    return max(1, min(config.generator.watch.num_images, number // 10))
