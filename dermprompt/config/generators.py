"""The kinds of generators, bases and codecs: their properties, and their keys with types and constraints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import MISSING

from dermprompt.config.constraints import named, number, one_of, whole
from dermprompt.store.artifacts import WAS


@dataclass
class PretrainedBase:
    """Stable Diffusion in diffusers' format, by hub id or folder."""

    name: str = named()
    path: str = MISSING
    pad_token_id: int = whole(at_most=49407, was="pad")
    text_layers: int = whole(1, 100)


@dataclass
class PCACodec:
    """Latents are principal components of patches of ``downscale`` by ``downscale`` pixels."""

    name: str = named()
    downscale: int = one_of(2, 4, 8, 16)
    channels: int = whole(1, 768)


@dataclass
class VAECodec:
    """Latents of an AutoencoderKL trained on G."""

    name: str = named()
    downscale: int = one_of(2, 4, 8, 16)
    channels: int = whole(1, 768)
    width: int = whole(32, 4096, multiple_of=32)
    layers_per_block: int = whole(1, 16)
    kl_weight: float = number(at_least=0, at_most=1000)
    learning_rate: float = number(above=0, at_most=1)
    batch_size: int = whole(1, 65536)
    max_steps: int = whole(at_least=1)
    augmentation: str = one_of("none", "flip", "dihedral")


@dataclass
class TinyCodec:
    """Latents of a pretrained tiny autoencoder, at an eighth of the image's size."""

    name: str = named()
    path: str = MISSING

    @property
    def downscale(self) -> int:
        """Fixed by the autoencoder's format."""
        return 8


@dataclass
class ScratchBase:
    """A small latent diffusion model trained on G."""

    name: str = named()
    codec: Any = MISSING
    channels: list[int] = whole(32, 8192, multiple_of=32)
    attention_levels: int = whole(1, 16)
    layers_per_block: int = whole(1, 16)
    text_width: int = whole(32, 8192, multiple_of=32)
    text_layers: int = whole(1, 100)
    context_length: int = whole(2, 1024)
    prediction: str = one_of("v_prediction", "epsilon")
    learning_rate: float = number(above=0, at_most=1)
    warmup_steps: int = whole()
    batch_size: int = whole(1, 65536)
    max_steps: int = whole(at_least=1)
    ema_decay: float = number(at_least=0, below=1, was="ema")
    snr_gamma: float | None = number(above=0, at_most=1000)
    timesteps: str = one_of("uniform", "lognormal")
    augmentation: str = one_of("none", "flip", "dihedral")


@dataclass
class Validation:
    """Validate the generator every ``every`` steps on ``num_images`` held-out images, at most a tenth of G."""

    num_images: int = whole(at_least=1)
    every: int = whole(at_least=1)


@dataclass
class Sampler:
    """How a ControlNet samples: these settings affect its samples, not its weights."""

    sampler: str = one_of("ddim", "dpm", "unipc")
    num_steps: int = whole(1, 1000)
    guidance_scale: float = number(at_least=0, at_most=100, was="guidance")
    conditioning_scale: float = number(at_least=0, at_most=100, was="control_scale")
    eta: float = number(at_least=0, at_most=1)
    guidance_start: float = number(at_least=0, at_most=1, since=0.0)
    guidance_end: float = number(at_least=0, at_most=1, since=1.0)
    cache_interval: int = whole(1, 1000, since=1)


@dataclass
class ControlNetValidation(Sampler, Validation):
    """Validation with a separate sampler: it decides which weights are best, so a new sampler needs no new training."""


@dataclass
class Generator:
    """The properties of a kind of generator, as class attributes.

    Attributes:
        is_trained: its networks are trained here; otherwise it has no networks.
        has_text: its samples depend on prompts.
        has_base: it needs a latent diffusion model.
        draws: it provides samples.
        is_drawn_from: it can generate an image for any mask; the pairs of a folder are fixed.
        world: the world that its samples come from, if that does not depend on the arm's ``world``.
        opens: full dotted path of the function that loads it: ``(folder)``, with a base ``(folder, base, **sampler)``.
        base: the latent diffusion model. Unused by kinds without one: Hydra composes generator/base for every
            generator, so that a sweep over generators can choose it.
    """

    is_trained: ClassVar[bool] = False
    has_text: ClassVar[bool] = False
    has_base: ClassVar[bool] = False
    draws: ClassVar[bool] = True
    is_drawn_from: ClassVar[bool] = True
    world: ClassVar[str | None] = None
    opens: ClassVar[str] = ""

    name: str = named()
    base: Any = MISSING


@dataclass
class Training:
    """Settings that affect the weights of every trained generator."""

    name: str = MISSING
    validation: Validation = field(default_factory=Validation, metadata={WAS: "watch"})
    init: str | None = MISSING
    learning_rate: float = number(above=0, at_most=1)
    batch_size: int = whole(1, 65536)
    max_steps: int = whole()
    ema_decay: float = number(at_least=0, below=1, was="ema")
    augmentation: str = one_of("none", "flip", "dihedral")


@dataclass
class ControlNetTraining(Training):
    """Settings that affect a ControlNet's weights, besides its base."""

    validation: ControlNetValidation = field(default_factory=ControlNetValidation, metadata={WAS: "watch"})
    trainable: str = one_of("controlnet", "middle_block", "unlocked_decoder", "unlocked_unet", was="part")
    hint_width: int = whole(at_least=1)
    snr_gamma: float | None = number(above=0, at_most=1000)
    timesteps: str = one_of("uniform", "lognormal")
    accumulate_grad_batches: int = whole(at_least=1, was="accumulate")
    compile: bool = MISSING
    warmup_steps: int = whole()
    decay: bool = MISSING


@dataclass
class ControlNet(Sampler, ControlNetTraining, Generator):
    """Latent diffusion with a ControlNet: settings of training and sampling."""

    is_trained = has_text = has_base = True
    opens = "dermprompt.generator.export.load_controlnet"


@dataclass
class Pix2PixHD(Training, Generator):
    """The paper's GAN baseline: one forward pass from mask to image."""

    is_trained = True
    opens = "dermprompt.generator.export.load_pix2pixhd"

    base_channels: int = whole(1, 4096)
    num_downsamplings: int = whole(1, 10)
    num_blocks: int = whole(1, 1000)
    upsampling: str = one_of("transposed", "resize")
    discriminator_channels: int = whole(1, 4096)
    num_scales: int = whole(1, 10)
    feature_weight: float = number(at_least=0, at_most=1e6)
    perceptual: str = one_of("none", "vgg19", "efficientnet_lite0")
    perceptual_weights: str | None = MISSING
    pool_size: int = whole(at_most=10**6)
    decay_from_step: int = whole()


@dataclass
class Warp(Generator):
    """No network: S.train's images, warped to the masks."""

    world = "closed"
    opens = "dermprompt.generator.warp.load_warp"

    best: int | None = whole(at_least=1)


@dataclass
class FolderSamples(Generator):
    """Image-mask pairs made by another program, in ISIC's layout or in ``images`` and ``masks``."""

    is_drawn_from = False

    path: str = MISSING


@dataclass
class NoGenerator(Generator):
    """S only."""

    draws = is_drawn_from = False
