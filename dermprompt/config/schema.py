"""Every key that a user may set, with its type and constraints; the defaults are in ``conf/``.

A group with several kinds (``generator``, ``generator.base``, ``data``) has a class for each, found by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from omegaconf import MISSING

from dermprompt.config.constraints import duration, known, named, number, one_of, optional, truth, whole
from dermprompt.config.generators import (
    ControlNet,
    FolderSamples,
    NoGenerator,
    PCACodec,
    Pix2PixHD,
    PretrainedBase,
    ScratchBase,
    TinyCodec,
    VAECodec,
    Warp,
)
from dermprompt.prompts.template import TEMPLATES

STAGES = (
    "plan",
    "prepare",
    "find_duplicates",
    "train_codec",
    "train_base",
    "train_generator",
    "draw_masks",
    "synthesize",
    "train_segmenter",
    "evaluate",
    "export",
    "report",
)

# What stage=export writes: an arm for nnU-Net, its samples for Hugging Face or in ISIC's layout, its generator.
EXPORTS = ("nnunet", "imagefolder", "isic", "generator")

# In one machine.
MOST_DEVICES = 1024

AUGMENTATIONS = ("none", "flips", "affine", "strong")
DATA = ("isic", "ham10000", "ph2", "isic_archive", "folder", "sample", "phantom")

Part = TypeVar("Part")


def take(part: type[Part], whole: Any) -> Part:
    """The dataclass ``part``, filled with the keys of the same names in ``whole``."""
    return part(**{one.name: getattr(whole, one.name) for one in fields(part)})  # type: ignore[arg-type]


@dataclass
class Paths:
    """Where finished work and run folders go."""

    store: str = MISSING
    runs: str = MISSING


@dataclass
class Split:
    """How G, S.train, S.val and S.test are drawn, or the file of a given split.

    With fewer images than the sum of ``sizes``, their proportions are kept. ``fold``, 0 to 4, rotates S so that
    another fifth of it is S.test.
    """

    protocol: str = one_of("paper", "official", "grouped")
    sizes: list[int] = whole(at_least=1, length=4)
    seed: int = whole()
    file: str | None = MISSING
    fold: int | None = whole(at_most=4)


@dataclass
class Data:
    """A data set on disk, or a phantom that is painted into the store.

    ``mask_suffix``: what a mask's name adds to its image's, null to detect it. ``without_mask``: whether images without
    a mask are left out, or are a pool from which a base trained here learns besides G. The keys from ``mask_threshold``
    to ``max_megapixels`` are those of :class:`~dermprompt.data.reading.Reading`.
    """

    name: str = one_of(*DATA)
    root: str | None = MISSING
    labels: str | None = MISSING
    num_images: int | None = whole(at_least=1)
    clusters: str | None = MISSING
    on_conflict: str = one_of("error", "first", "last", "unknown")
    on_bad: str = one_of("error", "skip")
    max_bad_fraction: float = number(at_least=0, at_most=1)
    mask_suffix: str | None = MISSING
    without_mask: str = one_of("leave_out", "pool")
    mask_threshold: int | None = whole(at_least=1, at_most=255)
    mask_classes: Any = MISSING  # dict from value to word; with that type, Hydra could only merge, not replace it
    empty_masks: str = one_of("error", "keep")
    fit: str = one_of("squeeze", "crop", "pad")
    max_megapixels: int = whole(at_least=1, at_most=178)
    split: Split = field(default_factory=Split)


@dataclass
class AutomaticMasks:
    """Masks from circles (paper, section 2.3); lengths in pixels of a 512 x 512 canvas."""

    name: str = named()
    centre: list[int] = whole(at_least=1, at_most=511, length=2)
    min_radius: int = whole(2, 511)
    blur_sigma: float = number(at_least=0, at_most=512)
    elastic_sigma: float = number(at_least=0, at_most=512)
    elastic_points: int = whole(2, 512)
    kernel: float = number(above=0, at_most=0.8)


@dataclass
class RealisticMasks:
    """New masks whose shapes are distributed like those of G's masks."""

    name: str = named()
    jitter: float = number(at_least=0, at_most=0.5)


@dataclass
class TransformedMasks:
    """Transformed masks of G (paper, section 2.3)."""

    name: str = named()
    max_rotation: float = number(at_least=0, at_most=360)
    scale_range: list[float] = number(length=2, above=0, at_most=10)
    elastic_sigma: list[float] = number(at_least=0, at_most=1, empty=True)
    elastic_points: list[int] = whole(2, 512, empty=True)


@dataclass
class FolderMasks:
    """Given masks, painted or from another program: a folder of images, or one image."""

    name: str = MISSING
    path: str | None = MISSING


