"""The rows of Tables 1 and 2, computed from the results of a job or a sweep, without files or drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from dermprompt.report.rows import distinct_by, fold_of, over_folds
from dermprompt.results import ImageQuality, Interval, Job, Results, Segmentation

T = TypeVar("T")

GENERATORS = {
    "pix2pixhd": "Pix2PixHD",
    "controlnet": "ours (ControlNet)",
    "warp": "real images, warped",
    "folder": "another method",
}
# What samples are for; each is compared with a strongly augmented control that trains for the same number of steps.
PURPOSES = {
    "sharing": "shared by another site: against S (open world)",
    "more": "more from the same data: against S (closed world)",
    "instead": "instead of G's real pairs: against S and G",
}
SEGMENTERS = {"unet": "U-Net", "dcsaunet": "DCSAU-Net"}

# Paper, Table 1. Its peak of 255 for images in [0, 1] adds 48.13 dB to the PSNR; its SSIM has a data range of 2.
PAPER_QUALITY = {
    "pix2pixhd": {"mse": 0.09, "psnr": 58.80, "ssim": 0.71},
    "controlnet": {"mse": 0.06, "psnr": 61.64, "ssim": 0.80},
}
# Paper, Table 2, which does not name the network behind the S+N numbers.
PAPER_COUNTS = (1000, 3000, 5000)
PAPER_DICE = {"pix2pixhd": (0.871, 0.903, 0.912), "controlnet": (0.912, 0.913, 0.914)}
PAPER_S_ONLY = {"unet": 0.861, "dcsaunet": 0.903}

METRICS = ("mse", "psnr", "ssim")
CONVENTIONS = ("paper", "standard")
DIGITS = {"mse": 4, "psnr": 2, "ssim": 3}


@dataclass(frozen=True)
class Source:
    """Where an image comes from: a generator, a ControlNet's base, and what the generator has seen if that is not G."""

    generator: str
    base: str | None = None
    scope: str = ""

    @property
    def label(self) -> str:
        """The generator's name as the paper writes it."""
        name = GENERATORS.get(self.generator, self.generator)
        return f"{name}, {self.scope}" if self.scope else name


@dataclass(frozen=True)
class Setting:
    """What two jobs must share for their numbers to be in one table."""

    dataset: str
    image_size: int

    @property
    def label(self) -> str:
        """The setting as text, for captions."""
        return f"{self.dataset}, {self.image_size} px"


@dataclass(frozen=True)
class Run(Generic[T]):
    """A value with the job and seed that it comes from."""

    job: str
    seed: int
    value: T


@dataclass(frozen=True)
class Spread:
    """The mean and range of a number over ``n`` seeds."""

    mean: float
    low: float
    high: float
    n: int

    def text(self, digits: int, sign: str = "") -> str:
        """``mean``, and for several seeds ``mean (low to high)``."""
        low, mean, high = (f"{x:{sign}.{digits}f}" for x in (self.low, self.mean, self.high))
        return mean if self.n == 1 else f"{mean} ({low} to {high})"


@dataclass(frozen=True)
class Entry:
    """One measured number of Table 2 as text. ``sign``: of the gain, ``up``, ``down`` or ``open``."""

    dice: str
    gain: str | None
    sign: str
    note: str


@dataclass(frozen=True)
class Cell:
    """A cell of Table 2: the runs, grouped by setting, and the paper's number if there is one."""

    groups: tuple[tuple[Run[Segmentation], ...], ...]
    paper: float | None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """One entry per group of seeds."""
        return tuple(_entry(group, alone=len(self.groups) == 1) for group in self.groups)


@dataclass(frozen=True)
class DiceRow:
    """A generator's row of Table 2, one cell per count."""

    source: Source
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class DiceTable:
    """Table 2 for one segmenter and setting (paper, section 3.4)."""

    setting: Setting
    segmenter: str
    counts: tuple[int, ...]
    s_only: Cell | None
    rows: tuple[DiceRow, ...]

    @property
    def label(self) -> str:
        """The segmenter's name as the paper writes it."""
        return segmenter_label(self.segmenter)


