"""The parts of a card, which are Markdown: a front matter, tables, what is known of a licence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def front_matter(values: Mapping[str, Any]) -> str:
    """What Hugging Face's hub reads of a card, as YAML; JSON's values are YAML's too."""
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in values.items()), "---"])


def table(head: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> str:
    """A table of two columns."""
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    return "\n".join([f"| {head[0]} | {head[1]} |", "| --- | --- |", *lines])


def sections(texts: Mapping[str, str]) -> str:
    """Texts under their headings."""
    return "\n\n".join(f"## {name}\n\n{text}" for name, text in texts.items())


def licence_id(licences: Mapping[str, str]) -> str:
    """The hub's word for the licence: none is guessed from a file's text."""
    return "other" if licences else "unknown"


def licence_note(licences: Mapping[str, str]) -> str:
    """What binds what was made from the source. ``licences``: the first line of each licence file, by its place."""
    if not licences:
        return "Unknown: see source. No licence file lay beside the images; what was made from them may be bound by it."
    listed = "\n".join(f"- [{path}]({path}): {line}" for path, line in licences.items())
    return f"These lay beside the images; what was made from them may be bound by them:\n\n{listed}"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
