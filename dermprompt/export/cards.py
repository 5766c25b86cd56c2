"""The card of an exported data set or generator: what it is, how and from what it was made, and its licence.

A card is Markdown: front matter, tables, and what is known about the licence.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from dermprompt.results import Results
from dermprompt.synthesis.index import COLUMNS

# At most this many prompts or labels are listed; the others are counted together.
MOST = 50

# Hugging Face's size categories, by their upper bounds.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (float("inf"), "100K<n<1M"))

_WHAT = (
    "Images whose names begin with `SYN_` are synthetic: no patient was photographed. Each says so in its own metadata "
    "(the comment of a JPEG, the text `Comment` of a PNG). Their masks are what they were drawn from, not what someone "
    "saw in them. They are for research on segmentation. They are no evidence about any disease, and a model that was "
    "trained on them is no medical device."
)

_FROM_ELSEWHERE = (
    "Images whose names begin with `SYN_` were made by another program. That they are synthetic, and what that program "
    "has seen, is its author's word; here they were only compared with the real images of this study. They are for "
    "research on segmentation. They are no evidence about any disease, and a model that was trained on them is no "
    "medical device."
)

_FOR = (
    "It draws an image for a given mask, and for a text where it takes one, so that segmentation networks can be "
    "trained on more labelled pairs. It is for research."
)

_LIMITS = (
    "It is not a medical device, and its images are no evidence about any disease: nobody has checked that what it "
    "draws for a diagnosis is what that diagnosis looks like. It knows only what its training images show: people, "
    "cameras and diseases that are rare among them are rare or wrong in its images. It may repeat a training image: "
    "compare its images with them before passing them on (`curation=memorisation`)."
)


@dataclass(frozen=True)
class DatasetFacts:
    """The contents of a data set's card.

    ``layout``: how the files are arranged; ``counts`` and ``made_from``: rows of tables; ``licences``: the first line
    of each of the source's licence files, by its path in the export; ``from_elsewhere``: another program made the
    samples.
    """

    title: str
    layout: str
    counts: Mapping[str, int]
    made_from: Mapping[str, Any]
    licences: Mapping[str, str]
    from_elsewhere: bool = False


def dataset_card(facts: DatasetFacts, rows: Sequence[Mapping[str, Any]]) -> str:
    """The card in Markdown; ``rows``: of the index."""
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
        "Columns of samples.csv": table(("column", "contents"), COLUMNS.items()),
        "Licence of the source": licence_note(facts.licences),
    }
    what = _FROM_ELSEWHERE if facts.from_elsewhere else _WHAT
    return "\n\n".join([front_matter(known), f"# {facts.title}", what, facts.layout, sections(said)]) + "\n"


def _histogram(name: str, values: Iterable[str]) -> str:
    counted = Counter(values).most_common()
    shown, rest = counted[:MOST], counted[MOST:]
    if rest:
        shown.append((f"({len(rest)} others)", sum(number for _, number in rest)))
    return table((name, "number"), shown) if shown else "None."


def _label(row: Mapping[str, Any]) -> str:
    attributes = "attributes unknown" if row["attributes"] is None else row["attributes"]
    return f"{row['diagnosis'] or 'no diagnosis'}: {attributes}"


@dataclass(frozen=True)
class ModelFacts:
    """The contents of a generator's card: ``made_from``, rows of a table; ``opened``, code that opens the generator;
    ``licences`` as in :class:`DatasetFacts`; ``base``: the id or name of a pretrained base.
    """

    title: str
    kind: str
    made_from: Mapping[str, Any]
    opened: str
    licences: Mapping[str, str]
    base: str | None = None


def model_card(facts: ModelFacts, results: Results | None) -> str:
    """The card in Markdown; ``results``: of the same job, if there are any."""
    known: dict[str, Any] = {"license": licence_id(facts.licences), "tags": [facts.kind, "synthetic", "medical"]}
    if facts.kind == "controlnet":
        known["library_name"] = "diffusers"
    note = licence_note(facts.licences)
    if facts.base:
        known["base_model"] = facts.base
        note += f"\n\nIt is built on {facts.base}, whose licence also applies."
    said = {
        "What it is for": _FOR,
        "Limits": _LIMITS,
        "What it was made from": table(("what", "value"), facts.made_from.items()),
        "How it is opened": facts.opened,
        "What was measured": _measured(results),
        "Licence of the training images": note,
    }
    return "\n\n".join([front_matter(known), f"# {facts.title}", sections(said)]) + "\n"


def _figures(measured: Mapping[str, float | None]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in measured.items() if value is not None)


def _measured(results: Results | None) -> str:
    if results is None:
        return "Nothing yet: run the same command with `stage=report`, then export again."
    rows: list[tuple[str, Any]] = []
    for quality in results.image_quality:
        if quality.kind == "generator":
            what = f"images of {quality.n} unseen masks against the real ones (standard protocol)"
            rows.append((what, _figures(quality.standard)))
    for row in results.distribution:
        rows.append((f"{row.name} against unseen real images, {row.features}", _figures(vars(row.values))))
    if results.mask_fidelity:
        rows.append(("mask fidelity: a reference segmenter's Dice", _figures(vars(results.mask_fidelity))))
    if results.text_fidelity:
        rows.append(("text fidelity: balanced accuracy", _figures(vars(results.text_fidelity))))
    return table(("what", "figures"), rows)


def front_matter(values: Mapping[str, Any]) -> str:
    """The part of a card that Hugging Face's hub reads, as YAML; JSON values are valid YAML."""
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in values.items()), "---"])


def table(head: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> str:
    """A table of two columns."""
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    return "\n".join([f"| {head[0]} | {head[1]} |", "| --- | --- |", *lines])


def sections(texts: Mapping[str, str]) -> str:
    """Texts under their headings."""
    return "\n\n".join(f"## {name}\n\n{text}" for name, text in texts.items())


def licence_id(licences: Mapping[str, str]) -> str:
    """The hub's identifier for the licence; it is never guessed from a file's text."""
    return "other" if licences else "unknown"


def licence_note(licences: Mapping[str, str]) -> str:
    """A note on the source's licence. ``licences``: the first line of each licence file, by its path."""
    if not licences:
        return "Unknown: see source. No licence file was found with the images; one may bind what was made from them."
    listed = "\n".join(f"- [{_cell(path)}]({quote(path)}): {_cell(line)}" for path, line in licences.items())
    return f"These were found with the images; they may bind what was made from the images:\n\n{listed}"


def _cell(value: Any) -> str:
    return html.escape(str(value), quote=False).replace("|", "\\|").replace("\n", " ")
