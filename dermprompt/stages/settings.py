"""The settings of each stage: all that it may read besides its inputs, and so all that is hashed into its key.

They are plain values and sections of the configuration. No heavy module is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dermprompt.config import schema
from dermprompt.config.generators import ControlNetTraining, Sampler
from dermprompt.data.reading import Reading
from dermprompt.store.artifacts import WAS

# Names, sizes and modification times of files that a setting names.
Stamps = list[tuple[str, int, int]]


@dataclass(frozen=True)
class Nothing:
    """A stage without settings."""


# Data.


@dataclass(frozen=True)
class PaintPhantom:
    """A painted data set."""

    num_images: int
    size: int
    seed: int


@dataclass(frozen=True)
class IndexData:
    """Where a data set is, how it is read, and what to do with contradictory labels.

    ``mask_suffix``: what a mask's name adds to its image's; None to detect it. ``without_mask``: what becomes of images
    without a mask.
    """

    name: str
    root: str
    labels: str
    on_conflict: str
    mask_suffix: str | None = None
    without_mask: str = "leave_out"


@dataclass(frozen=True, kw_only=True)
class CachePictures(Reading):
    """All images and masks at ``size`` pixels; ``decoder``: the versions of the decoding libraries.

    ``with_pool``: images without a mask too.
    """

    size: int
    decoder: Any
    with_pool: bool = False


@dataclass(frozen=True)
class Usable:
    """What to do with bad files."""

    on_bad: str
    max_bad_fraction: float


@dataclass(frozen=True)
class SplitData(Usable):
    """How the split is drawn; the file of a given split is an input instead."""

    split: schema.Split


@dataclass(frozen=True)
class ListGeneratorSet:
    """The world, open or closed; in a closed world, ``num_real`` images of S.train."""

    world: str
    num_real: int | None


# Training on G.


@dataclass(frozen=True)
class HeldOut:
    """At most ``num_images`` of G, chosen with the split's seed, are held out of training for validation."""

    num_images: int
    seed: int


@dataclass(frozen=True)
class FitCodec:
    """A codec that is fitted or loaded from pretrained weights; ``stamps``: of the weights' files."""

    codec: Any
    stamps: Stamps | None = None


@dataclass(frozen=True)
class TrainVAE:
    """An autoencoder trained on G."""

    codec: schema.VAECodec
    held_out: HeldOut
    seed: int
    trainer: dict[str, Any]


@dataclass(frozen=True)
class TrainBase:
    """A scratch base; its codec is an input."""

    base: schema.ScratchBase
    held_out: HeldOut
    image_size: int
    template: str
    prompt_dropout: float
    seed: int
    trainer: dict[str, Any]


@dataclass(frozen=True)
class OpenBase:
    """How the text encoder of a pretrained base is read."""

    pad_token_id: int = field(metadata={WAS: "pad"})
    text_layers: int


@dataclass(frozen=True)
class TrainControlNet:
    """A ControlNet; ``base``: how its pretrained base is read, None for a base trained here."""

    generator: ControlNetTraining
    base: OpenBase | None
    held_out: HeldOut
    template: str
    prompt_dropout: float
    seed: int
    trainer: dict[str, Any]


@dataclass(frozen=True)
class TrainOnMasks:
    """A generator trained on G's masks and images, without text; ``stamps``: of the pretrained weights that it uses."""

    generator: Any
    held_out: HeldOut
    seed: int
    trainer: dict[str, Any]
    stamps: Stamps | None = None


@dataclass(frozen=True)
class TrainReference:
    """The reference segmenter that validates a generator during training."""

    reference: schema.SegmenterTraining = field(metadata={WAS: "judge"})
    held_out: HeldOut
    trainer: dict[str, Any]
    stamps: Stamps | None = None


# Samples.


@dataclass(frozen=True)
class DrawMasks:
    """New masks."""

    masks: Any
    batch_size: int
    image_size: int
    seed: int


@dataclass(frozen=True)
class CollectPairs:
    """``num_real`` pairs of S.train; each mask gets one of its ``best`` best-fitting pairs, or any pair if None."""

    num_real: int | None
    best: int | None = None


