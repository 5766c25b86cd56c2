"""The networks against the figures of the authors' release."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dermprompt.generator.pix2pixhd.networks import GlobalGenerator, MultiscaleDiscriminator


def fill(network: nn.Module) -> nn.Module:
    """Give every weight a value by its shape alone, so that two implementations get the same weights."""
    with torch.no_grad():
        for weight in network.parameters():
            places = torch.arange(weight.numel(), dtype=torch.float64)
            wave = torch.sin(places.square() * 0.37).float().view_as(weight)
            scaled = wave * (2 / weight[0].numel()) ** 0.5 if weight.ndim > 1 else 1 + 0.5 * wave
            weight.copy_(scaled)
    return network


def picture(channels: int, size: int) -> Tensor:
    places = torch.arange(channels * size * size, dtype=torch.float32)
    return torch.sin(places * 0.37).view(1, channels, size, size)


def labels(size: int) -> Tensor:
    masks = (picture(1, size) > 0).float()
    return torch.cat([1 - masks, masks], dim=1)


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_number_of_weights_is_that_of_the_release() -> None:
    with torch.device("meta"):
        assert count(GlobalGenerator()) == 182_440_131
        assert count(MultiscaleDiscriminator(num_scales=2)) == 5_533_570
        assert count(MultiscaleDiscriminator()) == 8_300_355


def test_generator_gives_what_the_release_gives() -> None:
    generator = fill(GlobalGenerator(base_channels=8, num_downsamplings=2, num_blocks=2))
    with torch.no_grad():
        images = generator(labels(32))
    figures = [float(figure) for figure in (images.mean(), images.std(), *images[0, :, 5, 7])]
    assert figures == pytest.approx([0.625748, 0.331520, 0.7326, 0.6850, 0.6140], abs=1e-4)


def test_discriminator_gives_what_the_release_gives() -> None:
    discriminator = fill(MultiscaleDiscriminator(base_channels=8))
    with torch.no_grad():
        outputs = discriminator(labels(64), picture(3, 64))
    means = [float(scale[-1].mean()) for scale in outputs]
    assert means == pytest.approx([0.654943, 0.690275, 0.778667], abs=1e-4)
    shapes = [tuple(layer.shape[1:3]) for layer in outputs[0]]
    assert shapes == [(8, 33), (16, 17), (32, 9), (64, 10), (1, 11)]


def test_predictions_at_512_have_the_published_sizes() -> None:
    with torch.device("meta"):
        outputs = MultiscaleDiscriminator()(torch.zeros(1, 2, 512, 512), torch.zeros(1, 3, 512, 512))
    assert [scale[-1].shape[-1] for scale in outputs] == [67, 35, 19]


def test_convolutions_start_at_a_deviation_of_a_fiftieth() -> None:
    for network in (GlobalGenerator(base_channels=16, num_blocks=1), MultiscaleDiscriminator()):
        weights = torch.cat([weight.detach().flatten() for weight in network.parameters() if weight.ndim > 1])
        assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
        assert float(weights.mean()) == pytest.approx(0, abs=1e-3)


def test_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="20×16 is not divisible by 8"):
        GlobalGenerator(base_channels=4, num_downsamplings=3)(torch.zeros(1, 2, 20, 16))
