"""The comparison of arms, as sentences and charts."""

from __future__ import annotations

from collections.abc import Sequence

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
    over = " and ".join(dict.fromkeys(gain.over for _, gain in gains))
    return (
        Markup(gains_svg(gains, f"gain in DSC over the control, simultaneous 95 % interval over {over}"))
        if gains
        else ""
    )


def purpose_charts(arms: Sequence[ArmTable]) -> list[tuple[str, str]]:
    """Charts of the gains by purpose and number of real images, one per data set, image size and segmenter."""
    found: dict[str, list[ArmTable]] = {}
    for table in arms:
        if table.purposes:
            name = segmenter_label(table.segmenter)
            found.setdefault(f"{name}, {table.dataset}, {table.image_size} px", []).append(table)
    return [(caption, Markup(purposes_svg(tables))) for caption, tables in found.items()]


def primary_sentence(jobs: Sequence[Job], arms: Sequence[ArmTable]) -> str:
    """Whether a primary comparison was declared before S.test was scored, and whether it was made."""
    hashes = {results.primary.get("hash", "") for _, results in jobs}
    if len(hashes) != 1 or not all(results.primary.get("declared") for _, results in jobs):
        return "Nothing is primary: no primary comparison was declared before S.test was first scored."
    if not any(row.primary for table in arms for row in table.rows):
        return f"The declared primary comparison (rule {hashes.pop()}) is not among these."
    return f"The comparison marked “primary” was declared before S.test was first scored (rule {hashes.pop()})."


def primary_sentences(arms: Sequence[ArmTable]) -> tuple[str, ...]:
    """The result of each primary comparison, as a sentence."""
    return tuple(
        f"{row.against.verdict.capitalize()}: {row.arm} against {row.control}, "
        f"{interval_text(row.against.gain, '+')} Dice ({arm_setting(table)}; {_measured(row.against.gain)})"
        for table in arms
        for row in table.rows
        if row.primary and row.against
    )


def arm_setting(table: ArmTable) -> str:
    """The setting of a comparison, for captions."""
    trained = f"{segmenter_label(table.segmenter)}, {real_label(table.num_real)}"
    return f"{table.world} world, {trained}, {table.dataset}, {table.image_size} px"


def _measured(gain: Interval) -> str:
    """How many seeds and images a comparison has, and what its interval leaves out."""
    seeds = f"{gain.seeds} seed{'s' if gain.seeds > 1 else ''}, {gain.n:,} test images"
    return seeds if gain.over != "images" else f"{seeds}: a verdict takes five seeds"
