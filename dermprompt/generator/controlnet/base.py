"""The latent diffusion model under a ControlNet: U-Net, codec, text encoder, noise schedule.

A base is a folder in diffusers' format (``unet``, ``vae``, ``text_encoder``, ``scheduler``), whether it is Stable
Diffusion or was trained here.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from dermprompt.generator.codec.load import Codec, load_codec
from dermprompt.generator.source import resolve_base
from dermprompt.generator.text_encoder import END_OF_TEXT, TextEncoder, load_text_encoder
from dermprompt.tensors import open_pretrained


class LatentDiffusion(nn.Module):
    """A text-conditioned latent diffusion model (Rombach et al. 2021), in four parts."""

    def __init__(
        self, unet: UNet2DConditionModel, codec: Codec, text_encoder: TextEncoder, scheduler: DDIMScheduler
    ) -> None:
        super().__init__()
        self.unet, self.codec, self.text_encoder, self.scheduler = unet, codec, text_encoder, scheduler

    def save(self, folder: Path) -> None:
        """Write the four folders of a diffusers pipeline."""
        self.unet.save_pretrained(folder / "unet")
        self.codec.save(folder / "vae")
        self.text_encoder.save(folder / "text_encoder")
        self.scheduler.save_pretrained(folder / "scheduler")

    def target(self, latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """The training target: the noise, or the velocity (Salimans & Ho 2022, appendix D)."""
        if self.scheduler.config.prediction_type == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, steps)
        return noise


def load_base(path: str, pad_token_id: int = END_OF_TEXT, text_layers: int | None = None) -> LatentDiffusion:
    """Open a base, given as a folder or hub id, in evaluation mode and without gradients.

    Raises:
        ValueError: a part is damaged, or see :func:`~dermprompt.generator.source.resolve_base`.
    """
    folder = resolve_base(path)
    base = LatentDiffusion(
        open_pretrained(UNet2DConditionModel, folder / "unet"),
        load_codec(folder / "vae"),
        load_text_encoder(folder / "text_encoder", pad_token_id, text_layers),
        open_pretrained(DDIMScheduler, folder / "scheduler"),
    )
    return base.eval().requires_grad_(False)


def build_scratch(
    codec: Codec,
    size: int,
    channels: tuple[int, ...],
    attention_levels: int,
    layers_per_block: int,
    text_width: int,
    text_layers: int,
    context_length: int,
    prediction: str,
) -> LatentDiffusion:
    """A small untrained base for images of ``size`` pixels.

    The lowest ``attention_levels`` levels of the U-Net attend to the text; the others have no attention.
    """
    plain = len(channels) - attention_levels
    unet = UNet2DConditionModel(
        sample_size=size // codec.downscale,
        in_channels=codec.channels,
        out_channels=codec.channels,
        block_out_channels=channels,
        layers_per_block=layers_per_block,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",) * attention_levels,
        up_block_types=("CrossAttnUpBlock2D",) * attention_levels + ("UpBlock2D",) * plain,
        cross_attention_dim=text_width,
        attention_head_dim=8,
    )
    text_encoder = TextEncoder(text_width, text_width // 32, text_layers, context_length)
    # Prompts use a few dozen of the 49,408 tokens. Random embeddings are distinct enough, and training them takes time.
    text_encoder.transformer.token_embedding.requires_grad_(False)
    return LatentDiffusion(unet, codec, text_encoder, scratch_scheduler(prediction))


def scratch_scheduler(prediction: str) -> DDIMScheduler:
    """The noise schedule of a scratch base.

    With v-prediction it ends in pure noise (zero terminal SNR), so that no brightness leaks into training (Lin et al.
    2023, section 3). With noise prediction, nothing could be learnt at such a last step, so it is Stable Diffusion's.
    """
    if prediction == "v_prediction":
        schedule = {"beta_schedule": "squaredcos_cap_v2", "set_alpha_to_one": True, "timestep_spacing": "trailing"}
    else:
        betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        schedule = {**betas, "set_alpha_to_one": False, "steps_offset": 1}
    return DDIMScheduler(prediction_type=prediction, clip_sample=False, **schedule)


def predict(
    base: LatentDiffusion, noisy: Tensor, steps: Tensor, text: Tensor, residuals: tuple[Tensor, ...] | None = None
) -> Tensor:
    """The U-Net's prediction, with a ControlNet's residuals from :func:`control` if given."""
    down, middle = (residuals[:-1], residuals[-1]) if residuals else (None, None)
    more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    return base.unet(noisy, steps, encoder_hidden_states=text, **more).sample


def control(
    controlnet: nn.Module, noisy: Tensor, steps: Tensor, text: Tensor, masks: Tensor, scale: float = 1.0
) -> tuple[Tensor, ...]:
    """A ControlNet's residuals times ``scale``, the middle block's last; masks N1HW become three equal channels."""
    down, middle = controlnet(
        noisy,
        steps,
        encoder_hidden_states=text,
        controlnet_cond=masks.expand(-1, 3, -1, -1),
        conditioning_scale=scale,
        return_dict=False,
    )
    return (*down, middle)


def sample_noise(shape: tuple[int, ...], seeds: list[int]) -> Tensor:
    """Standard normal noise with one random generator per sample, so that no sample depends on its batch."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
