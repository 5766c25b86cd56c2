"""What a training is watched with: masks of G that it does not train on, and a judge that knows them no more."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dermprompt.config.schema import Config, Segmenter
from dermprompt.distributed.processes import is_first_rank, rank_and_size
from dermprompt.evaluation.overlap import dice
from dermprompt.generator.batches import make_loader
from dermprompt.generator.export import save_weights
from dermprompt.generator.watch import Agreement, Conditions, Watch
from dermprompt.lesion import images_to_float, masks_to_float
from dermprompt.prompts.template import TEMPLATES
from dermprompt.segmenter.batches import SegmentationBatches
from dermprompt.stages.arrays import load_known_part, watched_rows
from dermprompt.stages.networks import build_network, build_segmenter_module, open_segmenter
from dermprompt.synthesis.draw import sample_seed
from dermprompt.training.fit import fit
from dermprompt.training.trainer import trainer_factory


def train_judge(config: Config, settings: Segmenter, known: Path, cache: Path, folder: Path) -> None:
    """Train a segmenter on what the generator trains on."""
    part = load_known_part(known, cache)
    data = SegmentationBatches(*part.without(watched_rows(config, len(part.lesions))).tensors())
    torch.manual_seed(settings.seed)
    network = build_network(settings)
    loader = make_loader(data, len(data), settings.batch_size, settings.seed, *rank_and_size())
    steps = settings.max_steps or (settings.max_epochs or 0) * len(loader)
    module, trainer = build_segmenter_module(settings, network, steps), trainer_factory(config, folder, "judge")
    fit(module, loader, trainer, folder, settings.seed, max_steps=steps)
    if is_first_rank():
        save_weights(network, folder / "network.safetensors")


def make_watch(config: Config, known: Path, cache: Path, judge: Path, folder: Path) -> Watch:
    """The callback, its goal being what the judge finds of the real images."""
    part = load_known_part(known, cache)
    part = part.only(watched_rows(config, len(part.lesions)))
    pixels, labels = part.tensors()
    images, masks = images_to_float(pixels), masks_to_float(labels)
    agreement = _agreement(config, judge)
    seeds = tuple(sample_seed(config.seed, i) for i in range(len(part.lesions)))
    conditions = Conditions(masks, part.prompts(TEMPLATES[config.prompts.template]), seeds)
    goal = float(agreement(images, masks).mean())
    return Watch(conditions, agreement, goal, config.generator.watch.every, folder)


def _agreement(config: Config, judge: Path) -> Agreement:
    """How well the judge finds masks again: their Dice, at its own size."""
    settings = config.evaluation.judge
    network, size = open_segmenter(config, settings, judge), (settings.image_size, settings.image_size)
    device = next(network.parameters()).device

    @torch.no_grad()
    def agreement(images: Tensor, masks: Tensor) -> Tensor:
        resized = F.interpolate(images.float().to(device), size, mode="bilinear", antialias=True)
        found = (network(resized) > 0).squeeze(1).cpu().numpy()
        wanted = F.interpolate(masks.cpu(), size, mode="area").squeeze(1) > 0.5
        return torch.from_numpy(dice(found, wanted.numpy()))

    return agreement
