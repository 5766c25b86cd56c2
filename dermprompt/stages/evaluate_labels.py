"""Whether samples show the prompted diagnosis and attributes, according to classifiers trained on real images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from dermprompt.distributed.processes import Runtime
from dermprompt.evaluation.features import crops
from dermprompt.evaluation.labels import Question, questions_of, score_question
from dermprompt.evaluation.probe import Components, Probe, fit_probe
from dermprompt.files import read_json, write_json
from dermprompt.mapped import Arrays, slices
from dermprompt.results import LabelFidelity, LabelScore, record
from dermprompt.stages.arrays import load_part, load_samples
from dermprompt.stages.evaluate_distribution import AT_ONCE, encoded, feature_extractor
from dermprompt.stages.settings import EvaluateText, FeatureNetwork, TrainClassifier
from dermprompt.store.artifacts import makes, read_recipe
from dermprompt.tensors import load_arrays

# Classifiers train on these parts and are tested on S.test; S.val is for choosing segmenters.
LEARNT_FROM = ("generator", "train")


@makes("classifier.json")
def train_classifier(settings: TrainClassifier, runtime: Runtime, prepared: Path, cache: Path, folder: Path) -> None:
    """Train on the labels of G and S.train, test on S.test; write ``probes.safetensors`` and ``classifier.json``."""
    parts = [load_part(prepared, cache, name) for name in LEARNT_FROM]
    lesions = [one for part in parts for one in part.lesions]
    questions = questions_of(lesions)
    if not questions:
        write_json(folder / "classifier.json", {"images": len(lesions), "questions": [], "real": []})
        return
    features = np.concatenate([_features(settings, runtime, part.images, part.masks) for part in parts if part.lesions])
    components = Components.of(features)
    learnt, seed = components(features), settings.seed
    probes = {q.name: fit_probe(learnt, q.answers(lesions), len(q.classes), seed) for q in questions}
    test = load_part(prepared, cache, "test")
    seen = components(_features(settings, runtime, test.images, test.masks))
    real = [one for q in questions for one in score_question(q, probes[q.name](seen), q.answers(test.lesions), seed)]
    weights = {f"probe/{name}": probe.weights for name, probe in probes.items()}
    save_file({"mean": components.mean, "directions": components.directions, **weights}, folder / "probes.safetensors")
    asked = [{**dataclasses.asdict(q), "penalty": probes[q.name].penalty} for q in questions]
    scores = [dataclasses.asdict(one) for one in real]
    write_json(folder / "classifier.json", {"images": len(lesions), "questions": asked, "real": scores})


@makes("labels.json")
def evaluate_labels(settings: EvaluateText, runtime: Runtime, samples: Path, classifier: Path, folder: Path) -> None:
    """Write ``labels.json``: what the classifiers find in samples; empty if no label was prompted."""
    learnt = read_json(classifier / "classifier.json")
    drawn = load_samples(samples, settings.count, settings.image_size)
    asked = any(row.diagnosis is not None or row.attributes is not None for row in drawn.rows)
    if not learnt["questions"] or not asked:
        write_json(folder / "labels.json", [])
        return
    stored = load_arrays(classifier / "probes.safetensors")
    network = FeatureNetwork(**{key: read_recipe(classifier).settings[key] for key in ("model", "weights", "stamps")})
    features = _features(network, runtime, drawn.images, drawn.masks)
    seen = Components(stored["mean"], stored["directions"])(features)
    found: list[LabelScore] = []
    for row in learnt["questions"]:
        question = Question(row["name"], tuple(row["classes"]))
        probe = Probe(stored[f"probe/{question.name}"], row["penalty"])
        found += score_question(question, probe(seen), question.answers(drawn.rows), settings.seed)
    real = record(list[LabelScore], learnt["real"])
    rows = [LabelFidelity(*pair) for pair in zip(real, found, strict=True)]
    write_json(folder / "labels.json", [dataclasses.asdict(row) for row in rows])


def _features(network: FeatureNetwork, runtime: Runtime, images: Arrays, masks: Arrays) -> np.ndarray:
    """Features of each whole image and of the square around its mask, as one row; all after JPEG encoding."""
    extract, rows = feature_extractor(network, runtime), []
    for part in slices(len(images), AT_ONCE):
        seen = encoded(images[part])
        rows.append(np.concatenate([extract(seen), extract(crops(seen, masks[part]))], axis=1))
    return np.concatenate(rows)
