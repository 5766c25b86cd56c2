"""What came out: Table 1, Table 2, whether masks and text are obeyed. Each a small artifact of its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dermprompt.curation.agreement import agreement, decide
from dermprompt.curation.memorisation import calibrate, nearest
from dermprompt.data.decode import decode_mask
from dermprompt.data.phantom import read_diagnosis
from dermprompt.evaluation.image import paper_protocol, standard_protocol, trivial_rows
from dermprompt.evaluation.obedience import mask_obedience, text_obedience
from dermprompt.evaluation.scores import save_scores, score
from dermprompt.files import write_json
from dermprompt.lesion import images_to_float, images_to_uint8
from dermprompt.results import ImageQuality, TextObedience
from dermprompt.schema import Config, Segmenter
from dermprompt.stages.parts import load_part, load_samples
from dermprompt.stages.trained import open_base, open_segmenter
from dermprompt.training import choose_device

BATCH = 32


def predict_masks(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Predicted masks uint8 NSS in {0, 1} of images uint8 NSS3."""
    return np.concatenate([(logits > 0).byte().numpy() for logits in predict_logits(network, images)])


@torch.no_grad()
def predict_logits(network: nn.Module, images: np.ndarray) -> Iterator[Tensor]:
    """Logits of images uint8 NSS3, in batches NSS.

    Raises:
        ValueError: a logit is no number.
    """
    device = next(network.parameters()).device
    for start in range(0, len(images), BATCH):
        batch = images_to_float(torch.from_numpy(images[start : start + BATCH])).to(device)
        logits = network(batch)[:, 0].float().cpu()
        if not logits.isfinite().all():
            raise ValueError("the segmenter gives logits that are no numbers: its training diverged")
        yield logits


