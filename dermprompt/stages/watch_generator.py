"""What a training is watched with: masks of G that it does not train on, and a judge that knows them no more."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dermprompt.config.generators import Watch as Validation
from dermprompt.distributed.processes import Runtime, is_first_rank, rank_and_size
from dermprompt.evaluation.overlap import dice
from dermprompt.generator.batches import make_loader
from dermprompt.generator.export import save_weights
from dermprompt.generator.watch import Agreement, Conditions, Watch
from dermprompt.lesion import images_to_float, masks_to_float
from dermprompt.segmenter.batches import SegmentationBatches
from dermprompt.stages.arrays import load_known_part, watched_rows
from dermprompt.stages.networks import build_network, build_segmenter_module, open_segmenter
from dermprompt.stages.settings import HeldOut, TrainJudge
from dermprompt.store.artifacts import makes
from dermprompt.synthesis.draw import sample_seed
from dermprompt.training.fit import fit
from dermprompt.training.trainer import trainer_factory


@makes("network.safetensors")
def train_judge(settings: TrainJudge, runtime: Runtime, known: Path, cache: Path, folder: Path) -> None:
    """Train a segmenter on what the generator trains on."""
    judge, part = settings.judge, load_known_part(known, cache)
    data = SegmentationBatches(*part.without(watched_rows(settings.held_out, len(part.lesions))).tensors())
    torch.manual_seed(judge.seed)
    network = build_network(judge)
    loader = make_loader(data, len(data), judge.batch_size, judge.seed, *rank_and_size())
    steps = judge.max_steps or (judge.max_epochs or 0) * len(loader)
    module = build_segmenter_module(judge, network, steps)
    trainer = trainer_factory(settings.trainer, runtime, folder, "judge")
    fit(module, loader, trainer, folder, judge.seed, max_steps=steps)
    if is_first_rank():
        save_weights(network, folder / "network.safetensors")


def make_watch(
    watch: Validation,
    held_out: HeldOut,
    seed: int,
    template: str | None,
    runtime: Runtime,
    known: Path,
    cache: Path,
    judge: Path,
    folder: Path,
) -> Watch:
    """The callback, its goal being what the judge finds of the real images."""
    part = load_known_part(known, cache)
    part = part.only(watched_rows(held_out, len(part.lesions)))
    pixels, labels = part.tensors()
    images, masks = images_to_float(pixels), masks_to_float(labels)
    agreement = _agreement(runtime, judge)
    seeds = tuple(sample_seed(seed, i) for i in range(len(part.lesions)))
    conditions = Conditions(masks, part.prompts(template), seeds)
    goal = float(agreement(images, masks).mean())
    return Watch(conditions, agreement, goal, watch.every, folder)


def _agreement(runtime: Runtime, judge: Path) -> Agreement:
    """How well the judge finds masks again: their Dice, at its own size."""
    network, side = open_segmenter(runtime, judge)
    size, device = (side, side), next(network.parameters()).device

    @torch.no_grad()
    def agreement(images: Tensor, masks: Tensor) -> Tensor:
        resized = F.interpolate(images.float().to(device), size, mode="bilinear", antialias=True)
        found = (network(resized) > 0).squeeze(1).cpu().numpy()
        wanted = F.interpolate(masks.cpu(), size, mode="area").squeeze(1) > 0.5
        return torch.from_numpy(dice(found, wanted.numpy()))

    return agreement
