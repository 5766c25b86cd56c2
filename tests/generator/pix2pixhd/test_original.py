"""Pix2PixHD against NVIDIA/pix2pixHD itself, at commit 14b3b3c.

The figures were printed by the original's own classes (``Pix2PixHDModel``, on the CPU, float32, options ``label_nc=2
no_instance ngf=8 ndf=8 n_downsample_global=2 n_blocks_global=2``) with the weights and the batch of :func:`fill` and
:func:`batch`, in three steps of its training loop; none of its code is here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.vgg import cfgs, make_layers

from dermprompt.generator.pix2pixhd.module import Pix2PixHD, one_hot
from dermprompt.generator.pix2pixhd.networks import GlobalGenerator, MultiscaleDiscriminator
from dermprompt.generator.pix2pixhd.perceptual import VGG19Perceptual

# By the number of scales, for each step: G_GAN, G_GAN_Feat, G_VGG, (D_real + D_fake) / 2.
LOSSES = {
    2: (
        (3.338330, 18.147530, 8.932872, (3.367958 + 1.055794) / 2),
        (2.913850, 17.916658, 8.591827, (3.046045 + 0.806561) / 2),
        (2.577761, 17.710144, 8.265903, (2.752893 + 0.636210) / 2),
    ),
    3: (
        (3.876051, 15.658540, 8.932872, (3.877010 + 1.389946) / 2),
        (3.382828, 15.363841, 8.561880, (3.458055 + 1.066874) / 2),
        (2.999565, 15.073361, 8.228940, (3.086908 + 0.851318) / 2),
    ),
}
NAMES = ("gan", "feature", "perceptual", "discriminator")


def wave(shape: Iterable[int], number: int) -> Tensor:
    shape = tuple(shape)
    places = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(places.square() * 0.37 + number).float().view(shape)


def fill(weights: Iterable[Tensor], gain: float = 1.0) -> None:
    """Give weight k of a network, in the original's order, values of its place and shape alone."""
    with torch.no_grad():
        for number, weight in enumerate(weights):
            values = wave(weight.shape, number)
            scale = gain * (2 / weight[0].numel()) ** 0.5 if weight.ndim > 1 else 0.1
            weight.copy_(values * scale)


def batch() -> dict[str, Tensor]:
    """Two discs of 64 pixels and two pictures."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    discs = [(y - 32 - row) ** 2 + (x - 32 + 3 * row) ** 2 < (16 + 2 * row) ** 2 for row in range(2)]
    return {"masks": torch.stack(discs).float()[:, None], "images": wave((2, 3, 64, 64), 100)}


def filled_generator() -> GlobalGenerator:
    generator = GlobalGenerator(base_channels=8, num_downsamplings=2, num_blocks=2)
    fill(generator.parameters())
    return generator


def filled_discriminator(num_scales: int) -> MultiscaleDiscriminator:
    """The original numbers its scales from the coarsest."""
    discriminator = MultiscaleDiscriminator(base_channels=8, num_scales=num_scales)
    fill(weight for scale in reversed(discriminator.scales) for weight in scale.parameters())
    return discriminator


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = make_layers(cfgs["E"], batch_norm=False)
    fill(layers.parameters(), gain=1.5)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()}, path)
    return path


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_numbers_of_weights() -> None:
    with torch.device("meta"):
        assert count(GlobalGenerator()) == 182_440_131
        assert count(MultiscaleDiscriminator(num_scales=2)) == 5_533_570
        assert count(MultiscaleDiscriminator()) == 8_300_355


def test_shapes_at_512() -> None:
    with torch.device("meta"):
        labels, images = torch.zeros(1, 2, 512, 512), torch.zeros(1, 3, 512, 512)
        assert GlobalGenerator()(labels).shape == (1, 3, 512, 512)
        outputs = MultiscaleDiscriminator()(labels, images)
    assert [scale[-1].shape[-1] for scale in outputs] == [67, 35, 19]
    shapes = [tuple(layer.shape[1:3]) for layer in outputs[0]]
    assert shapes == [(64, 257), (128, 129), (256, 65), (512, 66), (1, 67)]


def test_images_of_the_same_weights() -> None:
    with torch.no_grad():
        images = filled_generator()(one_hot(batch()["masks"]))
    figures = [float(figure) for figure in (images.mean(), images.std(), *images[1, :, 20, 31])]
    assert figures == pytest.approx([-0.2015996, 0.4561902, -0.5983210, 0.6091418, 0.0046551], abs=2e-5)


class Recorder(Callback):
    """The losses of every step."""

    def __init__(self) -> None:
        self.losses: list[tuple[float, ...]] = []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: object) -> None:
        self.losses.append(tuple(float(trainer.callback_metrics[f"generator/train/{name}"]) for name in NAMES))


@pytest.mark.parametrize("num_scales", [2, 3])
def test_losses_of_three_steps(tmp_path: Path, vgg: Path, num_scales: int) -> None:
    module = Pix2PixHD(
        filled_generator(),
        filled_discriminator(num_scales),
        decay_from_step=3,
        max_steps=6,
        perceptual=VGG19Perceptual(vgg),
    )
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=3,
        default_root_dir=tmp_path,
        logger=False,
        callbacks=[recorder],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader([batch()] * 3, batch_size=None))
    for found, expected in zip(recorder.losses, LOSSES[num_scales], strict=True):
        # float32: three steps of two processors' kernels were seen to differ by 2.1e-4.
        assert found == pytest.approx(expected, rel=5e-4)
