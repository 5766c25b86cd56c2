"""Gathers a job's results from its artifacts, and writes images, scores and the reader quiz to its run folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from dermprompt.config.generators import ScratchBase
from dermprompt.config.schema import Config, Data
from dermprompt.data.cache import load_cache
from dermprompt.data.coverage import digest_for_page
from dermprompt.data.reading import PLAIN, Reading
from dermprompt.files import read_json, sha256
from dermprompt.pipeline import Arm, Pipeline
from dermprompt.report.quiz import Question, write_quiz
from dermprompt.results import (
    ColourRow,
    Curation,
    Curve,
    DistributionRow,
    External,
    ImageQuality,
    LabelFidelity,
    MaskFidelity,
    Memorisation,
    Picture,
    Results,
    Segmentation,
    TextFidelity,
    record,
)
from dermprompt.stages.arrays import load_part, load_samples, pick_samples
from dermprompt.stages.evaluate import save_pictures
from dermprompt.store.artifacts import RECORD
from dermprompt.training.callbacks import read_curves

# As in conf/config.yaml.
USUAL = {"masks": "realistic", "prompts": "empirical"}


def summarize(pipeline: Pipeline, folder: Path, command: str) -> Results:
    """Gather the results of a finished job, and write its images to the run folder."""
    config, generator, arms = pipeline.config, _name(pipeline), pipeline.arms
    return Results(
        experiment=config.name,
        command=command,
        generator=generator,
        base=config.generator.base.name if config.generator.has_base else None,
        count=config.synthesis.count,
        segmenter=config.segmenter.name,
        seed=config.segmenter.seed,
        image_size=config.image_size,
        dataset=config.data.name,
        caution=_caution(pipeline),
        scope=_scope(pipeline),
        drawn=_drawn(pipeline.config),
        generator_seed=config.seed,
        precision=str(config.trainer["precision"]),
        primary=_primary(pipeline),
        test_reads=len(list((pipeline.store.root / "evaluate").glob(f"scores-*/{RECORD}"))),
        data=digest_for_page(read_json(pipeline.coverage.path / "coverage.json")) | _reading(config.data),
        **_generated(pipeline),
        segmentation=tuple(_segmentation(pipeline, arm, folder) for arm in arms),
        curation=_curation(pipeline),
        memorisation=_memorisation(pipeline, folder),
        external=_external(pipeline),
        curves=_curves(pipeline),
        validation_pictures=_validation_pictures(pipeline, folder),
        gallery=_gallery(pipeline, folder),
        samples=_samples(pipeline, folder),
        work=_work(pipeline),
        seconds={stage: round(value, 1) for stage, value in pipeline.store.seconds.items()},
    )


def _reading(data: Data) -> dict[str, list[str]]:
    """How images were read, if not by default settings."""
    chosen = {one.name: getattr(data, one.name) for one in fields(Reading)}
    changed = [f"data.{name}={value}" for name, value in chosen.items() if value != getattr(PLAIN, name)]
    return {"pictures read with": changed} if changed else {}


def _generated(pipeline: Pipeline) -> dict[str, Any]:
    """What was measured on the synthetic images."""
    quality = read_json(pipeline.trivial_quality.path / "quality.json")
    if _name(pipeline) is None:
        return {"image_quality": record(tuple[ImageQuality, ...], quality)}
    found = read_json(pipeline.generator_quality.path / "generator.json")
    sets = [] if pipeline.distribution is None else read_json(pipeline.distribution.path / "distribution.json")
    colours = [] if pipeline.colours is None else read_json(pipeline.colours.path / "colours.json")
    return {
        "image_quality": record(tuple[ImageQuality, ...], found["quality"] + quality),
        "colours": record(tuple[ColourRow, ...], colours),
        "distribution": record(tuple[DistributionRow, ...], sets),
        "mask_fidelity": record(MaskFidelity, found["masks"]),
        **_text(pipeline),
    }


def _text(pipeline: Pipeline) -> dict[str, Any]:
    """Text fidelity: on the phantom by its fixed rule, on other data by classifiers."""
    if pipeline.text_quality is None:
        return {}
    folder = pipeline.text_quality.path
    if pipeline.config.data.name != "phantom":
        return {"label_fidelity": record(tuple[LabelFidelity, ...], read_json(folder / "labels.json"))}
    found = read_json(folder / "text.json")
    return {"text_fidelity": record(TextFidelity, found) if found else None}


def _primary(pipeline: Pipeline) -> dict[str, Any]:
    """The primary comparison, a hash of it and its rule, and whether it was declared before S.test was scored.

    Its numbers of real images are those of the trainings, where all of S.train is None.
    """
    rule = pipeline.primary_rule
    declared = read_json(pipeline.declared.path / "primary.json") == rule
    digest = sha256(json.dumps(rule, sort_keys=True))[:16]
    named, (_, every, *_) = asdict(pipeline.config.evaluation.primary), pipeline.config.data.split.sizes
    numbers = [None if one == every else one for one in named["num_real"] or [None]]
    return {**named, "num_real": numbers, "hash": digest, "declared": declared}


def _name(pipeline: Pipeline) -> str | None:
    generator = pipeline.config.generator
    return generator.name if generator.draws else None


def _work(pipeline: Pipeline) -> dict[str, int]:
    """What this job made itself, not counting what was in the store."""
    made = pipeline.store.made
    return {
        "bases trained": made.get("train_base", 0),
        "generators trained": made.get("train_generator", 0),
        "samples drawn": made.get("synthesize", 0) * pipeline.config.synthesis.batch_size,
        "segmenters trained": made.get("train_segmenter", 0),
    }


def _segmentation(pipeline: Pipeline, arm: Arm, folder: Path) -> Segmentation:
    name = f"scores-{arm.rules.name}-{arm.count}.csv"
    shutil.copyfile(pipeline.scores(arm).path / "scores.csv", folder / name)
    named = {
        "segmenter": arm.settings.name,
        "generator": _name(pipeline) if arm.count else None,
        "count": arm.count,
        "arm": _arm_name(pipeline, arm),
        "num_real": arm.rules.num_real,
        "seed": arm.settings.seed,
        "fold": pipeline.config.data.split.fold,
        "world": arm.rules.world if arm.count or arm.rules.real in ("s_and_g", "s_decoded") else None,
        "steps_of": arm.rules.steps_of,
        "scores": name,
    }
    return record(Segmentation, {**named, **read_json(pipeline.measured(arm).path / "arm.json")})


def _arm_name(pipeline: Pipeline, arm: Arm) -> str:
    """The arm's name, or, for an arm without one, how it differs from S plus a generator's samples."""
    rules, parts = arm.rules, []
    if rules.name != "default":
        return rules.name
    if arm.count and pipeline.config.curation.name != "none":
        parts.append(pipeline.config.curation.name)
    parts += [rules.real] if rules.real != "s" else []
    parts += [rules.batches] if rules.batches != "concatenated" else []
    parts += ["finetuned"] if rules.finetune else []
    parts += [rules.augmentation] if rules.augmentation else []
    parts += [f"steps_{rules.steps_of}"] if rules.steps_of else []
    parts += ["closed"] if rules.world == "closed" and arm.count else []
    named = f"{_name(pipeline)}_{arm.count}" if arm.count else "s"
    return " ".join([named, *parts]) if parts else "default"


def _caution(pipeline: Pipeline) -> str | None:
    """The warning at the top of the page."""
    said = [pipeline.config.caution]
    if pipeline.config.generator.draws and not pipeline.config.generator.is_drawn_from:
        said.append("What the generator of these samples has seen, perhaps images of S.test, is not known here.")
    return " ".join(filter(None, said)) or None


def _scope(pipeline: Pipeline) -> str:
    """What the generator has seen, if that is not G."""
    rules, seen = pipeline.rules, f"{pipeline.rules.num_real or 'all'} of S.train"
    if rules.world == "closed":
        return f"closed world, {seen}"
    return seen if pipeline.config.generator.world == "closed" else ""


def _drawn(config: Config) -> str:
    """The masks and prompts that samples were drawn from, if not the usual ones."""
    kinds = {"masks": config.masks.name, "prompts": config.prompts.sampler}
    return ", ".join(f"{name} {kind}" for kind, name in kinds.items() if name != USUAL[kind])


def _curation(pipeline: Pipeline) -> Curation | None:
    """How many samples curation kept, relabelled and dropped; None if all are used."""
    if pipeline.tallied is None:
        return None
    return record(Curation, {"name": pipeline.config.curation.name, **read_json(pipeline.tallied.path / "tally.json")})


def _memorisation(pipeline: Pipeline, folder: Path) -> Memorisation | None:
    """Which samples are copies, and images of those nearest to G."""
    config = pipeline.config
    if not config.synthesis.count:
        return None
    found = read_json(pipeline.copies.path / "copies.json")
    named = config.evaluation.features.model if config.curation.features == "network" else config.curation.features
    pairs = _nearest_pairs(pipeline, found["pairs"], folder)
    of_all = not config.generator.is_drawn_from
    return Memorisation(**{**found, "features": named, "pairs": pairs, "of_all": of_all})


def _nearest_pairs(pipeline: Pipeline, nearest: list[tuple[int, str, float]], folder: Path) -> tuple[Picture, ...]:
    size = pipeline.config.image_size
    real = load_cache(pipeline.cache(size, with_pool=True).path, [id for _, id, _ in nearest])
    drawn = pick_samples(pipeline.samples.path, [row for row, _, _ in nearest], size)
    pairs = []
    for k, (_, id, distance) in enumerate(nearest):
        sample = drawn.rows[k].id
        kinds = {"mask": drawn.masks[k], "image": drawn.images[k], "real": np.ascontiguousarray(real.images[k])}
        pairs.append(_picture(folder, f"nearest-{sample}", f"{sample}, {id}", f"distance {distance:.2f}", kinds))
    return tuple(pairs)


def _picture(folder: Path, file: str, id: str, prompt: str, kinds: dict[str, np.ndarray]) -> Picture:
    """Save the images of a picture, by the name of the field that holds the path."""
    saved = {kind: save_pictures(folder, f"{file}-{kind}", one) for kind, one in kinds.items()}
    return Picture(id, prompt=prompt, **saved)  # type: ignore[arg-type]


def _external(pipeline: Pipeline) -> tuple[External, ...]:
    """The arms on the external test set."""
    config, rows = pipeline.config, []
    for arm in pipeline.arms:
        measured = pipeline.measured_external(arm)
        if measured is None:
            continue
        assert config.external is not None
        found = read_json(measured.path / "arm.json")
        named = {
            "dataset": config.external.name,
            "arm": f"{config.generator.name} {arm.rules.name}" if arm.count else arm.rules.name,
            "count": arm.count,
            "num_real": arm.rules.num_real,
            "seed": arm.settings.seed,
            "fold": config.data.split.fold,
        }
        rows.append(record(External, {**named, **{key: found[key] for key in ("dice", "measures", "groups")}}))
    return tuple(rows)


def _curves(pipeline: Pipeline) -> tuple[Curve, ...]:
    trained = {}
    if pipeline.base is not None:
        if isinstance(pipeline.config.generator.base, ScratchBase):
            trained["codec"] = pipeline.codec.path
        trained["base"] = pipeline.base.path
    if pipeline.config.generator.is_trained:
        trained[str(_name(pipeline))] = pipeline.generator.path
    for arm in pipeline.arms:
        if arm.settings.predictions:
            continue
        path = pipeline.segmenter(arm).path
        trained[path.name.rpartition("-")[0]] = path
    return tuple(
        Curve(name, metric, *points)
        for name, path in trained.items()
        if (path / "curves.csv").exists()
        for metric, points in read_curves(path / "curves.csv").items()
    )


def _validation_pictures(pipeline: Pipeline, folder: Path) -> tuple[str, ...]:
    """The validation images of the generator's training, copied to the run folder; none if it was not trained here."""
    generator = pipeline.config.generator
    if not generator.is_trained or generator.max_steps == 0:
        return ()
    shutil.copytree(pipeline.generator.path / "samples", folder / "training", dirs_exist_ok=True)
    return tuple(f"training/{path.name}" for path in sorted((folder / "training").glob("*.png")))


