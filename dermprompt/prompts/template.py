"""Templates that turn labels into the text of a prompt.

The paper composes prompts from diagnosis and attributes (section 3.1) but does not print its template; these are
this package's own. If you change a word in a template, give it a new name, because recipes identify it by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """Words for labels.

    If ``diagnoses`` or ``attributes`` has names, codes without one are refused; if it is empty, a code is its own
    name. Attributes are listed in the order of ``attributes``, others alphabetically.
    """

    opening: str
    unknown: str
    diagnoses: Mapping[str, str]
    attributes: Mapping[str, str]

    def compose(self, diagnosis: str | None, attributes: Iterable[str] | None) -> str:
        """Compose a prompt, such as "dermoscopic image of a melanoma with pigment network and globules".

        ``diagnosis``: a code, or None for ``unknown``. ``attributes``: codes in any order. Text models handle
        negations badly, so that no attributes and unknown attributes give the same prompt. Raises ValueError for an
        unknown code, listing the known ones.
        """
        name = self.unknown if diagnosis is None else _name("diagnosis", diagnosis, self.diagnoses)
        article = "an" if name[0].lower() in "aeiou" else "a"
        present = [_name("attribute", code, self.attributes) for code in self.ordered(attributes or ())]
        return f"{self.opening} {article} {name}" + (f" with {_enumerate(present)}" if present else "")

    def ordered(self, attributes: Iterable[str]) -> tuple[str, ...]:
        """The codes, each once, in the order in which a prompt lists them."""
        rank = {code: number for number, code in enumerate(self.attributes)}
        return tuple(sorted(set(attributes), key=lambda code: (rank.get(code, len(rank)), code)))


def _name(kind: str, code: str, names: Mapping[str, str]) -> str:
    if names and code not in names:
        known = ", ".join(names)
        raise ValueError(f"{kind} {code!r} is not known; known are {known}; prompts.template=plain takes codes")
    return names.get(code, code.replace("_", " "))


def _enumerate(names: list[str]) -> str:
    """Join with commas and a final "and"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# ISIC 2019's classes in the order of its columns, where benign keratosis includes seborrheic keratosis, solar
# lentigo and lichen planus-like keratosis; and the attributes of ISIC 2018 task 2.
DERMOSCOPY = Template(
    opening="dermoscopic image of",
    unknown="skin lesion",
    diagnoses={
        "MEL": "melanoma",
        "NV": "melanocytic nevus",
        "BCC": "basal cell carcinoma",
        "AK": "actinic keratosis",
        "BKL": "benign keratosis",
        "DF": "dermatofibroma",
        "VASC": "vascular lesion",
        "SCC": "squamous cell carcinoma",
    },
    attributes={
        "pigment_network": "pigment network",
        "negative_network": "negative network",
        "streaks": "streaks",
        "milia_like_cyst": "milia-like cysts",
        "globules": "globules",
    },
)


class Verbatim(Template):
    """A template that uses the diagnosis as the whole prompt."""

    def compose(self, diagnosis: str | None, attributes: Iterable[str] | None) -> str:
        """The diagnosis; empty for None. Raises ValueError if attributes are given."""
        if tuple(attributes or ()):
            raise ValueError(
                f"prompts.template=verbatim: the diagnosis is the whole prompt, and attributes={attributes}"
            )
        return diagnosis or ""


PLAIN = Template(opening="image of", unknown="lesion", diagnoses={}, attributes={})
VERBATIM = Verbatim(opening="", unknown="", diagnoses={}, attributes={})
TEMPLATES = {"dermoscopy": DERMOSCOPY, "plain": PLAIN, "verbatim": VERBATIM}
