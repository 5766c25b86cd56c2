"""Sets of images against real ones, setting by setting."""

from __future__ import annotations

from collections.abc import Sequence

from dermprompt.report.tables import Setting, distinct, setting_of
from dermprompt.results import DistributionRow, Job


def distribution_tables(jobs: Sequence[Job]) -> tuple[tuple[Setting, tuple[DistributionRow, ...]], ...]:
    """The rows of one setting, features and number of images: the floor, then the generators."""
    found: dict[tuple[Setting, str, int], list[DistributionRow]] = {}
    for _, results in jobs:
        for row in results.distribution:
            found.setdefault((setting_of(results), row.features, row.values.n), []).append(row)
    ordered = {key: sorted(distinct(rows), key=lambda row: row.kind != "floor") for key, rows in found.items()}
    return tuple((setting, tuple(rows)) for (setting, _, _), rows in ordered.items())
