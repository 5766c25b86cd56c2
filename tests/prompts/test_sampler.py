from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dermprompt.lesion import Lesion
from dermprompt.prompts.sampler import (
    BalancedPrompts,
    EmpiricalPrompts,
    EmptyPrompts,
    FixedPrompts,
    Label,
    Prompts,
)
from dermprompt.prompts.template import compose


def _lesion(diagnosis: str | None, attributes: tuple[str, ...] | None = None) -> Lesion:
    return Lesion("ISIC_0000000", Path("image"), Path("mask"), diagnosis, attributes)


# Streaks only ever with melanoma, a pigment network only ever with nevi: a joint draw keeps that.
LESIONS = (
    [_lesion("MEL", ("streaks",))] * 5
    + [_lesion("NV", ("pigment_network",))] * 60
    + [_lesion("NV", ())] * 20
    + [_lesion(None, ("globules",))] * 15
)


def _draws(prompts: Prompts, num: int = 3000) -> Counter[Label | None]:
    return Counter(prompts.draw(index) for index in range(num))


def test_empirical_keeps_the_joint_frequencies() -> None:
    drawn = _draws(EmpiricalPrompts(LESIONS, seed=0))
    expected = {
        Label("MEL", ("streaks",)): 150,
        Label("NV", ("pigment_network",)): 1800,
        Label("NV", ()): 600,
        Label(None, ("globules",)): 450,
    }
    assert drawn.keys() == expected.keys()
    # Four standard deviations of a binomial: the draw is seeded, the bound is for a change of the seed.
    for label, count in expected.items():
        assert abs(drawn[label] - count) < 4 * np.sqrt(count * (1 - count / 3000))


def test_balanced_levels_the_diagnoses_and_keeps_their_attributes() -> None:
    drawn = _draws(BalancedPrompts(LESIONS, seed=0))
    assert drawn.keys() == {Label("MEL", ("streaks",)), Label("NV", ("pigment_network",)), Label("NV", ())}
    assert drawn[Label("MEL", ("streaks",))] == pytest.approx(1500, abs=110)
    assert drawn[Label("NV", ("pigment_network",))] == pytest.approx(1500 * 60 / 80, abs=110)


@pytest.mark.parametrize("kind", [EmpiricalPrompts, BalancedPrompts])
def test_a_function_of_lesions_seed_and_index_alone(kind: Callable[..., Prompts]) -> None:
    first = [kind(LESIONS, 1).draw(index) for index in range(50)]
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    prompts = kind(tuple(LESIONS), 1)
    assert [prompts.draw(index) for index in reversed(range(50))] == first[::-1]
    assert [kind(LESIONS, 2).draw(index) for index in range(50)] != first


def test_text_says_the_label() -> None:
    prompts = EmpiricalPrompts(LESIONS, seed=0)
    for index in range(20):
        label = prompts.draw(index)
        assert prompts.text(index) == compose(label.diagnosis, label.attributes)


def test_fixed_is_the_same_for_every_sample() -> None:
    prompts = FixedPrompts("MEL", ["globules"])
    assert prompts.draw(0) == prompts.draw(9) == Label("MEL", ("globules",))
    assert prompts.text(4) == "dermoscopic image of a melanoma with globules"
    assert FixedPrompts(None, None).text(0) == "dermoscopic image of a skin lesion"
    with pytest.raises(ValueError, match="'MELL' is not known"):
        FixedPrompts("MELL", None)


def test_empty_asks_for_nothing() -> None:
    assert EmptyPrompts().draw(0) is None
    assert EmptyPrompts().text(0) == ""


def test_without_labels_the_key_to_set_is_named() -> None:
    unlabelled, attributed = [_lesion(None)] * 3, [_lesion(None, ("streaks",))]
    for kind in (EmpiricalPrompts, BalancedPrompts):
        for lesions in ([], unlabelled):
            with pytest.raises(ValueError, match=rf"none of the {len(lesions)} .* set data\.labels"):
                kind(lesions, 0)
    with pytest.raises(ValueError, match=r"has a diagnosis .* set data\.labels"):
        BalancedPrompts(attributed, 0)
    assert EmpiricalPrompts(attributed, 0).draw(0) == Label(None, ("streaks",))


@pytest.mark.parametrize("kind", [EmpiricalPrompts, BalancedPrompts])
def test_a_code_without_a_name_is_refused_before_sampling(kind: Callable[..., Prompts]) -> None:
    with pytest.raises(ValueError, match="'UNK' is not known"):
        kind([*LESIONS, _lesion("UNK")], 0)
