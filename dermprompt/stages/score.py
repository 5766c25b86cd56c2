"""Scores of every image (Table 2), for a segmenter's predictions or masks that another program predicted."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dermprompt.data.decode import BadPicture
from dermprompt.data.findings import listed
from dermprompt.data.fit import frame, unframe
from dermprompt.data.index import load_index
from dermprompt.data.masks import decode_mask
from dermprompt.data.reading import PLAIN, Reading
from dermprompt.distributed.processes import Runtime
from dermprompt.evaluation.scores import Scores, save_scores, score
from dermprompt.files import read_json, write_json
from dermprompt.lesion import Lesion, images_to_float
from dermprompt.mapped import Arrays, slices
from dermprompt.stages.arrays import load_lesions_of
from dermprompt.stages.networks import BATCH, open_segmenter
from dermprompt.stages.prepare import load_lesions, usable_lesions
from dermprompt.stages.settings import ScoreImages, ScorePredictions
from dermprompt.store.artifacts import batch_record, makes
from dermprompt.store.claims import share_out


def predict_masks(network: nn.Module, images: Arrays) -> np.ndarray:
    """Predicted masks uint8 NSS in {0, 1} of images uint8 NSS3."""
    return np.concatenate([(logits > 0).byte().numpy() for logits in predict_logits(network, images)])


@torch.no_grad()
def predict_logits(network: nn.Module, images: Arrays) -> Iterator[Tensor]:
    """Logits of images uint8 NSS3, in batches NSS.

    Raises:
        ValueError: a logit is NaN or infinite.
    """
    device = next(network.parameters()).device
    for part in slices(len(images), BATCH):
        batch = images_to_float(torch.from_numpy(images[part])).to(device)
        logits = network(batch)[:, 0].float().cpu()
        if not logits.isfinite().all():
            raise ValueError("the segmenter's logits are NaN or infinite: its training diverged")
        yield logits


def enlarge(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """The mask uint8 HW in {0, 1} of one image's logits SS, at ``size`` (H, W)."""
    resized = functional.interpolate(logits[None, None], size, mode="bilinear", align_corners=False)
    return (resized[0, 0] > 0).byte().numpy()


def score_images(
    settings: ScoreImages,
    runtime: Runtime,
    trained: Path,
    cache: Path,
    indexed: Path,
    prepared: Path,
    folder: Path,
    numbers: list[int],
) -> int:
    """Score batches of S.test (Table 2) or of an external data set, skipping those that another process scores."""
    part = load_lesions_of(scored_lesions(settings, prepared, indexed, cache), cache)
    network, _ = open_segmenter(runtime, trained)

    def work(free: Iterator[int]) -> None:
        for number in free:
            rows = slice(number * BATCH, (number + 1) * BATCH)
            scores = _scores(network, part.lesions[rows], part.images[rows], settings)
            write_json(batch_record(folder, number), {id: dataclasses.asdict(one) for id, one in scores.items()})

    (folder / "batches").mkdir(exist_ok=True)
    return share_out(folder, numbers, work, "scores")


def list_batches(settings: ScoreImages, prepared: Path, indexed: Path, cache: Path) -> list[int]:
    """Numbers of the batches that :func:`score_images` scores."""
    return list(range(-(-len(scored_lesions(settings, prepared, indexed, cache)) // BATCH)))


def gather_scores(folder: Path) -> None:
    """Put the scores of all batches into ``scores.csv``."""
    batches = [read_json(path) for path in sorted((folder / "batches").iterdir())]
    save_scores({id: Scores(**row) for batch in batches for id, row in batch.items()}, folder / "scores.csv")
    shutil.rmtree(folder / "batches")


def scored_lesions(settings: ScoreImages, prepared: Path, indexed: Path, cache: Path) -> list[Lesion]:
    """The lesions of S.test, or the usable ones of an external data set; with the current paths of their files."""
    if settings.usable is None:
        found, split = _in_files(indexed), load_lesions(prepared)[1]
        return [found[id] for id in split.test]
    return usable_lesions(settings.usable, indexed, cache)


def _in_files(indexed: Path) -> dict[str, Lesion]:
    """Lesions by id, with the current paths of their files."""
    return {one.id: one for one in load_index(indexed / "index.json").lesions}


def _scores(network: nn.Module, lesions: Sequence[Lesion], images: np.ndarray, reading: Reading) -> dict[str, Scores]:
    (predicted,) = predict_logits(network, images)
    scores = {}
    for lesion, logits in zip(lesions, predicted, strict=True):
        mask = _true_mask(lesion, reading)
        height, width = mask.shape
        found = enlarge(logits, frame(height, width, reading.fit)[2:])
        scores[lesion.id] = score(unframe(found, (height, width), reading.fit), mask)
    return scores


def _true_mask(lesion: Lesion, reading: Reading) -> np.ndarray:
    assert lesion.mask is not None, lesion.id
    return decode_mask(lesion.mask.read_bytes(), reading).pixels


@makes("scores.csv")
def score_predictions(
    settings: ScorePredictions, runtime: Runtime, prepared: Path, indexed: Path, predictions: Path, folder: Path
) -> None:
    """Score masks ``ID.png`` that another program predicted for S.test; write ``scores.csv``.

    Raises:
        ValueError: a mask is missing, cannot be read, or has neither its true mask's size nor
            ``segmenter.image_size``.
    """
    lesions, split = _in_files(indexed), load_lesions(prepared)[1]
    missing = [id for id in split.test if not (predictions / f"{id}.png").is_file()]
    if missing:
        raise ValueError(f"segmenter.predictions={predictions}: no {listed(f'{id}.png' for id in missing)}")
    scores = {}
    for id in split.test:
        mask = _true_mask(lesions[id], settings)
        found = read_prediction(predictions / f"{id}.png", mask.shape, settings.size, settings.fit)
        scores[id] = score(found, mask)
    save_scores(scores, folder / "scores.csv")


def read_prediction(path: Path, size: tuple[int, int], side: int, fit: str = "squeeze") -> np.ndarray:
    """A predicted mask, uint8 HW in {0, 1}, at ``size``.

    A mask of ``side`` by ``side`` pixels is resized; ``fit`` says how its image was made square. A mask may be empty.

    Raises:
        ValueError: it cannot be read, is not binary, or has another size.
    """
    try:
        mask = decode_mask(path.read_bytes(), replace(PLAIN, empty_masks="keep")).pixels
    except BadPicture as error:
        raise ValueError(f"{path}: {error}") from None
    if mask.shape == (side, side):
        _, _, tall, wide = frame(*size, fit)
        return unframe(cv2.resize(mask, (wide, tall), interpolation=cv2.INTER_NEAREST_EXACT), size, fit)
    if mask.shape != size:
        raise ValueError(
            f"{path}: {mask.shape} pixels (height, width); allowed are those of the true mask, {size}, and of the "
            f"exported images, {(side, side)}"
        )
    return mask
