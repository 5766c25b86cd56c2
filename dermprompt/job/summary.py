"""From the artifacts of a job to its run folder: results, pictures, index of the samples, page."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dermprompt.config.compose import plain
from dermprompt.config.generators import ScratchBase
from dermprompt.data.coverage import digest_for_page
from dermprompt.evaluation.scores import FAILURE, MEASURES, Scores, load_scores, pooled, save_scores
from dermprompt.evaluation.statistics import DICE, mean_interval
from dermprompt.evaluation.subgroups import size_of, subgroups
from dermprompt.files import read_json, sha256
from dermprompt.pipeline import Arm, Pipeline
from dermprompt.report.quiz import Question, write_quiz
from dermprompt.results import (
    Curation,
    Curve,
    DistributionRow,
    External,
    ImageQuality,
    LabelObedience,
    MaskObedience,
    Memorisation,
    Picture,
    Results,
    Segmentation,
    Subgroup,
    TextObedience,
    record,
)
from dermprompt.stages.arrays import load_lesions_of, load_part, load_samples, pick_samples
from dermprompt.stages.curate import copied
from dermprompt.stages.evaluate import save_pictures
from dermprompt.stages.prepare import load_lesions
from dermprompt.store.artifacts import RECORD
from dermprompt.training.callbacks import read_curves

# Pairs of a sample and its nearest image of G that the report shows.
NUM_PAIRS = 8


def summarize(pipeline: Pipeline, folder: Path, command: str) -> Results:
    """Gather what a finished job found out; writes its pictures into the run folder."""
    config, generator, arms = pipeline.config, _name(pipeline), pipeline.arms
    shown = {"gallery": (), "samples": ()} if generator is None else _pictures(pipeline, folder)
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
        generator_seed=config.seed,
        primary=_primary(pipeline),
        test_reads=len(list((pipeline.store.root / "evaluate").glob(f"scores-*/{RECORD}"))),
        data=digest_for_page(read_json(pipeline.prepared.path / "coverage.json")),
        **_generated(pipeline),
        segmentation=tuple(_segmentation(pipeline, arm, folder) for arm in arms),
        curation=_curation(pipeline),
        memorisation=_memorisation(pipeline, folder),
        external=_external(pipeline),
        curves=_curves(pipeline),
        watched=_watched(pipeline, folder),
        **shown,
        work=_work(pipeline),
        seconds={stage: round(value, 1) for stage, value in pipeline.store.seconds.items()},
    )


def _generated(pipeline: Pipeline) -> dict[str, Any]:
    """What was measured of the images themselves."""
    quality = [ImageQuality(**row) for row in read_json(pipeline.trivial_quality.path / "quality.json")]
    if _name(pipeline) is None:
        return {"image_quality": tuple(quality)}
    found = read_json(pipeline.generator_quality.path / "generator.json")
    own = [ImageQuality(**row) for row in found["quality"]]
    sets = [] if pipeline.distribution is None else read_json(pipeline.distribution.path / "distribution.json")
    return {
        "image_quality": (*own, *quality),
        "distribution": record(tuple[DistributionRow, ...], sets),
        "mask_obedience": MaskObedience(**found["masks"]),
        **_text(pipeline),
    }


def _text(pipeline: Pipeline) -> dict[str, Any]:
    """Whether prompts were obeyed: a phantom's by its rule, others' by classifiers."""
    if pipeline.text_quality is None:
        return {}
    folder = pipeline.text_quality.path
    if pipeline.config.data.name != "phantom":
        return {"label_obedience": record(tuple[LabelObedience, ...], read_json(folder / "labels.json"))}
    found = read_json(folder / "text.json")
    return {"text_obedience": TextObedience(**found) if found else None}


def _primary(pipeline: Pipeline) -> dict[str, Any]:
    """The comparison of this job, a hash of it and of its rule, and whether it was named before S.test was scored."""
    rule = pipeline.primary_rule
    declared = read_json(pipeline.declared.path / "primary.json") == rule
    digest = sha256(json.dumps(rule, sort_keys=True))[:16]
    return {**plain(pipeline.config.evaluation.primary), "hash": digest, "declared": declared}


def _name(pipeline: Pipeline) -> str | None:
    generator = pipeline.config.generator
    return generator.name if generator.draws else None


def _work(pipeline: Pipeline) -> dict[str, int]:
    """What this run made itself; what it found in the store is not counted."""
    made = dict(pipeline.store.made)
    batches = made.pop("synthesize", 0)
    names = {"train_base": "bases trained", "train_generator": "generators trained"}
    counted = {name: made.get(stage, 0) for stage, name in names.items()}
    counted["samples drawn"] = batches * pipeline.config.synthesis.batch_size
    return counted | {"segmenters trained": made.get("train_segmenter", 0)}


def _scores(pipeline: Pipeline, arm: Arm) -> dict[str, Scores]:
    return load_scores(pipeline.scores(arm).path / "scores.csv")


def _dice(scores: Iterable[Scores]) -> np.ndarray:
    return np.array([one.dice for one in scores])


def _segmentation(pipeline: Pipeline, arm: Arm, folder: Path) -> Segmentation:
    config, scores = pipeline.config, _scores(pipeline, arm)
    values = _dice(scores.values())
    gain = None
    if len(pipeline.arms) > 1 and arm.count:
        gain = mean_interval((values - _dice(_scores(pipeline, pipeline.arms[0]).values()))[None])
    name = f"scores-{arm.rules.name}-{arm.count}.csv"
    save_scores(scores, folder / name)
    return Segmentation(
        segmenter=arm.settings.name,
        generator=_name(pipeline) if arm.count else None,
        count=arm.count,
        dice=mean_interval(values[None], within=DICE),
        gain=gain,
        pooled_dice=pooled(list(scores.values())),
        failures=float((values < FAILURE).mean()),
        arm=_arm_name(pipeline, arm),
        num_real=arm.rules.num_real,
        seed=arm.settings.seed,
        fold=config.data.split.fold,
        world=arm.rules.world if arm.count or arm.rules.real in ("s_and_g", "s_decoded") else None,
        steps_of=arm.rules.steps_of,
        scores=name,
        measures={key: float(np.mean([getattr(one, key) for one in scores.values()])) for key in MEASURES},
        groups=_groups(pipeline, scores),
    )


def _arm_name(pipeline: Pipeline, arm: Arm) -> str:
    """The arm's name; of an arm without one what sets it apart from S and a generator's samples."""
    rules, parts = arm.rules, []
    if rules.name != "default":
        return rules.name
    if arm.count and pipeline.config.curation.name != "none":
        parts.append(pipeline.config.curation.name)
    parts += [rules.real] if rules.real != "s" else []
    parts += [rules.batches] if rules.batches != "concatenated" else []
    parts += ["finetuned"] if rules.finetune else []
    parts += [f"steps_{rules.steps_of}"] if rules.steps_of else []
    parts += ["closed"] if rules.world == "closed" and arm.count else []
    named = f"{_name(pipeline)}_{arm.count}" if arm.count else "s"
    return " ".join([named, *parts]) if parts else "default"


def _caution(pipeline: Pipeline) -> str | None:
    """What the head of the page warns of."""
    theirs = "What the generator of these samples has seen, perhaps images of S.test, is not known here."
    said = [
        pipeline.config.caution,
        theirs if pipeline.config.generator.draws and not pipeline.config.generator.is_drawn_from else None,
    ]
    return " ".join(filter(None, said)) or None


def _scope(pipeline: Pipeline) -> str:
    """What the generator has seen, where that is not G."""
    rules, seen = pipeline.rules, f"{pipeline.rules.num_real or 'all'} of S.train"
    if rules.world == "closed":
        return f"closed world, {seen}"
    return seen if pipeline.config.generator.world == "closed" else ""


def _groups(pipeline: Pipeline, scores: dict[str, Scores]) -> tuple[Subgroup, ...]:
    lesions, _ = load_lesions(pipeline.prepared.path)
    found = subgroups([lesions[id] for id in scores], scores)
    return tuple(
        Subgroup(kind, name, mean_interval(_dice(scores[id] for id in ids)[None], within=DICE))
        for (kind, name), ids in found.items()
    )


def _curation(pipeline: Pipeline) -> Curation | None:
    """What became of the samples; None where all are used."""
    config = pipeline.config
    if config.curation.name == "none" or not config.synthesis.count:
        return None
    curated = pipeline.curated
    assert curated is not None
    decisions = [row["decision"] for row in read_json(curated.path / "decisions.json")["rows"]]
    drawn = load_samples(pipeline.samples.path, config.synthesis.count, config.segmenter.image_size)
    sizes = [size_of(area) for area in drawn.masks.mean(axis=(1, 2))]
    names = {"size": sizes, "diagnosis": [row.diagnosis or "not asked for" for row in drawn.rows]}
    counted = Counter((kind, name) for kind, each in names.items() for name in each)
    used = Counter((k, n) for k, each in names.items() for n, d in zip(each, decisions, strict=True) if d != "drop")
    groups = tuple((kind, name, number, used[kind, name]) for (kind, name), number in sorted(counted.items()))
    tally = Counter(decisions)
    return Curation(config.curation.name, tally["keep"], tally["relabel"], tally["drop"], groups, _real_share(pipeline))


def _real_share(pipeline: Pipeline) -> float | None:
    """The share of S.train's images that the rule would use, each judged by a segmenter that has not seen it."""
    if pipeline.config.curation.name != "agreement":
        return None
    real = read_json(pipeline.agreement.path / "scores.json")["real"]
    return float(np.mean(np.array(real) >= pipeline.config.curation.relabel))


