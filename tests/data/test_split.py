from __future__ import annotations

import hashlib
import json
import random
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from dermprompt.data.split import PARTS, Split, draw_split, load_split, merge

IDS = [f"ISIC_{i:07d}" for i in range(2594)]
sizes_of_parts = st.tuples(*[st.integers(1, 3000)] * 4)


def contents_of(ids: list[str]) -> dict[str, str]:
    return {id: hashlib.sha256(id.encode()).hexdigest() for id in ids}


CONTENTS = contents_of(IDS)


def paper(num_ids: int, seed: int = 0, *sizes: Any) -> Split:
    return draw_split({id: CONTENTS[id] for id in IDS[:num_ids]}, "paper", seed, *sizes)


def parts(split: Split) -> list[tuple[str, ...]]:
    return [getattr(split, part) for part in PARTS]


def lengths(split: Split) -> list[int]:
    return [len(part) for part in parts(split)]


@st.composite
def data_sets(draw: st.DrawFn) -> dict[str, Any]:
    """Images of which some are one file, in groups of all sizes, in the three folders."""
    num_images = draw(st.integers(8, 300))
    rng = random.Random(draw(st.integers(0, 2**32)))
    num_contents = draw(st.integers(num_images // 2, 2 * num_images))
    ids = [f"id{i}" for i in range(num_images)]
    contents = {id: f"sha{rng.randrange(num_contents)}" for id in ids}
    num_groups = draw(st.integers(num_images // 3, num_images))
    groups: dict[int, list[str]] = {}
    for id in [*ids, "id of no image"]:
        groups.setdefault(rng.randrange(num_groups), []).append(id)
    folder_of = {sha: rng.choices(("training", "validation", "test"), (8, 1, 1))[0] for sha in contents.values()}
    return {
        "contents": contents,
        "groups": [tuple(group) for group in groups.values()],
        "folders": {id: folder_of[sha] for id, sha in contents.items()},
    }


@settings(deadline=None, max_examples=examples(300))
@given(data_sets(), st.sampled_from(["paper", "official", "grouped"]), st.integers(0, 2**32), sizes_of_parts)
def test_nothing_is_in_two_parts(
    data: dict[str, Any], protocol: str, seed: int, sizes: tuple[int, int, int, int]
) -> None:
    try:
        split = draw_split(data["contents"], protocol, seed, sizes, data["groups"], data["folders"])
    except ValueError as error:
        assert any(words in str(error) for words in ("cannot fill", "too few", "there are none"))  # noqa: PT017
        return
    assert all(parts(split))
    ids = list(chain(*parts(split)))
    assert len(ids) == len(set(ids))
    part_of = split.part_of()
    for one in (data["contents"], *([_membership(data["groups"])] if protocol == "grouped" else [])):
        seen: dict[str, set[str]] = {}
        for id, unit in one.items():
            if id in part_of:
                seen.setdefault(unit, set()).add(part_of[id])
        assert all(len(found) == 1 for found in seen.values())
    expected = [id for id, folder in data["folders"].items() if protocol == "official" or folder == "training"]
    assert sorted(ids) == sorted(expected)
    if protocol == "official":
        assert {data["folders"][id] for id in split.val} == {"validation"}
        assert {data["folders"][id] for id in split.test} == {"test"}


def _membership(groups: list[tuple[str, ...]]) -> dict[str, str]:
    return {id: str(number) for number, group in enumerate(groups) for id in group}


@settings(deadline=None, max_examples=examples(60))
@given(st.integers(8, 400), st.integers(0, 2**32), sizes_of_parts)
def test_single_images_fill_every_part(num_ids: int, seed: int, sizes: tuple[int, int, int, int]) -> None:
    drawn = parts(paper(num_ids, seed, sizes))
    assert all(drawn)
    assert sorted(chain(*drawn)) == IDS[:num_ids]


@settings(deadline=None, max_examples=examples(60))
@given(st.integers(8, 400), sizes_of_parts)
def test_small_sets_keep_the_proportions(num_ids: int, sizes: tuple[int, int, int, int]) -> None:
    if num_ids >= sum(sizes):
        return
    quotas = [size * num_ids / sum(sizes) for size in sizes]
    for count, quota in zip(lengths(paper(num_ids, 0, sizes)), quotas, strict=True):
        # Off by less than one, but for what parts too small to be one image take from the others.
        assert count == 1 or quota - 4 < count < quota + 1


def test_the_papers_sizes() -> None:
    assert lengths(paper(2594)) == [1594, 700, 100, 200]
    assert lengths(draw_split(CONTENTS | {"x": "x", "y": "y"}, "paper", 0)) == [1596, 700, 100, 200]
    assert lengths(paper(1297)) == [797, 350, 50, 100]
    assert lengths(paper(8)) == [4, 2, 1, 1]


def test_groups_leave_the_papers_sizes_as_they_are() -> None:
    groups = [tuple(IDS[i : i + 2 + i % 3]) for i in range(0, 500, 5)]
    assert lengths(draw_split(CONTENTS, "grouped", 0, groups=groups)) == [1594, 700, 100, 200]


def test_official_shares_the_training_folder_by_seed() -> None:
    folders = dict.fromkeys(IDS[2000:2100], "validation") | dict.fromkeys(IDS[2100:], "test")
    sizes = (1594, 1000, 100, 1000)
    first, second = (draw_split(CONTENTS, "official", seed, sizes, folders=folders) for seed in (0, 1))
    assert lengths(first) == [1229, 771, 100, 494]
    assert first.test == second.test == tuple(IDS[2100:])
    assert first.generator != second.generator


def test_official_without_its_folders() -> None:
    with pytest.raises(ValueError, match=r"official needs the folders of validation and test; there are none"):
        draw_split(CONTENTS, "official", 0)


def test_official_with_one_file_in_two_folders() -> None:
    folders = {IDS[0]: "validation", IDS[1]: "test"}
    with pytest.raises(ValueError, match=rf"{IDS[1]} of the test folder is the same file as one in validation"):
        draw_split(CONTENTS | {IDS[1]: CONTENTS[IDS[0]]}, "official", 0, folders=folders)


def test_depends_on_the_set_and_the_seed_alone() -> None:
    shuffled = {id: CONTENTS[id] for id in random.Random(1).sample(IDS, len(IDS))}
    for protocol in ("paper", "grouped"):
        assert draw_split(shuffled, protocol, 3).hash == draw_split(CONTENTS, protocol, 3).hash
    assert paper(2594, 3).test != paper(2594, 4).test


def test_every_id_is_as_likely_to_be_tested() -> None:
    drawn = [paper(26, seed).test for seed in range(1500)]
    hits = [sum(id in test for test in drawn) for id in IDS[:26]]
    # Two of 26 in 1,500 draws: 115 hits each, standard deviation 10.3.
    assert 115 - 5 * 10.3 < min(hits) <= max(hits) < 115 + 5 * 10.3


def test_too_few_ids_and_groups_that_are_too_large() -> None:
    with pytest.raises(ValueError, match=r"7 images are too few to split in four; at least 8"):
        paper(7)
    with pytest.raises(ValueError, match=r"20 images in 3 groups, the largest of 18, cannot fill"):
        draw_split(contents_of(IDS[:20]), "grouped", 0, groups=[tuple(IDS[:18])])


def test_groups_that_share_an_id_are_one() -> None:
    assert merge([("b", "a"), ("c", "d"), ("d", "b"), ("e",)]) == [("a", "b", "c", "d"), ("e",)]


def test_round_trip(tmp_path: Path) -> None:
    split = paper(50, 7)
    split.save(tmp_path / "split.json")
    assert load_split(tmp_path / "split.json") == split


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    paper(50, 7).save(path)
    raw = json.loads(path.read_text())
    raw["parts"]["train"].update([raw["parts"]["test"].popitem()])
    path.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=r"split.json was edited"):
        load_split(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parts": 1}', "\x00"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=r"split.json is not a split file"):
        load_split(tmp_path / "split.json")


def test_other_images_are_refused_with_the_difference() -> None:
    split = paper(50)
    split.check({id: CONTENTS[id] for id in IDS[:50]})
    others = {id: CONTENTS[id] for id in IDS[1:52]} | {IDS[7]: "changed"}
    message = rf"1 missing: {IDS[0]}; 2 not in the split: {IDS[50]}, {IDS[51]}; 1 of another content: {IDS[7]}"
    with pytest.raises(ValueError, match=message):
        split.check(others)


def test_hash_tells_parts_and_contents_apart() -> None:
    def split(*parts: str, contents: str = "abcde", seed: int = 0) -> Split:
        return Split(*map(tuple, parts), "paper", seed, dict(zip("abcde", contents, strict=True)))  # type: ignore[arg-type]

    assert split("a", "bc", "d", "e").hash != split("ab", "c", "d", "e").hash
    assert split("a", "bc", "d", "e").hash != split("a", "bc", "d", "e", contents="abcdx").hash
    assert split("a", "bc", "d", "e").hash == split("a", "bc", "d", "e", seed=1).hash
