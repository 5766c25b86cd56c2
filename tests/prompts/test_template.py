from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermprompt.prompts.template import TEMPLATE_VERSION, compose, parse
from dermprompt.prompts.vocabulary import ATTRIBUTES, DIAGNOSES

SUBSETS = [subset for count in range(6) for subset in combinations(ATTRIBUTES, count)]


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
def test_version_1_word_for_word(diagnosis: str | None, attributes: tuple[str, ...] | None, prompt: str) -> None:
    """Whoever has to change a prompt here raises TEMPLATE_VERSION."""
    assert TEMPLATE_VERSION == 1
    assert compose(diagnosis, attributes) == prompt


def test_parse_inverts_compose_for_every_label() -> None:
    for diagnosis in (None, *DIAGNOSES):
        for attributes in SUBSETS:
            assert parse(compose(diagnosis, attributes)) == (diagnosis, attributes or None)


def test_prompts_differ_where_labels_differ() -> None:
    prompts = {compose(diagnosis, attributes) for diagnosis in (None, *DIAGNOSES) for attributes in SUBSETS}
    assert len(prompts) == 9 * 32


@given(st.permutations(list(ATTRIBUTES)), st.integers(0, 5))
def test_the_order_and_number_of_mentions_do_not_matter(order: list[str], count: int) -> None:
    chosen = order[:count]
    assert compose("MEL", chosen) == compose("MEL", chosen[::-1] + chosen)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "melanoma",
        "a photo of a melanoma",
        "dermoscopic image of an melanoma",
        "dermoscopic image of a wart",
        "dermoscopic image of a melanoma with ",
        "dermoscopic image of a melanoma with warts",
        "dermoscopic image of a melanoma with streaks and warts",
        "dermoscopic image of a melanoma with globules and pigment network",
        "dermoscopic image of a melanoma with streaks and streaks",
    ],
)
def test_other_texts_do_not_parse(text: str) -> None:
    with pytest.raises(ValueError, match="does not follow template 1"):
        parse(text)


def test_unknown_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="known are MEL"):
        compose("melanoma", None)
    with pytest.raises(ValueError, match="known are pigment_network"):
        compose("MEL", ("network",))
