"""The second part of :mod:`dermprompt.summary`: which samples were used, which are copies, other data sets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from dermprompt.evaluation.scores import MEASURES, load_scores
from dermprompt.evaluation.statistics import bootstrap_mean
from dermprompt.evaluation.subgroups import size_of
from dermprompt.files import read_json
from dermprompt.pipeline import Pipeline
from dermprompt.results import Curation, External, Memorisation, Picture
from dermprompt.stages.arrays import load_lesions_of, load_samples, pick_samples
from dermprompt.stages.curate import copied
from dermprompt.stages.evaluate import save_pictures
from dermprompt.stages.prepare import load_lesions

# Pairs of a sample and its nearest image of G that the report shows.
NUM_PAIRS = 8


def curation_of(pipeline: Pipeline) -> Curation | None:
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


def memorisation_of(pipeline: Pipeline, folder: Path) -> Memorisation | None:
    """Which samples are copies, and pictures of those that come nearest to G."""
    config = pipeline.config
    if not config.synthesis.count:
        return None
    found = read_json(pipeline.memorised.path / "nearest.json")
    number = int(copied(found, config.curation.quantile).sum())
    named = config.evaluation.features.model if config.curation.features == "network" else config.curation.features
    pairs = _nearest_pairs(pipeline, found["distances"], found["nearest"], folder)
    return Memorisation(named, config.curation.quantile, len(found["distances"]), number, found["nearer"], pairs)


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


def external_of(pipeline: Pipeline) -> tuple[External, ...]:
    """The arms on the data set that nothing was trained on."""
    config, rows = pipeline.config, []
    for arm in pipeline.arms:
        scored = pipeline.external(arm)
        if scored is None:
            continue
        assert config.external is not None
        scores = list(load_scores(scored.path / "scores.csv").values())
        dice = bootstrap_mean(np.array([one.dice for one in scores]), config.seed, config.evaluation.bootstraps)
        measures = {key: float(np.mean([getattr(one, key) for one in scores])) for key in MEASURES}
        named = f"{config.generator.name} {arm.rules.name}" if arm.count else arm.rules.name
        found = (config.external.name, named, arm.count, arm.rules.num_real, arm.settings.seed, dice, measures)
        rows.append(External(*found))
    return tuple(rows)
