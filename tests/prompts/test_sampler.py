from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dermprompt.lesion import Lesion
from dermprompt.prompts.sampler import (
    ConstantPrompts,
    Label,
    MixedPrompts,
    Prompts,
    balanced_prompts,
    empirical_prompts,
)


def _lesion(diagnosis: str | None, attributes: tuple[str, ...] | None = None) -> Lesion:
    return Lesion("ISIC_0000000", Path("image"), Path("mask"), diagnosis, attributes)


# Streaks only ever with melanoma, a pigment network only ever with nevi: a joint draw keeps that.
LESIONS = (
    [_lesion("MEL", ("streaks",))] * 5
    + [_lesion("NV", ("pigment_network",))] * 60
    + [_lesion("NV", ())] * 20
    + [_lesion(None, ("globules",))] * 15
)
STREAKS, NETWORK, NOTHING = Label("MEL", ("streaks",)), Label("NV", ("pigment_network",)), Label("NV", ())

EXPECTED = {
    "empirical": {STREAKS: 0.05, NETWORK: 0.6, NOTHING: 0.2, Label(None, ("globules",)): 0.15},
    "balanced": {STREAKS: 0.5, NETWORK: 0.375, NOTHING: 0.125},
    "target": {STREAKS: 0.8, NETWORK: 0.15, NOTHING: 0.05},
    "unseen": {STREAKS: 0.25, Label("DF", None): 0.75},
}


def make(kind: str, seed: int = 0) -> Prompts:
    mixes = {"target": {"MEL": 4, "NV": 1, "BKL": 0}, "unseen": {"MEL": 1, "DF": 3}}
    if kind in mixes:
        return MixedPrompts(LESIONS, mixes[kind], seed)
    return {"empirical": empirical_prompts, "balanced": balanced_prompts}[kind](LESIONS, seed)


@pytest.mark.parametrize("kind", EXPECTED)
def test_labels_come_jointly_and_as_often_as_asked(kind: str) -> None:
    prompts, expected = make(kind), EXPECTED[kind]
    assert prompts.shares() == pytest.approx(expected)
    drawn = Counter(prompts.sample(index) for index in range(3000))
    assert drawn.keys() == expected.keys()
    # Four standard deviations of a binomial: the draw is seeded, the bound is for a change of the seed.
    for label, share in expected.items():
        assert abs(drawn[label] - 3000 * share) < 4 * np.sqrt(3000 * share * (1 - share))


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_function_of_lesions_seed_and_index_alone(kind: str) -> None:
    first = [make(kind, 1).sample(index) for index in range(50)]
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    prompts = make(kind, 1)
    assert [prompts.sample(index) for index in reversed(range(50))] == first[::-1]
    assert [make(kind, 2).sample(index) for index in range(50)] != first


@pytest.mark.parametrize("mix", [{}, {"MEL": 0}, {"MEL": -1, "NV": 2}, {"MEL": float("nan")}, {"NV": float("inf")}])
def test_a_mix_that_is_none(mix: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"the mix of diagnoses is .*; allowed are shares from 0, not all 0"):
        MixedPrompts(LESIONS, mix, 0)


def test_fixed_is_the_same_for_every_sample() -> None:
    prompts = ConstantPrompts(Label("MEL", ("globules",)))
    assert prompts.sample(0) == prompts.sample(9) == Label("MEL", ("globules",))
    assert prompts.shares() == {Label("MEL", ("globules",)): 1}


def test_empty_asks_for_nothing() -> None:
    assert ConstantPrompts(None).sample(0) is None
    assert ConstantPrompts(None).shares() == {None: 1}


@pytest.mark.parametrize("kind", [empirical_prompts, balanced_prompts])
def test_without_labels_the_key_to_set_is_named(kind: Callable[..., Prompts]) -> None:
    for lesions in ([], [_lesion(None)] * 3):
        with pytest.raises(ValueError, match=rf"none of the {len(lesions)} .* set data\.labels"):
            kind(lesions, 0)


def test_attributes_alone_are_enough_for_empirical_prompts() -> None:
    attributed = [_lesion(None, ("streaks",))]
    assert empirical_prompts(attributed, 0).sample(0) == Label(None, ("streaks",))
    with pytest.raises(ValueError, match=r"has a diagnosis .* set data\.labels"):
        balanced_prompts(attributed, 0)
