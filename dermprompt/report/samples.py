"""The report's rows about samples (fidelity, distribution, colours, curation, copies) and external test sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from dermprompt.report import tables
from dermprompt.report.rows import as_shown, distinct, distinct_by, fold_of, over_folds, without_jobs
from dermprompt.report.tables import Setting, Source, sampler_of, setting_of, source_of
from dermprompt.results import (
    ColourRow,
    Curation,
    DistributionRow,
    External,
    Interval,
    Job,
    LabelFidelity,
    LabelScore,
    MaskFidelity,
    Memorisation,
    Results,
    Subgroup,
    TextFidelity,
)

Measured = TypeVar("Measured", DistributionRow, ColourRow)
# A generator, a setting and a seed.
Key = tuple[Source, Setting, int]
# Whether the samples follow a label, as text.
FOLLOWED = {True: "yes", False: "not shown", None: "too few"}
# The ids of a sample and its nearest image, their distance, and both images.
Pair = tuple[str, str, Path, Path]


@dataclass(frozen=True)
class FidelityRow:
    """How well the images of one job follow their masks and prompts.

    ``job`` is empty if generator and seed identify the row. ``by_label``: text fidelity has a separate table.
    """

    source: Source
    job: str
    seed: int
    mask: MaskFidelity | None
    text: TextFidelity | None
    by_label: bool


def fidelity_rows(jobs: Sequence[Job]) -> tuple[FidelityRow, ...]:
    """What each generator's jobs measured; equal measurements are listed once, and folds together."""
    measured: dict[Key, list[tuple[int | None, FidelityRow]]] = {}
    for path, results in jobs:
        source, seed = source_of(results, results.generator), results.generator_seed
        if source is not None:
            found = results.mask_fidelity, results.text_fidelity, bool(results.label_fidelity)
            row = FidelityRow(source, path.name, seed, *found)
            measured.setdefault((source, setting_of(results), seed), []).append((fold_of(results), row))
    rows = [one for rows in measured.values() for one in _over_folds(rows)]
    return without_jobs(
        sorted(rows, key=lambda row: tables.paper_order(row.source)), lambda row: (row.source, row.seed)
    )


def _over_folds(rows: Sequence[tuple[int | None, FidelityRow]]) -> list[FidelityRow]:
    by_label = any(row.by_label for _, row in rows)
    if all(row.mask for _, row in rows):
        return over_folds(rows, lambda row: row.mask, lambda row, mask: replace(row, mask=mask, by_label=by_label))
    return distinct_by((row for _, row in rows), lambda row: repr((row.mask, row.text)))


def fidelity_notes(row: FidelityRow) -> tuple[str, ...]:
    """The warnings that follow from a row's numbers."""
    notes, who = [], f"{row.source.label}, job {row.job}" if row.job else f"{row.source.label}, seed {row.seed}"
    if row.mask and row.mask.generated > row.mask.real:
        notes.append(
            f"{who}: the reference segmenter finds lesions better in generated images than in real ones. "
            "Beware of cartoons: clean shapes without the difficulty of real photographs."
        )
    if row.mask and not row.mask.shown:
        notes.append(f"{who}: not above chance, so the images do not follow their masks.")
    if row.text and row.text.accuracy <= row.text.shuffled:
        notes.append(f"{who}: not above chance, so the images do not follow their prompts.")
    return tuple(notes)


def label_tables(jobs: Sequence[Job]) -> tuple[tuple[Source, Setting, int, tuple[LabelFidelity, ...]], ...]:
    """For each generator with its masks and prompts, setting and seed, the rows at its largest number of samples."""
    found: dict[Key, list[Results]] = {}
    for _, results in jobs:
        source = sampler_of(results)
        if source and results.label_fidelity:
            found.setdefault((source, setting_of(results), results.generator_seed), []).append(results)
    ordered = sorted(found.items(), key=lambda item: tables.paper_order(item[0][0]))
    return tuple((*key, max(those, key=lambda one: one.count).label_fidelity) for key, those in ordered)


def score_text(interval: Interval | None) -> str:
    """A mean and its interval, or a note that there are too few images."""
    return tables.interval_text(interval) if interval else "too few"


def images_text(score: LabelScore) -> str:
    """How many images have the label, out of those for which it is known."""
    return f"{score.n}" if score.positives is None else f"{score.positives} of {score.n}"


