"""Evaluation of an arm: Dice with intervals and by subgroup, what curation did with its samples, and copies."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dermprompt.data.index import load_index
from dermprompt.distributed.processes import Runtime
from dermprompt.evaluation.scores import FAILURE, MEASURES, Scores, load_scores, pooled
from dermprompt.evaluation.statistics import DICE, mean_interval
from dermprompt.evaluation.subgroups import size_of, subgroups
from dermprompt.files import read_json, write_json
from dermprompt.lesion import Lesion
from dermprompt.results import Interval, Subgroup
from dermprompt.stages.arrays import load_samples
from dermprompt.stages.curate import copied
from dermprompt.stages.prepare import load_lesions
from dermprompt.stages.settings import CountCopies, Nothing, TallySamples
from dermprompt.store.artifacts import makes


@makes("arm.json")
def evaluate_arm(
    settings: Nothing,
    runtime: Runtime,
    scored: Path,
    folder: Path,
    baseline: Path | None = None,
    prepared: Path | None = None,
    indexed: Path | None = None,
) -> None:
    """Write ``arm.json``: Dice over images, gain over ``baseline``, means of all measures, and Dice by subgroup.

    Subgroups follow the labels in ``prepared``, or in the index (``indexed``) of a data set that is not split.
    """
    scores = load_scores(scored / "scores.csv")
    lesions = {}
    if prepared is not None:
        lesions = load_lesions(prepared)[0]
    elif indexed is not None:
        lesions = {one.id: one for one in load_index(indexed / "index.json").lesions}
    values = _dice(scores)
    found: dict[str, Any] = {
        "dice": asdict(mean_interval(values[None], within=DICE)),
        "pooled_dice": pooled(list(scores.values())),
        "failures": float((values < FAILURE).mean()),
        "measures": {key: float(np.mean([getattr(one, key) for one in scores.values()])) for key in MEASURES},
        "gain": None,
        "groups": [asdict(one) for one in _groups(scores, lesions)] if lesions else [],
    }
    if baseline is not None:
        found["gain"] = asdict(mean_interval((values - _dice(load_scores(baseline / "scores.csv")))[None]))
    write_json(folder / "arm.json", found)


def _dice(scores: dict[str, Scores]) -> np.ndarray:
    return np.array([one.dice for one in scores.values()])


def _groups(scores: dict[str, Scores], lesions: dict[str, Lesion]) -> list[Subgroup]:
    found = subgroups([lesions[id] for id in scores], scores)

    def mean(ids: list[str]) -> Interval:
        return mean_interval(_dice({id: scores[id] for id in ids})[None], within=DICE)

    return [Subgroup(kind, name, mean(ids)) for (kind, name), ids in found.items()]


@makes("tally.json")
def tally_samples(
    settings: TallySamples, runtime: Runtime, curated: Path, samples: Path, folder: Path, agreement: Path | None = None
) -> None:
    """Write ``tally.json``: how many samples curation kept, relabelled and dropped, also by size and diagnosis.

    With ``agreement``, also the share of S.train's images that the rule would use, each scored by a segmenter that
    has not seen it.
    """
    decisions = [row["decision"] for row in read_json(curated / "decisions.json")["rows"]]
    drawn = load_samples(samples, settings.count, settings.size)
    sizes = [size_of(area) for area in drawn.masks.mean(axis=(1, 2))]
    names = {"size": sizes, "diagnosis": [row.diagnosis or "not asked for" for row in drawn.rows]}
    counted = Counter((kind, name) for kind, each in names.items() for name in each)
    used = Counter((k, n) for k, each in names.items() for n, d in zip(each, decisions, strict=True) if d != "drop")
    tally = Counter(decisions)
    found: dict[str, Any] = {
        **{"kept": tally["keep"], "relabelled": tally["relabel"], "dropped": tally["drop"], "real": None},
        "groups": [(kind, name, number, used[kind, name]) for (kind, name), number in sorted(counted.items())],
    }
    if agreement is not None:
        real = np.array(read_json(agreement / "scores.json")["real"])
        found["real"] = float(np.mean(real >= settings.relabel))
    write_json(folder / "tally.json", found)


@makes("copies.json")
def count_copies(settings: CountCopies, runtime: Runtime, memorised: Path, folder: Path) -> None:
    """Write ``copies.json``: how many samples count as copies, and the nearest pairs (row, id in G, distance)."""
    found = read_json(memorised / "nearest.json")
    distances = np.array(found["distances"])
    order = np.argsort(distances)[: settings.num_pairs].tolist()
    record = {
        **{"quantile": settings.quantile, "n": len(distances), "nearer": found["nearer"], "chance": found["chance"]},
        "copies": int(copied(found, settings.quantile).sum()),
        "pairs": [(row, found["nearest"][row], distances[row]) for row in order],
    }
    write_json(folder / "copies.json", record)
