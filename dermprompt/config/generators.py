"""The kinds of generators, and their bases and codecs: what each is, and its keys with their types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

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
class Sampler:
    """How a ControlNet draws: what decides its samples, and not its weights."""

    sampler: str = MISSING
    num_steps: int = MISSING
    guidance: float = MISSING
    control_scale: float = MISSING
    eta: float = MISSING


@dataclass
class ControlNetWatch(Sampler, Watch):
    """The same with a sampler of its own, for the best weights depend on it: other samples need no new training."""


@dataclass
class Generator:
    """What a kind of generator is, said on its class.

    Attributes:
        is_trained: its networks are trained here; otherwise it has none.
        has_text: prompts decide its samples.
        has_base: it stands on a latent diffusion model.
        draws: it has samples at all.
        is_drawn_from: it makes an image of any mask; a folder's pairs are as they are.
        world: what its samples are made from, where that does not depend on the arm's ``world``.
        opens: full dotted path of what opens its folder: ``(folder)``, with a base ``(folder, base, **sampler)``.
    """

    is_trained: ClassVar[bool] = False
    has_text: ClassVar[bool] = False
    has_base: ClassVar[bool] = False
    draws: ClassVar[bool] = True
    is_drawn_from: ClassVar[bool] = True
    world: ClassVar[str | None] = None
    opens: ClassVar[str] = ""

    name: str = MISSING


@dataclass
class ControlNetTraining(Generator):
    """What decides a ControlNet's weights, beside its base."""

    watch: ControlNetWatch = field(default_factory=ControlNetWatch)
    init: str | None = MISSING
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


@dataclass
class ControlNet(Sampler, ControlNetTraining):
    """Diffusion with a control copy; training, then sampling."""

    is_trained = has_text = has_base = True
    opens = "dermprompt.generator.export.load_controlnet"

    base: Any = MISSING


@dataclass
class Pix2PixHD(Generator):
    """The rival: one pass from mask to image; a base stands idle under it."""

    is_trained = True
    opens = "dermprompt.generator.export.load_pix2pixhd"

    base: Any = MISSING
    watch: Watch = field(default_factory=Watch)
    init: str | None = MISSING
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
class Warp(Generator):
    """No network: S.train's images, warped to the masks; a base stands idle."""

    world = "closed"
    opens = "dermprompt.generator.warp.load_warp"

    base: Any = MISSING


@dataclass
class FolderSamples(Generator):
    """Pairs that were made elsewhere, in ISIC's layout or as ``images`` and ``masks``; a base stands idle."""

    is_drawn_from = False

    base: Any = MISSING
    path: str = MISSING


@dataclass
class NoGenerator(Generator):
    """S only; a base stands idle."""

    draws = is_drawn_from = False

    base: Any = MISSING
