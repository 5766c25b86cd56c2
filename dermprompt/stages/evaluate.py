"""Evaluation of generators: Table 1, mask fidelity and text fidelity, each as a small artifact."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dermprompt.data.datasets.phantom import read_diagnosis
from dermprompt.distributed.processes import Runtime
from dermprompt.evaluation.fidelity import mask_fidelity, text_fidelity
from dermprompt.evaluation.image import paper_protocol, standard_protocol, trivial_rows
from dermprompt.evaluation.overlap import dice
from dermprompt.files import write_bytes, write_json
from dermprompt.results import ImageQuality, TextFidelity
from dermprompt.stages.arrays import load_part, load_samples
from dermprompt.stages.networks import open_segmenter, through_codec
from dermprompt.stages.score import predict_masks
from dermprompt.stages.settings import EvaluateGenerator, EvaluateSamples, EvaluateText, EvaluateTrivial
from dermprompt.store.artifacts import makes


def _quality(name: str, kind: str, real: np.ndarray, generated: np.ndarray) -> dict[str, Any]:
    paper, standard = paper_protocol(real, generated), standard_protocol(real, generated)
    return dataclasses.asdict(ImageQuality(name, kind, len(real), paper, standard))


@makes("quality.json")
def evaluate_trivial(settings: EvaluateTrivial, runtime: Runtime, prepared: Path, cache: Path, folder: Path) -> None:
    """Write ``quality.json``: the rows of Table 1 that need no generator."""
    test, known = load_part(prepared, cache, "test"), load_part(prepared, cache, "generator")
    real = test.images[:]
    rows = trivial_rows(real, test.masks[:], known.images, known.masks[:], settings.seed)
    write_json(folder / "quality.json", [_quality(n, "trivial", real, x) for n, x in rows.items()])


@makes("generator.json")
def evaluate_generator(
    settings: EvaluateGenerator,
    runtime: Runtime,
    reproduced: Path,
    reference: Path,
    reference_cache: Path,
    prepared: Path,
    cache: Path,
    folder: Path,
    base: Path | None = None,
) -> None:
    """Evaluate samples generated from S.test's masks; write ``generator.json``.

    It holds Table 1's row, the same row for real images passed through the codec, and mask fidelity, measured on
    images at the reference segmenter's size (``reference_cache``).
    """
    images = load_part(prepared, cache, "test").images[:]
    samples = load_samples(reproduced, len(images), images.shape[1])
    quality = [_quality(settings.name, settings.kind, images, samples.images)]
    if base is not None:
        name = "the image through the codec (oracle)"
        quality.append(_quality(name, "trivial", images, through_codec(runtime, base, images)))

    network, side = open_segmenter(runtime, reference)
    real, generated = (
        load_part(prepared, reference_cache, "test"),
        load_samples(reproduced, len(images), side).images,
    )
    masks = mask_fidelity(
        predict_masks(network, real.images), predict_masks(network, generated), real.masks[:], settings.seed
    )
    write_json(folder / "generator.json", {"quality": quality, "masks": dataclasses.asdict(masks)})


@makes("generator.json")
def evaluate_samples(
    settings: EvaluateSamples,
    runtime: Runtime,
    samples: Path,
    reference: Path,
    cache: Path,
    prepared: Path,
    folder: Path,
) -> None:
    """Write ``generator.json``: mask fidelity of imported samples to their own masks."""
    network, side = open_segmenter(runtime, reference)
    test = load_part(prepared, cache, "test")
    drawn = load_samples(samples, settings.count, side)
    found = predict_masks(network, drawn.images)
    own = mask_fidelity(found, found, drawn.masks, settings.seed)
    real = float(dice(predict_masks(network, test.images), test.masks[:]).mean())
    masks = dataclasses.replace(own, real=real)
    write_json(folder / "generator.json", {"quality": [], "masks": dataclasses.asdict(masks)})


@makes("text.json")
def evaluate_text(settings: EvaluateText, runtime: Runtime, samples: Path, folder: Path) -> None:
    """Write ``text.json``: text fidelity on the phantom, whose colours a fixed rule can read."""
    drawn = load_samples(samples, settings.count, settings.image_size)
    prompted = [row.diagnosis for row in drawn.rows]
    measured: TextFidelity | None = None
    if None not in prompted and len(set(prompted)) > 1:
        read = [read_diagnosis(i, m) for i, m in zip(drawn.images, drawn.masks, strict=True)]
        measured = text_fidelity(read, prompted, settings.seed)  # type: ignore[arg-type]
    write_json(folder / "text.json", dataclasses.asdict(measured) if measured else None)


def save_pictures(folder: Path, name: str, image: np.ndarray) -> str:
    """Write an image uint8 SS3 or a mask uint8 SS in {0, 1} as PNG; return its path relative to ``folder``."""
    pixels = image * 255 if image.ndim == 2 else image[..., ::-1]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "pictures" / f"{name}.png", cv2.imencode(".png", pixels)[1].tobytes())
    return f"pictures/{name}.png"
