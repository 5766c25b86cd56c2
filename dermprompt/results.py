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
    """A mean over ``n`` images and its interval, at 95 % where nothing else is said.

    ``over`` says what the interval covers: ``images``, or ``seeds and images`` (of ``seeds`` trainings).
    """

    mean: float
    low: float
    high: float
    n: int
    over: str = "images"
    seeds: int = 1


@dataclass(frozen=True)
class Comparison:
    """Two arms on the same images and seeds: the mean difference, and what it says.

    ``verdict``: better, worse, equivalent or unresolved. ``effect``: the difference in standard deviations over
    images. ``smallest``: the difference that would have been shown with 80 % power. ``p`` belongs to ``gain``,
    ``wilcoxon`` to another question, whether more images gain than lose.
    """

    gain: Interval
    verdict: str
    effect: float
    smallest: float
    p: float
    wilcoxon: float


@dataclass(frozen=True)
class ImageQuality:
    """A row of Table 1: generated against real images of the same masks (paper, section 3.3).

    ``paper`` and ``standard`` hold mse, psnr and ssim in the two conventions.
    ``kind`` is ``generator``, or ``trivial`` for a row that needs no generator at all.
    """

    name: str
    kind: str
    n: int
    paper: dict[str, float]
    standard: dict[str, float]


@dataclass(frozen=True)
class Subgroup:
    """The Dice of some of the test images: those of one diagnosis, size, attribute, or at the border."""

    kind: str
    name: str
    dice: Interval


@dataclass(frozen=True)
class Segmentation:
    """A cell of Table 2: the Dice of a segmenter on S.test (paper, section 3.4).

    ``generator`` is None and ``count`` 0 for S only. ``gain`` is the paired difference to S only.
    ``failures`` is the share of test images with a Dice under 0.5. ``arm`` names what it was trained on, of
    ``num_real`` images of S.train (None: all), with ``seed``; ``scores`` is the csv of every image's measures, in
    the run folder; ``measures`` are their means. ``world``: what its samples or real images come from, ``open`` (G) or
    ``closed`` (S.train alone); None for S only, which belongs to both. ``steps_of``: it took as many steps as S with
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
        """The arm's own name, or what it was made of."""
        if self.arm != "default":
            return self.arm
        return f"{self.generator}_{self.count}" if self.generator else "s_only"


@dataclass(frozen=True)
class ArmRow:
    """One arm over its seeds: the mean Dice, and what it is against its control (None for a control itself).

    ``adjusted`` is the comparison's p after Holm's correction among the exploratory rows; the intervals of those
    are simultaneous. ``primary``: the one comparison that was named beforehand. ``dice`` is None where its seeds share
    fewer than two test images, ``against`` where it and its control do: gaps, to be shown as such.
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
    """Two arms of which neither is the other's control; exploratory, the intervals of all pairs simultaneous."""

    arm: str
    other: str
    against: Comparison
    adjusted: float


@dataclass(frozen=True)
class PurposeRow:
    """What an arm's samples are worth for one purpose: the gain over its control there.

    ``share``, where they stand in for G's real pairs: of what these gain over S alone, how much the samples give; None
    where that gain is not shown. The intervals of a table's purposes are simultaneous.
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
    """One set of ``n`` images against another of ``n``, by their features: the Fréchet and the kernel distance,
    precision and recall, density and coverage.
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
    """A set of images against as many real ones that no generator has seen, by the named features.

    ``kind``: ``generator``, or ``floor`` for real images against real ones.
    """

    name: str
    kind: str
    features: str
    values: Distribution


@dataclass(frozen=True)
class ColourRow:
    """Colours of ``n`` images inside or outside their masks (``region``), red, green and blue from 0 to 255: the mean
    and the standard deviation over pixels, both averaged over images.

    ``kind``: ``generator``, or ``real`` for images that no generator has seen. ``drifted``: which figures lie far from
    real images'.
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
    ``shuffled``: those images against the masks of other images, the level of chance; ``chance``: what images that
    ignore their masks reach with a probability of 2.5 %, None in older files.
    """

    real: float
    generated: float
    shuffled: float
    n: int
    chance: float | None = None

    @property
    def shown(self) -> bool:
        """Whether the images follow their masks better than those of others."""
        return self.generated > max(self.shuffled, self.chance or 0.0)


