"""Training of the base, the generators and the segmenters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from dermprompt.generator.batches import ImageBatches, TrainingImages, encode_latents, make_loader
from dermprompt.generator.codec import PCACodec
from dermprompt.generator.controlnet.base import build_scratch
from dermprompt.generator.controlnet.module import BaseModule, ControlNetModule, build_controlnet
from dermprompt.generator.export import save_pix2pixhd, save_weights
from dermprompt.generator.pix2pixhd.losses import VGGPerceptual
from dermprompt.generator.pix2pixhd.module import Pix2PixHD
from dermprompt.generator.pix2pixhd.networks import GlobalGenerator, MultiscaleDiscriminator
from dermprompt.launch import is_first_rank, rank_and_size
from dermprompt.lesion import images_to_float
from dermprompt.prompts.template import TEMPLATES
from dermprompt.schema import Config, Segmenter
from dermprompt.segmenter.batches import SegmentationBatches, ordered_loader
from dermprompt.segmenter.module import SegmenterModule
from dermprompt.stages.parts import Part, load_part, load_samples
from dermprompt.stages.trained import build_network, open_base
from dermprompt.stages.trainer import trainer_factory
from dermprompt.training import fit


def training_images(config: Config, prepared: Path, cache: Path) -> TrainingImages:
    """G, with its prompts."""
    part = load_part(prepared, cache, "generator")
    images, masks = part.tensors()
    return TrainingImages(images, masks, part.prompts(TEMPLATES[config.prompts.template]))


def _denoising(config: Config, settings: Any) -> dict[str, Any]:
    """What the base's training and the ControlNet's take alike."""
    alike = ("learning_rate", "warmup_steps", "max_steps", "ema")
    own = {key: getattr(settings, key) for key in alike}
    return {**own, "prompt_dropout": config.prompts.dropout, "seed": config.seed}


def train_base(config: Config, prepared: Path, cache: Path, folder: Path) -> None:
    """Train the scratch base on G and save it in diffusers' format."""
    settings, data = config.generator.base, training_images(config, prepared, cache)
    torch.manual_seed(config.seed)
    codec = PCACodec.fit(images_to_float(data.images), channels=settings.latent_channels)
    base = build_scratch(
        codec,
        config.image_size,
        tuple(settings.channels),
        settings.layers_per_block,
        settings.text_width,
        settings.text_layers,
        settings.context_length,
        settings.prediction,
    )
    latents = encode_latents(codec, data, settings.augmentation)
    module = BaseModule(
        base,
        latents.prompts,
        **_denoising(config, settings),
    )
    loader = make_loader(latents, len(data.images), settings.batch_size, config.seed, *rank_and_size())
    trainer = trainer_factory(config, folder, "base")
    fit(module, loader, trainer, folder, config.seed, max_steps=settings.max_steps)
    if is_first_rank():
        module.finished().save(folder)


def train_controlnet(config: Config, prepared: Path, cache: Path, base: Path, folder: Path) -> None:
    """Train the control copy on G and export it in diffusers' format."""
    settings, data = config.generator, training_images(config, prepared, cache)
    torch.manual_seed(config.seed)
    frozen = open_base(config, base)
    latents = encode_latents(frozen.codec, data, settings.augmentation)
    module = ControlNetModule(
        frozen,
        build_controlnet(frozen),
        latents.prompts,
        **_denoising(config, settings),
        decay=settings.decay,
    )
    loader = make_loader(latents, len(data.images), settings.batch_size, config.seed, *rank_and_size())
    trainer = trainer_factory(config, folder, "generator")
    fit(module, loader, trainer, folder, config.seed, max_steps=settings.max_steps)
    if is_first_rank():
        module.finished().save_pretrained(folder / "controlnet")


def train_pix2pixhd(config: Config, prepared: Path, cache: Path, folder: Path) -> None:
    """Train the rival on G."""
    settings, data = config.generator, training_images(config, prepared, cache)
    torch.manual_seed(config.seed)
    shape = {
        "base_channels": settings.base_channels,
        "num_downsamplings": settings.num_downsamplings,
        "num_blocks": settings.num_blocks,
    }
    perceptual = VGGPerceptual(Path(settings.perceptual_weights).expanduser()) if settings.perceptual_weights else None
    generator = GlobalGenerator(**shape)
    module = Pix2PixHD(
        generator,
        MultiscaleDiscriminator(base_channels=settings.discriminator_channels, num_scales=settings.num_scales),
        learning_rate=settings.learning_rate,
        decay_from_step=settings.decay_from_step,
        max_steps=settings.max_steps,
        feature_weight=settings.feature_weight,
        perceptual=perceptual,
    )
    batches = ImageBatches(data, settings.augmentation)
    loader = make_loader(batches, len(data.images), settings.batch_size, config.seed, *rank_and_size())
    # Each of its two backward passes reaches one of the two networks alone.
    ddp = {"strategy": "ddp_find_unused_parameters_true"} if rank_and_size()[1] > 1 else {}
    trainer = trainer_factory(config, folder, "generator", **ddp)
    fit(module, loader, trainer, folder, config.seed, max_steps=settings.max_steps)
    if is_first_rank():
        save_pix2pixhd(generator, shape, folder)


def train_segmenter(
    config: Config, settings: Segmenter, prepared: Path, cache: Path, sources: dict[str, Any], folder: Path
) -> None:
    """Train on S.train and, when ``sources`` names a synthetic set, its samples; S.val is real alone.

    ``sources``: ``samples`` (folder or None), ``count``, ``decisions`` (a curation's folder or None).
    """
    train, val = (load_part(prepared, cache, name) for name in ("train", "val"))
    images, masks = _with_samples(train, settings.image_size, sources)
    torch.manual_seed(config.seed)
    network = build_network(settings)
    module = SegmenterModule(network, settings.learning_rate, config.seed, settings.loss, settings.augmentation)
    batches = SegmentationBatches(torch.from_numpy(images), torch.from_numpy(masks))
    loader = make_loader(batches, len(images), settings.batch_size, config.seed, *rank_and_size())
    validation = ordered_loader(SegmentationBatches(*val.tensors()), settings.batch_size)
    fit(
        module,
        loader,
        trainer_factory(config, folder, "segmenter"),
        folder,
        config.seed,
        max_epochs=settings.max_epochs,
        validation=validation,
        validate_every=settings.validate_every,
    )
    if is_first_rank():
        save_weights(network, folder / "network.safetensors")


def _with_samples(train: Part, size: int, sources: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    if sources["samples"] is None:
        return train.images, train.masks
    samples = load_samples(sources["samples"], sources["count"], size, sources["decisions"])
    return np.concatenate([train.images, samples.images]), np.concatenate([train.masks, samples.masks])
