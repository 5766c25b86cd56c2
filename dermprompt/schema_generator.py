"""The keys of ``generator`` and ``generator.base``, a class for each kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class PretrainedBase:
    """Stable Diffusion in diffusers' format, by hub id or folder."""

    name: str = MISSING
    path: str = MISSING
    pad: int = MISSING
    text_layers: int = MISSING


@dataclass
class PCACodec:
    """Latents that are principal components of patches of ``downscale`` pixels."""

    name: str = MISSING
    downscale: int = MISSING
    channels: int = MISSING


@dataclass
class VAECodec:
    """Latents of an AutoencoderKL that is trained on G."""

    name: str = MISSING
    downscale: int = MISSING
    channels: int = MISSING
    width: int = MISSING
    layers_per_block: int = MISSING
    kl_weight: float = MISSING
    learning_rate: float = MISSING
    batch_size: int = MISSING
    max_steps: int = MISSING
    augmentation: str = MISSING


@dataclass
class TinyCodec:
    """Latents of a pretrained tiny autoencoder, at an eighth of the size."""

    name: str = MISSING
    path: str = MISSING

    @property
    def downscale(self) -> int:
        """The format's own: no setting."""
        return 8


@dataclass
class ScratchBase:
    """A small latent diffusion model trained on G."""

    name: str = MISSING
    codec: Any = MISSING
    channels: list[int] = MISSING
    attention_levels: int = MISSING
    layers_per_block: int = MISSING
    text_width: int = MISSING
    text_layers: int = MISSING
    context_length: int = MISSING
    prediction: str = MISSING
    learning_rate: float = MISSING
    warmup_steps: int = MISSING
    batch_size: int = MISSING
    max_steps: int = MISSING
    ema: float = MISSING
    snr_gamma: float | None = MISSING
    timesteps: str = MISSING
    augmentation: str = MISSING


@dataclass
class Watch:
    """Images of G that are kept out of the generator's training, at most a tenth of it; every so many steps their
    masks are drawn.
    """

    num_images: int = MISSING
    every: int = MISSING


@dataclass
class ControlNet:
    """Diffusion with a control copy; training, then sampling."""

    name: str = MISSING
    base: Any = MISSING
    watch: Watch = field(default_factory=Watch)
    part: str = MISSING
    hint_width: int = MISSING
    snr_gamma: float | None = MISSING
    timesteps: str = MISSING
    accumulate: int = MISSING
    compile: bool = MISSING
    learning_rate: float = MISSING
    warmup_steps: int = MISSING
    batch_size: int = MISSING
    max_steps: int = MISSING
    ema: float = MISSING
    decay: bool = MISSING
    augmentation: str = MISSING
    sampler: str = MISSING
    num_steps: int = MISSING
    guidance: float = MISSING
    control_scale: float = MISSING
    eta: float = MISSING


@dataclass
class Pix2PixHD:
    """The rival: one pass from mask to image; a base stands idle under it."""

    name: str = MISSING
    base: Any = MISSING
    watch: Watch = field(default_factory=Watch)
    base_channels: int = MISSING
    num_downsamplings: int = MISSING
    num_blocks: int = MISSING
    upsampling: str = MISSING
    discriminator_channels: int = MISSING
    num_scales: int = MISSING
    feature_weight: float = MISSING
    perceptual: str = MISSING
    perceptual_weights: str | None = MISSING
    pool_size: int = MISSING
    ema: float = MISSING
    learning_rate: float = MISSING
    batch_size: int = MISSING
    max_steps: int = MISSING
    decay_from_step: int = MISSING
    augmentation: str = MISSING


@dataclass
class Warp:
    """No network: S.train's images, warped to the masks; a base stands idle."""

    name: str = MISSING
    base: Any = MISSING


@dataclass
class FolderSamples:
    """Pairs that were made elsewhere, in ISIC's layout or as ``images`` and ``masks``; a base stands idle."""

    name: str = MISSING
    base: Any = MISSING
    path: str = MISSING


@dataclass
class NoGenerator:
    """S only; a base stands idle."""

    name: str = MISSING
    base: Any = MISSING
