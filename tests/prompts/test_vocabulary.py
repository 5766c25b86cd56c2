from __future__ import annotations

from pathlib import Path

import pytest

from dermprompt.lesion import Lesion
from dermprompt.prompts.vocabulary import Vocabulary


def _lesion(diagnosis: str | None, attributes: tuple[str, ...] | None) -> Lesion:
    return Lesion("ISIC_0000000", Path("image"), Path("mask"), diagnosis, attributes)


LESIONS = [
    _lesion("NV", ("globules", "pigment_network")),
    _lesion("MEL", ("globules",)),
    _lesion("NV", ()),
    _lesion(None, None),
    _lesion(None, ("streaks",)),
]


def test_counts_are_those_of_the_lesions() -> None:
    found = Vocabulary.of(LESIONS)
    assert found.diagnoses == {"MEL": 1, "NV": 2}
    assert found.attributes == {"globules": 2, "pigment_network": 1, "streaks": 1}
    assert (found.num_lesions, found.num_undiagnosed, found.num_unattributed) == (5, 2, 1)


def test_no_lesions_no_words() -> None:
    assert Vocabulary.of([]) == Vocabulary(0, {}, {}, 0, 0)


@pytest.mark.parametrize(
    ("diagnoses", "attributes", "words"),
    [
        (["NV"], ["streaks"], None),
        ([], [], None),
        (["VASC", "NV", "BCC"], [], ["diagnosis BCC, VASC", "MEL 1, NV 2"]),
        (["MEL"], ["milia_like_cyst"], ["attribute milia_like_cyst", "globules 2, pigment_network 1, streaks 1"]),
    ],
)
def test_what_g_lacks_is_said_with_the_counts(
    diagnoses: list[str], attributes: list[str], words: list[str] | None
) -> None:
    said = Vocabulary.of(LESIONS).unseen(diagnoses, attributes)
    if words is None:
        assert said is None
    else:
        assert all(word in str(said) for word in words)
