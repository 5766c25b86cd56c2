"""Training of the segmenters: on the real images and the samples of an arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from dermprompt.config.schema import Config, Segmenter
from dermprompt.distributed.processes import is_first_rank, rank_and_size
from dermprompt.generator.batches import make_loader
from dermprompt.generator.export import save_weights
from dermprompt.segmenter.batches import SegmentationBatches, half_real_loader, ordered_loader
from dermprompt.stages.arrays import load_part, load_samples
from dermprompt.stages.networks import build_network, build_segmenter_module, through_codec
from dermprompt.stages.prepare import load_lesions, real_ids
from dermprompt.training.fit import fit
from dermprompt.training.trainer import trainer_factory

Pairs = tuple[np.ndarray, np.ndarray]


def train_segmenter(
    config: Config, settings: Segmenter, prepared: Path, cache: Path, sources: dict[str, Any], folder: Path
) -> None:
    """Train on the real images and the samples of an arm; S.val is real alone. The last weights are kept.

    ``sources``: the arm (:class:`~dermprompt.config.schema.Arm`), and its samples: ``samples`` (a folder or None),
    ``count``, ``decisions`` (a curation's folder or None); for ``s_decoded`` the ``base``, and for a cross-fitted
    judge ``left_out``, a fold of S.train and the number of folds.
    """
    real, drawn = _real_pairs(config, prepared, cache, sources), _drawn_pairs(settings.image_size, sources)
    num_train = len(real_ids(load_lesions(prepared)[1], "train", sources["num_real"]))
    validation = SegmentationBatches(*load_part(prepared, cache, "val", sources["num_real"]).tensors())
    torch.manual_seed(settings.seed)
    network = build_network(settings)
    phases = {folder / "pretraining": drawn, folder: real} if sources["finetune"] else {folder: [*real, *drawn]}
    for place, pairs in phases.items():
        place.mkdir(exist_ok=True)
        num_real = sum(len(images) for images, _ in real)
        loader = _segmenter_loader(settings, pairs, num_real if sources["batches"] == "half_real" else None)
        steps = num_steps(settings, len(loader), num_train, sources["steps_of"])
        module = build_segmenter_module(settings, network, steps)
        fit(
            module,
            loader,
            trainer_factory(config, place, "segmenter"),
            place,
            settings.seed,
            max_steps=steps,
            validation=ordered_loader(validation, settings.batch_size),
            validate_every=settings.validate_every,
        )
    if is_first_rank():
        save_weights(network, folder / "network.safetensors")


def _real_pairs(config: Config, prepared: Path, cache: Path, sources: dict[str, Any]) -> list[Pairs]:
    """Images and masks of the real parts that an arm trains on."""
    names = {"s": ["train"], "s_decoded": ["train"], "s_and_g": ["train", "generator"], "none": []}[sources["real"]]
    parts = [load_part(prepared, cache, name, sources["num_real"]) for name in names]
    pairs = [(part.images, part.masks) for part in parts]
    if sources["real"] == "s_decoded":
        pairs = [(through_codec(config, Path(sources["base"]), images), masks) for images, masks in pairs]
    if sources.get("left_out"):
        ((images, masks),) = pairs  # a judge trains on S alone
        rows = kept(len(images), *sources["left_out"])
        pairs = [(images[rows], masks[rows])]
    return pairs


def kept(number: int, fold: int, folds: int) -> np.ndarray:
    """The rows of S.train that are not in the fold that a cross-fitted judge leaves out."""
    return np.flatnonzero(np.arange(number) % folds != fold)


def _drawn_pairs(size: int, sources: dict[str, Any]) -> list[Pairs]:
    if sources["samples"] is None:
        return []
    samples = load_samples(sources["samples"], sources["count"], size, sources["decisions"])
    return [(samples.images, samples.masks)]


def _segmenter_loader(settings: Segmenter, pairs: list[Pairs], num_half: int | None) -> DataLoader[Any]:
    images, masks = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*pairs, strict=True))
    data, share = SegmentationBatches(images, masks), rank_and_size()
    if num_half is None:
        return make_loader(data, len(images), settings.batch_size, settings.seed, *share)
    return half_real_loader(data, num_half, settings.batch_size, settings.seed, *share)


def num_steps(settings: Segmenter, steps_an_epoch: int, num_real: int, steps_of: int | None) -> int:
    """How many steps a segmenter trains for: as configured, or as with ``steps_of`` samples at these epochs."""
    if settings.max_steps is not None:
        return settings.max_steps
    assert settings.max_epochs is not None
    if steps_of is not None:
        steps_an_epoch = max(1, (num_real + steps_of) // settings.batch_size)
    return settings.max_epochs * steps_an_epoch