def _gallery(pipeline: Pipeline, folder: Path) -> tuple[Picture, ...]:
    """S.test's masks, with their real and generated images (paper, Figures 3 and 4)."""
    config, size = pipeline.config, pipeline.config.image_size
    if not config.generator.is_drawn_from:  # it has no images for S.test's masks
        return ()
    test = load_part(pipeline.prepared.path, pipeline.cache(size).path, "test")
    number = min(config.evaluation.gallery, len(test.lesions))
    reproduced = load_samples(pipeline.reproduced.path, number, size)
    gallery = []
    for i, lesion in enumerate(test.lesions[:number]):
        kinds = {"mask": test.masks[i], "real": test.images[i], "image": reproduced.images[i]}
        gallery.append(_picture(folder, lesion.id, lesion.id, "", kinds))
    return tuple(gallery)


def _samples(pipeline: Pipeline, folder: Path) -> tuple[Picture, ...]:
    """Samples with their prompts."""
    config = pipeline.config
    number = min(2 * config.evaluation.gallery, config.synthesis.count)
    if not number:
        return ()
    drawn = load_samples(pipeline.samples.path, number, config.image_size)
    return tuple(
        _picture(folder, row.id, row.id, row.prompt, {"mask": mask, "image": image})
        for row, image, mask in zip(drawn.rows, drawn.images, drawn.masks, strict=True)
    )


def write_reader_quiz(pipeline: Pipeline, path: Path) -> None:
    """Write a page on which a reader tells S.test's images from samples."""
    config, size = pipeline.config, pipeline.config.image_size
    test = load_part(pipeline.prepared.path, pipeline.cache(size).path, "test")
    number = min(config.evaluation.quiz, len(test.lesions), config.synthesis.count)
    chosen = np.random.default_rng(config.seed).permutation(len(test.lesions))[:number]
    real = [Question(test.images[i], False, test.lesions[i].diagnosis) for i in chosen]
    drawn = load_samples(pipeline.samples.path, number, size)
    synthetic = [Question(image, True, row.diagnosis) for row, image in zip(drawn.rows, drawn.images, strict=True)]
    write_quiz(
        [*real, *synthetic], config.seed, f"Photograph or synthetic? {config.name}, {config.generator.name}", path
    )
