"""The comparison of arms, as sentences and charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from dermprompt.report.figures import gains_svg, purposes_svg
from dermprompt.report.tables import interval_text, real_label, segmenter_label
from dermprompt.results import ArmTable, Interval, Job


def arm_chart(table: ArmTable) -> str:
    """A chart of every arm's difference to its control; empty if nothing could be compared."""
    gains = [
        (f"{row.arm} − {row.control}{' (primary)' if row.primary else ''}", row.against.gain)
        for row in table.rows
        if row.against
    ]
    return Markup(gains_svg(gains, "the control")) if gains else ""


def purpose_charts(arms: Sequence[ArmTable]) -> list[tuple[str, str]]:
    """Charts of the gains by purpose and number of real images, one per data set, image size and segmenter."""
    found: dict[str, list[ArmTable]] = {}
    for table in arms:
        if table.purposes:
            name = segmenter_label(table.segmenter)
            found.setdefault(f"{name}, {table.dataset}, {table.image_size} px", []).append(table)
    return [(caption, Markup(purposes_svg(tables))) for caption, tables in found.items()]


def primary_rule(jobs: Sequence[Job]) -> dict[str, Any]:
    """The hash of the primary comparison, and whether all jobs declared it before S.test was scored."""
    hashes = {results.primary.get("hash", "") for _, results in jobs}
    declared = len(hashes) == 1 and all(results.primary.get("declared") for _, results in jobs)
    return {"declared": declared, "hash": ", ".join(sorted(hashes))}


def primary_sentences(arms: Sequence[ArmTable]) -> tuple[str, ...]:
    """The result of each primary comparison, as a sentence."""
    return tuple(
        f"{row.against.verdict.capitalize()}: {row.arm} against {row.control}, "
        f"{interval_text(row.against.gain, '+')} Dice ({arm_setting(table)}){_over(row.against.gain)}"
        for table in arms
        for row in table.rows
        if row.primary and row.against
    )


def arm_setting(table: ArmTable) -> str:
    """The setting of a comparison, for captions."""
    trained = f"{segmenter_label(table.segmenter)}, {real_label(table.num_real)}"
    return f"{table.world} world, {trained}, {table.dataset}, {table.image_size} px"


def _over(interval: Interval) -> str:
    return "" if interval.over != "images" else "; the interval covers test images only, another training may differ"
