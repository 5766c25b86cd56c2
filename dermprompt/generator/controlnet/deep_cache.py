"""Reuse of a U-Net's deep features in neighbouring steps (DeepCache, Ma et al. 2024, arXiv 2312.00858)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class DeepCache(nn.Module):
    """diffusers' U-Net, able to run its first and its last block alone, on the deep features of an earlier step."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, noisy: Tensor, step: Tensor, text: Tensor, residuals: tuple[Tensor, ...], deep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The prediction, and the input of the last block, which takes the place of all other blocks if given."""
        unet, last = self.unet, self.unet.up_blocks[-1]
        embedding = unet.time_embedding(unet.get_time_embed(noisy, step))
        hidden = unet.conv_in(noisy)
        skips = [hidden]
        for block in unet.down_blocks if deep is None else unet.down_blocks[:1]:
            hidden, outputs = block(hidden, embedding, **_text(block, text))
            skips += outputs
        skips = [skip + residual for skip, residual in zip(skips, residuals, strict=False)]
        if deep is None:
            deep = unet.mid_block(hidden, embedding, text) + residuals[-1]
            for block in unet.up_blocks[:-1]:
                number = len(block.resnets)
                skips, used = skips[:-number], tuple(skips[-number:])
                deep = block(deep, used, embedding, **_text(block, text), upsample_size=skips[-1].shape[2:])
        hidden = last(deep, tuple(skips[: len(last.resnets)]), embedding, **_text(last, text))
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden))), deep


def _text(block: Any, text: Tensor) -> dict[str, Tensor]:
    return {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}
