"""Cards and the index as text: nothing is left out, and nothing breaks a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import yaml

from dermprompt.data.licences import find_licences, first_line
from dermprompt.export.cards import MOST, DatasetFacts, ModelFacts, dataset_card, model_card
from dermprompt.results import MaskFidelity, Results
from dermprompt.synthesis.index import COLUMNS, index_row, write_index
from dermprompt.synthesis.samples import Sample

SAMPLE = Sample("SYN_0000007", 'a "b", c', "MEL", ["x", "y"], 2**62 + 1, "m/7", None, "g-1", "aa", "bb")


def rows(prompts: list[str]) -> list[dict]:
    return [{"prompt": prompt, "diagnosis": None, "attributes": None, "decision": "keep"} for prompt in prompts]


def facts(**more: object) -> DatasetFacts:
    known: dict = {"title": 'a: "b"', "layout": "", "counts": {}, "made_from": {}, "licences": {}}
    return DatasetFacts(**{**known, **more})


def test_the_index_comes_back_as_it_was_written(tmp_path: Path) -> None:
    bare = Sample("SYN_0000008", "", None, [], 0, "m/8", "s", "g-1", "aa", "bb")
    write_index(tmp_path / "a.csv", [index_row(SAMPLE, "i", "m", guidance_scale=9.0), index_row(bare, "i", "m")])
    with open(tmp_path / "a.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == list(COLUMNS)
    assert (first["prompt"], first["attributes"], int(first["seed"])) == (SAMPLE.prompt, "x;y", SAMPLE.seed)
    assert (first["guidance_scale"], first["source_mask_id"]) == ("9.0", "")
    assert (second["attributes"], second["diagnosis"], second["source_mask_id"]) == ("none", "", "s")


def test_a_front_matter_is_yaml() -> None:
    for card in (dataset_card(facts(), rows([""])), model_card(ModelFacts('a: "b"', "controlnet", {}, "", {}), None)):
        head = yaml.safe_load(card.split("---\n")[1])
        assert head["license"] == "unknown"
        assert "synthetic" in head["tags"]
    head = yaml.safe_load(dataset_card(facts(licences={"a": "b"}), rows(["x"] * 1000)).split("---\n")[1])
    assert head["license"] == "other"
    assert head["size_categories"] == ["1K<n<10K"]
    assert head["pretty_name"] == 'a: "b"'


def test_a_card_leaves_out_what_was_not_measured() -> None:
    """The level of chance is missing from results of older versions."""
    job = ("demo", "python -m dermprompt", "pix2pixhd", None, 4, "unet", 0, 64, "isic", None)
    results = Results(*job, data={}, mask_fidelity=MaskFidelity(0.9, 0.8, 0.3, 4, chance=None))
    card = model_card(ModelFacts("a", "pix2pixhd", {}, "", {}), results)
    assert "| real 0.9, generated 0.8, shuffled 0.3, n 4 |" in card


def test_prompts_are_counted_and_rare_ones_together() -> None:
    prompts = ["often | here"] * 3 + [f"rare {i}" for i in range(MOST + 9)]
    card = dataset_card(facts(), rows(prompts))
    assert "| often \\| here | 3 |" in card
    assert "| (10 others) | 10 |" in card
    assert f"| no diagnosis: attributes unknown | {len(prompts)} |" in card


def test_licence_files_are_found_once(tmp_path: Path) -> None:
    (tmp_path / "images/images").mkdir(parents=True)
    licences = {"LICENSE", "images/licence.txt", "images/images/ATTRIBUTION.md"}  # an archive in a folder of its name
    for name in (*licences, "images/a.jpg"):
        (tmp_path / name).write_text(f"\n  {name}\nmore")
    found = find_licences([tmp_path, tmp_path / "images"])
    assert {first_line(path) for path in found} == licences
    assert len(found) == 3
    assert json.dumps(find_licences([])) == "[]"
