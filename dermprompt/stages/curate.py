"""Which samples are used: scores and distances are computed once, then decisions follow for any threshold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from dermprompt.curation.agreement import Decision, decide
from dermprompt.curation.controls import keep_at_random, keep_by_quotas
from dermprompt.curation.memorisation import Embed, copies, nearer_share, nearest, thumbnails
from dermprompt.distributed.processes import Runtime
from dermprompt.evaluation.overlap import dice
from dermprompt.evaluation.subgroups import size_of
from dermprompt.files import read_json, write_json
from dermprompt.mapped import Arrays
from dermprompt.stages.arrays import load_generator_part, load_lesions_of, load_part, load_samples
from dermprompt.stages.evaluate_distribution import choose, feature_extractor, held_out_part
from dermprompt.stages.networks import open_segmenter
from dermprompt.stages.prepare import load_lesions
from dermprompt.stages.score import predict_logits
from dermprompt.stages.settings import DecideOnSamples, DropCopies, FindNearest, KeepAgreeing, ScoreAgreement
from dermprompt.stages.train_segmenter import kept
from dermprompt.store.artifacts import makes
from dermprompt.synthesis.samples import read_records

PREDICTIONS = "predictions.npy"


@makes("scores.json", PREDICTIONS)
def score_agreement(
    settings: ScoreAgreement,
    runtime: Runtime,
    prepared: Path,
    cache: Path,
    samples: Path,
    references: list[Path],
    folder: Path,
) -> None:
    """Score every sample with cross-fitted reference segmenters; write ``scores.json`` and their predicted masks.

    Each image of S.train is scored too, by the segmenter not trained on it, to see how many real images the rule
    would keep.
    """
    opened = [open_segmenter(runtime, one) for one in references]
    networks, side = [network for network, _ in opened], opened[0][1]
    drawn = load_samples(samples, settings.count, side)
    shares = np.mean([_probabilities(network, drawn.images) for network in networks], axis=0)
    predictions = (shares > 0.5).astype(np.uint8)
    train = load_part(prepared, cache, "train", settings.num_real)
    real = np.zeros(len(train.images))
    for fold, network in enumerate(networks):
        rows = np.delete(np.arange(len(real)), kept(len(real), fold, len(networks)))
        if len(rows):
            found = _probabilities(network, train.images.only(rows)) > 0.5
            real[rows] = dice(found, train.masks[rows])
    size = (settings.size, settings.size)
    np.save(folder / PREDICTIONS, np.stack([cv2.resize(x, size, interpolation=cv2.INTER_NEAREST) for x in predictions]))
    scores = dice(predictions, drawn.masks)
    write_json(folder / "scores.json", {"samples": scores.tolist(), "real": real.tolist()})


def _probabilities(network: torch.nn.Module, images: Arrays) -> np.ndarray:
    return np.concatenate([logits.sigmoid().numpy() for logits in predict_logits(network, images)])


@makes("nearest.json")
def find_nearest(
    settings: FindNearest,
    runtime: Runtime,
    prepared: Path,
    generator_set: Path,
    cache: Path,
    samples: Path,
    folder: Path,
    pool: Path | None = None,
) -> None:
    """Write ``nearest.json``: each sample's nearest image in G (or of all real images), and each unseen image's in G.

    The ``pool``, if given, counts as part of G here: the generator's base has seen it.

    ``nearer``: the share of samples that are nearer to G than to an equal number of unseen images; ``chance``: its
    range by chance. The 1% of unseen images nearest to G are left out as near-duplicates. Both are None without
    unseen images, and where it is unknown what the generator has seen.
    """
    seen, embed = load_generator_part(generator_set, cache, pool), _embed(settings, runtime)
    # S.test must not influence which samples are dropped.
    unseen = held_out_part(prepared, cache, seen, ("generator", "train", "val")).images
    drawn = load_samples(samples, settings.count, seen.images.shape[1])
    compared = seen
    if settings.of_all:
        every = load_lesions(prepared)[0] | {one.id: one for one in seen.lesions}
        compared = load_lesions_of(list(every.values()), cache)
    distances, rows = nearest(drawn.images, compared.images, embed)
    apart = nearest(unseen, seen.images, embed)[0] if len(unseen) else np.zeros(0)
    nearer = chance = None
    if len(unseen) and not settings.of_all:
        others = unseen.only(apart >= np.quantile(apart, 0.01))
        number = min(len(others), len(seen.images))
        nearer, chance = nearer_share(drawn.images, choose(seen.images, number), choose(others, number), embed)
    found = {
        "distances": distances.tolist(),
        "nearest": [compared.lesions[row].id for row in rows],
        "held_out": apart.tolist(),
        "nearer": nearer,
        "chance": chance,
    }
    write_json(folder / "nearest.json", found)


def _embed(settings: FindNearest, runtime: Runtime) -> Embed:
    return thumbnails if settings.network is None else feature_extractor(settings.network, runtime)


def copied(found: dict[str, Any], quantile: float) -> np.ndarray:
    """Which samples count as copies, bool N, according to the record of :func:`find_nearest`."""
    return copies(np.array(found["distances"]), np.array(found["held_out"]), quantile)


@makes("decisions.json")
def decide_on_samples(settings: DecideOnSamples, runtime: Runtime, scored: Path, samples: Path, folder: Path) -> None:
    """Write ``decisions.json``: the decision on every sample, and its score."""
    rule, rows = settings.curation, read_records(samples, settings.count)
    if isinstance(rule, DropCopies):
        found = read_json(scored / "nearest.json")
        values = found["distances"]
        decisions: list[Decision] = ["drop" if one else "keep" for one in copied(found, rule.quantile)]
    else:
        values = read_json(scored / "scores.json")["samples"]
        decisions = decide(np.array(values), rule.keep, rule.relabel)
    number = len(decisions) - decisions.count("drop")
    if rule.name == "random":
        decisions = _as_labelled(keep_at_random(number, len(decisions), settings.seed), decisions)
    if rule.name == "quotas":
        strata = [(size_of(area), row.diagnosis) for area, row in zip(_areas(samples, settings), rows, strict=True)]
        decisions = _as_labelled(keep_by_quotas(np.array(values), strata, number), decisions)
    if all(decision == "drop" for decision in decisions):
        raise ValueError(f"curation={rule.name} drops all {len(rows)} samples; {_remedy(rule, scored)}")
    decided = [
        {"id": row.id, "decision": decision, "score": score}
        for row, decision, score in zip(rows, decisions, values, strict=True)
    ]
    place = os.path.relpath(scored / PREDICTIONS, folder.parent)
    write_json(folder / "decisions.json", {"rows": decided, "predictions": place})


def _remedy(rule: DropCopies | KeepAgreeing, scored: Path) -> str:
    """What to do if no sample is left: reference segmenters that fail on real images too need longer training."""
    if isinstance(rule, DropCopies):
        return "lower curation.quantile"
    scores = read_json(scored / "scores.json")
    best, real = max(scores["samples"]), np.mean(scores["real"])
    return (
        f"their Dice with the reference segmenters is at most {best:.2f}, that of real images {real:.2f} on average: "
        "train these longer (evaluation.reference.max_epochs or max_steps), or lower curation.relabel"
    )


def _as_labelled(chosen: list[Decision], decisions: list[Decision]) -> list[Decision]:
    """A control's choice with the filter's masks, so that the two differ only in which samples they keep."""
    return [
        "relabel" if one == "keep" and rule == "relabel" else one for one, rule in zip(chosen, decisions, strict=True)
    ]


def _areas(samples: Path, settings: DecideOnSamples) -> list[float]:
    masks = load_samples(samples, settings.count, settings.size).masks
    return masks.mean(axis=(1, 2)).tolist()
