"""The results of a job as plain frozen dataclasses, and ``results.json``, which stores them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dermprompt.files import read_json, reading, write_bytes

Record = TypeVar("Record")


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` images and its interval, at 95 % unless stated otherwise.

    ``over``: what the interval covers, ``images`` or ``seeds and images`` (of ``seeds`` trainings).
    """

    mean: float
    low: float
    high: float
    n: int
    over: str = "images"
    seeds: int = 1


@dataclass(frozen=True)
class Comparison:
    """Two arms on the same images and seeds: the mean difference and its verdict.

    ``verdict``: better, worse, equivalent or unresolved. ``effect``: the difference in standard deviations over
    images. ``smallest``: the smallest difference that would have been shown with 80 % power. ``p``: of ``gain``;
    ``wilcoxon``: the p-value for a different question, whether more images gain than lose.
    """

    gain: Interval
    verdict: str
    effect: float
    smallest: float
    p: float
    wilcoxon: float


@dataclass(frozen=True)
class ImageQuality:
    """A row of Table 1: generated images compared with the real images of the same masks (paper, section 3.3).

    ``paper`` and ``standard``: mse, psnr and ssim in the two conventions.
    ``kind``: ``generator``, or ``trivial`` for a row that needs no generator.
    """

    name: str
    kind: str
    n: int
    paper: dict[str, float]
    standard: dict[str, float]


@dataclass(frozen=True)
class Subgroup:
    """The Dice on a subgroup of test images: one diagnosis, size, attribute, or contact with the border."""

    kind: str
    name: str
    dice: Interval


@dataclass(frozen=True)
class Segmentation:
    """A cell of Table 2: the Dice of a segmenter on S.test (paper, section 3.4).

    For S only, ``generator`` is None and ``count`` 0. ``gain``: the paired difference to S only. ``failures``: the
    share of test images with a Dice below 0.5. ``arm``: what it was trained on, with ``num_real`` images of S.train
    (None: all) and ``seed``. ``scores``: the csv file with every image's measures, in the run folder; ``measures``:
    their means. ``world``: what its samples, additional real images or codec come from, ``open`` (G) or ``closed``
    (S.train alone); None for S only, which belongs to both. ``steps_of``: it trained for the number of steps of S with
    this many samples.
    """

    segmenter: str
    generator: str | None
    count: int
    dice: Interval
    gain: Interval | None
    pooled_dice: float
    failures: float
    arm: str = "default"
    num_real: int | None = None
    seed: int = 0
    scores: str = ""
    measures: dict[str, float] = field(default_factory=dict)
    groups: tuple[Subgroup, ...] = ()
    fold: int | None = None
    world: str | None = None
    steps_of: int | None = None

    @property
    def label(self) -> str:
        """The arm's name, or one made from generator and count."""
        if self.arm != "default":
            return self.arm
        return f"{self.generator}_{self.count}" if self.generator else "s_only"


@dataclass(frozen=True)
class ArmRow:
    """One arm over its seeds: the mean Dice, and the comparison with its control (None for a control itself).

    ``adjusted``: the p-value after Holm's correction among exploratory rows, whose intervals are simultaneous.
    ``primary``: whether this is the primary comparison. ``dice`` is None if the arm's seeds share fewer than two test
    images, ``against`` if the arm and its control do; the report shows these as gaps.
    """

    arm: str
    count: int
    dice: Interval | None
    control: str | None = None
    against: Comparison | None = None
    adjusted: float | None = None
    primary: bool = False


@dataclass(frozen=True)
class ArmPair:
    """A comparison of two arms, neither the other's control; exploratory, with simultaneous intervals for all pairs."""

    arm: str
    other: str
    against: Comparison
    adjusted: float


@dataclass(frozen=True)
class PurposeRow:
    """What an arm's samples are worth for one purpose: the gain over that purpose's control.

    ``share``, if samples replace G's real pairs: the share of the real pairs' gain over S alone that the samples
    achieve; None if that gain is not shown. The intervals of a table's purposes are simultaneous.
    """

    purpose: str
    arm: str
    control: str
    against: Comparison
    share: Interval | None = None


