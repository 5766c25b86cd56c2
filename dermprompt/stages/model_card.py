"""The card of an exported generator: what it was trained on and how, what it is for, how it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dermprompt.results import Results
from dermprompt.stages.card import front_matter, licence_id, licence_note, sections, table

_FOR = (
    "It draws an image for a given mask, and for a text where it takes one, so that segmentation networks can be "
    "trained on more labelled pairs. It is for research."
)

_LIMITS = (
    "It is not a medical device, and its images are no evidence on any disease: nobody has checked that what it draws "
    "for a diagnosis is what that diagnosis looks like. It knows only what its training images show: people, cameras "
    "and diseases that are rare among them are rare or wrong in what it draws. It may repeat a training image; compare "
    "what it draws with them before passing it on (`curation=memorisation`)."
)


@dataclass(frozen=True)
class ModelFacts:
    """What a card says: ``made_from``, rows of a table; ``opened``, code that opens it; ``licences`` as in
    :class:`~dermprompt.stages.dataset_card.DatasetFacts`; ``base``: where a pretrained base is, by id or name.
    """

    title: str
    kind: str
    made_from: Mapping[str, Any]
    opened: str
    licences: Mapping[str, str]
    base: str | None = None


def model_card(facts: ModelFacts, results: Results | None) -> str:
    """The card in Markdown; ``results`` of the same job, where there are any."""
    known: dict[str, Any] = {"license": licence_id(facts.licences), "tags": [facts.kind, "synthetic", "medical"]}
    if facts.kind == "controlnet":
        known["library_name"] = "diffusers"
    note = licence_note(facts.licences)
    if facts.base:
        known["base_model"] = facts.base
        note += f"\n\nIt stands on {facts.base}, whose licence binds it too."
    said = {
        "What it is for": _FOR,
        "Limits": _LIMITS,
        "What it was made from": table(("what", "value"), facts.made_from.items()),
        "How it is opened": facts.opened,
        "What was measured": _measured(results),
        "Licence of the training images": note,
    }
    return "\n\n".join([front_matter(known), f"# {facts.title}", sections(said)]) + "\n"


def _measured(results: Results | None) -> str:
    if results is None:
        return "Nothing yet: `stage=report` of the same command measures, and a later export says it here."
    rows: list[tuple[str, Any]] = []
    for quality in results.image_quality:
        if quality.kind == "generator":
            figures = ", ".join(f"{key} {value:.4g}" for key, value in quality.standard.items())
            rows.append((f"images of {quality.n} unseen masks beside the real ones (standard protocol)", figures))
    for row in results.distribution:
        figures = ", ".join(f"{key} {value:.4g}" for key, value in vars(row.values).items())
        rows.append((f"{row.name} against unseen real images, {row.features}", figures))
    if results.mask_obedience:
        obeyed = vars(results.mask_obedience)
        rows.append(("masks obeyed: a judge's Dice", ", ".join(f"{key} {value:.4g}" for key, value in obeyed.items())))
    if results.text_obedience:
        read = vars(results.text_obedience)
        rows.append(("text obeyed: balanced accuracy", ", ".join(f"{key} {value:.4g}" for key, value in read.items())))
    return table(("what", "figures"), rows)
