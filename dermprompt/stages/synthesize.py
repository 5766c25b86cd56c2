"""Masks, prompts and a generator to labelled images; and those images back as arrays."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from dermprompt.config import plain
from dermprompt.files import write_bytes, write_json
from dermprompt.masks.automatic import AutomaticMasks
from dermprompt.masks.shape import measure
from dermprompt.masks.transform import TransformedMasks
from dermprompt.progress import progress
from dermprompt.prompts.sampler import BalancedPrompts, EmpiricalPrompts, EmptyPrompts, FixedPrompts, Prompts
from dermprompt.schema import Config
from dermprompt.stages.parts import load_part
from dermprompt.stages.prepare import load_lesions
from dermprompt.stages.trained import open_generator
from dermprompt.store import batch_record
from dermprompt.synthesis.draw import Generator, draw_batches
from dermprompt.synthesis.samples import Condition


def draw_masks(config: Config, prepared: Path, cache: Path, folder: Path, numbers: list[int]) -> None:
    """Draw batches of masks: an array each, and a record with the shapes."""
    source = mask_source(config, prepared, cache)
    size = config.synthesis.batch_size
    for number in progress(numbers, "masks", "batches"):
        masks = np.stack([source.draw(i) for i in range(number * size, (number + 1) * size)])
        array = io.BytesIO()
        np.save(array, masks)
        write_bytes(folder / f"{number:05d}.npy", array.getvalue())
        write_json(batch_record(folder, number), [vars(measure(mask)) for mask in masks])


def mask_source(config: Config, prepared: Path, cache: Path) -> AutomaticMasks | TransformedMasks:
    """Where new masks come from."""
    settings = plain(config.masks)
    if settings.pop("name") == "automatic":
        return AutomaticMasks(size=config.image_size, seed=config.seed, **settings)
    return TransformedMasks(load_part(prepared, cache, "generator").masks, config.seed, **settings)


def prompt_source(config: Config, prepared: Path) -> Prompts:
    """The sampler of prompts; a generator without text gets none."""
    if config.generator.name == "pix2pixhd" or config.prompts.sampler == "empty":
        return EmptyPrompts()
    if config.prompts.sampler == "fixed":
        return FixedPrompts(config.prompts.diagnosis, config.prompts.attributes)
    lesions, split = load_lesions(prepared)
    known = [lesions[id] for id in split.generator]
    kinds = {"empirical": EmpiricalPrompts, "balanced": BalancedPrompts}
    return kinds[config.prompts.sampler](known, config.seed)


def synthesize(
    config: Config,
    prepared: Path,
    masks: Path,
    trained: Path,
    base: Path | None,
    folder: Path,
    numbers: list[int],
) -> None:
    """Draw batches of new samples: drawn masks, drawn prompts."""
    prompts, size = prompt_source(config, prepared), config.synthesis.batch_size

    def condition(index: int) -> Condition:
        mask = np.load(masks / f"{index // size:05d}.npy")[index % size]
        label, mask_id = prompts.draw(index), f"{masks.name}/{index}"
        if label is None:
            return Condition(mask, mask_id)
        return Condition(mask, mask_id, prompts.text(index), label.diagnosis, label.attributes)

    _draw(config, open_generator(config, trained, base), condition, trained.name, folder, numbers)


def reproduce(
    config: Config,
    prepared: Path,
    cache: Path,
    trained: Path,
    base: Path | None,
    folder: Path,
    numbers: list[int],
) -> None:
    """Draw S.test's masks with empty prompts (paper, section 3.3)."""
    test = load_part(prepared, cache, "test")

    def condition(index: int) -> Condition:
        return Condition(test.masks[index], test.lesions[index].id)

    generator = open_generator(config, trained, base)
    _draw(config, generator, condition, trained.name, folder, numbers, len(test.lesions))


def _draw(
    config: Config,
    generator: Generator,
    condition: Callable[[int], Condition],
    name: str,
    folder: Path,
    numbers: list[int],
    total: int | None = None,
) -> None:
    bar = progress(numbers, "samples", "batches")
    record = partial(batch_record, folder)
    draw_batches(generator, condition, bar, config.synthesis.batch_size, config.seed, folder, record, name, total)
