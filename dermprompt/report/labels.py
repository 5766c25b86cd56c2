"""What samples show of the labels that they were asked for, beside real images."""

from __future__ import annotations

from collections.abc import Sequence

from dermprompt.report import tables
from dermprompt.report.tables import Setting, Source
from dermprompt.results import Interval, Job, LabelObedience, LabelScore

Key = tuple[Source, Setting, int]
VERDICTS = {True: "yes", False: "not shown", None: "too few"}


def label_tables(jobs: Sequence[Job]) -> tuple[tuple[Source, Setting, int, tuple[LabelObedience, ...]], ...]:
    """For each generator, setting and seed the rows of its largest number of samples."""
    found: dict[Key, tuple[int, tuple[LabelObedience, ...]]] = {}
    for _, results in jobs:
        if results.generator is None or not results.label_obedience:
            continue
        source = tables.source_of(results, results.generator)
        key = (source, tables.setting_of(results), results.generator_seed)
        if key not in found or results.count > found[key][0]:
            found[key] = (results.count, results.label_obedience)
    ordered = sorted(found.items(), key=lambda item: tables.paper_order(item[0][0]))
    return tuple((*key, rows) for key, (_, rows) in ordered)


def score_text(interval: Interval | None) -> str:
    """A mean and its range, or that there are too few images."""
    return tables.interval_text(interval) if interval else "too few"


def images_text(score: LabelScore) -> str:
    """How many images have the label, of those of which it is known."""
    return f"{score.n}" if score.positives is None else f"{score.positives} of {score.n}"