@dataclass
class DrawnPrompts:
    """How the prompts of synthetic images are chosen (``sampler``) and worded (``template``)."""

    sampler: str = one_of("empirical", "balanced", "target", "fixed", "empty")
    template: str = one_of(*TEMPLATES)
    diagnosis: str | None = MISSING
    attributes: list[str] = MISSING
    mix: Any = MISSING  # dict from diagnosis to share; with that type, Hydra could only merge, not replace it


@dataclass
class Prompts(DrawnPrompts):
    """The prompts of synthetic images, and of training.

    ``unseen``: what to do about labels that no training image has; ``dropout``: share of prompts dropped in training.
    """

    unseen: str = one_of("warn", "error")
    dropout: float = number(at_least=0, at_most=1)


@dataclass
class Synthesis:
    """How many samples to draw, and in what batches; ``export_copies``: whether to export copies of images of G too.

    ``precision``: of the networks' weights and activations; ``compile``: use torch.compile.
    """

    count: int = whole()
    batch_size: int = whole(1, 65536)
    precision: str = one_of("32-true", "bf16-true")
    compile: bool = MISSING
    export_copies: bool = MISSING


@dataclass
class Curation:
    """Which samples are used.

    All of them (``none``); those on whose masks ``folds`` cross-fitted reference segmenters agree (``agreement``);
    an equal number at random (``random``) or by quotas (``quotas``); or all but copies (``memorisation``).

    A sample counts as a copy if it is nearer to G, in ``features``, than the ``quantile`` of unseen images' distances.
    """

    name: str = one_of("none", "agreement", "random", "quotas", "memorisation")
    keep: float = number(at_least=0, at_most=1)
    relabel: float = number(at_least=0, at_most=1)
    folds: int = whole(2, 100)
    quantile: float = number(above=0, below=1)
    features: str = one_of("thumbnails", "network")


@dataclass
class SegmenterTraining:
    """A network (``_target_``) and its training."""

    name: str = named()
    network: dict[str, Any] = MISSING
    image_size: int = whole(32, 4096, multiple_of=16)
    learning_rate: float = number(above=0, at_most=1)
    batch_size: int = whole(1, 65536)
    max_epochs: int | None = whole(at_least=1)
    max_steps: int | None = whole(at_least=1)
    validate_every: int = whole(at_least=1)
    loss: str = one_of("dice_batch", "dice_sample", "dice_ce")
    schedule: str = one_of("constant", "cosine")
    augmentation: str = one_of(*AUGMENTATIONS)
    seed: int = whole()


@dataclass
class Segmenter(SegmenterTraining):
    """A segmenter to train; or ``predictions``, a folder of S.test's masks predicted by another program."""

    predictions: str | None = MISSING


@dataclass
class TrainingSet:
    """The real images that a segmenter trains on besides samples, how both are mixed, and for how long.

    ``real``: ``s`` (S.train), ``s_and_g``, ``s_decoded`` (S.train through the codec of the generator's base) or
    ``none``. ``num_real``: the number of images of S.train; S.val shrinks in proportion. ``batches``: drawn from all
    pairs alike (``concatenated``), half real images (``half_real``), or with a share of samples that falls to zero
    (``fading``). ``finetune``: train on the samples first, then on the real images. ``steps_of``: train for the number
    of steps that S with this many samples would take.
    """

    real: str = one_of("s", "s_and_g", "s_decoded", "none")
    num_real: int | None = whole(at_least=1)
    batches: str = one_of("concatenated", "half_real", "fading")
    finetune: bool = MISSING
    steps_of: int | None = whole(at_least=1)


@dataclass
class Arm(TrainingSet):
    """One arm of a comparison.

    ``augmentation``: of this arm alone; None for the segmenter's, which S only keeps. ``world``: what the generator,
    its base, masks and prompts may see: G (``open``) or the arm's share of S.train (``closed``).
    """

    name: str = named()
    augmentation: str | None = one_of(*AUGMENTATIONS)
    world: str = one_of("open", "closed")


def s_only(num_real: int | None = None) -> Arm:
    """The rules of S only: all of S.train, or ``num_real`` images of it."""
    return Arm(
        name="s_only",
        real="s",
        num_real=num_real,
        batches="concatenated",
        finetune=False,
        steps_of=None,
        augmentation=None,
        world="open",
    )


@dataclass(frozen=True)
class Purpose:
    """What samples are for: the world that their generator may see, and the prefix of their controls' names.

    A control trains without samples for the same number of steps, with strong augmentation.
    """

    world: str
    control: str


