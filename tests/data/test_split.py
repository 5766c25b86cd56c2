from __future__ import annotations

import json
import random
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermprompt.data.split import PARTS, Split, draw_split, load_split

IDS = [f"ISIC_{i:07d}" for i in range(2594)]
sizes_of_parts = st.tuples(*[st.integers(1, 3000)] * 4)


def parts(split: Split) -> list[tuple[str, ...]]:
    return [getattr(split, part) for part in PARTS]


def lengths(split: Split) -> list[int]:
    return [len(part) for part in parts(split)]


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 400), st.integers(0, 2**32), sizes_of_parts)
def test_parts_are_disjoint_non_empty_and_complete(num_ids: int, seed: int, sizes: tuple[int, int, int, int]) -> None:
    drawn = parts(draw_split(IDS[:num_ids], seed, sizes))
    assert all(drawn)
    assert sorted(chain(*drawn)) == IDS[:num_ids]


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 400), sizes_of_parts)
def test_small_sets_keep_the_proportions(num_ids: int, sizes: tuple[int, int, int, int]) -> None:
    if num_ids >= sum(sizes):
        return
    quotas = [size * num_ids / sum(sizes) for size in sizes]
    for count, quota in zip(lengths(draw_split(IDS[:num_ids], 0, sizes)), quotas, strict=True):
        # Off by less than one, but for what parts too small to be one image take from the others.
        assert count == 1 or quota - 4 < count < quota + 1


def test_the_papers_sizes() -> None:
    assert lengths(draw_split(IDS, 0)) == [1594, 700, 100, 200]
    assert lengths(draw_split([*IDS, "x", "y"], 0)) == [1596, 700, 100, 200]
    assert lengths(draw_split(IDS[:1297], 0)) == [797, 350, 50, 100]
    assert lengths(draw_split(IDS[:8], 0)) == [4, 2, 1, 1]


def test_depends_on_the_set_and_the_seed_alone() -> None:
    shuffled = random.Random(1).sample(IDS, len(IDS))
    assert draw_split(shuffled, 3) == draw_split(iter(IDS), 3)
    assert draw_split(IDS, 3).test != draw_split(IDS, 4).test


def test_every_id_is_as_likely_to_be_tested() -> None:
    drawn = [draw_split(IDS[:26], seed).test for seed in range(1500)]
    hits = [sum(id in test for test in drawn) for id in IDS[:26]]
    # Two of 26 in 1,500 draws: 115 hits each, standard deviation 10.3.
    assert 115 - 5 * 10.3 < min(hits) <= max(hits) < 115 + 5 * 10.3


def test_too_few_ids_and_empty_parts() -> None:
    with pytest.raises(ValueError, match=r"7 images are too few to split in four; at least 8"):
        draw_split(IDS[:7] * 2, 0)
    with pytest.raises(ValueError, match=r"split sizes are \(10, 5, 0, 2\)"):
        draw_split(IDS, 0, (10, 5, 0, 2))


def test_round_trip(tmp_path: Path) -> None:
    split = draw_split(IDS[:50], 7)
    split.save(tmp_path / "split.json")
    assert load_split(tmp_path / "split.json") == split


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    draw_split(IDS[:50], 7).save(path)
    raw = json.loads(path.read_text())
    raw["train"].append(raw["test"].pop())
    path.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=r"split.json was edited"):
        load_split(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"generator": 1}', "\x00"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=r"split.json is not a split file"):
        load_split(tmp_path / "split.json")


def test_hash_tells_parts_apart() -> None:
    assert Split(("a",), ("b", "c"), ("d",), ("e",), 0).hash != Split(("a", "b"), ("c",), ("d",), ("e",), 0).hash
    assert Split(("a",), ("b",), ("c",), ("d",), 0).hash == Split(("a",), ("b",), ("c",), ("d",), 1).hash
