"""The card of an exported data set: what its synthetic images are, what they were made from, what binds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dermprompt.stages.card import front_matter, licence_id, licence_note, sections, table
from dermprompt.synthesis.index import COLUMNS

# Prompts and labels beyond so many are counted together.
MOST = 50

# Hugging Face's names for numbers of images below a bound.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (float("inf"), "100K<n<1M"))

_WHAT = (
    "Images whose names begin with `SYN_` are synthetic: no patient was photographed. Each says so in its own metadata "
    "(the comment of a JPEG, the text `Comment` of a PNG). Their masks are what they were drawn from, not what someone "
    "saw in them. They are for research on segmentation. They are no evidence on any disease, and a model that was "
    "trained on them is no medical device."
)


@dataclass(frozen=True)
class DatasetFacts:
    """What a card says: ``layout``, how the files lie; ``counts`` and ``made_from``, rows of tables; ``licences``, the
    first line of each licence file of the source, by its place in the export.
    """

    title: str
    layout: str
    counts: Mapping[str, int]
    made_from: Mapping[str, Any]
    licences: Mapping[str, str]


def dataset_card(facts: DatasetFacts, rows: Sequence[Mapping[str, Any]]) -> str:
    """The card in Markdown; ``rows`` are those of the index."""
    known = {
        "pretty_name": facts.title,
        "license": licence_id(facts.licences),
        "task_categories": ["image-segmentation"],
        "tags": ["synthetic", "medical"],
        "size_categories": [next(name for bound, name in _SIZES if len(rows) < bound)],
    }
    said = {
        "What is in it": table(("what", "number"), facts.counts.items()),
        "What it was made from": table(("what", "value"), facts.made_from.items()),
        "Labels of the synthetic images": _histogram("label", (_label(row) for row in rows)),
        "Prompts": _histogram("prompt", (row["prompt"] or "(empty)" for row in rows)),
        "Columns of samples.csv": table(("column", "what stands in it"), COLUMNS.items()),
        "Licence of the source": licence_note(facts.licences),
    }
    return "\n\n".join([front_matter(known), f"# {facts.title}", _WHAT, facts.layout, sections(said)]) + "\n"


def _histogram(name: str, values: Iterable[str]) -> str:
    counted = Counter(values).most_common()
    shown, rest = counted[:MOST], counted[MOST:]
    if rest:
        shown.append((f"({len(rest)} others)", sum(number for _, number in rest)))
    return table((name, "number"), shown) if shown else "None."


def _label(row: Mapping[str, Any]) -> str:
    attributes = "attributes unknown" if row["attributes"] is None else row["attributes"]
    return f"{row['diagnosis'] or 'no diagnosis'}: {attributes}"