# Samples are shared in place of a site's data; add to the data they come from; replace G's real pairs.
PURPOSES = {
    "sharing": Purpose("open", "s_strong"),
    "more": Purpose("closed", "s_strong"),
    "instead": Purpose("open", "s_plus_g_strong"),
}
# Without a primary comparison: the strongest control that each world allows.
CONTROLS = {"open": "s_plus_g_strong", "closed": "s_strong"}


@dataclass
class Primary:
    """The primary comparison, declared before S.test is read: an arm, for a purpose, against its control.

    It is made with one network, for one or several numbers of real images (null: all), which must hold jointly.
    """

    ours: str = named()
    purpose: str = one_of(*PURPOSES)
    segmenter: str = named()
    num_real: list[int] | None = whole(at_least=1)


@dataclass
class Features:
    """The pretrained network whose features compare sets of images: timm's id, and a file of weights or null."""

    model: str = MISSING
    weights: str | None = MISSING


@dataclass
class Evaluation:
    """The reference segmenter, the features, the primary comparison, and how many images the report shows."""

    primary: Primary = field(default_factory=Primary)
    features: Features = field(default_factory=Features)
    reference: Segmenter = field(default_factory=Segmenter)
    gallery: int = whole(1, 1000)
    quiz: int = whole(at_most=1000)


@dataclass
class Trainer:
    """The settings of Lightning's Trainer that may be set; steps and batches belong to each training."""

    _target_: str = one_of("lightning.pytorch.Trainer")
    accelerator: str = one_of("auto", "cpu", "gpu", "cuda", "mps")
    devices: Any = MISSING
    num_nodes: int = whole(1, 4096)
    precision: str = one_of("32-true", "bf16-mixed", "16-mixed")
    max_time: str | None = duration()
    timeout: float = number(above=0, at_most=86400)
    strategy: str = optional(one_of("auto", "ddp"))
    gradient_clip_val: float | None = optional(number(above=0, at_most=1e6))
    deterministic: bool = optional(truth())


def count_devices(devices: Any) -> int | None:
    """How many devices ``trainer.devices`` means, given a number or a list of indices; None for all.

    Raises:
        ValueError: it is neither.
    """
    if devices in (-1, "-1", "auto"):
        return None
    if isinstance(devices, str) and devices.isdecimal():
        devices = int(devices)
    if (
        isinstance(devices, Sequence)
        and not isinstance(devices, str)
        and devices
        and all(type(one) is int and one >= 0 for one in devices)
    ):
        return len(devices)
    if type(devices) is int and 0 < devices <= MOST_DEVICES:
        return devices
    raise ValueError(f"trainer.devices={devices}: a number from 1 to {MOST_DEVICES}, a list of indices, or -1 for all")


@dataclass
class FileLogger:
    """No W&B; the curves are in each training's folder, with any logger."""

    name: str = MISSING


@dataclass
class WandbLogger:
    """Runs in W&B; ``offline``: written to disk, not sent."""

    name: str = MISSING
    project: str = MISSING
    group: str = MISSING
    offline: bool = MISSING


@dataclass
class Config:
    """The whole configuration."""

    name: str = named()
    stage: str = one_of(*STAGES)
    export: str = one_of(*EXPORTS)
    seed: int = whole()
    image_size: int = whole(32, 4096, multiple_of=16)
    caution: str | None = MISSING
    paths: Paths = field(default_factory=Paths)
    data: Data = field(default_factory=Data)
    external: Data | None = MISSING
    masks: Any = MISSING
    prompts: Prompts = field(default_factory=Prompts)
    generator: Any = MISSING
    synthesis: Synthesis = field(default_factory=Synthesis)
    curation: Curation = field(default_factory=Curation)
    segmenter: Segmenter = field(default_factory=Segmenter)
    arm: Arm = field(default_factory=Arm)
    evaluation: Evaluation = field(default_factory=Evaluation)
    trainer: dict[str, Any] = known(Trainer)
    logger: Any = MISSING


# The classes of groups with several kinds, by the ``name`` in the group's files.
KINDS: dict[str, dict[str, type]] = {
    "masks": {
        "paper_text": AutomaticMasks,
        "paper_code": AutomaticMasks,
        "realistic": RealisticMasks,
        "transform": TransformedMasks,
        "folder": FolderMasks,
        "real": TransformedMasks,
    },
    "generator": {
        "controlnet": ControlNet,
        "pix2pixhd": Pix2PixHD,
        "warp": Warp,
        "folder": FolderSamples,
        "none": NoGenerator,
    },
    "logger": {"csv": FileLogger, "wandb": WandbLogger},
    "generator/base": {"sd15": PretrainedBase, "sd21": PretrainedBase, "box": PretrainedBase, "scratch": ScratchBase},
    "generator/base/codec": {"pca": PCACodec, "vae": VAECodec, "tiny": TinyCodec},
}
