"""Validation of generators on held-out masks of G, with a reference segmenter that has not seen them either."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dermprompt.config.generators import Validation
from dermprompt.distributed.processes import Runtime, is_first_rank, rank_and_size
from dermprompt.evaluation.overlap import dice
from dermprompt.generator.batches import make_loader
from dermprompt.generator.export import save_weights
from dermprompt.generator.validation import Agreement, Conditions, ValidateGenerator
from dermprompt.lesion import images_to_float, masks_to_float
from dermprompt.segmenter.batches import SegmentationBatches
from dermprompt.stages.arrays import held_out_rows, load_generator_part
from dermprompt.stages.networks import build_network, build_segmenter_module, open_segmenter
from dermprompt.stages.settings import HeldOut, TrainReference
from dermprompt.store.artifacts import makes
from dermprompt.synthesis.draw import sample_seed
from dermprompt.training.fit import fit
from dermprompt.training.trainer import trainer_factory


@makes("network.safetensors")
def train_reference(settings: TrainReference, runtime: Runtime, generator_set: Path, cache: Path, folder: Path) -> None:
    """Train the reference segmenter on the generator's training images."""
    reference, part = settings.reference, load_generator_part(generator_set, cache)
    part = part.without(held_out_rows(settings.held_out, len(part.lesions)))
    data = SegmentationBatches((part.images, part.masks))
    torch.manual_seed(reference.seed)
    network = build_network(reference)
    loader = make_loader(data, len(data), reference.batch_size, reference.seed, *rank_and_size())
    steps = reference.max_steps or (reference.max_epochs or 0) * len(loader)
    module = build_segmenter_module(reference, network, steps)
    trainer = trainer_factory(settings.trainer, runtime, folder, "reference")
    fit(module, loader, trainer, folder, reference.seed, max_steps=steps)
    if is_first_rank():
        save_weights(network, folder / "network.safetensors")


def make_validation(
    validation: Validation,
    held_out: HeldOut,
    seed: int,
    template: str | None,
    runtime: Runtime,
    generator_set: Path,
    cache: Path,
    reference: Path,
    folder: Path,
) -> ValidateGenerator:
    """The validation callback; its goal is the reference segmenter's Dice on the real held-out images."""
    part = load_generator_part(generator_set, cache)
    part = part.only(held_out_rows(held_out, len(part.lesions)))
    images = images_to_float(torch.from_numpy(part.images[:]))
    masks = masks_to_float(torch.from_numpy(part.masks[:]))
    agreement = _agreement(runtime, reference)
    seeds = tuple(sample_seed(seed, i) for i in range(len(part.lesions)))
    conditions = Conditions(masks, part.prompts(template), seeds)
    goal = float(agreement(images, masks).mean())
    return ValidateGenerator(conditions, agreement, goal, validation.every, folder)


def _agreement(runtime: Runtime, reference: Path) -> Agreement:
    """The Dice between the reference segmenter's predictions and the given masks, at its input size."""
    network, side = open_segmenter(runtime, reference)
    size, device = (side, side), next(network.parameters()).device

    @torch.no_grad()
    def agreement(images: Tensor, masks: Tensor) -> Tensor:
        resized = F.interpolate(images.float().to(device), size, mode="bilinear", antialias=True)
        found = (network(resized) > 0).squeeze(1).cpu().numpy()
        wanted = F.interpolate(masks.cpu(), size, mode="area").squeeze(1) > 0.5
        return torch.from_numpy(dice(found, wanted.numpy()))

    return agreement