@dataclass(frozen=True)
class ArmTable:
    """All arms of one data set, size, segmenter, number of real images and world."""

    dataset: str
    image_size: int
    segmenter: str
    num_real: int | None
    world: str
    rows: tuple[ArmRow, ...]
    pairs: tuple[ArmPair, ...] = ()
    note: str = ""
    purposes: tuple[PurposeRow, ...] = ()


@dataclass(frozen=True)
class Distribution:
    """Two sets of ``n`` images each, compared by their features: Fréchet and kernel distance, precision and recall,
    density and coverage.
    """

    n: int
    frechet: float
    kernel: float
    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class DistributionRow:
    """A set of images compared with an equal number of real ones that no generator has seen, by the named features.

    ``kind``: ``generator``, or ``floor`` for real images compared with real ones.
    """

    name: str
    kind: str
    features: str
    values: Distribution


@dataclass(frozen=True)
class ColourRow:
    """Colours of ``n`` images inside or outside their masks (``region``), red, green and blue from 0 to 255: the mean
    and the standard deviation over pixels, both averaged over images.

    ``kind``: ``generator``, or ``real`` for images that no generator has seen. ``drifted``: the figures that are far
    from those of real images.
    """

    name: str
    kind: str
    region: str
    n: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    drifted: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaskFidelity:
    """Mean Dice of the reference segmenter, trained on S.train alone, on S.test's masks.

    ``real``: on the real images. ``generated``: on images generated from the same masks.
    ``shuffled``: on the same images, compared with the masks of other images, the level of chance; ``chance``: the
    value that images that ignore their masks exceed with a probability of 2.5 %, None in older files.
    """

    real: float
    generated: float
    shuffled: float
    n: int
    chance: float | None = None

    @property
    def shown(self) -> bool:
        """Whether the images follow their masks better than chance."""
        return self.generated > max(self.shuffled, self.chance or 0.0)


@dataclass(frozen=True)
class TextFidelity:
    """Balanced accuracy with which a fixed rule reads the prompted diagnosis from the samples.

    ``shuffled``: the same for the prompts of other samples, the level of chance.
    """

    accuracy: float
    shuffled: float
    n: int


@dataclass(frozen=True)
class LabelScore:
    """How well a classifier predicts one label of ``n`` images, of which ``positives`` have it (None: several classes).

    ``measure``: what ``accuracy`` is, ``balanced accuracy`` or, for one class of several, its ``recall``.
    ``shuffled``: the same with the labels of other images, as mean and range (95 %) over random orders. All are None
    if there are too few images.
    """

    label: str
    measure: str
    n: int
    positives: int | None
    accuracy: Interval | None
    shuffled: Interval | None
    auc: Interval | None


@dataclass(frozen=True)
class LabelFidelity:
    """A classifier trained on real images only, scored on real images of S.test and on samples with prompted labels."""

    real: LabelScore
    generated: LabelScore

    @property
    def shown(self) -> bool | None:
        """Whether the samples' accuracy is above the range of shuffled prompts; None if there are too few images."""
        one = self.generated
        return None if one.accuracy is None or one.shuffled is None else one.accuracy.mean > one.shuffled.high


@dataclass(frozen=True)
class Curation:
    """What curation did with the samples, and what its rule favours.

    ``groups``: for each kind and name (size, diagnosis), the numbers of samples drawn and used. ``real``: the share of
    S.train's images that the rule would keep or relabel; None if it does not score them.
    """

    name: str
    kept: int
    relabelled: int
    dropped: int
    groups: tuple[tuple[str, str, int, int], ...]
    real: float | None


@dataclass(frozen=True)
class Memorisation:
    """How many of ``n`` samples count as copies: nearer to G, in ``features``, than the ``quantile`` of unseen real
    images. ``nearer``: the share of samples nearer to G than to an equal number of unseen images; ``chance``: the range
    of 95 % of such shares without memorisation. Both are None without unseen images. ``pairs``: the nearest samples
    with their images of G. ``of_all``: compared with all real images, because what the generator has seen is unknown.
    """

    features: str
    quantile: float
    n: int
    copies: int
    nearer: float | None
    pairs: tuple[Picture, ...]
    chance: tuple[float, float] | None = None
    of_all: bool = False


