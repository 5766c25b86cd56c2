"""The network against the figures of the authors' release."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dermprompt.segmenter.dcsaunet import DCSAUNet, SplitAttention


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


def test_number_of_weights_is_that_of_the_release() -> None:
    assert sum(weight.numel() for weight in DCSAUNet().parameters()) == 2_598_785


def test_output_is_that_of_the_release() -> None:
    # The release at its last commit, filled with the same weights, in evaluation mode.
    network = fill(DCSAUNet()).eval()
    with torch.no_grad():
        logits = network(picture(3, 64))
    figures = [logits.mean(), logits.std(), logits[0, 0, 10, 20], logits[0, 0, 40, 3]]
    assert [float(figure) for figure in figures] == pytest.approx([39.9606, 5.24026, 42.6841, 37.6929], rel=1e-4)


def test_two_instances_share_nothing() -> None:
    first, second = DCSAUNet(), DCSAUNet()
    before = [weight.clone() for weight in second.state_dict().values()]
    with torch.no_grad():
        for weight in first.parameters():
            weight.fill_(7.0)
    assert {id(module) for module in first.modules()}.isdisjoint(id(module) for module in second.modules())
    for old, new in zip(before, second.state_dict().values(), strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 32), (80, 16)])
def test_any_size_divisible_by_16(height: int, width: int) -> None:
    network = DCSAUNet(in_channels=4, out_channels=2).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 4, height, width)).shape == (2, 2, height, width)


def test_maps_halve_and_double_as_published() -> None:
    network, seen = DCSAUNet().eval(), []
    for stage in [network.stem, *network.down, *network.up]:
        stage.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape[1:3])))
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    down = [(64, 64), (128, 32), (256, 16), (512, 8), (512, 4)]
    assert seen == [*down, (256, 8), (128, 16), (64, 32), (64, 64)]


def test_every_weight_is_trained() -> None:
    network = DCSAUNet()
    network(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))).square().mean().backward()
    idle = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert idle == []


def test_split_attention_averages_the_splits_when_undecided() -> None:
    attention = SplitAttention(4).eval()
    nn.init.zeros_(attention.attention[-1].weight)
    nn.init.zeros_(attention.attention[-1].bias)
    features = picture(4, 8)
    with torch.no_grad():
        first, second = attention.split(features).chunk(2, dim=1)
        expected = (first + attention.second(first + second)) / 2
        torch.testing.assert_close(attention(features), expected)
