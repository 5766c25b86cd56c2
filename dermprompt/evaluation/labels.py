"""Text fidelity by label: whether a classifier finds the prompted diagnosis and attributes in the samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dermprompt.evaluation.probe import UNKNOWN, Classes, Features
from dermprompt.results import Interval, LabelScore

# A label with fewer images, for training or for testing, gets no score.
MIN_IMAGES = 10
NUM_RESAMPLES = 2000
NUM_EXCHANGES = 1000
ABSENT, PRESENT = 0, 1
BALANCED = "balanced accuracy"


class Labelled(Protocol):
    """A lesion or a sample; None means unknown, or not prompted."""

    @property
    def diagnosis(self) -> str | None:
        """The diagnosis's code."""

    @property
    def attributes(self) -> Sequence[str] | None:
        """The names of the attributes present."""


@dataclass(frozen=True)
class Question:
    """What a classifier is asked: which ``diagnosis``, or whether the attribute ``name`` is present."""

    name: str
    classes: tuple[str, ...]

    @property
    def is_diagnosis(self) -> bool:
        """Whether its classes are diagnosis codes, not absent and present."""
        return self.name == "diagnosis"

    def answers(self, labelled: Sequence[Labelled]) -> Classes:
        """The true class of each of N images; -1 if it is unknown or not among the classes."""
        return np.array([self._answer(one) for one in labelled], dtype=np.int64)

    def _answer(self, one: Labelled) -> int:
        if self.is_diagnosis:
            return self.classes.index(one.diagnosis) if one.diagnosis in self.classes else UNKNOWN
        if one.attributes is None:
            return UNKNOWN
        return PRESENT if self.name in one.attributes else ABSENT


def questions_of(labelled: Sequence[Labelled]) -> tuple[Question, ...]:
    """The questions that can be learnt: diagnoses and attributes with at least ten images for each answer."""
    diagnoses = Counter(one.diagnosis for one in labelled if one.diagnosis is not None)
    codes = tuple(sorted(code for code, number in diagnoses.items() if number >= MIN_IMAGES))
    known = [one.attributes for one in labelled if one.attributes is not None]
    present = Counter(name for names in known for name in names)
    common = [name for name, number in sorted(present.items()) if MIN_IMAGES <= number <= len(known) - MIN_IMAGES]
    asked = [Question(name, ("absent", "present")) for name in common]
    return (*([Question("diagnosis", codes)] if len(codes) > 1 else []), *asked)


def score_question(question: Question, found: Features, answers: Classes, seed: int) -> tuple[LabelScore, ...]:
    """How well log-probabilities NC predict ``answers`` N; for the diagnosis, an overall score and one for each code.

    The overall score is balanced accuracy, Brodersen et al. (2010), the mean recall of the classes; a code's score is
    its recall.
    """
    known = answers != UNKNOWN
    found, answers = found[known], answers[known]
    recalls = _Recalls.of(found.argmax(axis=1), answers, len(question.classes), seed)
    every = tuple(range(len(question.classes)))
    if not question.is_diagnosis:
        area = _auc_of(PRESENT, found, answers, seed)
        return (
            LabelScore(
                question.name, BALANCED, len(answers), int(recalls.counts[PRESENT]), *recalls.of_classes(every), area
            ),
        )
    codes = [
        LabelScore(
            f"{question.name} {code}",
            "recall",
            len(answers),
            int(recalls.counts[c]),
            *recalls.of_classes((c,)),
            _auc_of(c, found, answers, seed),
        )
        for c, code in enumerate(question.classes)
    ]
    return (LabelScore(question.name, BALANCED, len(answers), None, *recalls.of_classes(every), None), *codes)


def auc(positive: NDArray[np.float64], negative: NDArray[np.float64], seed: int) -> Interval:
    """The share of pairs in which the positive has the higher value, with ties counted half (Hanley and McNeil 1982).

    The interval comes from resampling positives and negatives separately.
    """
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    rng = np.random.default_rng(seed)
    rows, columns = (rng.multinomial(n, np.full(n, 1 / n), NUM_RESAMPLES) / n for n in wins.shape)
    return _interval(float(wins.mean()), ((rows @ wins) * columns).sum(axis=1), sum(wins.shape), "images")


def _auc_of(c: int, found: Features, answers: Classes, seed: int) -> Interval | None:
    """The AUC of class c's probability against all other classes; None with too few images."""
    inside, outside = found[answers == c, c], found[answers != c, c]
    return auc(inside, outside, seed) if min(len(inside), len(outside)) >= MIN_IMAGES else None


@dataclass(frozen=True, eq=False)
class _Recalls:
    """Recalls of C classes: number of images and recall (C each), recalls in resamples of the images (RC), and recalls
    with randomly ordered answers (EC).
    """

    counts: Classes
    found: Features
    resampled: Features
    shuffled: Features

    @classmethod
    def of(cls, said: Classes, answers: Classes, num_classes: int, seed: int) -> _Recalls:
        counts, rng = np.bincount(answers, minlength=num_classes), np.random.default_rng(seed)
        found = _shares(said, answers, counts)
        # A bootstrap within each class: the hits among resampled images are binomial.
        resampled = rng.binomial(counts, found, (NUM_RESAMPLES, num_classes)) / np.maximum(counts, 1)
        orders = (rng.permutation(answers) for _ in range(NUM_EXCHANGES))
        return cls(counts, found, resampled, np.stack([_shares(said, order, counts) for order in orders]))

    def of_classes(self, classes: tuple[int, ...]) -> tuple[Interval | None, Interval | None]:
        """The mean recall of some classes, and the same with shuffled answers; None if a class has too few images."""
        used, number = list(classes), int(self.counts.sum())
        if self.counts[used].min() < MIN_IMAGES:
            return None, None
        mean, resampled = float(self.found[used].mean()), self.resampled[:, used].mean(axis=1)
        shuffled = self.shuffled[:, used].mean(axis=1)
        chance = _interval(float(shuffled.mean()), shuffled, number, "orders of the prompts")
        return _interval(mean, resampled, number, "images of each class"), chance


def _shares(said: Classes, answers: Classes, counts: Classes) -> Features:
    hits = np.bincount(answers[said == answers], minlength=len(counts))
    return np.asarray(hits / np.maximum(counts, 1))


def _interval(mean: float, values: Features, number: int, over: str) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(mean, float(low), float(high), number, over)