def enlarge(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """The mask uint8 HW in {0, 1} of one image's logits SS, at another size."""
    resized = functional.interpolate(logits[None, None], size, mode="bilinear", align_corners=False)
    return (resized[0, 0] > 0).byte().numpy()


def evaluate_segmenter(
    config: Config, settings: Segmenter, prepared: Path, cache: Path, trained: Path, folder: Path
) -> None:
    """Score every image of S.test (Table 2) at the resolution of its mask's file, as ``scores.csv``."""
    test = load_part(prepared, cache, "test")
    batches = predict_logits(open_segmenter(config, settings, trained), test.images)
    predictions = chain.from_iterable(batches)
    scores = {}
    for lesion, logits in zip(test.lesions, predictions, strict=True):
        mask = decode_mask(lesion.mask.read_bytes(), config.data.mask_threshold).pixels
        scores[lesion.id] = score(enlarge(logits, mask.shape), mask)
    save_scores(scores, folder / "scores.csv")


def _quality(name: str, kind: str, real: np.ndarray, generated: np.ndarray) -> dict[str, Any]:
    paper, standard = paper_protocol(real, generated), standard_protocol(real, generated)
    return dataclasses.asdict(ImageQuality(name, kind, len(real), paper, standard))


def evaluate_trivial(config: Config, prepared: Path, cache: Path, folder: Path) -> None:
    """Table 1's rows that need no generator, as ``quality.json``."""
    test, known = load_part(prepared, cache, "test"), load_part(prepared, cache, "generator")
    rows = trivial_rows(test.images, test.masks, known.images, known.masks, config.data.split.seed)
    write_json(folder / "quality.json", [_quality(n, "trivial", test.images, x) for n, x in rows.items()])


def evaluate_generator(
    config: Config,
    prepared: Path,
    caches: dict[int, Path],
    reproduced: Path,
    judge: Path,
    base: Path | None,
    folder: Path,
) -> None:
    """Measure samples of S.test's masks, as ``generator.json``.

    Table 1's row, beside it what the codec alone keeps of an image, and whether the masks are obeyed.
    """
    judge_size = config.evaluation.judge.image_size
    test = load_part(prepared, caches[config.image_size], "test")
    samples = load_samples(reproduced, len(test.lesions), config.image_size)
    quality = [_quality(config.generator.name, "generator", test.images, samples.images)]
    if base is not None:
        name = "the image through the codec (oracle)"
        quality.append(_quality(name, "trivial", test.images, through_codec(config, base, test.images)))

    judged = load_part(prepared, caches[judge_size], "test")
    network = open_segmenter(config, config.evaluation.judge, judge)
    generated = load_samples(reproduced, len(test.lesions), judge_size).images
    masks = mask_obedience(
        predict_masks(network, judged.images), predict_masks(network, generated), judged.masks, config.seed
    )
    write_json(folder / "generator.json", {"quality": quality, "masks": dataclasses.asdict(masks)})


@torch.no_grad()
def through_codec(config: Config, base: Path, images: np.ndarray) -> np.ndarray:
    """Images uint8 NSS3 encoded by the base's codec and decoded: the best that any sampler could give."""
    codec, device = open_base(config, base).codec, choose_device(config.trainer)
    decoded = []
    for start in range(0, len(images), BATCH):
        batch = images_to_float(torch.from_numpy(images[start : start + BATCH])).to(device)
        decoded.append(images_to_uint8(codec.decode(codec.encode(batch)[0]).float().cpu()).numpy())
    return np.concatenate(decoded)


def evaluate_text(config: Config, samples: Path, count: int, folder: Path) -> None:
    """Text obedience on the phantom, whose colours a fixed rule can read, as ``text.json``."""
    drawn = load_samples(samples, count, config.image_size)
    prompted = [row.diagnosis for row in drawn.rows]
    measured: TextObedience | None = None
    if None not in prompted and len(set(prompted)) > 1:
        read = [read_diagnosis(i, m) for i, m in zip(drawn.images, drawn.masks, strict=True)]
        measured = text_obedience(read, prompted, config.seed)  # type: ignore[arg-type]
    write_json(folder / "text.json", dataclasses.asdict(measured) if measured else None)


def curate(config: Config, prepared: Path, cache: Path, samples: Path, judge: Path, folder: Path) -> None:
    """Decide on every sample: ``decisions.json``, with scores, and the judge's masks at the segmenter's size."""
    settings, count = config.curation, config.synthesis.count
    judged = load_samples(samples, count, config.evaluation.judge.image_size)
    predictions = predict_masks(open_segmenter(config, config.evaluation.judge, judge), judged.images)
    scores = agreement(predictions, judged.masks)
    known, held_out = (load_part(prepared, cache, part).images for part in ("generator", "train"))
    images = load_samples(samples, count, config.segmenter.image_size).images
    distances, copies = nearest(images, known)
    threshold = calibrate(held_out, known, settings.memorisation_quantile)  # type: ignore[arg-type]
    decisions = decide(scores, settings.keep, settings.relabel)  # type: ignore[arg-type]
    rows = [
        {
            "id": row.id,
            "decision": "drop" if distance < threshold else decision,
            "agreement": float(score),
            "distance": float(distance),
            "nearest": int(copy),
        }
        for row, decision, score, distance, copy in zip(judged.rows, decisions, scores, distances, copies, strict=True)
    ]
    size = (config.segmenter.image_size,) * 2
    resized = [cv2.resize(one, size, interpolation=cv2.INTER_NEAREST) for one in predictions]
    np.save(folder / "predictions.npy", np.stack(resized))
    write_json(folder / "decisions.json", rows)


def save_pictures(folder: Path, name: str, image: np.ndarray) -> str:
    """Write an image uint8 SS3 or a mask uint8 SS in {0, 1} as PNG; the name is relative to ``folder``."""
    pixels = image * 255 if image.ndim == 2 else image[..., ::-1]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "pictures" / f"{name}.png"), pixels)
    return f"pictures/{name}.png"


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())
