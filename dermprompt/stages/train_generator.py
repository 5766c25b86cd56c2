"""Training of the base and the generators."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dermprompt.config.generators import Sampler
from dermprompt.config.schema import take
from dermprompt.distributed.processes import Runtime, choose_device, is_first_rank
from dermprompt.generator.batches import ImageBatches, encode_latents
from dermprompt.generator.codec.load import load_codec
from dermprompt.generator.controlnet.module import BaseModule, ControlNetModule, build_controlnet, speed_up
from dermprompt.generator.export import load_controlnet, load_pix2pixhd, save_controlnet, save_pix2pixhd
from dermprompt.generator.pix2pixhd.module import Pix2PixHD
from dermprompt.generator.pix2pixhd.networks import GlobalGenerator
from dermprompt.generator.pix2pixhd.perceptual import build_perceptual
from dermprompt.generator.pix2pixhd.pool import ImagePool
from dermprompt.generator.source import PARTS
from dermprompt.stages.arrays import training_images
from dermprompt.stages.networks import build_base, build_discriminator, open_base, pix2pixhd_shape
from dermprompt.stages.settings import TrainBase, TrainControlNet, TrainOnMasks
from dermprompt.stages.validate_generator import make_validation
from dermprompt.store.artifacts import makes
from dermprompt.training.trainer import fit_on_images


def _denoising(trained: Any, settings: TrainBase | TrainControlNet) -> dict[str, Any]:
    """The arguments that the training of the base and of the ControlNet share."""
    alike = ("learning_rate", "warmup_steps", "max_steps", "ema_decay", "snr_gamma", "timesteps")
    own = {key: getattr(trained, key) for key in alike}
    return {**own, "prompt_dropout": settings.prompt_dropout, "seed": settings.seed}


@makes(*PARTS)
def train_base(
    settings: TrainBase,
    runtime: Runtime,
    generator_set: Path,
    cache: Path,
    codec: Path,
    folder: Path,
    pool: Path | None = None,
) -> None:
    """Train the scratch base on its codec's latents and save it in diffusers' format."""
    of, data = settings.base, training_images(settings.held_out, generator_set, cache, settings.template, pool)
    torch.manual_seed(settings.seed)
    base = build_base(of, load_codec(codec), settings.image_size).to(choose_device(runtime.trainer))
    latents = encode_latents(base.codec, data, of.augmentation, settings.trainer["precision"])
    module = BaseModule(base, latents.prompts, **_denoising(of, settings))
    fit_on_images(settings, runtime, module, latents, data.ids, of, "generator.base", folder)
    if is_first_rank():
        module.ema_model().save(folder)


@makes("controlnet")
def train_controlnet(
    settings: TrainControlNet,
    runtime: Runtime,
    generator_set: Path,
    cache: Path,
    reference: Path,
    base: Path,
    folder: Path,
    init: Path | None = None,
) -> None:
    """Train the ControlNet, starting from ``init`` if given; save its best weights in diffusers' format."""
    of, data = settings.generator, training_images(settings.held_out, generator_set, cache, settings.template)
    torch.manual_seed(settings.seed)
    frozen = open_base(settings.base, runtime, base)
    latents = encode_latents(frozen.codec, data, of.augmentation, settings.trainer["precision"])
    controlnet = build_controlnet(frozen, of.hint_width) if init is None else load_controlnet(init, frozen).controlnet
    module = ControlNetModule(
        frozen,
        controlnet,
        latents.prompts,
        **_denoising(of, settings),
        decay=of.decay,
        trainable=of.trainable,
        sampler=asdict(take(Sampler, of.validation)),
    )
    on_gpu = choose_device(runtime.trainer).type == "cuda"
    speed_up([frozen.unet, *module.trained.values()], of.compile, channels_last=on_gpu)
    validating = (of.validation, settings.held_out, settings.seed, settings.template)
    validation = make_validation(*validating, runtime, generator_set, cache, reference, folder)
    more = {"callbacks": (validation,), "accumulate_grad_batches": of.accumulate_grad_batches}
    fit_on_images(settings, runtime, module, latents, data.ids, of, "generator", folder, **more)
    if is_first_rank():
        save_controlnet(validation.restore(module.ema_model()), frozen.unet, folder)


@makes("config.json", "generator.safetensors")
def train_pix2pixhd(
    settings: TrainOnMasks,
    runtime: Runtime,
    generator_set: Path,
    cache: Path,
    reference: Path,
    folder: Path,
    init: Path | None = None,
) -> None:
    """Train Pix2PixHD, starting from ``init`` if given; keep its best weights."""
    of, data = settings.generator, training_images(settings.held_out, generator_set, cache)
    torch.manual_seed(settings.seed)
    shape = pix2pixhd_shape(of)
    generator = GlobalGenerator(**shape) if init is None else load_pix2pixhd(init).generator
    module = Pix2PixHD(
        generator,
        build_discriminator(of),
        learning_rate=of.learning_rate,
        decay_from_step=of.decay_from_step,
        max_steps=of.max_steps,
        feature_weight=of.feature_weight,
        perceptual=build_perceptual(of.perceptual, of.perceptual_weights),
        pool=ImagePool(of.pool_size, settings.seed) if of.pool_size else None,
        ema_decay=of.ema_decay,
    )
    batches = ImageBatches(data, of.augmentation)
    validation = make_validation(
        of.validation, settings.held_out, settings.seed, None, runtime, generator_set, cache, reference, folder
    )
    fit_on_images(settings, runtime, module, batches, data.ids, of, "generator", folder, callbacks=(validation,))
    if is_first_rank():
        save_pix2pixhd(validation.restore(generator), shape, folder)