def _memorisation(pipeline: Pipeline, folder: Path) -> Memorisation | None:
    """Which samples are copies, and pictures of those that come nearest to G."""
    config = pipeline.config
    if not config.synthesis.count:
        return None
    found = read_json(pipeline.memorised.path / "nearest.json")
    number = int(copied(found, config.curation.quantile).sum())
    named = config.evaluation.features.model if config.curation.features == "network" else config.curation.features
    pairs = _nearest_pairs(pipeline, found["distances"], found["nearest"], folder)
    return Memorisation(
        named, config.curation.quantile, len(found["distances"]), number, found["nearer"], pairs, found["chance"]
    )


def _nearest_pairs(pipeline: Pipeline, distances: list[float], ids: list[str], folder: Path) -> tuple[Picture, ...]:
    config, size = pipeline.config, pipeline.config.image_size
    chosen = np.argsort(distances)[: min(NUM_PAIRS, config.evaluation.gallery)].tolist()
    lesions, _ = load_lesions(pipeline.prepared.path)
    real = load_lesions_of([lesions[ids[i]] for i in chosen], pipeline.cache(size).path)
    drawn = pick_samples(pipeline.samples.path, chosen, size)
    pairs = []
    for k, i in enumerate(chosen):
        name = f"nearest-{drawn.rows[k].id}"
        saved = {
            "mask": save_pictures(folder, f"{name}-mask", drawn.masks[k]),
            "image": save_pictures(folder, f"{name}-image", drawn.images[k]),
            "real": save_pictures(folder, f"{name}-real", np.ascontiguousarray(real.images[k])),
        }
        pairs.append(Picture(f"{drawn.rows[k].id}, {ids[i]}", prompt=f"distance {distances[i]:.2f}", **saved))
    return tuple(pairs)


