from pathlib import Path

import pytest

from dermprompt.data import labels
from dermprompt.lesion import Lesion
from dermprompt.prompts.vocabulary import (
    ATTRIBUTES,
    DIAGNOSES,
    Vocabulary,
    diagnosis_name,
    ordered_attributes,
)


def _lesion(diagnosis: str | None, attributes: tuple[str, ...] | None) -> Lesion:
    return Lesion("ISIC_0000000", Path("image"), Path("mask"), diagnosis, attributes)


def test_every_label_that_the_data_can_hold_has_a_name() -> None:
    assert set(DIAGNOSES) == set(labels.DIAGNOSES)
    assert set(ATTRIBUTES) == set(labels.ATTRIBUTES)


def test_names_are_distinct_and_parse_apart() -> None:
    names = [*DIAGNOSES.values(), *ATTRIBUTES.values()]
    assert len(set(names)) == len(names)
    assert not any(word in f" {name} " for name in names for word in (" with ", " and ", ","))


def test_counts_are_those_of_the_lesions_in_the_fixed_order() -> None:
    lesions = [
        _lesion("NV", ("globules", "pigment_network")),
        _lesion("MEL", ("globules",)),
        _lesion("NV", ()),
        _lesion(None, None),
        _lesion(None, ("streaks",)),
    ]
    found = Vocabulary.of(lesions)
    assert list(found.diagnoses.items()) == [("MEL", 1), ("NV", 2)]
    assert list(found.attributes.items()) == [("pigment_network", 1), ("streaks", 1), ("globules", 2)]
    assert (found.num_lesions, found.num_undiagnosed, found.num_unattributed) == (5, 2, 1)


def test_no_lesions_no_words() -> None:
    assert Vocabulary.of([]) == Vocabulary(0, {}, {}, 0, 0)


def test_unknown_codes_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'MELL' is not known; known are MEL, NV, .*SCC"):
        diagnosis_name("MELL")
    with pytest.raises(ValueError, match=r"'dots' is not known; known are pigment_network, .*globules"):
        ordered_attributes(["globules", "dots"])
    with pytest.raises(ValueError, match="'UNK'"):
        Vocabulary.of([_lesion("UNK", None)])
    with pytest.raises(ValueError, match="'dots'"):
        Vocabulary.of([_lesion(None, ("dots",))])
