"""Exponential moving averages of weights, which give better samples than the last weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network, without gradients, that holds the exponential moving average of its weights.

    After n updates the decay is min(``decay``, (1 + n) / (10 + n)), as in latent diffusion (Rombach et al. 2021): with
    a constant decay, much of the initial weights would remain in the average after a short training. Buffers are
    copied, not averaged: the text encoder's causal mask holds -inf, whose average is NaN.
    """

    def average(means: Tensors, weights: Tensors, number: Tensor | int) -> None:
        grown = min(decay, (1 + float(number)) / (10 + float(number)))
        torch._foreach_lerp_(means, weights, 1 - grown)

    copy = AveragedModel(network, multi_avg_fn=average)
    copy.requires_grad_(False)
    return copy