def distribution_tables(jobs: Sequence[Job]) -> tuple[tuple[Setting, tuple[DistributionRow, ...]], ...]:
    """The rows for each setting, features and number of images: the floor, then the generators."""
    found: dict[tuple[Setting, str, int], list[tuple[Results, DistributionRow]]] = {}
    for _, results in jobs:
        for row in results.distribution:
            found.setdefault((setting_of(results), row.features, row.values.n), []).append((results, row))
    ordered = {key: sorted(_named(rows), key=lambda row: row.kind != "floor") for key, rows in found.items()}
    return tuple((setting, tuple(rows)) for (setting, _, _), rows in ordered.items())


def colour_tables(jobs: Sequence[Job]) -> tuple[tuple[Setting, tuple[ColourRow, ...]], ...]:
    """The rows for each setting, by region, with real images first."""
    found: dict[Setting, list[tuple[Results, ColourRow]]] = {}
    for _, results in jobs:
        found.setdefault(setting_of(results), []).extend((results, row) for row in results.colours)
    return tuple(
        (setting, tuple(sorted(_named(rows), key=lambda row: (row.region, row.kind != "real"))))
        for setting, rows in found.items()
        if rows
    )


def _named(found: Sequence[tuple[Results, Measured]]) -> list[Measured]:
    """Each row once; a generator's is named by its samples, and where these were measured several times, by the job."""
    named = ((_by_source(row, results), _where(results)) for results, row in found)
    rows = distinct_by(named, lambda pair: as_shown(pair[0]))
    times = Counter(_what(row) for row, _ in rows)
    return [replace(row, name=f"{row.name}, {where}") if times[_what(row)] > 1 else row for row, where in rows]


def _by_source(row: Measured, results: Results) -> Measured:
    source = sampler_of(results) if row.kind == "generator" else None
    return replace(row, name=source.label) if source else row


def _what(row: Measured) -> tuple[str, str]:
    return row.name, getattr(row, "region", "")


def _where(results: Results) -> str:
    """What tells measurements of the same samples apart."""
    parts = [results.base, _fold_label(results), f"seed {results.generator_seed}"]
    return ", ".join(filter(None, parts))


def _fold_label(results: Results) -> str:
    fold = fold_of(results)
    return "" if fold is None else f"fold {fold}"


def colour_note(row: ColourRow) -> str:
    """The warning that follows from a row; empty if no colour drifts."""
    if not row.drifted:
        return ""
    return f"{row.name}: colours {row.region} the masks drift from those of real images: {', '.join(row.drifted)}."


def curated(jobs: Sequence[Job]) -> tuple[tuple[str, int, Curation], ...]:
    """What curation did with the samples, by generator, fold and count."""
    named = [(", ".join(filter(None, (source_label(one), _fold_label(one)))), one) for _, one in jobs if one.curation]
    return distinct((name, one.count, one.curation) for name, one in named if one.curation)


def source_label(results: Results) -> str:
    """The source of a job's samples, for captions."""
    source = sampler_of(results)
    return source.label if source else "no generator"


def memorised(jobs: Sequence[Job]) -> list[tuple[str, Memorisation, list[Pair]]]:
    """Memorisation of each generator at its largest count: label, figures, pairs with their images."""
    found: dict[str, list[tuple[int, Path, Memorisation]]] = {}
    for path, results in jobs:
        if results.memorisation:
            found.setdefault(source_label(results), []).append((results.count, path, results.memorisation))
    largest = {label: max(those, key=itemgetter(0)) for label, those in found.items()}
    return [
        (label, one, [(pair.id, pair.prompt, path / pair.image, path / str(pair.real)) for pair in one.pairs])
        for label, (_, path, one) in largest.items()
    ]


def external_diagnoses(jobs: Sequence[Job]) -> tuple[tuple[External, tuple[Subgroup, ...]], ...]:
    """Each training on external data sets by diagnosis, if diagnoses are known."""
    found = [(row, tuple(one for one in row.groups if one.kind == "diagnosis")) for _, row in external_rows(jobs)]
    return tuple((row, groups) for row, groups in found if {one.name for one in groups} - {"unknown"})


def external_rows(jobs: Sequence[Job]) -> tuple[tuple[str, External], ...]:
    """Each training's results on external data sets, with its segmenter."""
    return distinct((tables.segmenter_label(results.segmenter), row) for _, results in jobs for row in results.external)