@dataclass(frozen=True)
class TextFidelity:
    """Balanced accuracy with which a fixed rule reads the prompted diagnosis from the samples.

    ``shuffled``: the same against the prompts of other samples, the level of chance.
    """

    accuracy: float
    shuffled: float
    n: int


@dataclass(frozen=True)
class LabelScore:
    """How well a classifier gives one label of ``n`` images, of which ``positives`` have it (None: several classes).

    ``measure``: what ``accuracy`` is, ``balanced accuracy``, or for one class of several its ``recall``.
    ``shuffled``: the same with the labels of other images, its mean and range (95 %) over their random orders. All
    are None where there are too few images.
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
    """A classifier trained on real images alone: on those of S.test, and on samples that were asked for the label."""

    real: LabelScore
    generated: LabelScore

    @property
    def shown(self) -> bool | None:
        """Whether the samples' accuracy lies above the range of shuffled prompts; None where there is no number."""
        one = self.generated
        return None if one.accuracy is None or one.shuffled is None else one.accuracy.mean > one.shuffled.high


@dataclass(frozen=True)
class Curation:
    """What became of the samples, and what the rule favours.

    ``groups``: of each kind and name (size, diagnosis) the numbers of samples drawn and used. ``real``: the share of
    S.train's own images that the rule would keep or relabel; None where it does not score them.
    """

    name: str
    kept: int
    relabelled: int
    dropped: int
    groups: tuple[tuple[str, str, int, int], ...]
    real: float | None


@dataclass(frozen=True)
class Memorisation:
    """How many of ``n`` samples count as copies: nearer to G, in ``features``, than the share ``quantile`` of unseen
    real images. ``nearer``: the share nearer to G than to as many unseen images; ``chance``: where 95 % of such shares
    lie where nothing is memorised. Both are None without unseen images. ``pairs``: the nearest ones, the image of G
    beside the sample. ``of_all``: all real images took G's place, for what the generator has seen is not known.
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
    """One training on a data set that it has not seen: its Dice, also of groups of images, and means of measures."""

    dataset: str
    arm: str
    count: int
    num_real: int | None
    seed: int
    dice: Interval
    measures: dict[str, float]
    groups: tuple[Subgroup, ...] = ()


@dataclass(frozen=True)
class Curve:
    """A learning curve: ``values[k]`` of ``metric`` at ``steps[k]`` of the named training."""

    training: str
    metric: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """One column of the gallery or one synthetic sample; the paths are relative to the run folder."""

    id: str
    mask: str
    image: str
    real: str | None = None
    prompt: str = ""


@dataclass(frozen=True)
class Results:
    """All that a job found out. What was asked stands first.

    ``seed`` is the segmenter's, ``generator_seed`` that of all else. ``precision``: of the trainings, None in older
    files. ``scope``: what a generator has seen, where that is not G. ``primary``: the comparison that decides (the keys
    of ``evaluation.primary``, ``hash``, and ``declared``: whether it was named before S.test was first scored).
    ``test_reads``: how often predictions of a test set were scored in this store. ``validation_pictures``: of the
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
    generator_seed: int = 0
    precision: str | None = None
    curves: tuple[Curve, ...] = ()
    validation_pictures: tuple[str, ...] = ()
    gallery: tuple[Picture, ...] = ()
    samples: tuple[Picture, ...] = ()
    work: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def pictures_of(results: Results) -> list[str]:
    """The files of all pictures that results name, relative to their run folder."""
    copies = results.memorisation.pairs if results.memorisation else ()
    columns = (*results.gallery, *results.samples, *copies)
    shown = [path for one in columns for path in (one.mask, one.image, one.real) if path is not None]
    return [*shown, *results.validation_pictures]


# A job's run folder, and what it found out.
Job = tuple[Path, Results]


def save_results(results: Results, path: Path) -> None:
    """Write ``results.json`` atomically."""
    write_bytes(path, (json.dumps(dataclasses.asdict(results), indent=2) + "\n").encode())


def load_results(path: Path) -> Results:
    """Read ``results.json``; the inverse of :func:`save_results`.

    Raises:
        ValueError: it is no such file; names every value that does not fit.
    """
    with reading(path):
        return record(Results, read_json(path, dict))


def record(kind: type[Record], values: Any) -> Record:
    """A record of this module, or several, from the plain values that its ``dataclasses.asdict`` gave."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(_renamed(values))


# What files of earlier versions call the same.
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
