"""Counter-based random numbers: an index gets the same numbers in every batch and on every device.

The generator is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): value k of a key is the finalizer of
key + (k + 1) · golden ratio.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def keys_of(seed: int, indices: Tensor, attempt: int) -> Tensor:
    """One int64 key (N) for each int64 index (N)."""
    key = torch.tensor(seed & (2**63 - 1), dtype=torch.int64, device=indices.device)
    return _mix(_mix(_mix(key + _GOLDEN) + indices) + attempt)


def uniform(keys: Tensor, count: int, stream: int) -> Tensor:
    """Float32 (N, count) in [0, 1); draws of different ``stream`` are independent."""
    return (_bits(keys, count, stream) >> 40 & 0xFFFFFF).float() * 2**-24


def normal(keys: Tensor, count: int, stream: int) -> Tensor:
    """Standard normal float32 (N, count) (Box and Muller, 1958); ``count`` is even."""
    bits = _bits(keys, count // 2, stream)
    radius = ((bits >> 40 & 0xFFFFFF).float().add_(0.5).mul_(2**-24)).log_().mul_(-2).sqrt_()
    angle = (bits & 0xFFFFFF).float().mul_(2 * math.pi * 2**-24)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)


def _bits(keys: Tensor, count: int, stream: int) -> Tensor:
    counter = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device)
    return _mix(_mix(keys + (stream + 1))[:, None] + counter * _GOLDEN)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finalizer; multiplications wrap around, and the masks make the shifts logical."""
    z = (z ^ (z >> 30 & 0x3FFFFFFFF)) * _FIRST
    z = (z ^ (z >> 27 & 0x1FFFFFFFFF)) * _SECOND
    return z ^ (z >> 31 & 0x1FFFFFFFF)
