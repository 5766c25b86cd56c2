"""Training of segmenters on an arm's real images and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from dermprompt.config.schema import SegmenterTraining
from dermprompt.distributed.processes import Runtime, is_first_rank, rank_and_size
from dermprompt.generator.batches import make_loader
from dermprompt.generator.export import save_weights
from dermprompt.mapped import Arrays
from dermprompt.segmenter.batches import MixedOrder, SegmentationBatches, ordered_loader
from dermprompt.stages.arrays import Part, load_part, load_samples
from dermprompt.stages.networks import build_network, build_segmenter_module, through_codec
from dermprompt.stages.prepare import load_lesions, real_ids
from dermprompt.stages.settings import TrainSegmenter
from dermprompt.store.artifacts import makes
from dermprompt.training.fit import fit
from dermprompt.training.trainer import trainer_factory

Pairs = tuple[Arrays, Arrays]


@makes("network.safetensors")
def train_segmenter(
    settings: TrainSegmenter,
    runtime: Runtime,
    prepared: Path,
    cache: Path,
    folder: Path,
    samples: Path | None = None,
    decisions: Path | None = None,
    base: Path | None = None,
) -> None:
    """Train on an arm's real images and samples; validate on S.val, real images only. The last weights are kept.

    ``decisions``: of a curation, None to use all samples; ``base``: its codec decodes the images of ``s_decoded``.
    """
    own, arm = settings.segmenter, settings.arm
    real = _real_pairs(settings, runtime, prepared, cache, base)
    drawn = [] if samples is None else _drawn_pairs(settings, samples, decisions)
    num_train = len(real_ids(load_lesions(prepared)[1], "train", arm.num_real))
    validation = SegmentationBatches(_pixels(load_part(prepared, cache, "val", arm.num_real)))
    torch.manual_seed(own.seed)
    network = build_network(own)
    phases = {folder / "pretraining": drawn, folder: real} if arm.finetune else {folder: [*real, *drawn]}
    for place, pairs in phases.items():
        place.mkdir(exist_ok=True)
        num_real = sum(len(images) for images, _ in real)
        num_rows = sum(len(images) for images, _ in pairs)
        steps = num_steps(own, max(1, num_rows // own.batch_size), num_train, arm.steps_of)
        loader = _segmenter_loader(own, pairs, arm.batches, num_real, steps)
        module = build_segmenter_module(own, network, steps)
        fit(
            module,
            loader,
            trainer_factory(settings.trainer, runtime, place, "segmenter"),
            place,
            own.seed,
            max_steps=steps,
            validation=ordered_loader(validation, own.batch_size),
            validate_every=own.validate_every,
        )
    if is_first_rank():
        save_weights(network, folder / "network.safetensors")


def _real_pairs(
    settings: TrainSegmenter, runtime: Runtime, prepared: Path, cache: Path, base: Path | None
) -> list[Pairs]:
    """The real images and masks that an arm trains on."""
    arm = settings.arm
    names = {"s": ["train"], "s_decoded": ["train"], "s_and_g": ["train", "generator"], "none": []}[arm.real]
    parts = [load_part(prepared, cache, name, arm.num_real) for name in names]
    pairs: list[Pairs] = [_pixels(part) for part in parts]
    if arm.real == "s_decoded":
        assert base is not None
        pairs = [(through_codec(runtime, base, images), masks) for images, masks in pairs]
    if settings.left_out is not None:  # a reference segmenter trains on S alone
        return [_pixels(parts[0].only(kept(len(parts[0].lesions), *settings.left_out)))]
    return pairs


def _pixels(part: Part) -> Pairs:
    return part.images, part.masks


def kept(number: int, fold: int, folds: int) -> np.ndarray:
    """The rows of S.train outside the fold that a cross-fitted reference segmenter leaves out."""
    return np.flatnonzero(np.arange(number) % folds != fold)


def _drawn_pairs(settings: TrainSegmenter, samples: Path, decisions: Path | None) -> list[Pairs]:
    drawn = load_samples(samples, settings.count, settings.segmenter.image_size, decisions)
    return [(drawn.images, drawn.masks)]


def _segmenter_loader(
    settings: SegmenterTraining, pairs: list[Pairs], batches: str, num_real: int, steps: int
) -> DataLoader[Any]:
    data, share = SegmentationBatches(*pairs), rank_and_size()
    if batches == "concatenated":
        return make_loader(data, len(data), settings.batch_size, settings.seed, *share)
    fading_steps = steps if batches == "fading" else None
    order = MixedOrder(len(data), num_real, settings.batch_size, settings.seed, fading_steps, *share)
    return DataLoader(data, sampler=order, batch_size=None)


def num_steps(settings: SegmenterTraining, steps_an_epoch: int, num_real: int, steps_of: int | None) -> int:
    """How many steps a segmenter trains for; ``steps_of``: those of a training with that number of samples."""
    if settings.max_steps is not None:
        return settings.max_steps
    assert settings.max_epochs is not None
    if steps_of is not None:
        steps_an_epoch = max(1, (num_real + steps_of) // settings.batch_size)
    return settings.max_epochs * steps_an_epoch
