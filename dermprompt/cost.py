"""Rough durations for ``stage=plan``; once something has run, the store's records correct them.

FLOP counts are those of the networks at their usual sizes, scaled with area and squared width.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from dermprompt.config.generators import Pix2PixHD, ScratchBase, VAECodec
from dermprompt.config.schema import Arm, Config, Segmenter, count_devices
from dermprompt.files import read_json

CPU_TFLOPS = 0.05
GPU_TFLOPS = 60.0

# TFLOP of a training step for one image, and the size in pixels.
_CONTROLNET_SD = (2.265, 512)
_CONTROLNET_SCRATCH = (0.001, 64)  # with latents at a quarter of the size
_VAE = (0.43, 256)  # calculated from Stable Diffusion's, for half its width and one layer per block
_PIX2PIXHD = (2.19, 512)
_UNET = (0.289, 256)
_DCSAUNET = (0.1, 256)
_PRETRAINED = (0.056, 256)
# TFLOP of one denoising step for one image; Stable Diffusion's decoder adds a few more.
_DENOISE_BOX = (0.0045, 128)
_DENOISE_SD = (1.087, 512)
_DENOISE_SCRATCH = (0.0004, 64)


def device(config: Config) -> str:
    """What the durations are for: ``a CPU``, ``a GPU``, ``4 GPUs``."""
    number = _num_devices(config)
    if not _on_gpu(config):
        return "a CPU"
    return "a GPU" if number == 1 else f"{number} GPUs"


def _on_gpu(config: Config) -> bool:
    accelerator = config.trainer["accelerator"]
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and shutil.which("nvidia-smi") is not None)


def _num_devices(config: Config) -> int:
    """The trainer's devices on all its machines; all those of a machine, whose number is not known here, count as 1."""
    return (count_devices(config.trainer.get("devices", 1)) or 1) * int(config.trainer.get("num_nodes", 1))


def _seconds(tflop: float, config: Config) -> float:
    return tflop / (GPU_TFLOPS if _on_gpu(config) else CPU_TFLOPS) / _num_devices(config)


def _at(flops: tuple[float, int], size: int) -> float:
    return flops[0] * (size / flops[1]) ** 2


def pictures(number: int) -> float:
    """Seconds to decode and resize pictures."""
    return number / 100


def masks(number: int) -> float:
    """Seconds to draw masks."""
    return number / 40


def codec(config: Config) -> float:
    """Seconds to fit or train a codec."""
    settings = config.generator.base.codec
    if not isinstance(settings, VAECodec):
        return 10.0
    images = settings.max_steps * settings.batch_size
    return _seconds(images * _at(_VAE, config.image_size) * (settings.width / 64) ** 2, config)


def base(config: Config) -> float:
    """Seconds to train a scratch base."""
    settings = config.generator.base
    return _seconds(settings.max_steps * settings.batch_size * _scratch(_CONTROLNET_SCRATCH, config), config)


def _scratch(flops: tuple[float, int], config: Config) -> float:
    """TFLOP for a scratch base, scaled with the area of its latents and its width."""
    base = config.generator.base
    width = sum(base.channels) / len(base.channels) / 107
    return _at(flops, 4 * config.image_size // base.codec.downscale) * width**2 * base.layers_per_block


def generator(config: Config) -> float:
    """Seconds to train a generator."""
    settings = config.generator
    images, size = settings.max_steps * settings.batch_size, config.image_size
    if isinstance(settings, Pix2PixHD):
        return _seconds(images * _at(_PIX2PIXHD, size) * (settings.base_channels / 64) ** 2, config)
    if not settings.has_base:
        return _seconds(images * _at(_UNET, size), config)
    if isinstance(settings.base, ScratchBase):
        return _seconds(images * _scratch(_CONTROLNET_SCRATCH, config), config)
    return _seconds(images * _at(_CONTROLNET_SD, size), config)


def batch(config: Config) -> float:
    """Seconds to draw one batch of samples."""
    settings, number, size = config.generator, config.synthesis.batch_size, config.image_size
    if isinstance(settings, Pix2PixHD):
        return _seconds(number * _at(_PIX2PIXHD, size) / 5 * (settings.base_channels / 64) ** 2, config)
    if not settings.has_base:
        return number / 100
    guided = 0 if settings.guidance_scale == 1 else max(0, settings.guidance_end - settings.guidance_start)
    # A step on cached features takes about two fifths of a whole one.
    passes = settings.num_steps * (1 + guided) * (0.4 + 0.6 / settings.cache_interval)
    if isinstance(settings.base, ScratchBase):
        one = _scratch(_DENOISE_SCRATCH, config)
    else:
        one = _at(_DENOISE_BOX if settings.base.name == "box" else _DENOISE_SD, size)
    return _seconds(number * passes * one, config)


def images_an_epoch(config: Config, rules: Arm, count: int) -> int:
    """The number of images in an arm's epoch; with ``steps_of``, in an epoch with that many samples."""
    in_g, in_train = config.data.split.sizes[:2]
    more = in_g if rules.real == "s_and_g" else 0
    return (rules.num_real or in_train) + (rules.steps_of or count + more)


def segmenter(config: Config, settings: Segmenter, epoch: int) -> float:
    """Seconds to train a segmenter; ``epoch``: images per epoch."""
    steps = settings.max_steps or (settings.max_epochs or 0) * max(1, epoch // settings.batch_size)
    images = steps * settings.batch_size
    if settings.name in ("dcsaunet", "pretrained"):
        flops = _DCSAUNET if settings.name == "dcsaunet" else _PRETRAINED
        return _seconds(images * _at(flops, settings.image_size), config)
    features = settings.network.get("features")
    # Other wrong settings of a network are found when it is built.
    width = features[0] / 64 if isinstance(features, list) and features and type(features[0]) is int else 1
    return _seconds(images * _at(_UNET, settings.image_size) * width**2, config)


def split_sizes(config: Config, prepared: Path) -> dict[str, int]:
    """Sizes of the parts: of the split if it exists, otherwise as configured."""
    made = prepared / "split.json"
    if made.exists():
        return {part: len(ids) for part, ids in read_json(made)["parts"].items()}
    return dict(zip(("generator", "train", "val", "test"), config.data.split.sizes, strict=True))