def _external(pipeline: Pipeline) -> tuple[External, ...]:
    """The arms on the data set that nothing was trained on."""
    config, rows = pipeline.config, []
    for arm in pipeline.arms:
        scored = pipeline.external(arm)
        if scored is None:
            continue
        assert config.external is not None
        scores = list(load_scores(scored.path / "scores.csv").values())
        dice = mean_interval(_dice(scores)[None], within=DICE)
        measures = {key: float(np.mean([getattr(one, key) for one in scores])) for key in MEASURES}
        named = f"{config.generator.name} {arm.rules.name}" if arm.count else arm.rules.name
        found = (config.external.name, named, arm.count, arm.rules.num_real, arm.settings.seed, dice, measures)
        rows.append(External(*found))
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


def _watched(pipeline: Pipeline, folder: Path) -> tuple[str, ...]:
    """The pictures of the generator's training, copied into the run folder; none where it came trained."""
    generator = pipeline.config.generator
    if not generator.is_trained or generator.max_steps == 0:
        return ()
    shutil.copytree(pipeline.generator.path / "samples", folder / "training", dirs_exist_ok=True)
    return tuple(f"training/{path.name}" for path in sorted((folder / "training").iterdir()))


def _pictures(pipeline: Pipeline, folder: Path) -> dict[str, Any]:
    """The gallery (paper, Figures 3 and 4), and samples with their prompts."""
    config, size = pipeline.config, pipeline.config.image_size
    if not config.generator.is_drawn_from:  # of S.test's masks it has none
        return {"gallery": (), "samples": _samples(pipeline, folder)}
    test = load_part(pipeline.prepared.path, pipeline.cache(size).path, "test")
    number = min(config.evaluation.gallery, len(test.lesions))
    reproduced = load_samples(pipeline.reproduced.path, number, size)
    gallery = []
    for i, lesion in enumerate(test.lesions[:number]):
        names = {"mask": test.masks[i], "real": test.images[i], "image": reproduced.images[i]}
        saved = {kind: save_pictures(folder, f"{lesion.id}-{kind}", one) for kind, one in names.items()}
        gallery.append(Picture(lesion.id, **saved))
    return {"gallery": tuple(gallery), "samples": _samples(pipeline, folder)}


def _samples(pipeline: Pipeline, folder: Path) -> tuple[Picture, ...]:
    config = pipeline.config
    number = min(2 * config.evaluation.gallery, config.synthesis.count)
    if not number:
        return ()
    drawn = load_samples(pipeline.samples.path, number, config.image_size)
    return tuple(
        Picture(
            row.id,
            save_pictures(folder, f"{row.id}-mask", mask),
            save_pictures(folder, f"{row.id}-image", image),
            prompt=row.prompt,
        )
        for row, image, mask in zip(drawn.rows, drawn.images, drawn.masks, strict=True)
    )


def write_reader_quiz(pipeline: Pipeline, path: Path) -> None:
    """A page on which a reader tells S.test's images from samples."""
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
