from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermprompt.data.datasets import isic_labels
from dermprompt.prompts.template import DERMOSCOPY, PLAIN, TEMPLATES

SUBSETS = [subset for count in range(6) for subset in combinations(DERMOSCOPY.attributes, count)]


@pytest.mark.parametrize(
    ("diagnosis", "attributes", "prompt"),
    [
        (None, None, "dermoscopic image of a skin lesion"),
        ("NV", (), "dermoscopic image of a melanocytic nevus"),
        ("AK", None, "dermoscopic image of an actinic keratosis"),
        ("MEL", ("streaks",), "dermoscopic image of a melanoma with streaks"),
        (
            "MEL",
            ("globules", "pigment_network"),
            "dermoscopic image of a melanoma with pigment network and globules",
        ),
        (
            None,
            ("globules", "milia_like_cyst", "negative_network"),
            "dermoscopic image of a skin lesion with negative network, milia-like cysts and globules",
        ),
    ],
)
def test_dermoscopy_word_for_word(diagnosis: str | None, attributes: tuple[str, ...] | None, prompt: str) -> None:
    """Whoever has to change a prompt here gives the template another name."""
    assert DERMOSCOPY.compose(diagnosis, attributes) == prompt
    assert TEMPLATES["dermoscopy"] is DERMOSCOPY


def test_prompts_differ_where_labels_differ() -> None:
    labels = [(diagnosis, attributes) for diagnosis in (None, *DERMOSCOPY.diagnoses) for attributes in SUBSETS]
    assert len({DERMOSCOPY.compose(*label) for label in labels}) == len(labels) == 9 * 32


def test_every_label_that_isic_can_hold_has_a_name() -> None:
    assert set(DERMOSCOPY.diagnoses) == set(isic_labels.DIAGNOSES)
    assert set(DERMOSCOPY.attributes) == set(isic_labels.ATTRIBUTES)


@given(st.permutations(list(DERMOSCOPY.attributes)), st.integers(0, 5))
def test_the_order_and_number_of_mentions_do_not_matter(order: list[str], count: int) -> None:
    chosen = order[:count]
    assert DERMOSCOPY.compose("MEL", chosen) == DERMOSCOPY.compose("MEL", chosen[::-1] + chosen)


def test_unknown_codes_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"diagnosis 'melanoma' is not known; known are MEL, .*SCC"):
        DERMOSCOPY.compose("melanoma", None)
    with pytest.raises(ValueError, match="attribute 'network' is not known; known are pigment_network"):
        DERMOSCOPY.compose("MEL", ("network",))


def test_plain_names_labels_by_themselves() -> None:
    assert PLAIN.compose(None, None) == "image of a lesion"
    assert PLAIN.compose("sessile_polyp", ("red", "large")) == "image of a sessile polyp with large and red"
    assert PLAIN.compose("adenoma", ()) == "image of an adenoma"


def test_verbatim_says_what_it_is_given_and_nothing_more():
    assert TEMPLATES["verbatim"].compose("any words at all", ()) == "any words at all"
    assert TEMPLATES["verbatim"].compose(None, None) == ""
    with pytest.raises(ValueError, match="the diagnosis is the whole prompt"):
        TEMPLATES["verbatim"].compose("words", ("streaks",))
