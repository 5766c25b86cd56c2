"""Which prompt goes with synthetic sample i: a function of the training lesions, the seed and i."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dermprompt.lesion import Lesion
from dermprompt.prompts.template import compose
from dermprompt.prompts.vocabulary import Vocabulary


@dataclass(frozen=True)
class Label:
    """What a sample is asked to show: codes of the vocabulary. ``None`` says unknown, never absent."""

    diagnosis: str | None
    attributes: tuple[str, ...] | None


class Prompts(ABC):
    """A source of labels, and of the prompts that say them, by the index of the sample."""

    @abstractmethod
    def draw(self, index: int) -> Label | None:
        """Draw the label of sample ``index``; None where nothing is asked for."""

    def text(self, index: int) -> str:
        """Compose the prompt of sample ``index``; empty where nothing is asked for."""
        label = self.draw(index)
        return "" if label is None else compose(label.diagnosis, label.attributes)


class EmpiricalPrompts(Prompts):
    """Labels as they are in G: one lesion at random gives diagnosis and attributes together.

    Raises ValueError if no lesion has either, or for a code that is not known.
    """

    def __init__(self, lesions: Sequence[Lesion], seed: int) -> None:
        self._labels = [_label(lesion) for lesion in lesions]
        self._seed = seed
        found = Vocabulary.of(lesions)
        if not found.diagnoses and found.num_unattributed == found.num_lesions:
            raise ValueError(_unlabelled(len(lesions), "diagnosis or attributes"))

    def draw(self, index: int) -> Label:
        """Draw a lesion's label, every lesion being equally likely."""
        return _choose(self._labels, np.random.default_rng([self._seed, index]))


class BalancedPrompts(Prompts):
    """Every diagnosis in G equally often; the attributes from a lesion of that diagnosis.

    Lesions of unknown diagnosis are left out. Raises ValueError if no lesion has one, or for a
    code that is not known.
    """

    def __init__(self, lesions: Sequence[Lesion], seed: int) -> None:
        found = Vocabulary.of(lesions).diagnoses
        self._groups = [[_label(each) for each in lesions if each.diagnosis == code] for code in found]
        self._seed = seed
        if not self._groups:
            raise ValueError(_unlabelled(len(lesions), "a diagnosis"))

    def draw(self, index: int) -> Label:
        """Draw a diagnosis uniformly, then a label of that diagnosis."""
        rng = np.random.default_rng([self._seed, index])
        return _choose(self._groups[rng.integers(len(self._groups))], rng)


class FixedPrompts(Prompts):
    """The same label for every sample. Raises ValueError for a code that is not known."""

    def __init__(self, diagnosis: str | None, attributes: Sequence[str] | None) -> None:
        self._label = Label(diagnosis, None if attributes is None else tuple(attributes))
        compose(diagnosis, attributes)  # a misspelt code must not wait until sampling

    def draw(self, index: int) -> Label:
        """Return the label."""
        return self._label


class EmptyPrompts(Prompts):
    """No prompt at all, as in the paper's comparison by masks alone (section 3.3)."""

    def draw(self, index: int) -> None:
        """Ask for nothing."""
        return None


def _label(lesion: Lesion) -> Label:
    return Label(lesion.diagnosis, lesion.attributes)


def _choose(labels: list[Label], rng: np.random.Generator) -> Label:
    return labels[rng.integers(len(labels))]


def _unlabelled(num_lesions: int, what: str) -> str:
    return (
        f"none of the {num_lesions} training lesions has {what} to draw prompts from; "
        f"set data.labels to the folder of ISIC's label files, or take empty or fixed prompts"
    )
