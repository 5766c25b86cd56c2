"""Each trainer in small: its module, its data, and the network whose weights it trains.

Heavy imports are within the functions, so that the tests are collected in a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning import LightningModule
    from torch import Tensor, nn
    from torch.utils.data import DataLoader

    from dermprompt.generator.batches import TrainingImages
    from dermprompt.generator.controlnet.base import LatentDiffusion

PROMPTS = ("", "melanoma", "naevus")
DIFFUSION = {
    "learning_rate": 1e-2,
    "warmup_steps": 1,
    "max_steps": 100,
    "prompt_dropout": 0.1,
    "ema_decay": 0.5,
    "seed": 0,
}
MakeBase = Callable[..., "LatentDiffusion"]


@dataclass
class Training:
    """What :func:`dermprompt.training.fit.fit` takes, and the network that learns."""

    module: LightningModule
    loader: DataLoader[Any]
    trained: nn.Module


def build(name: str, make_base: MakeBase) -> Training:
    """The same every time: weights and data are drawn from fixed seeds."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BUILDERS[name](make_base)


def base(make_base: MakeBase) -> Training:
    from dermprompt.generator.controlnet.module import BaseModule

    module = BaseModule(make_base(), PROMPTS, **DIFFUSION)
    return Training(module, latents(), module.trained)


def controlnet(make_base: MakeBase) -> Training:
    from dermprompt.generator.controlnet.module import ControlNetModule, build_controlnet

    frozen = make_base()
    module = ControlNetModule(frozen, build_controlnet(frozen), PROMPTS, **DIFFUSION)
    return Training(module, latents(), module.trained)


def pix2pixhd(make_base: MakeBase) -> Training:
    from dermprompt.generator.batches import ImageBatches, make_loader
    from dermprompt.generator.pix2pixhd.module import Pix2PixHD
    from dermprompt.generator.pix2pixhd.networks import GlobalGenerator, MultiscaleDiscriminator

    generator = GlobalGenerator(base_channels=4, num_downsamplings=1, num_blocks=1)
    discriminator = MultiscaleDiscriminator(base_channels=4, num_layers=2, num_scales=2)
    module = Pix2PixHD(generator, discriminator, decay_from_step=50, max_steps=100)
    return Training(module, make_loader(ImageBatches(images(), "none"), 6, 2, seed=0), generator)


def segmenter(make_base: MakeBase) -> Training:
    from monai.networks.nets import BasicUNet
    from torch.utils.data import DataLoader, TensorDataset

    from dermprompt.segmenter.module import SegmenterModule

    network, data = BasicUNet(2, 3, 1, features=(4, 4, 4, 4, 4, 4)), images()
    module = SegmenterModule(network, 1e-2, seed=0, augmentation="strong")
    return Training(module, DataLoader(TensorDataset(data.images, data.masks), batch_size=2), network)


BUILDERS = {"base": base, "controlnet": controlnet, "pix2pixhd": pix2pixhd, "segmenter": segmenter}


def images(size: int = 32) -> TrainingImages:
    """Six random images; the upper half of each is its lesion."""
    import torch

    from dermprompt.generator.batches import TrainingImages
    from dermprompt.mapped import Rows

    pixels = torch.randint(256, (6, size, size, 3), generator=torch.Generator().manual_seed(0)).byte()
    masks = torch.zeros(6, size, size).byte()
    masks[:, : size // 2] = 1
    return TrainingImages(Rows(pixels.numpy()), Rows(masks.numpy()), PROMPTS * 2, tuple("abcdef"))


def latents() -> DataLoader[Any]:
    """Random latents of 4×4."""
    import torch

    from dermprompt.generator.batches import LatentBatches, make_loader

    mean = torch.randn(6, 12, 4, 4, generator=torch.Generator().manual_seed(0))
    return make_loader(LatentBatches(mean, torch.full_like(mean, 0.1), images(16), "none"), 6, 2, seed=0)


def weights(network: nn.Module) -> Tensor:
    """All of them in one row, on the CPU."""
    import torch

    return torch.cat([weight.detach().flatten().cpu().double() for weight in network.parameters()])
