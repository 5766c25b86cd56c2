"""The card of a synthetic set: what it is, and which labels were requested, drawn, and occur in training."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dermprompt.files import write_bytes, write_json
from dermprompt.synthesis.samples import read_all_records

# Diagnosis and attributes, each None if unknown or not requested.
LabelKey = tuple[str | None, tuple[str, ...] | None]

_LICENCE = (
    "These images are synthetic: no patient was photographed. They were drawn by a network that was trained on real "
    "images, whose licence may bind them. `batches/*.json` says for each where it came from."
)


def write_card(
    folder: Path,
    generator: str,
    settings: Mapping[str, Any],
    asked: Mapping[LabelKey, float],
    training: Mapping[LabelKey, int],
) -> None:
    """Write ``card.json`` and ``card.md`` about all existing samples.

    ``asked``: the sampler's probability of each label. ``training``: how many training images have it.
    """
    rows = read_all_records(folder)
    drawn = Counter((row.diagnosis, None if row.attributes is None else tuple(row.attributes)) for row in rows)
    histogram = [
        {
            "diagnosis": label[0],
            "attributes": None if label[1] is None else list(label[1]),
            "asked": asked.get(label, 0.0),
            "drawn": drawn[label],
            "training": training.get(label, 0),
        }
        for label in sorted({*asked, *drawn}, key=lambda one: (-asked.get(one, 0.0), str(one)))
    ]
    card = {"generator": generator, "samples": len(rows), **settings, "training_images": sum(training.values())}
    write_json(folder / "card.json", {**card, "histogram": histogram})
    write_bytes(folder / "card.md", _markdown(card, histogram).encode())


def _markdown(card: Mapping[str, Any], histogram: list[dict[str, Any]]) -> str:
    facts = [f"- {key}: {html.escape(str(value), quote=False)}" for key, value in card.items()]
    total = max(1, card["samples"]), max(1, card["training_images"])
    lines = [
        f"| {_words(row)} | {row['asked']:.1%} | {row['drawn'] / total[0]:.1%} ({row['drawn']}) "
        f"| {row['training'] / total[1]:.1%} | {'█' * round(40 * row['drawn'] / total[0])} |"
        for row in histogram
    ]
    head = ["| label | asked | drawn | in G | |", "| --- | ---: | ---: | ---: | --- |"]
    return "\n".join(["# A synthetic set", "", _LICENCE, "", *facts, "", "## Labels", "", *head, *lines, ""])


def _words(row: dict[str, Any]) -> str:
    attributes = row["attributes"]
    said = "attributes unknown" if attributes is None else ", ".join(attributes) or "none"
    return html.escape(f"{row['diagnosis'] or 'no diagnosis'}: {said}", quote=False).replace("|", "\\|")
