"""The labels that a generator can learn: how often each diagnosis and attribute occurs in its training set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dermprompt.lesion import Lesion


@dataclass(frozen=True)
class Vocabulary:
    """How many of ``num_lesions`` have each diagnosis and each attribute, sorted by code.

    Only codes that occur are listed. ``num_undiagnosed`` and ``num_unattributed`` count the lesions with unknown
    diagnosis and with unknown attributes.
    """

    num_lesions: int
    diagnoses: dict[str, int]
    attributes: dict[str, int]
    num_undiagnosed: int
    num_unattributed: int

    @classmethod
    def of(cls, lesions: Sequence[Lesion]) -> Vocabulary:
        """Count the labels of the training lesions."""
        diagnoses = Counter(lesion.diagnosis for lesion in lesions if lesion.diagnosis is not None)
        attributes = Counter(name for lesion in lesions for name in lesion.attributes or ())
        return cls(
            num_lesions=len(lesions),
            diagnoses=dict(sorted(diagnoses.items())),
            attributes=dict(sorted(attributes.items())),
            num_undiagnosed=len(lesions) - diagnoses.total(),
            num_unattributed=sum(lesion.attributes is None for lesion in lesions),
        )

    def unseen(self, diagnoses: Iterable[str], attributes: Iterable[str]) -> str | None:
        """A message that lists requested codes that no training lesion has, and the counts of known ones; or None."""
        asked = ((diagnoses, self.diagnoses, "diagnosis"), (attributes, self.attributes, "attribute"))
        complaints = []
        for codes, known, kind in asked:
            absent = sorted(set(codes) - known.keys())
            if absent:
                has = ", ".join(f"{code} {number}" for code, number in known.items()) or "none"
                complaints.append(
                    f"prompts ask for the {kind} {', '.join(absent)}, which no training image shows: {has}"
                )
        return "; ".join(complaints) or None
