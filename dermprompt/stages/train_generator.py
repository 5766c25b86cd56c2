"""Training of the base and the generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dermprompt.config.schema import SAMPLER, Config
from dermprompt.distributed.processes import choose_device, is_first_rank
from dermprompt.generator.batches import ImageBatches, encode_latents
from dermprompt.generator.codec.load import load_codec
from dermprompt.generator.controlnet.base import build_scratch
from dermprompt.generator.controlnet.module import BaseModule, ControlNetModule, build_controlnet, speed_up
from dermprompt.generator.export import load_controlnet, load_pix2pixhd, save_controlnet, save_pix2pixhd
from dermprompt.generator.pix2pixhd.module import Pix2PixHD
from dermprompt.generator.pix2pixhd.networks import GlobalGenerator, MultiscaleDiscriminator
from dermprompt.generator.pix2pixhd.perceptual import build_perceptual
from dermprompt.generator.pix2pixhd.pool import ImagePool
from dermprompt.stages.arrays import training_images
from dermprompt.stages.networks import open_base
from dermprompt.stages.watch_generator import make_watch
from dermprompt.training.trainer import fit_on_images
from dermprompt.weights.box import in_box


def _denoising(config: Config, settings: Any) -> dict[str, Any]:
    """What the base's training and the ControlNet's take alike."""
    alike = ("learning_rate", "warmup_steps", "max_steps", "ema", "snr_gamma", "timesteps")
    own = {key: getattr(settings, key) for key in alike}
    return {**own, "prompt_dropout": config.prompts.dropout, "seed": config.seed}


def train_base(config: Config, known: Path, cache: Path, codec: Path, folder: Path) -> None:
    """Train the scratch base on its codec's latents and save it in diffusers' format."""
    settings, data = config.generator.base, training_images(config, known, cache)
    torch.manual_seed(config.seed)
    base = build_scratch(
        load_codec(codec),
        config.image_size,
        tuple(settings.channels),
        settings.attention_levels,
        settings.layers_per_block,
        settings.text_width,
        settings.text_layers,
        settings.context_length,
        settings.prediction,
    ).to(choose_device(config.trainer))
    latents = encode_latents(base.codec, data, settings.augmentation)
    module = BaseModule(
        base,
        latents.prompts,
        **_denoising(config, settings),
    )
    fit_on_images(config, module, latents, data.ids, settings, "base", "generator.base", folder)
    if is_first_rank():
        module.finished().save(folder)


def train_controlnet(config: Config, known: Path, cache: Path, judge: Path, base: Path, folder: Path) -> None:
    """Train the control copy and export its best weights in diffusers' format."""
    settings, data = config.generator, training_images(config, known, cache)
    torch.manual_seed(config.seed)
    frozen = open_base(config, base)
    latents = encode_latents(frozen.codec, data, settings.augmentation)
    if settings.init is None:
        controlnet = build_controlnet(frozen, settings.hint_width)
    else:
        controlnet = load_controlnet(in_box(settings.init, settings.name), frozen).controlnet
    module = ControlNetModule(
        frozen,
        controlnet,
        latents.prompts,
        **_denoising(config, settings),
        decay=settings.decay,
        part=settings.part,
        sampler={key: getattr(settings, key) for key in SAMPLER},
    )
    on_gpu = choose_device(config.trainer).type == "cuda"
    speed_up([frozen.unet, *module.trained.values()], settings.compile, channels_last=on_gpu)
    watch = make_watch(config, known, cache, judge, folder)
    more = {"callbacks": (watch,), "accumulate": settings.accumulate}
    fit_on_images(config, module, latents, data.ids, settings, "generator", "generator", folder, **more)
    if is_first_rank():
        save_controlnet(watch.restore(module.finished()), frozen.unet, folder)


def train_pix2pixhd(config: Config, known: Path, cache: Path, judge: Path, folder: Path) -> None:
    """Train the rival, and keep its best weights."""
    settings, data = config.generator, training_images(config, known, cache)
    torch.manual_seed(config.seed)
    shape = {
        "base_channels": settings.base_channels,
        "num_downsamplings": settings.num_downsamplings,
        "num_blocks": settings.num_blocks,
        "upsampling": settings.upsampling,
    }
    generator = GlobalGenerator(**shape) if settings.init is None else load_pix2pixhd(in_box(settings.init, settings.name)).generator
    module = Pix2PixHD(
        generator,
        MultiscaleDiscriminator(base_channels=settings.discriminator_channels, num_scales=settings.num_scales),
        learning_rate=settings.learning_rate,
        decay_from_step=settings.decay_from_step,
        max_steps=settings.max_steps,
        feature_weight=settings.feature_weight,
        perceptual=build_perceptual(settings.perceptual, settings.perceptual_weights),
        pool=ImagePool(settings.pool_size, config.seed) if settings.pool_size else None,
        ema=settings.ema,
    )
    batches = ImageBatches(data, settings.augmentation)
    watch = make_watch(config, known, cache, judge, folder)
    fit_on_images(config, module, batches, data.ids, settings, "generator", "generator", folder, callbacks=(watch,))
    if is_first_rank():
        save_pix2pixhd(watch.restore(generator), shape, folder)
