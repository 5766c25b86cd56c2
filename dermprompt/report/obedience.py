"""Whether the images of each job follow their masks and their prompts, and what to make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dermprompt.report import tables
from dermprompt.report.tables import Source
from dermprompt.results import Job, MaskObedience, TextObedience


@dataclass(frozen=True)
class ObedienceRow:
    """Whether the images of one job follow their masks and their prompts; ``by_label``: a table of its own says."""

    source: Source
    job: str
    seed: int
    mask: MaskObedience | None
    text: TextObedience | None
    by_label: bool


def obedience_rows(jobs: Sequence[Job]) -> tuple[ObedienceRow, ...]:
    """List what each generator's jobs measured, the same measurement once."""
    rows: dict[str, ObedienceRow] = {}
    for path, results in jobs:
        if results.generator is None:
            continue
        source = tables.source_of(results, results.generator)
        measured = results.mask_obedience, results.text_obedience, bool(results.label_obedience)
        row = ObedienceRow(source, path.name, results.generator_seed, *measured)
        key = repr((source, tables.setting_of(results), row.seed, row.mask, row.text))
        rows.setdefault(key, row)
    return tuple(sorted(rows.values(), key=lambda row: tables.paper_order(row.source)))


def obedience_notes(row: ObedienceRow) -> tuple[str, ...]:
    """Say what the numbers of a row warn of."""
    notes, who = [], f"{row.source.label}, job {row.job}"
    if row.mask and row.mask.generated > row.mask.real:
        notes.append(
            f"{who}: the judge finds lesions better in generated images than in real ones. "
            "This is a warning of cartoons: clean shapes without the difficulty of real photographs."
        )
    if row.mask and row.mask.generated <= row.mask.exchanged:
        notes.append(f"{who}: not above the level of chance, so the images do not follow their masks.")
    if row.text and row.text.accuracy <= row.text.exchanged:
        notes.append(f"{who}: not above the level of chance, so the images do not follow their prompts.")
    return tuple(notes)
