"""The latent space of a scratch base: fitted, trained, or taken from pretrained weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from dermprompt.distributed.processes import Runtime, choose_device, is_first_rank
from dermprompt.generator.batches import ImageBatches, images_at_once
from dermprompt.generator.codec.pca import PCACodec
from dermprompt.generator.codec.tiny import read_tiny
from dermprompt.generator.codec.vae import VAEModule, build_vae, scaled_codec
from dermprompt.lesion import images_to_float
from dermprompt.mapped import Rows, slices
from dermprompt.stages.arrays import load_generator_part, training_images
from dermprompt.stages.settings import FitCodec, TrainVAE
from dermprompt.store.artifacts import makes
from dermprompt.training.trainer import fit_on_images

# More than enough for principal components of patches; as floats these pixels take 400 MB.
PCA_PIXELS = 2**25


@makes("config.json", "codec.safetensors")
def fit_pca(settings: FitCodec, runtime: Runtime, generator_set: Path, cache: Path, folder: Path) -> None:
    """Fit principal components to patches of G's images; of many large images, to every k-th one."""
    codec, images = settings.codec, load_generator_part(generator_set, cache).images
    step = -(-len(images) * images.shape[1] ** 2 // PCA_PIXELS)
    PCACodec.fit(images_to_float(torch.from_numpy(images[::step])), codec.downscale, codec.channels).save(folder)


@makes("config.json", "codec.safetensors")
def import_tiny(settings: FitCodec, runtime: Runtime, generator_set: Path, cache: Path, folder: Path) -> None:
    """Load a pretrained tiny autoencoder and standardise its latents on G's images."""
    codec = read_tiny(settings.codec.path).to(choose_device(runtime.trainer))
    codec.fit(_batches(load_generator_part(generator_set, cache).images, choose_device(runtime.trainer)))
    codec.save(folder)


@makes("config.json")
def train_vae(settings: TrainVAE, runtime: Runtime, generator_set: Path, cache: Path, folder: Path) -> None:
    """Train an AutoencoderKL and save it in diffusers' format."""
    codec, data = settings.codec, training_images(settings.held_out, generator_set, cache)
    torch.manual_seed(settings.seed)
    vae = build_vae(codec.downscale, codec.channels, codec.width, codec.layers_per_block)
    module = VAEModule(vae, codec.kl_weight, codec.learning_rate, codec.max_steps, settings.seed)
    batches = ImageBatches(data, codec.augmentation)
    fit_on_images(settings, runtime, module, batches, data.ids, codec, "generator.base.codec", folder)
    if is_first_rank():
        device = choose_device(runtime.trainer)
        scaled_codec(vae.to(device), _batches(data.images, device)).save(folder)


def _batches(images: Rows, device: torch.device) -> Iterator[Tensor]:
    """Images N3SS in [-1, 1], a few at a time."""
    for some in slices(len(images), images_at_once(device, images.shape[1])):
        yield images_to_float(torch.from_numpy(images[some]))
