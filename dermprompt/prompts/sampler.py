"""The label of synthetic sample i: a function of the training lesions, the seed and i.

Diagnosis and attributes are taken together from one training lesion, so that every combination is one that the
generator has seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dermprompt.lesion import Lesion
from dermprompt.prompts.vocabulary import Vocabulary


class Label(NamedTuple):
    """What a sample should show. ``None`` means unknown, never absent."""

    diagnosis: str | None
    attributes: tuple[str, ...] | None


class MixedPrompts:
    """Diagnoses (codes, or None for unknown) in the proportions of a mix, each with a training lesion's attributes.

    A diagnosis that no training lesion has gets no attributes. Raises ValueError if a share is negative or not
    finite, or all are 0.
    """

    def __init__(self, lesions: Sequence[Lesion], mix: Mapping[Any, float], seed: int) -> None:
        if not all(np.isfinite(share) and share >= 0 for share in mix.values()) or not sum(mix.values()):
            raise ValueError(f"the mix of diagnoses is {dict(mix)}; allowed are shares from 0, not all 0")
        self._seed = seed
        self._groups = [_labels(lesions, code) for code in mix]
        self._shares = np.array(list(mix.values()), dtype=np.float64) / sum(mix.values())

    def sample(self, index: int) -> Label:
        """Draw a diagnosis according to the shares, then one of its lesions uniformly."""
        rng = np.random.default_rng([self._seed, index])
        group = self._groups[rng.choice(len(self._groups), p=self._shares)]
        return group[rng.integers(len(group))]

    def shares(self) -> dict[Label | None, float]:
        """The joint probability of each diagnosis with its attributes."""
        found: dict[Label | None, float] = {}
        for group, share in zip(self._groups, self._shares.tolist(), strict=True):
            if share > 0:
                found |= {label: share * number / len(group) for label, number in Counter(group).items()}
        return found


@dataclass(frozen=True)
class ConstantPrompts:
    """The same label for every sample; None for empty prompts, as in the paper's comparison by masks (section 3.3)."""

    label: Label | None

    def sample(self, index: int) -> Label | None:
        """The label."""
        return self.label

    def shares(self) -> dict[Label | None, float]:
        """The label, with probability 1."""
        return {self.label: 1.0}


Prompts = MixedPrompts | ConstantPrompts


def empirical_prompts(lesions: Sequence[Lesion], seed: int) -> MixedPrompts:
    """Labels with the frequencies that they have in G. Raises ValueError if no lesion has any."""
    found = Vocabulary.of(lesions)
    if not found.diagnoses and found.num_unattributed == found.num_lesions:
        raise ValueError(_unlabelled(len(lesions), "diagnosis or attributes"))
    mix: dict[Any, float] = dict(found.diagnoses)
    return MixedPrompts(lesions, mix | ({None: found.num_undiagnosed} if found.num_undiagnosed else {}), seed)


def balanced_prompts(lesions: Sequence[Lesion], seed: int) -> MixedPrompts:
    """Every diagnosis in G equally often: lesions are weighted by the inverse frequency of their diagnosis.

    Lesions without a known diagnosis are left out. Raises ValueError if no diagnosis is known.
    """
    found = Vocabulary.of(lesions).diagnoses
    if not found:
        raise ValueError(_unlabelled(len(lesions), "a diagnosis"))
    return MixedPrompts(lesions, dict.fromkeys(found, 1.0), seed)


def _labels(lesions: Sequence[Lesion], diagnosis: str | None) -> list[Label]:
    found = [Label(one.diagnosis, one.attributes) for one in lesions if one.diagnosis == diagnosis]
    return found or [Label(diagnosis, None)]


def _unlabelled(num_lesions: int, what: str) -> str:
    return (
        f"none of the {num_lesions} training lesions has {what} to draw prompts from; "
        f"set data.labels to the folder of the label files, or prompts=empty or prompts=fixed"
    )
