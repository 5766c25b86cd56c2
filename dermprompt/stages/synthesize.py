"""Masks, prompts and a generator to labelled images; and those images back as arrays."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from dermprompt.config import schema
from dermprompt.config.compose import plain
from dermprompt.config.schema import Config
from dermprompt.distributed.processes import is_first_rank
from dermprompt.files import read_json, write_bytes, write_json
from dermprompt.generator.pix2pixhd.perceptual import losses_in_words
from dermprompt.generator.warp import save_pairs
from dermprompt.lesion import Lesion
from dermprompt.masks.automatic import AutomaticMasks
from dermprompt.masks.realistic import RealisticMasks
from dermprompt.masks.shape import measure
from dermprompt.masks.transform import TransformedMasks
from dermprompt.prompts.sampler import (
    EmptyPrompts,
    FixedPrompts,
    Label,
    MixedPrompts,
    Prompts,
    balanced_prompts,
    empirical_prompts,
)
from dermprompt.prompts.template import TEMPLATES
from dermprompt.prompts.vocabulary import Vocabulary
from dermprompt.stages.arrays import load_known_part, load_lesions_of, load_part
from dermprompt.stages.networks import open_generator
from dermprompt.stages.prepare import load_known, usable_lesions
from dermprompt.store.artifacts import batch_record
from dermprompt.store.claims import share_out
from dermprompt.synthesis.card import LabelKey, write_card
from dermprompt.synthesis.draw import Generator, draw_batches
from dermprompt.synthesis.samples import Condition, read_all_records, write_batch


def draw_masks(config: Config, known: Path, cache: Path, folder: Path, numbers: list[int]) -> None:
    """Draw batches of masks: an array each, and a record with the shapes and what they were made from."""
    source = mask_source(config, known, cache)
    size = config.synthesis.batch_size
    ids = [one.id for one in load_known(known)]

    def draw(unmade: Iterator[int]) -> None:
        for number in unmade:
            indices = range(number * size, (number + 1) * size)
            masks = source.draw(indices)
            made_from = [ids[source.row(i)] if isinstance(source, TransformedMasks) else None for i in indices]
            array = io.BytesIO()
            np.save(array, masks)
            write_bytes(folder / f"{number:05d}.npy", array.getvalue())
            rows = [{**vars(measure(mask)), "source": id} for mask, id in zip(masks, made_from, strict=True)]
            write_json(batch_record(folder, number), rows)

    share_out(folder, numbers, draw, "masks")


def mask_source(config: Config, known: Path, cache: Path) -> AutomaticMasks | RealisticMasks | TransformedMasks:
    """Where new masks come from; of real masks only those that are known are seen."""
    settings = plain(config.masks)
    name = settings.pop("name")
    if name in ("paper_code", "paper_text"):
        return AutomaticMasks(size=config.image_size, seed=config.seed, **settings)
    real = np.asarray(load_known_part(known, cache).masks)
    if name == "realistic":
        return RealisticMasks(real, config.image_size, config.seed, **settings)
    return TransformedMasks(real, config.seed, **settings)


def prompt_source(config: Config, known: Path) -> Prompts:
    """The sampler of prompts; a generator without text gets none.

    Raises:
        ValueError: labels without a name, a mix that is none, or with ``prompts.unseen=error`` a prompt for what
            no training image shows; otherwise that is said.
    """
    settings, lesions = config.prompts, load_known(known)
    source = _sampler(config, lesions)
    if isinstance(source, EmptyPrompts):
        return source
    unseen = Vocabulary.of(lesions).unseen(*_asked_for(settings))
    if unseen and settings.unseen == "error":
        raise ValueError(f"prompts.unseen=error: {unseen}")
    if unseen and is_first_rank():
        print(f"warning: {unseen}")
    for label in source.shares():
        compose(config, label)  # a code without a name must not wait until sampling
    return source


def _asked_for(settings: schema.Prompts) -> tuple[list[str], list[str]]:
    """Diagnoses and attributes that the configuration names."""
    if settings.sampler == "fixed":
        return ([settings.diagnosis] if settings.diagnosis else []), settings.attributes
    return [code for code, share in (settings.mix or {}).items() if share > 0], []


def _sampler(config: Config, known: list[Lesion]) -> Prompts:
    settings, seed = config.prompts, config.seed
    if config.generator.name != "controlnet" or settings.sampler == "empty":
        return EmptyPrompts()
    if settings.sampler == "fixed":
        return FixedPrompts(settings.diagnosis, settings.attributes)
    if settings.sampler == "target":
        return MixedPrompts(known, settings.mix, seed)
    return {"empirical": empirical_prompts, "balanced": balanced_prompts}[settings.sampler](known, seed)


def compose(config: Config, label: Label | None) -> str:
    """The prompt of a label; empty where nothing is asked for."""
    if label is None:
        return ""
    return TEMPLATES[config.prompts.template].compose(label.diagnosis, label.attributes)


def collect_pairs(config: Config, prepared: Path, cache: Path, num_real: int | None, folder: Path) -> None:
    """Copy an arm's pairs of S.train, for ``generator=warp``."""
    part = load_part(prepared, cache, "train", num_real)
    save_pairs(part.images, part.masks, folder)