@dataclass(frozen=True)
class ImportSamples(Usable):
    """Pairs of the folder ``name``."""

    name: str
    batch_size: int


@dataclass(frozen=True)
class DrawSamples:
    """How a kind of generator draws samples.

    ``precision``, ``compile``: how its networks run; None for a generator without networks. ``base``, ``sampler``,
    ``prompts``: None if the generator has none.
    """

    generator: str
    batch_size: int
    seed: int
    precision: str | None
    compile: bool | None
    base: OpenBase | None
    sampler: Sampler | None
    prompts: schema.DrawnPrompts | None = None


# Segmenters.


@dataclass(frozen=True)
class TrainSegmenter:
    """A segmenter and its training set: the real images of an arm, and ``count`` samples.

    ``left_out``: the fold of S.train that a cross-fitted reference segmenter leaves out, and the number of folds.
    ``stamps``: of the pretrained weights' files.
    """

    segmenter: schema.SegmenterTraining
    arm: schema.TrainingSet
    count: int
    trainer: dict[str, Any]
    left_out: tuple[int, int] | None = None
    stamps: Stamps | None = None


# Curation.


@dataclass(frozen=True)
class FeatureNetwork:
    """The pretrained network whose features compare images; ``stamps``: of its weights' file."""

    model: str
    weights: str | None
    stamps: Stamps


@dataclass(frozen=True)
class ScoreAgreement:
    """``count`` samples, scored by segmenters trained on ``num_real`` images; ``size``: of the predicted masks."""

    count: int
    size: int
    num_real: int | None = None


@dataclass(frozen=True)
class FindNearest:
    """``count`` samples, compared as thumbnails or by a network's features; ``of_all``: with all images, S.test too."""

    count: int
    features: str
    network: FeatureNetwork | None = None
    of_all: bool = False


@dataclass(frozen=True)
class DropCopies:
    """The rule ``memorisation``."""

    name: str
    quantile: float


@dataclass(frozen=True)
class KeepAgreeing:
    """The rule ``agreement``, or a control that keeps the same number of samples."""

    name: str
    keep: float
    relabel: float


@dataclass(frozen=True)
class DecideOnSamples:
    """A curation rule for ``count`` samples; ``size``: pixels at which the areas of their masks are measured."""

    curation: DropCopies | KeepAgreeing
    count: int
    size: int
    seed: int


# Evaluation.


@dataclass(frozen=True, kw_only=True)
class ScoreImages(Reading):
    """How true masks are read; ``usable``: what to do with bad files of a data set that is not split."""

    usable: Usable | None = None


@dataclass(frozen=True, kw_only=True)
class ScorePredictions(Reading):
    """How true masks are read, and the ``size`` of masks predicted for exported images."""

    size: int


@dataclass(frozen=True)
class TallySamples:
    """``count`` samples; ``size``: pixels at which mask areas are measured; ``relabel``: the lowest agreement used."""

    count: int
    size: int
    relabel: float


@dataclass(frozen=True)
class CountCopies:
    """The quantile that defines a copy, and how many of the nearest pairs are listed."""

    quantile: float
    num_pairs: int


@dataclass(frozen=True)
class EvaluateTrivial:
    """The seed for choosing real images."""

    seed: int


@dataclass(frozen=True)
class EvaluateGenerator:
    """``name`` and ``kind`` of Table 1's row; the seed of the shuffled control."""

    name: str
    kind: str
    seed: int


@dataclass(frozen=True)
class EvaluateSamples:
    """``count`` samples; the seed of the shuffled control."""

    count: int
    seed: int


@dataclass(frozen=True)
class EvaluateText(EvaluateSamples):
    """``count`` samples of ``image_size`` pixels; the seed of the shuffled control."""

    image_size: int


@dataclass(frozen=True)
class EvaluateColours:
    """``count`` samples of the generator ``name``."""

    name: str
    count: int


@dataclass(frozen=True)
class EvaluateDistribution(FeatureNetwork):
    """``count`` samples of the generator ``name``, compared by a network's features."""

    name: str
    count: int


@dataclass(frozen=True)
class TrainClassifier(FeatureNetwork):
    """Linear classifiers on a network's features."""

    seed: int
