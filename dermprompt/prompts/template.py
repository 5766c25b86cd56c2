"""From labels to the text of a prompt, and back.

The paper makes prompts of diagnosis and attributes (section 3.1) but does not print its template: this one
is this package's own. Whoever changes a word of it, or of the vocabulary, raises ``TEMPLATE_VERSION``.
"""

from __future__ import annotations

from collections.abc import Sequence

from dermprompt.prompts.vocabulary import ATTRIBUTES, DIAGNOSES, diagnosis_name, ordered_attributes

TEMPLATE_VERSION = 1

_OPENING = "dermoscopic image of "
_UNKNOWN = "skin lesion"


def compose(diagnosis: str | None, attributes: Sequence[str] | None) -> str:
    """Compose a prompt, such as "dermoscopic image of a melanoma with pigment network and globules".

    ``diagnosis``: a code of the vocabulary, or None for "a skin lesion". ``attributes``: codes in any
    order, named in the vocabulary's; a text model reads negations badly, so that none present and none
    known give the same prompt. Raises ValueError for a code that is not known, listing those that are.
    """
    name = _UNKNOWN if diagnosis is None else diagnosis_name(diagnosis)
    article = "an" if name[0] in "aeiou" else "a"
    present = [ATTRIBUTES[code] for code in ordered_attributes(attributes or ())]
    return f"{_OPENING}{article} {name}" + (f" with {_enumerate(present)}" if present else "")


def parse(prompt: str) -> tuple[str | None, tuple[str, ...] | None]:
    """Read diagnosis and attributes from a prompt; the inverse of :func:`compose`.

    A prompt that names no attribute leaves them unknown: None. Raises ValueError for any other text.
    """
    subject, _, rest = prompt.removeprefix(_OPENING).partition(" with ")
    name = subject.partition(" ")[2]
    names = rest.replace(" and ", ", ").split(", ") if rest else []
    diagnosis = {text: code for code, text in DIAGNOSES.items()}.get(name)
    codes = {text: code for code, text in ATTRIBUTES.items()}
    attributes = tuple(codes[text] for text in names if text in codes) or None
    # Whatever was overlooked above, an article or an order, does not compose to the same text.
    if compose(diagnosis, attributes) != prompt:
        raise ValueError(f"prompt {prompt!r} does not follow template {TEMPLATE_VERSION}: {_OPENING}a ...")
    return diagnosis, attributes


def _enumerate(names: list[str]) -> str:
    """Join with commas and a final "and"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
