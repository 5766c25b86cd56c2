"""Draws masks and prompts, and generates images from them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from dermprompt.config import schema
from dermprompt.data.decode import BadPicture
from dermprompt.data.fit import fit_mask
from dermprompt.data.folders import ENDINGS, pictures
from dermprompt.data.masks import decode_mask
from dermprompt.distributed.processes import Runtime
from dermprompt.files import read_json, write_bytes, write_json
from dermprompt.generator.pix2pixhd.perceptual import losses_in_words
from dermprompt.generator.warp import PAIRS, save_pairs
from dermprompt.lesion import Lesion
from dermprompt.masks.automatic import AutomaticMasks
from dermprompt.masks.given import GivenMasks
from dermprompt.masks.realistic import RealisticMasks
from dermprompt.masks.shape import measure
from dermprompt.masks.transform import TransformedMasks
from dermprompt.prompts.sampler import (
    ConstantPrompts,
    Label,
    MixedPrompts,
    Prompts,
    balanced_prompts,
    empirical_prompts,
)
from dermprompt.prompts.template import TEMPLATES
from dermprompt.prompts.vocabulary import Vocabulary
from dermprompt.stages.arrays import load_generator_part, load_lesions_of, load_part
from dermprompt.stages.networks import open_generator
from dermprompt.stages.prepare import load_generator_set, usable_lesions
from dermprompt.stages.settings import CollectPairs, DrawMasks, DrawSamples, ImportSamples
from dermprompt.store.artifacts import RECIPE, batch_record, makes, read_recipe
from dermprompt.store.claims import share_out
from dermprompt.synthesis.card import LabelKey, write_card
from dermprompt.synthesis.draw import Generator, draw_batches
from dermprompt.synthesis.samples import Condition, read_all_records, write_batch

MaskSource = AutomaticMasks | RealisticMasks | TransformedMasks | GivenMasks


def draw_masks(
    settings: DrawMasks,
    runtime: Runtime,
    folder: Path,
    numbers: list[int],
    generator_set: Path | None = None,
    cache: Path | None = None,
    given: Path | None = None,
) -> int:
    """Draw batches of masks: an array each, and a record of each mask's shape and source image."""
    source = mask_source(settings, generator_set, cache, given)
    size = settings.batch_size
    ids = [] if generator_set is None else [one.id for one in load_generator_set(generator_set)]

    def draw(unmade: Iterator[int]) -> None:
        for number in unmade:
            indices = range(number * size, (number + 1) * size)
            masks = source.sample(indices)
            made_from = [ids[source.row(i)] if isinstance(source, TransformedMasks) else None for i in indices]
            array = io.BytesIO()
            np.save(array, masks)
            write_bytes(folder / f"{number:05d}.npy", array.getvalue())
            rows = [{**vars(measure(mask)), "source": id} for mask, id in zip(masks, made_from, strict=True)]
            write_json(batch_record(folder, number), rows)

    return share_out(folder, numbers, draw, "masks")


def mask_source(
    settings: DrawMasks, generator_set: Path | None = None, cache: Path | None = None, given: Path | None = None
) -> MaskSource:
    """The source of new masks; it sees only real masks of the generator's training set. ``given``: files of masks.

    Raises:
        ValueError: there is no real mask to start from, or a given file is not a mask; names it.
    """
    own = asdict(settings.masks)
    del own["name"]
    if isinstance(settings.masks, schema.FolderMasks):
        assert given is not None, "masks of a folder"
        return GivenMasks(read_masks(given, settings.image_size))
    if isinstance(settings.masks, schema.AutomaticMasks):
        return AutomaticMasks(size=settings.image_size, seed=settings.seed, **own)
    assert generator_set is not None, "masks from real ones"
    assert cache is not None, "masks from real ones"
    real = np.asarray(load_generator_part(generator_set, cache).masks)
    if isinstance(settings.masks, schema.RealisticMasks):
        return RealisticMasks(real, settings.image_size, settings.seed, **own)
    return TransformedMasks(real, settings.seed, **own)


