"""From labels to the text of a prompt.

The paper makes prompts of diagnosis and attributes (section 3.1) but does not print its template: these are
this package's own. Whoever changes a word of one gives it another name, for its name stands in the recipes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """Words for labels. Where a kind of label has names, codes without one are refused; where it has none, a
    code is its own name. Attributes are named in the order of ``attributes``, others in the alphabet's.
    """

    opening: str
    unknown: str
    diagnoses: Mapping[str, str]
    attributes: Mapping[str, str]

    def compose(self, diagnosis: str | None, attributes: Iterable[str] | None) -> str:
        """Compose a prompt, such as "dermoscopic image of a melanoma with pigment network and globules".

        ``diagnosis``: a code, or None for ``unknown``. ``attributes``: codes in any order; a text model reads
        negations badly, so that none present and none known give the same prompt. Raises ValueError for a
        code that is not known, listing those that are.
        """
        name = self.unknown if diagnosis is None else _name("diagnosis", diagnosis, self.diagnoses)
        article = "an" if name[0].lower() in "aeiou" else "a"
        present = [_name("attribute", code, self.attributes) for code in self.ordered(attributes or ())]
        return f"{self.opening} {article} {name}" + (f" with {_enumerate(present)}" if present else "")

    def ordered(self, attributes: Iterable[str]) -> tuple[str, ...]:
        """The same codes, each once, in the order in which a prompt names them."""
        rank = {code: number for number, code in enumerate(self.attributes)}
        return tuple(sorted(set(attributes), key=lambda code: (rank.get(code, len(rank)), code)))


def _name(kind: str, code: str, names: Mapping[str, str]) -> str:
    if names and code not in names:
        raise ValueError(f"{kind} {code!r} is not known; known are {', '.join(names)}")
    return names.get(code, code.replace("_", " "))


def _enumerate(names: list[str]) -> str:
    """Join with commas and a final "and"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# ISIC 2019's classes in the order of its columns, where benign keratosis takes in seborrheic keratosis, solar
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
    """The diagnosis is the whole prompt."""

    def compose(self, diagnosis: str | None, attributes: Iterable[str] | None) -> str:
        """The diagnosis; nothing for None. Raises ValueError for attributes, which have no place in it."""
        if tuple(attributes or ()):
            raise ValueError(
                f"prompts.template=verbatim: the diagnosis is the whole prompt, and attributes={attributes}"
            )
        return diagnosis or ""


PLAIN = Template(opening="image of", unknown="lesion", diagnoses={}, attributes={})
VERBATIM = Verbatim(opening="", unknown="", diagnoses={}, attributes={})
TEMPLATES = {"dermoscopy": DERMOSCOPY, "plain": PLAIN, "verbatim": VERBATIM}
