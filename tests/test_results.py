from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from dermprompt.results import (
    FORMER,
    ColourRow,
    Curation,
    Curve,
    Distribution,
    DistributionRow,
    External,
    ImageQuality,
    Interval,
    LabelFidelity,
    LabelScore,
    MaskFidelity,
    Memorisation,
    Picture,
    Results,
    Segmentation,
    Subgroup,
    TextFidelity,
    load_results,
    save_results,
)

INTERVAL = Interval(0.5, 0.25, 0.75, 10)
SCORE = LabelScore("MEL", "balanced accuracy", 10, None, INTERVAL, None, None)
FULL = Results(
    *("demo", "python -m dermprompt", "controlnet", "scratch", 4, "unet", 0, 64, "isic", None),
    data={"images": 4, "findings": [["bad_row", 1]]},
    image_quality=(ImageQuality("controlnet", "generator", 4, {"mse": math.inf}, {"mse": 0.1}),),
    distribution=(DistributionRow("controlnet", "generator", "x", Distribution(4, 1.0, 2.0, 0.1, 0.2, 0.3, 0.4)),),
    colours=(ColourRow("controlnet", "generator", "inside", 4, (9.0, 8.0, 7.0), (1.0, 2.0, 3.0), ("mean of red",)),),
    segmentation=(
        Segmentation("unet", None, 0, INTERVAL, None, 0.5, 0.1),
        Segmentation("unet", "warp", 4, INTERVAL, INTERVAL, 0.5, 0.1, groups=(Subgroup("size", "large", INTERVAL),)),
    ),
    mask_fidelity=MaskFidelity(0.9, 0.8, 0.3, 4),
    text_fidelity=TextFidelity(0.9, 0.5, 4),
    label_fidelity=(LabelFidelity(SCORE, SCORE),),
    curation=Curation("agreement", 2, 1, 1, (("size", "large", 4, 2),), None),
    memorisation=Memorisation("thumbnails", 0.01, 4, 1, None, (Picture("a", "m.png", "a.jpg"),)),
    external=(External("ph2", "s_only", 0, None, 0, INTERVAL, {"iou": 0.4}, (Subgroup("diagnosis", "NV", INTERVAL),)),),
    curves=(Curve("train_base", "loss", (1, 2), (0.5, 0.25)),),
    validation_pictures=("training/1.png",),
    work={"samples drawn": 4},
)


def test_every_record_comes_back_from_its_file(tmp_path: Path) -> None:
    save_results(FULL, tmp_path / "results.json")
    assert load_results(tmp_path / "results.json") == FULL


def test_a_file_from_before_a_field_was_added_is_read(tmp_path: Path) -> None:
    older = dataclasses.asdict(FULL)
    for key in ("validation_pictures", "work", "primary", "external"):
        del older[key]
    del older["segmentation"][0]["fold"]
    (tmp_path / "results.json").write_text(json.dumps(older))
    found = load_results(tmp_path / "results.json")
    assert (found.validation_pictures, found.external, found.segmentation) == ((), (), FULL.segmentation)


def test_a_file_with_former_names_is_read(tmp_path: Path) -> None:
    text = json.dumps(dataclasses.asdict(FULL))
    for former, name in FORMER.items():
        assert f'"{name}"' in text
        text = text.replace(f'"{name}"', f'"{former}"')
    (tmp_path / "results.json").write_text(text)
    assert load_results(tmp_path / "results.json") == FULL


def test_a_value_that_does_not_fit_is_named(tmp_path: Path) -> None:
    wrong = dataclasses.asdict(FULL)
    wrong["segmentation"][1]["dice"]["mean"] = "much"
    (tmp_path / "results.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match=r"segmentation\.1\.dice\.mean"):
        load_results(tmp_path / "results.json")