def read_masks(path: Path, size: int) -> np.ndarray:
    """One mask file, or all masks of a folder sorted by name, as uint8 (N, size, size) in {0, 1}."""
    files = [path] if path.is_file() else [one.path for one in pictures(path) if not one.problem]
    masks = []
    for file in files:
        try:
            masks.append(fit_mask(decode_mask(file.read_bytes()).pixels, size, "squeeze"))
        except BadPicture as error:
            raise ValueError(f"masks.path: {file} is no mask of 0 and 255 ({error})") from error
    if not masks:
        raise ValueError(f"masks.path={path}: no {', '.join(ENDINGS)} in it")
    return np.stack(masks)


def check_prompts(settings: schema.Prompts, seed: int, generator_set: Path) -> None:
    """Check that all prompts can be composed, and warn about labels that no training image has.

    Raises:
        ValueError: labels without a name, an invalid mix, or unseen labels with ``prompts.unseen=error``.
    """
    if settings.sampler == "empty":
        return
    lesions = load_generator_set(generator_set)
    unseen = Vocabulary.of(lesions).unseen(*_asked_for(settings))
    if unseen and settings.unseen == "error":
        raise ValueError(f"prompts.unseen=error: {unseen}")
    if unseen:
        print(f"warning: {unseen}")
    for label in _sampler(settings, seed, lesions).shares():
        compose(settings, label)  # fails now, not during sampling, for a code without a name


def _asked_for(settings: schema.DrawnPrompts) -> tuple[list[str], list[str]]:
    """Diagnoses and attributes that the configuration names."""
    if settings.sampler == "fixed":
        return ([settings.diagnosis] if settings.diagnosis else []), settings.attributes
    return [code for code, share in (settings.mix or {}).items() if share > 0], []


def prompt_source(settings: DrawSamples, generator_set: Path) -> Prompts:
    """The prompt sampler; a generator without text gets empty prompts."""
    return _sampler(settings.prompts, settings.seed, load_generator_set(generator_set))


def _sampler(settings: schema.DrawnPrompts | None, seed: int, generator_set: list[Lesion]) -> Prompts:
    if settings is None or settings.sampler == "empty":
        return ConstantPrompts(None)
    if settings.sampler == "fixed":
        attributes = settings.attributes
        return ConstantPrompts(Label(settings.diagnosis, None if attributes is None else tuple(attributes)))
    if settings.sampler == "target":
        return MixedPrompts(generator_set, settings.mix, seed)
    return {"empirical": empirical_prompts, "balanced": balanced_prompts}[settings.sampler](generator_set, seed)


def compose(settings: schema.DrawnPrompts | None, label: Label | None) -> str:
    """The prompt for a label; empty without a label."""
    if settings is None or label is None:
        return ""
    return TEMPLATES[settings.template].compose(label.diagnosis, label.attributes)


@makes(PAIRS)
def collect_pairs(settings: CollectPairs, runtime: Runtime, prepared: Path, cache: Path, folder: Path) -> None:
    """Copy the pairs of S.train that an arm uses, for ``generator=warp``."""
    part = load_part(prepared, cache, "train", settings.num_real)
    shown = part.without(np.flatnonzero([one.negative for one in part.lesions]))
    save_pairs(shown.images[:], shown.masks[:], folder, settings.best)


def import_samples(
    settings: ImportSamples, runtime: Runtime, indexed: Path, cache: Path, folder: Path, numbers: list[int]
) -> int:
    """Import another method's image-mask pairs as samples, sorted by id, in batches."""
    part = load_lesions_of(usable_lesions(settings, indexed, cache), cache)
    size, name = settings.batch_size, settings.name

    def copy(unmade: Iterator[int]) -> None:
        for number in unmade:
            rows = range(number * size, min((number + 1) * size, len(part.lesions)))
            conditions = [_condition_of(part.lesions[i], part.masks[i]) for i in rows]
            batch = [(i, 0, one, part.images[i]) for i, one in zip(rows, conditions, strict=True)]
            write_batch(folder, batch_record(folder, number), batch, f"folder {name}", maker="another program")

    return share_out(folder, numbers, copy, "samples")