@dataclass(frozen=True)
class External:
    """One training's results on an external data set: Dice, also by subgroup, and means of all measures."""

    dataset: str
    arm: str
    count: int
    num_real: int | None
    seed: int
    dice: Interval
    measures: dict[str, float]
    groups: tuple[Subgroup, ...] = ()
    fold: int | None = None


@dataclass(frozen=True)
class Curve:
    """A learning curve: ``metric`` of the named training is ``values[k]`` at step ``steps[k]``."""

    training: str
    metric: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """One column of the gallery or one synthetic sample; paths are relative to the run folder."""

    id: str
    mask: str
    image: str
    real: str | None = None
    prompt: str = ""


@dataclass(frozen=True)
class Results:
    """All results of a job; its settings come first.

    ``seed``: of the segmenter; ``generator_seed``: of all else. ``precision``: of the trainings, None in older files.
    ``scope``: what a generator has seen, if that is not G. ``drawn``: the masks and prompts of the samples, if not the
    usual ones. ``primary``: the primary comparison (the keys of
    ``evaluation.primary``, ``hash``, and ``declared``: whether it was declared before S.test was first scored).
    ``test_reads``: how often predictions for a test set were scored in this store. ``validation_pictures``: of the
    generator's training, ``training/<step>.png``.
    """

    experiment: str
    command: str
    generator: str | None
    base: str | None
    count: int
    segmenter: str
    seed: int
    image_size: int
    dataset: str
    caution: str | None
    data: dict[str, Any]
    primary: dict[str, Any] = field(default_factory=dict)
    test_reads: int = 0
    image_quality: tuple[ImageQuality, ...] = ()
    distribution: tuple[DistributionRow, ...] = ()
    colours: tuple[ColourRow, ...] = ()
    segmentation: tuple[Segmentation, ...] = ()
    mask_fidelity: MaskFidelity | None = None
    text_fidelity: TextFidelity | None = None
    label_fidelity: tuple[LabelFidelity, ...] = ()
    curation: Curation | None = None
    memorisation: Memorisation | None = None
    external: tuple[External, ...] = ()
    scope: str = ""
    drawn: str = ""
    generator_seed: int = 0
    precision: str | None = None
    curves: tuple[Curve, ...] = ()
    validation_pictures: tuple[str, ...] = ()
    gallery: tuple[Picture, ...] = ()
    samples: tuple[Picture, ...] = ()
    work: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def pictures_of(results: Results) -> list[str]:
    """The paths of all images named in the results, relative to their run folder."""
    copies = results.memorisation.pairs if results.memorisation else ()
    columns = (*results.gallery, *results.samples, *copies)
    shown = [path for one in columns for path in (one.mask, one.image, one.real) if path is not None]
    return [*shown, *results.validation_pictures]


# A job's run folder and its results.
Job = tuple[Path, Results]


def save_results(results: Results, path: Path) -> None:
    """Write ``results.json`` atomically."""
    write_bytes(path, (json.dumps(dataclasses.asdict(results), indent=2) + "\n").encode())


def load_results(path: Path) -> Results:
    """Read ``results.json`` as written by :func:`save_results`.

    Raises:
        ValueError: the file is invalid; names every wrong value.
    """
    with reading(path):
        return record(Results, read_json(path, dict))


def record(kind: type[Record], values: Any) -> Record:
    """A record of this module, or several, from the plain values of ``dataclasses.asdict``."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(_renamed(values))


# The keys' former names, in files of earlier versions.
FORMER = {
    "exchanged": "shuffled",
    "mask_obedience": "mask_fidelity",
    "text_obedience": "text_fidelity",
    "label_obedience": "label_fidelity",
    "watched": "validation_pictures",
}


def _renamed(values: Any) -> Any:
    if isinstance(values, dict):
        return {FORMER.get(key, key): _renamed(one) for key, one in values.items()}
    return [_renamed(one) for one in values] if isinstance(values, list) else values
