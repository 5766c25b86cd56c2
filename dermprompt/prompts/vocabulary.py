"""The words of the prompts: names of diagnoses and dermoscopic attributes, and how often G has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dermprompt.lesion import Lesion

# ISIC 2019's classes in the order of its columns. Benign keratosis takes in seborrheic keratosis,
# solar lentigo and lichen planus-like keratosis.
DIAGNOSES = {
    "MEL": "melanoma",
    "NV": "melanocytic nevus",
    "BCC": "basal cell carcinoma",
    "AK": "actinic keratosis",
    "BKL": "benign keratosis",
    "DF": "dermatofibroma",
    "VASC": "vascular lesion",
    "SCC": "squamous cell carcinoma",
}

# The attributes of ISIC 2018 task 2, in the order in which a prompt names them.
ATTRIBUTES = {
    "pigment_network": "pigment network",
    "negative_network": "negative network",
    "streaks": "streaks",
    "milia_like_cyst": "milia-like cysts",
    "globules": "globules",
}


@dataclass(frozen=True)
class Vocabulary:
    """How many of ``num_lesions`` have each diagnosis and each attribute, in this module's order.

    Only codes that occur are listed. ``num_undiagnosed`` and ``num_unattributed`` count the lesions
    whose diagnosis and whose attributes are unknown.
    """

    num_lesions: int
    diagnoses: dict[str, int]
    attributes: dict[str, int]
    num_undiagnosed: int
    num_unattributed: int

    @classmethod
    def of(cls, lesions: Sequence[Lesion]) -> Vocabulary:
        """Count the labels of the training lesions. Raises ValueError for a code that has no name."""
        diagnoses = Counter(lesion.diagnosis for lesion in lesions if lesion.diagnosis is not None)
        attributes = Counter(name for lesion in lesions for name in lesion.attributes or ())
        for code in diagnoses:
            diagnosis_name(code)
        return cls(
            num_lesions=len(lesions),
            diagnoses={code: diagnoses[code] for code in DIAGNOSES if code in diagnoses},
            attributes={code: attributes[code] for code in ordered_attributes(attributes)},
            num_undiagnosed=len(lesions) - diagnoses.total(),
            num_unattributed=sum(lesion.attributes is None for lesion in lesions),
        )


def diagnosis_name(code: str) -> str:
    """``MEL`` to ``melanoma``. Raises ValueError that lists the known codes."""
    if code not in DIAGNOSES:
        raise ValueError(f"diagnosis {code!r} is not known; known are {', '.join(DIAGNOSES)}")
    return DIAGNOSES[code]


def ordered_attributes(codes: Sequence[str] | Counter[str]) -> tuple[str, ...]:
    """The same codes, each once, in the order of ``ATTRIBUTES``; ValueError that lists those for another."""
    unknown = sorted(set(codes) - ATTRIBUTES.keys())
    if unknown:
        raise ValueError(f"attribute {unknown[0]!r} is not known; known are {', '.join(ATTRIBUTES)}")
    return tuple(code for code in ATTRIBUTES if code in codes)