def check_imported(count: int, path: str, samples: Path) -> None:
    """Raise ValueError if ``generator.path`` has fewer usable pairs than ``synthesis.count``."""
    found = len(read_all_records(samples))
    if found < count:
        raise ValueError(f"synthesis.count={count}: {found} usable pairs in generator.path={path}")


def _condition_of(lesion: Lesion, mask: np.ndarray) -> Condition:
    return Condition(mask, lesion.id, diagnosis=lesion.diagnosis, attributes=lesion.attributes)


def synthesize(
    settings: DrawSamples,
    runtime: Runtime,
    generator_set: Path,
    trained: Path,
    masks: Path,
    folder: Path,
    numbers: list[int],
    base: Path | None = None,
) -> int:
    """Generate batches of new samples from drawn masks and prompts."""
    prompts, size = prompt_source(settings, generator_set), settings.batch_size

    @lru_cache(1)
    def batch(number: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        return np.load(masks / f"{number:05d}.npy"), read_json(batch_record(masks, number))

    def condition(index: int) -> Condition:
        drawn, rows = batch(index // size)
        mask, made_from = drawn[index % size], rows[index % size]["source"]
        label = prompts.sample(index) or Label(None, None)
        text = compose(settings.prompts, prompts.sample(index))
        return Condition(mask, f"{masks.name}/{index}", made_from, text, label.diagnosis, label.attributes)

    generator = open_generator(settings, runtime, trained, base)
    return _draw(settings, generator, condition, trained.name, folder, numbers)


def describe(
    settings: DrawSamples,
    runtime: Runtime,
    generator_set: Path,
    trained: Path,
    masks: Path,
    folder: Path,
    base: Path | None = None,
) -> None:
    """Write the card that describes the samples in a set so far."""
    lesions = load_generator_set(generator_set)
    prompts = asdict(settings.prompts) if settings.prompts else {}
    facts = {"masks": read_recipe(masks).settings["masks"], "prompts": prompts, "seed": settings.seed}
    facts |= _losses(trained)
    shares = _sampler(settings.prompts, settings.seed, lesions).shares()
    asked: dict[LabelKey, float] = {label or (None, None): share for label, share in shares.items()}
    in_g = Counter((one.diagnosis, one.attributes) for one in lesions)
    write_card(folder, trained.name, facts, asked, in_g)


def _losses(trained: Path) -> dict[str, str]:
    """The losses that an adversarial generator was trained with besides its discriminator's, if known."""
    own = read_recipe(trained).settings.get("generator", {}) if (trained / RECIPE).exists() else {}
    return {"losses": losses_in_words(own["feature_weight"], own["perceptual"])} if "perceptual" in own else {}


def reproduce(
    settings: DrawSamples,
    runtime: Runtime,
    prepared: Path,
    cache: Path,
    trained: Path,
    folder: Path,
    numbers: list[int],
    base: Path | None = None,
) -> int:
    """Generate images from S.test's masks with empty prompts (paper, section 3.3)."""
    test = load_part(prepared, cache, "test")

    def condition(index: int) -> Condition:
        return Condition(test.masks[index], test.lesions[index].id)

    generator = open_generator(settings, runtime, trained, base)
    return _draw(settings, generator, condition, trained.name, folder, numbers, len(test.lesions))


def _draw(
    settings: DrawSamples,
    generator: Generator,
    condition: Callable[[int], Condition],
    name: str,
    folder: Path,
    numbers: list[int],
    total: int | None = None,
) -> int:
    size, seed, record = settings.batch_size, settings.seed, partial(batch_record, folder)

    def draw(unmade: Iterator[int]) -> None:
        draw_batches(generator, condition, unmade, size, seed, folder, record, name, total)

    return share_out(folder, numbers, draw, "samples")
