"""Synthetic images as a set, compared with real images that no generator has seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from dermprompt.distributed.processes import Runtime, choose_device
from dermprompt.evaluation.colour import REGIONS, drifted, region_colours
from dermprompt.evaluation.distribution import NEIGHBOURS, compare_sets
from dermprompt.evaluation.features import FeatureExtractor
from dermprompt.files import write_json
from dermprompt.mapped import Arrays, Rows, slices
from dermprompt.results import ColourRow, DistributionRow
from dermprompt.stages.arrays import Part, load_generator_part, load_lesions_of, load_samples
from dermprompt.stages.prepare import load_lesions
from dermprompt.stages.settings import EvaluateColours, EvaluateDistribution, FeatureNetwork
from dermprompt.store.artifacts import makes

JPEG_QUALITY = 95
# Images in memory at a time.
AT_ONCE = 256


@makes("distribution.json")
def evaluate_distribution(
    settings: EvaluateDistribution,
    runtime: Runtime,
    prepared: Path,
    generator_set: Path,
    cache: Path,
    samples: Path,
    folder: Path,
) -> None:
    """Write ``distribution.json``: distances from samples to unseen real images; from seen to unseen ones, the floor.

    All sets are cut to the size of the smallest; all images pass through the same JPEG encoding, because features
    respond to its traces.
    """
    seen = load_generator_part(generator_set, cache)
    held_out = held_out_part(prepared, cache, seen).images
    number = min(settings.count, len(held_out), len(seen.lesions))
    rows = []
    if number > NEIGHBOURS:
        extract = feature_extractor(settings, runtime)
        drawn = load_samples(samples, number, seen.images.shape[1]).images
        sets: dict[str, Arrays] = {"real images seen": choose(seen.images, number), settings.name: drawn}
        real = _features(extract, choose(held_out, number))
        for name, images in sets.items():
            kind = "floor" if name == "real images seen" else "generator"
            found = compare_sets(real, _features(extract, images))
            rows.append(DistributionRow(name, kind, settings.model, found))
    write_json(folder / "distribution.json", [dataclasses.asdict(row) for row in rows])


@makes("colours.json")
def evaluate_colours(
    settings: EvaluateColours,
    runtime: Runtime,
    prepared: Path,
    generator_set: Path,
    cache: Path,
    samples: Path,
    folder: Path,
) -> None:
    """Write ``colours.json``: the colours of samples, and of real images that no generator has seen."""
    real = held_out_part(prepared, cache, load_generator_part(generator_set, cache))
    drawn = load_samples(samples, settings.count, real.images.shape[1])
    rows = []
    for region in REGIONS:
        theirs, ours = (region_colours(one.images, one.masks, region) for one in (real, drawn))
        for name, kind, found in (("real images", "real", theirs), (settings.name, "generator", ours)):
            if len(found):
                mean, deviation = np.split(found.mean(0).round(2), 2)
                far = drifted(found, theirs) if kind == "generator" else ()
                rows.append(ColourRow(name, kind, region, len(found), tuple(mean), tuple(deviation), far))
    write_json(folder / "colours.json", [dataclasses.asdict(row) for row in rows])


def held_out_part(prepared: Path, cache: Path, seen: Part, names: tuple[str, ...] = ("train", "val", "test")) -> Part:
    """The images of the parts ``names`` that the generator may not see."""
    ids = {one.id for one in seen.lesions}
    lesions, split = load_lesions(prepared)
    return load_lesions_of([lesions[id] for name in names for id in getattr(split, name) if id not in ids], cache)


def feature_extractor(network: FeatureNetwork, runtime: Runtime) -> FeatureExtractor:
    """The feature network, on the trainer's device."""
    return FeatureExtractor(network.model, network.weights, choose_device(runtime.trainer))


def encoded(images: np.ndarray) -> np.ndarray:
    """Images uint8 NHW3 after JPEG encoding and decoding."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    files = [cv2.imencode(".jpg", image, flags)[1] for image in images]
    return np.stack([np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR)) for file in files])


def _features(extract: FeatureExtractor, images: Arrays) -> np.ndarray:
    """Features of the images after JPEG encoding."""
    return np.concatenate([extract(encoded(images[part])) for part in slices(len(images), AT_ONCE)])


def choose(images: Rows, number: int) -> Rows:
    """``number`` randomly chosen images, the same for all generators."""
    return images.only(np.sort(np.random.default_rng([0, len(images)]).permutation(len(images))[:number]))