def import_samples(config: Config, indexed: Path, cache: Path, folder: Path, numbers: list[int]) -> None:
    """Take pairs that another method made as samples, sorted by id, in batches."""
    part = load_lesions_of(usable_lesions(config.data, indexed, cache), cache)
    size, name = config.synthesis.batch_size, Path(config.generator.path).name

    def copy(unmade: Iterator[int]) -> None:
        for number in unmade:
            rows = range(number * size, min((number + 1) * size, len(part.lesions)))
            conditions = [_condition_of(part.lesions[i], part.masks[i]) for i in rows]
            batch = [(i, 0, one, part.images[i]) for i, one in zip(rows, conditions, strict=True)]
            write_batch(folder, batch_record(folder, number), batch, f"folder {name}", maker="another program")

    share_out(folder, numbers, copy, "samples")


def check_imported(config: Config, samples: Path) -> None:
    """Raise ValueError where fewer pairs were made elsewhere than ``synthesis.count``."""
    found = len(read_all_records(samples))
    if found < config.synthesis.count:
        raise ValueError(
            f"synthesis.count={config.synthesis.count}: {found} usable pairs in generator.path={config.generator.path}"
        )


def _condition_of(lesion: Lesion, mask: np.ndarray) -> Condition:
    return Condition(mask, lesion.id, diagnosis=lesion.diagnosis, attributes=lesion.attributes)


def synthesize(
    config: Config,
    known: Path,
    masks: Path,
    trained: Path,
    base: Path | None,
    folder: Path,
    numbers: list[int],
) -> None:
    """Draw batches of new samples: drawn masks, drawn prompts."""
    prompts, size = prompt_source(config, known), config.synthesis.batch_size

    @lru_cache(1)
    def batch(number: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        return np.load(masks / f"{number:05d}.npy"), read_json(batch_record(masks, number))

    def condition(index: int) -> Condition:
        drawn, rows = batch(index // size)
        mask, made_from = drawn[index % size], rows[index % size]["source"]
        label = prompts.draw(index) or Label(None, None)
        text = compose(config, prompts.draw(index))
        return Condition(mask, f"{masks.name}/{index}", made_from, text, label.diagnosis, label.attributes)

    _draw(config, open_generator(config, trained, base), condition, trained.name, folder, numbers)


def describe(config: Config, known: Path, trained: Path, folder: Path) -> None:
    """Write the card of what a set holds by now."""

    def key(label: Label | None) -> LabelKey:
        return (None, None) if label is None else (label.diagnosis, label.attributes)

    lesions = load_known(known)
    settings = {"masks": plain(config.masks), "prompts": plain(config.prompts), "seed": config.seed}
    if config.generator.name == "pix2pixhd":
        settings["losses"] = losses_in_words(config.generator.feature_weight, config.generator.perceptual)
    asked = {key(label): share for label, share in _sampler(config, lesions).shares().items()}
    in_g = Counter((one.diagnosis, one.attributes) for one in lesions)
    write_card(folder, trained.name, settings, asked, in_g)


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
    size, seed, record = config.synthesis.batch_size, config.seed, partial(batch_record, folder)

    def draw(unmade: Iterator[int]) -> None:
        draw_batches(generator, condition, unmade, size, seed, folder, record, name, total)

    share_out(folder, numbers, draw, "samples")
