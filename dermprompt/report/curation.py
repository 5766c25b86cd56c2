"""Which samples were used, which are copies, and how the segmenters do on other data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dermprompt.report import tables
from dermprompt.results import Curation, External, Job, Memorisation, Results

# The ids of a sample and of its nearest image, their distance, and both pictures.
Pair = tuple[str, str, Path, Path]


def curated(jobs: Sequence[Job]) -> tuple[tuple[str, int, Curation], ...]:
    """What became of the samples, by generator and count."""
    return tables.distinct((source_label(r), r.count, r.curation) for _, r in jobs if r.curation)


def source_label(results: Results) -> str:
    """The generator of a job, for captions."""
    return tables.source_of(results, results.generator).label if results.generator else "no generator"


def memorised(jobs: Sequence[Job]) -> list[tuple[str, Memorisation, list[Pair]]]:
    """The memorisation of each generator at its largest count: label, figures, pairs with their pictures."""
    largest: dict[str, Job] = {}
    for path, results in jobs:
        label = source_label(results)
        if results.memorisation and (label not in largest or largest[label][1].count < results.count):
            largest[label] = (path, results)
    return [
        (label, found, [(one.id, one.prompt, path / one.image, path / str(one.real)) for one in found.pairs])
        for label, (path, results) in largest.items()
        for found in [results.memorisation]
        if found
    ]


def external_rows(jobs: Sequence[Job]) -> tuple[tuple[str, External], ...]:
    """Each training on data sets that it has not seen, with its segmenter."""
    return tables.distinct(
        (tables.SEGMENTERS.get(results.segmenter, results.segmenter), row)
        for _, results in jobs
        for row in results.external
    )
