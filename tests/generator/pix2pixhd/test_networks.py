"""How the networks start, and what they refuse; their figures are in test_pix2pixhd_original."""

from __future__ import annotations

import pytest
import torch

from dermprompt.generator.pix2pixhd.networks import GlobalGenerator, MultiscaleDiscriminator


def test_convolutions_start_at_a_deviation_of_a_fiftieth() -> None:
    for network in (GlobalGenerator(base_channels=16, num_blocks=1), MultiscaleDiscriminator()):
        weights = torch.cat([weight.detach().flatten() for weight in network.parameters() if weight.ndim > 1])
        assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
        assert float(weights.mean()) == pytest.approx(0, abs=1e-3)


def test_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="20×16 is not divisible by 8"):
        GlobalGenerator(base_channels=4, num_downsamplings=3)(torch.zeros(1, 2, 20, 16))


def test_biases_that_the_norms_take_away_are_kept_and_not_trained() -> None:
    torch.manual_seed(0)
    for network, number in (
        (GlobalGenerator(base_channels=4, num_downsamplings=2, num_blocks=1), 7),
        (MultiscaleDiscriminator(base_channels=4, num_scales=2), 6),
    ):
        frozen = [name for name, weight in network.named_parameters() if not weight.requires_grad]
        assert len(frozen) == number
        assert all(name.endswith(".bias") for name in frozen)
        # In double precision: where a channel hardly varies, the norm makes much of float32's rounding.
        network.double()
        inputs = [torch.rand(1, n, 32, 32, dtype=torch.float64) for n in (2, 3)][: 1 if number == 7 else 2]
        before = network(*inputs)
        with torch.no_grad():
            for name in frozen:
                network.get_parameter(name).add_(1.0)
        after = network(*inputs)
        if number == 6:
            before, after = ([layer for scale in outputs for layer in scale] for outputs in (before, after))
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
