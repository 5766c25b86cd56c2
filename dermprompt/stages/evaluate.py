"""What came out: Table 1, Table 2, whether masks and text are obeyed. Each a small artifact of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from dermprompt.config import plain
from dermprompt.data.decode import BadPicture, decode_mask
from dermprompt.data.findings import listed
from dermprompt.data.index import load_index
from dermprompt.data.phantom import read_diagnosis
from dermprompt.evaluation.image import paper_protocol, standard_protocol, trivial_rows
from dermprompt.evaluation.obedience import mask_obedience, text_obedience
from dermprompt.evaluation.overlap import dice
from dermprompt.evaluation.scores import Scores, save_scores, score
from dermprompt.evaluation.statistics import MARGIN, MIN_SEEDS
from dermprompt.files import write_json
from dermprompt.lesion import Lesion, images_to_float
from dermprompt.results import ImageQuality, MaskObedience, TextObedience
from dermprompt.schema import Config, Segmenter
from dermprompt.stages.parts import load_lesions_of, load_part, load_samples
from dermprompt.stages.prepare import load_lesions, usable_lesions
from dermprompt.stages.trained import BATCH, open_segmenter, through_codec


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


def declare_primary(config: Config, folder: Path) -> None:
    """Write down the comparison that decides, as ``primary.json``."""
    write_json(folder / "primary.json", primary_rule(config))


def primary_rule(config: Config) -> dict[str, Any]:
    """The primary comparison, and the rule by which it is decided."""
    return {**plain(config.evaluation.primary), "measure": "dice", "margin": MARGIN, "min_seeds": MIN_SEEDS}


def evaluate_segmenter(
    config: Config, settings: Segmenter, prepared: Path, indexed: Path, cache: Path, trained: Path, folder: Path
) -> None:
    """Score every image of S.test (Table 2) at the resolution of its mask's file, as ``scores.csv``."""
    test = load_part(prepared, cache, "test")
    network, found = open_segmenter(config, settings, trained), _in_files(indexed)
    lesions = [found[one.id] for one in test.lesions]
    save_scores(_scores(network, lesions, test.images, config.data.mask_threshold), folder / "scores.csv")


def _in_files(indexed: Path) -> dict[str, Lesion]:
    """Lesions by id, with the files where they are now."""
    return {one.id: one for one in load_index(indexed / "index.json").lesions}


def evaluate_external(
    config: Config, settings: Segmenter, prepared: Path, indexed: Path, cache: Path, trained: Path, folder: Path
) -> None:
    """Score every usable image of another data set, on which nothing was trained, as ``scores.csv``.

    Raises:
        ValueError: an image of it is one of the split's.
    """
    assert config.external is not None
    ours = set(load_lesions(prepared)[1].contents.values())
    shared = [id for id, (image, _) in load_index(indexed / "index.json").contents.items() if image in ours]
    if shared:
        raise ValueError(f"external.root={config.external.root}: {listed(shared)} are images of data.root too")
    part = load_lesions_of(usable_lesions(config.external, indexed, cache), cache)
    network = open_segmenter(config, settings, trained)
    save_scores(_scores(network, part.lesions, part.images, config.external.mask_threshold), folder / "scores.csv")


def _scores(
    network: nn.Module, lesions: Sequence[Lesion], images: np.ndarray, threshold: int | None
) -> dict[str, Scores]:
    predictions = chain.from_iterable(predict_logits(network, images))
    scores = {}
    for lesion, logits in zip(lesions, predictions, strict=True):
        mask = decode_mask(lesion.mask.read_bytes(), threshold).pixels
        scores[lesion.id] = score(enlarge(logits, mask.shape), mask)
    return scores


def evaluate_predictions(config: Config, prepared: Path, indexed: Path, predictions: str, folder: Path) -> None:
    """Score masks ``ID.png`` that were predicted elsewhere, of S.test, as ``scores.csv``.

    Raises:
        ValueError: a mask is missing, cannot be read, or is neither of its true mask's size nor of
            ``segmenter.image_size``.
    """
    lesions, split = _in_files(indexed), load_lesions(prepared)[1]
    found, side = Path(predictions).expanduser(), config.segmenter.image_size
    missing = [id for id in split.test if not (found / f"{id}.png").is_file()]
    if missing:
        raise ValueError(f"segmenter.predictions={predictions}: no {listed(f'{id}.png' for id in missing)}")
    scores = {}
    for id in split.test:
        mask = decode_mask(lesions[id].mask.read_bytes(), config.data.mask_threshold).pixels
        scores[id] = score(read_prediction(found / f"{id}.png", mask.shape, side), mask)
    save_scores(scores, folder / "scores.csv")


def read_prediction(path: Path, size: tuple[int, int], side: int) -> np.ndarray:
    """A predicted mask, uint8 HW in {0, 1}, at ``size``; one of ``side`` by ``side`` pixels is enlarged.

    An empty prediction is a prediction.

    Raises:
        ValueError: it cannot be read, has values between, or another size.
    """
    try:
        mask = decode_mask(path.read_bytes()).pixels
    except BadPicture as error:
        if error.verdict != "empty_mask":
            raise ValueError(f"{path}: {error}") from None
        with Image.open(path) as opened:
            mask = np.zeros((opened.height, opened.width), np.uint8)
    if mask.shape == (side, side):
        return np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))
    if mask.shape != size:
        raise ValueError(
            f"{path}: {mask.shape} pixels (height, width); allowed are those of the true mask, {size}, and of the "
            f"exported images, {(side, side)}"
        )
    return mask


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
    kind = "trivial" if config.generator.name == "warp" else "generator"
    quality = [_quality(config.generator.name, kind, test.images, samples.images)]
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


def evaluate_samples(config: Config, prepared: Path, cache: Path, samples: Path, judge: Path, folder: Path) -> None:
    """Whether samples that were made elsewhere obey their own masks, as ``generator.json``."""
    network = open_segmenter(config, config.evaluation.judge, judge)
    test = load_part(prepared, cache, "test")
    drawn = load_samples(samples, config.synthesis.count, config.evaluation.judge.image_size)
    found = predict_masks(network, drawn.images)
    own = mask_obedience(found, found, drawn.masks, config.seed)
    real = float(dice(predict_masks(network, test.images), test.masks).mean())
    masks = MaskObedience(real, own.generated, own.exchanged, own.n)
    write_json(folder / "generator.json", {"quality": [], "masks": dataclasses.asdict(masks)})


def evaluate_text(config: Config, samples: Path, count: int, folder: Path) -> None:
    """Text obedience on the phantom, whose colours a fixed rule can read, as ``text.json``."""
    drawn = load_samples(samples, count, config.image_size)
    prompted = [row.diagnosis for row in drawn.rows]
    measured: TextObedience | None = None
    if None not in prompted and len(set(prompted)) > 1:
        read = [read_diagnosis(i, m) for i, m in zip(drawn.images, drawn.masks, strict=True)]
        measured = text_obedience(read, prompted, config.seed)  # type: ignore[arg-type]
    write_json(folder / "text.json", dataclasses.asdict(measured) if measured else None)


def save_pictures(folder: Path, name: str, image: np.ndarray) -> str:
    """Write an image uint8 SS3 or a mask uint8 SS in {0, 1} as PNG; the name is relative to ``folder``."""
    pixels = image * 255 if image.ndim == 2 else image[..., ::-1]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "pictures" / f"{name}.png"), pixels)
    return f"pictures/{name}.png"
