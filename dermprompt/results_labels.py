"""Whether the labels that samples were asked for are found in them: the part of :mod:`dermprompt.results` on text."""

from __future__ import annotations

from dataclasses import dataclass

from dermprompt.results import Interval


@dataclass(frozen=True)
class LabelScore:
    """How well a classifier gives one label of ``n`` images, of which ``positives`` have it (None: several classes).

    ``measure``: what ``accuracy`` is, ``balanced accuracy``, or for one class of several its ``recall``.
    ``exchanged``: the same with the labels of other images, its mean and range (95 %) over their random orders. All
    are None where there are too few images.
    """

    label: str
    measure: str
    n: int
    positives: int | None
    accuracy: Interval | None
    exchanged: Interval | None
    auc: Interval | None


@dataclass(frozen=True)
class LabelObedience:
    """A classifier trained on real images alone: on those of S.test, and on samples that were asked for the label."""

    real: LabelScore
    generated: LabelScore

    @property
    def shown(self) -> bool | None:
        """Whether the samples' accuracy lies above the range of exchanged prompts; None where there is no number."""
        one = self.generated
        return None if one.accuracy is None or one.exchanged is None else one.accuracy.mean > one.exchanged.high
