"""Label sources, and how they are joined to the images: nothing lost silently, nothing decided silently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from dermprompt.data.findings import Finding, listed
from dermprompt.data.tables import Fields, Table
from dermprompt.lesion import Lesion

CONFLICT_RULES = ("error", "first", "last", "unknown")
_LABELS = {one.name for one in fields(Lesion)} - {"id", "image", "mask"}


@dataclass(frozen=True)
class Source:
    """What one authority says: for each id the fields of :class:`~dermprompt.lesion.Lesion` that it knows.

    ``num_rows`` counts the rows of its files, also those that were left out.
    """

    name: str
    files: tuple[str, ...]
    rows: dict[str, Fields]
    num_rows: int
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        unknown = {name for row in self.rows.values() for name in row} - _LABELS
        assert not unknown, (self.name, unknown)


@dataclass(frozen=True)
class Coverage:
    """How a source meets the images: ids with a row, images without, rows without image, ids in conflict."""

    source: str
    files: tuple[str, ...]
    num_rows: int
    matched: tuple[str, ...]
    unmatched: tuple[str, ...]
    num_foreign: int
    conflicting: tuple[str, ...]


def source_of(name: str, tables: dict[str, Table]) -> Source:
    """One source of several files, such as a training and a validation table."""
    rows: dict[str, Fields] = {}
    findings = [finding for table in tables.values() for finding in table.findings]
    for file, table in tables.items():
        for id, row in table.rows.items():
            if rows.setdefault(id, row) != row:
                findings.append(Finding("duplicate_row", file, f"{id} was {rows[id]}, now {row}"))
                rows[id] = {}
    return Source(name, tuple(tables), rows, sum(table.num_rows for table in tables.values()), tuple(findings))


def join(
    lesions: Sequence[Lesion], sources: Sequence[Source], on_conflict: str
) -> tuple[list[Lesion], list[Coverage], list[Finding]]:
    """Give every lesion what the sources know of it; ids meet whatever their case.

    Where sources disagree on a field, ``on_conflict`` says which counts: the ``first`` or the ``last`` of
    them in the order of ``sources``, or none (``unknown``).

    Raises:
        ValueError: sources disagree and the rule is ``error``; names all the ids.
    """
    assert on_conflict in CONFLICT_RULES, on_conflict
    found = [_by_case(source) for source in sources]
    joined, conflicts = [], {}
    for lesion in lesions:
        said = {s.name: rows[lesion.id.casefold()][1] for s, rows in _knowing(sources, found, lesion.id)}
        known, disputed = _settle(said, on_conflict)
        joined.append(replace(lesion, **known))
        conflicts.update({(lesion.id, name): values for name, values in disputed.items()})
    if conflicts and on_conflict == "error":
        raise ValueError(_describe(conflicts))
    in_conflict = {(source, id) for (id, _), values in conflicts.items() for source in values}
    coverages = [_coverage(s, rows, lesions, in_conflict) for s, rows in zip(sources, found, strict=True)]
    return joined, coverages, [*_cases(sources, found, lesions), *(f for s in sources for f in s.findings)]


Rows = dict[str, tuple[str, Fields]]


def _by_case(source: Source) -> Rows:
    return {id.casefold(): (id, row) for id, row in source.rows.items()}


def _knowing(sources: Sequence[Source], found: Sequence[Rows], id: str) -> Iterator[tuple[Source, Rows]]:
    return ((s, rows) for s, rows in zip(sources, found, strict=True) if id.casefold() in rows)


def _settle(said: dict[str, Fields], rule: str) -> tuple[Fields, dict[str, dict[str, Any]]]:
    """The fields that count, and those in dispute with what each source says."""
    known: Fields = {}
    disputed = {}
    for name in {name for row in said.values() for name in row}:
        values = {source: row[name] for source, row in said.items() if row.get(name) is not None}
        if not values:
            continue
        ordered = list(values.values())
        if any(value != ordered[0] for value in ordered):
            disputed[name] = values
            known[name] = {"first": ordered[0], "last": ordered[-1]}.get(rule)
        else:
            known[name] = ordered[0]
    return known, disputed


def _describe(conflicts: dict[tuple[str, str], dict[str, Any]]) -> str:
    lines = [
        f"{id} ({', '.join(f'{source}: {value}' for source, value in values.items())})"
        for (id, _), values in conflicts.items()
    ]
    fields = sorted({name for _, name in conflicts})
    return (
        f"label sources disagree on the {' and '.join(fields)} of {len({id for id, _ in conflicts})} images: "
        f"{', '.join(lines)}; mend the files, or set data.on_conflict to first, last or unknown"
    )


def _coverage(source: Source, rows: Rows, lesions: Sequence[Lesion], conflicts: set[tuple[str, str]]) -> Coverage:
    matched = tuple(one.id for one in lesions if one.id.casefold() in rows)
    return Coverage(
        source=source.name,
        files=source.files,
        num_rows=source.num_rows,
        matched=matched,
        unmatched=tuple(one.id for one in lesions if one.id.casefold() not in rows),
        num_foreign=len(rows) - len(matched),
        conflicting=tuple(one.id for one in lesions if (source.name, one.id) in conflicts),
    )


def _cases(sources: Sequence[Source], found: Sequence[Rows], lesions: Sequence[Lesion]) -> Iterator[Finding]:
    for source, rows in zip(sources, found, strict=True):
        written = [(one.id, rows[one.id.casefold()][0]) for one in lesions if one.id.casefold() in rows]
        differing = [f"{there} for {id}" for id, there in written if there != id]
        if differing:
            yield Finding("id_case", source.name, listed(differing))
