"""Caches what does not change over a sampler's steps: the mask's embedding, and the text's keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers import ControlNetModel
from torch import Tensor, nn


class Constant(nn.Module):
    """Replaces a layer and returns its cached output."""

    output: Tensor

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.register_buffer("output", output, persistent=False)

    def forward(self, given: Tensor) -> Tensor:
        """The last ``len(given)`` rows of the cached output."""
        return self.output[-len(given) :]


@contextmanager
def step_cache(unet: nn.Module, controlnet: ControlNetModel, masks: Tensor, text: Tensor) -> Iterator[None]:
    """A context in which both networks use the masks N1HW and text states MLD given here, or their last rows.

    M is a multiple of N. Layers are replaced, not methods, so that a compiled network is not compiled again for the
    next batch.
    """
    hint = controlnet.controlnet_cond_embedding(masks.expand(-1, 3, -1, -1))
    layers = [(controlnet, "controlnet_cond_embedding")]
    layers += [(one, name) for one in (*_attending(unet), *_attending(controlnet)) for name in ("to_k", "to_v")]
    outputs = [hint.repeat(len(text) // len(masks), 1, 1, 1), *(getattr(*layer)(text) for layer in layers[1:])]
    originals = [getattr(*layer) for layer in layers]
    try:
        for layer, output in zip(layers, outputs, strict=True):
            setattr(*layer, Constant(output))
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            setattr(*layer, original)


def _attending(network: nn.Module) -> list[nn.Module]:
    """The cross-attention layers."""
    return [one for one in network.modules() if getattr(one, "is_cross_attention", False)]
