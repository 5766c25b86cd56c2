"""``results.json``: what a job found out, on disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from dermprompt.files import write_bytes
from dermprompt.results import (
    Curation,
    Curve,
    Distribution,
    DistributionRow,
    External,
    ImageQuality,
    Interval,
    MaskObedience,
    Memorisation,
    Picture,
    Results,
    Segmentation,
    Subgroup,
    TextObedience,
)
from dermprompt.results_labels import LabelObedience, LabelScore


def save_results(results: Results, path: Path) -> None:
    """Write ``results.json`` atomically."""
    write_bytes(path, (json.dumps(dataclasses.asdict(results), indent=2) + "\n").encode())


def load_results(path: Path) -> Results:
    """Read ``results.json``; the inverse of :func:`save_results`."""
    raw = json.loads(path.read_text())
    obedience, text = raw.pop("mask_obedience"), raw.pop("text_obedience")
    curation, memorised = raw.pop("curation"), raw.pop("memorisation")
    return Results(
        image_quality=tuple(ImageQuality(**row) for row in raw.pop("image_quality")),
        distribution=tuple(distribution_row(row) for row in raw.pop("distribution")),
        segmentation=tuple(_segmentation(row) for row in raw.pop("segmentation")),
        mask_obedience=MaskObedience(**obedience) if obedience else None,
        text_obedience=TextObedience(**text) if text else None,
        label_obedience=tuple(label_obedience(row) for row in raw.pop("label_obedience")),
        curation=Curation(groups=tuple(map(tuple, curation.pop("groups"))), **curation) if curation else None,
        memorisation=_memorisation(memorised) if memorised else None,
        external=tuple(External(dice=Interval(**row.pop("dice")), **row) for row in raw.pop("external")),
        curves=tuple(_curve(row) for row in raw.pop("curves")),
        watched=tuple(raw.pop("watched", ())),
        gallery=tuple(Picture(**row) for row in raw.pop("gallery")),
        samples=tuple(Picture(**row) for row in raw.pop("samples")),
        **raw,
    )


def _memorisation(row: dict[str, Any]) -> Memorisation:
    return Memorisation(pairs=tuple(Picture(**one) for one in row.pop("pairs")), **row)


def _segmentation(row: dict[str, Any]) -> Segmentation:
    gain, groups = row.pop("gain"), row.pop("groups")
    return Segmentation(
        dice=Interval(**row.pop("dice")),
        gain=Interval(**gain) if gain else None,
        groups=tuple(Subgroup(one["kind"], one["name"], Interval(**one["dice"])) for one in groups),
        **row,
    )


def distribution_row(row: dict[str, Any]) -> DistributionRow:
    """Read a row back from plain values."""
    return DistributionRow(values=Distribution(**row.pop("values")), **row)


def label_obedience(row: dict[str, Any]) -> LabelObedience:
    """Read a row back from plain values."""
    return LabelObedience(label_score(row["real"]), label_score(row["generated"]))


def label_score(row: dict[str, Any]) -> LabelScore:
    """Read a score back from plain values."""
    intervals = {name: Interval(**row[name]) if row[name] else None for name in ("accuracy", "exchanged", "auc")}
    return LabelScore(**{**row, **intervals})


def _curve(row: dict[str, Any]) -> Curve:
    return Curve(row["training"], row["metric"], tuple(row["steps"]), tuple(row["values"]))