@dataclass(frozen=True)
class QualityRow:
    """A row of Table 1. ``beats``: (convention, metric) in which a trivial row is better than the best generator."""

    source: Source
    kind: str
    n: int
    note: str
    values: dict[tuple[str, str], Spread]
    beats: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class QualityTable:
    """Table 1 for one setting (paper, section 3.3), generators first."""

    setting: Setting
    rows: tuple[QualityRow, ...]


def count_label(count: int) -> str:
    """Return ``S only``, ``S + 64``, ``S + 3K``."""
    if count == 0:
        return "S only"
    return f"S + {count // 1000}K" if count % 1000 == 0 else f"S + {count}"


def interval_text(interval: Interval, sign: str = "") -> str:
    """Return ``mean [low, high]`` with three decimals; ``sign="+"`` adds plus signs."""
    mean, low, high = (f"{x:{sign}.3f}" for x in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def gain_sign(gain: Interval | None) -> str:
    """``up`` or ``down`` if the interval excludes 0, else ``open``."""
    if gain is None or not (gain.low > 0 or gain.high < 0):
        return "open"
    return "up" if gain.low > 0 else "down"


def segmenter_label(name: str) -> str:
    """A segmenter's name as the paper writes it."""
    return SEGMENTERS.get(name, name)


def real_label(num_real: int | None) -> str:
    """How many real images a segmenter was trained on."""
    return "all of S.train" if num_real is None else f"{num_real} real images"


def setting_of(results: Results) -> Setting:
    """Return the setting of a job."""
    return Setting(results.dataset, results.image_size)


def source_of(results: Results, generator: str | None) -> Source | None:
    """The source that a job means by a generator's name; only the job's own generator has its base and scope."""
    if generator is None:
        return None
    return Source(generator, results.base, results.scope) if generator == results.generator else Source(generator)


def sampler_of(results: Results) -> Source | None:
    """The source of a job's samples: its generator, with the masks and prompts that it was given."""
    source = source_of(results, results.generator)
    return source and replace(source, scope=", ".join(filter(None, (source.scope, results.drawn))))


def dice_tables(jobs: Sequence[Job]) -> tuple[DiceTable, ...]:
    """Build Table 2, one table per setting and segmenter, in order of appearance."""
    found: dict[tuple[Setting, str], dict[tuple[Source | None, int], list[Run[Segmentation]]]] = {}
    for path, results in jobs:
        for cell in filter(is_plain, results.segmentation):
            source = source_of(results, cell.generator)
            table = found.setdefault((setting_of(results), cell.segmenter), {})
            table.setdefault((source, cell.count), []).append(Run(path.name, results.seed, cell))
    return tuple(_dice_table(setting, segmenter, runs) for (setting, segmenter), runs in found.items())


def is_plain(cell: Segmentation) -> bool:
    """Whether a segmenter was trained as in the paper's Table 2: on S.train, alone or with a generator's samples."""
    plain = ("default", "s_only", *(f"{cell.generator}_{k}" for k in ("1k", "3k", "5k")))
    return cell.num_real is None and cell.fold is None and cell.arm in plain


def quality_tables(jobs: Sequence[Job]) -> tuple[QualityTable, ...]:
    """Build Table 1, one table per setting: generators first, then the rows that need none."""
    measured: dict[tuple[Setting, str, Source, int], list[tuple[int | None, Run[ImageQuality]]]] = {}
    for path, results in jobs:
        for row in results.image_quality:
            source, seed = source_of(results, row.name) or Source(row.name), results.generator_seed
            runs = measured.setdefault((setting_of(results), row.kind, source, seed), [])
            runs.append((fold_of(results), Run(path.name, seed, row)))
    found: dict[Setting, dict[tuple[str, Source], list[Run[ImageQuality]]]] = {}
    for (setting, kind, source, _), runs in measured.items():
        rows = over_folds(runs, lambda run: run.value, lambda run, row: replace(run, value=row))
        found.setdefault(setting, {}).setdefault((kind, source), []).extend(rows)
    return tuple(QualityTable(setting, _quality_rows(rows)) for setting, rows in found.items())


def spread(values: Sequence[float]) -> Spread:
    """The mean and range of values."""
    return Spread(math.fsum(values) / len(values), min(values), max(values), len(values))


def _fold(runs: Iterable[Run[T]]) -> tuple[tuple[Run[T], ...], ...]:
    """Group the runs of several seeds; if one seed has two results, settings differ, and all runs stay separate."""
    group = tuple(distinct_by(runs, lambda run: repr((run.seed, run.value))))
    return (group,) if len({run.seed for run in group}) == len(group) else tuple((run,) for run in group)


def _note(group: Sequence[Run[T]], alone: bool) -> str:
    if len(group) > 1:
        return f"mean of {len(group)} seeds (range)"
    return "" if alone else f"job {group[0].job}"


def _entry(group: Sequence[Run[Segmentation]], alone: bool) -> Entry:
    note = _note(group, alone)
    if len(group) == 1:
        cell = group[0].value
        gain = interval_text(cell.gain, "+") if cell.gain else None
        return Entry(interval_text(cell.dice), gain, gain_sign(cell.gain), note)
    gains = [run.value.gain for run in group if run.value.gain]
    signs = {gain_sign(gain) for gain in gains}
    return Entry(
        spread([run.value.dice.mean for run in group]).text(3),
        spread([gain.mean for gain in gains]).text(3, "+") if gains else None,
        signs.pop() if len(signs) == 1 else "open",
        note,
    )


def paper_order(source: Source) -> int:
    """Sort Pix2PixHD first, as in the paper's tables and figures."""
    return 0 if source.generator == "pix2pixhd" else 1


def _dice_table(
    setting: Setting, segmenter: str, runs: dict[tuple[Source | None, int], list[Run[Segmentation]]]
) -> DiceTable:
    sources = sorted(dict.fromkeys(source for source, _ in runs if source), key=paper_order)
    counts = tuple(sorted({count for source, count in runs if source}))

    def cell(source: Source | None, count: int) -> Cell | None:
        if (source, count) not in runs:
            return None
        return Cell(_fold(runs[source, count]), _paper_dice(segmenter, source, count))

    rows = tuple(DiceRow(source, tuple(cell(source, count) for count in counts)) for source in sources)
    return DiceTable(setting, segmenter, counts, cell(None, 0), rows)


def _paper_dice(segmenter: str, source: Source | None, count: int) -> float | None:
    if source is None:
        return PAPER_S_ONLY.get(segmenter)
    return dict(zip(PAPER_COUNTS, PAPER_DICE.get(source.generator, ()), strict=False)).get(count)


def _quality_rows(found: dict[tuple[str, Source], list[Run[ImageQuality]]]) -> tuple[QualityRow, ...]:
    rows = []
    for (kind, source), runs in found.items():
        groups = _fold(runs)
        rows += [_quality_row(kind, source, group, len(groups) == 1) for group in groups]
    rows.sort(key=lambda row: (row.kind != "generator", paper_order(row.source)))
    generators = [row for row in rows if row.kind == "generator"]
    return tuple(row if row.kind == "generator" else _marked(row, generators) for row in rows)


def _quality_row(kind: str, source: Source, group: Sequence[Run[ImageQuality]], alone: bool) -> QualityRow:
    values = {
        (convention, metric): spread([getattr(run.value, convention)[metric] for run in group])
        for convention in CONVENTIONS
        for metric in METRICS
    }
    return QualityRow(source, kind, group[0].value.n, _note(group, alone), values)


def _marked(row: QualityRow, generators: Sequence[QualityRow]) -> QualityRow:
    beats = frozenset(
        key
        for key, value in row.values.items()
        if generators and all(_better(key[1], value.mean, other.values[key].mean) for other in generators)
    )
    return replace(row, beats=beats)


def _better(metric: str, ours: float, theirs: float) -> bool:
    return ours < theirs if metric == "mse" else ours > theirs
