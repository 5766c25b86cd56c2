"""Arms: what each trains on, for how long, on what its recipes depend, and how a sweep compares them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniature import CONF, compose, miniature, run

from dermprompt.pipeline import Pipeline
from dermprompt.results import Interval, Results, Segmentation, load_results
from dermprompt.segmenter.batches import MixedOrder
from dermprompt.stages.train_segmenter import num_steps
from dermprompt.store.artifacts import PlanningStore
from dermprompt.sweep.comparison import ArmId, Scored, arm_tables, control_of, primary_of, records_of, shared
from dermprompt.sweep.page import write_sweep_page
from dermprompt.sweep.published import publish, rewrite, verify

# Strongly augmented, without saying so.
STRONG = ("pretrained_on_samples", "fading_samples")
ARMS = sorted(path.stem for path in (CONF / "arm").glob("*.yaml"))


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_composes_under_its_own_name(arm: str) -> None:
    config = compose(f"arm={arm}", "data.root=/data")
    assert config.arm.name == arm
    without = arm.startswith("s_") and arm != "s_plus_g_controlnet_strong_1k"
    assert (config.synthesis.count == 0) == without
    assert (config.generator.name == "none") == (without and arm != "s_decoded")
    assert config.arm.augmentation == ("strong" if "strong" in arm or arm in STRONG else None)
    # As many steps as its control.
    assert config.arm.steps_of in (None, *(1000 * k for k in (1, 3, 5)), 250, 300)


def test_an_arm_augments_its_own_training_and_not_that_of_s_only(tmp_path: Path) -> None:
    """Else a sweep would have several trainings called S only."""
    only, plain = _planned(tmp_path, "arm=controlnet_1k", "synthesis.count=4").arms
    again, strong = _planned(tmp_path, "arm=controlnet_strong_1k", "synthesis.count=4").arms
    assert only == again
    assert only.settings == plain.settings
    assert strong.settings == replace(plain.settings, augmentation="strong")


def _planned(folder: Path, *overrides: str) -> Pipeline:
    config = compose(*miniature("controlnet", "synthesis.count=8", *overrides))
    return Pipeline(config, PlanningStore(folder))


def test_generators_do_not_depend_on_the_arm_in_an_open_world(tmp_path: Path) -> None:
    plain = _planned(tmp_path)
    for override in ("arm.num_real=5", "segmenter.seed=3", "arm.batches=half_real", "arm.name=other"):
        assert _planned(tmp_path, override).samples.digest == plain.samples.digest, override


def test_a_closed_world_has_generators_of_its_own(tmp_path: Path) -> None:
    worlds = [("arm.world=open",), ("arm.world=closed",), ("arm.world=closed", "arm.num_real=5")]
    assert len({_planned(tmp_path, *world).samples.digest for world in worlds}) == 3


def test_s_only_is_shared_by_all_arms_of_a_size(tmp_path: Path) -> None:
    first = _planned(tmp_path, "arm.batches=half_real", "arm.num_real=5")
    other = _planned(tmp_path, "arm.finetune=true", "arm.num_real=5")
    assert first.segmenter(first.arms[0]).path == other.segmenter(other.arms[0]).path
    assert first.segmenter(first.arms[1]).path != other.segmenter(other.arms[1]).path


def test_all_of_s_train_is_no_number(tmp_path: Path) -> None:
    plain, numbered = _planned(tmp_path), _planned(tmp_path, "arm.num_real=700")
    assert plain.segmenter(plain.arms[1]).path == numbered.segmenter(numbered.arms[1]).path


@pytest.mark.usefixtures("_with_samples")
def test_in_every_fold_the_generator_is_the_same(tmp_path: Path) -> None:
    overrides = miniature("pix2pixhd", "synthesis.count=4", "stage=train_generator")
    for fold in ("null", "0", "4"):
        run(tmp_path, *overrides, f"data.split.fold={fold}")
    assert len(list((tmp_path / "store" / "train_generator").iterdir())) == 1
    splits = [json.loads(p.read_text())["parts"] for p in (tmp_path / "store").glob("prepare/split-*/split.json")]
    assert len({json.dumps(one["generator"]) for one in splits}) == 1
    assert len({json.dumps(one["test"]) for one in splits}) == 3
    store = PlanningStore(tmp_path / "store")
    folds = [Pipeline(compose(*overrides, f"data.split.fold={fold}"), store) for fold in (0, 4)]
    # All of S is compared with the samples once, while a curation must not know S.test.
    for name, shared_by_folds in (("distribution", True), ("colours", True), ("memorised", False)):
        assert (getattr(folds[0], name).path == getattr(folds[1], name).path) == shared_by_folds


def test_steps() -> None:
    settings = compose("data.root=/x").segmenter
    assert num_steps(settings, 2, 700, None) == 350 * 2
    assert num_steps(settings, 2, 700, 5000) == 350 * (5700 // 256)
    settings.max_steps = 123
    assert num_steps(settings, 2, 700, 5000) == 123


def test_half_of_every_batch_is_real() -> None:
    order = MixedOrder(num_rows=40, num_real=10, batch_size=8, seed=0)
    batches = list(order)
    assert len(batches) == len(order) == 5
    assert all(sum(row < 10 for row in batch) == 4 for batch in batches)
    rows = np.bincount(np.concatenate(batches), minlength=40)
    assert set(rows[:10]) == {2}
    assert rows[10:].max() == 1
    assert list(order) == batches
    order.set_epoch(1)
    assert list(order) != batches


def test_the_share_of_samples_falls_to_zero() -> None:
    order = MixedOrder(num_rows=100, num_real=20, batch_size=10, seed=0, fading_steps=50)
    drawn = []
    for epoch in range(5):
        order.set_epoch(epoch)
        batches = list(order)
        assert len(batches) == len(order) == 10
        assert all(len(batch) == 10 for batch in batches)
        drawn += [sum(row >= 20 for row in batch) for batch in batches]
        rows = np.bincount(np.concatenate(batches), minlength=100)
        assert np.ptp(rows[:20]) <= 1
        assert np.ptp(rows[20:]) <= 1
    assert drawn[0] == 8
    assert drawn[-1] == 0
    assert drawn == sorted(drawn, reverse=True)
    assert sum(drawn) == pytest.approx(0.5 * 8 * 50, abs=10)
    halves = [MixedOrder(100, 20, 10, 0, 50, rank, 2) for rank in (0, 1)]
    for both, whole in zip(zip(*halves, strict=True), MixedOrder(100, 20, 10, 0, 50), strict=True):
        assert sorted([*both[0], *both[1]]) == sorted(whole)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("arm.batches=fading", "arm.batches=fading with synthesis.count=0"),
        ("evaluation.primary.purpose=selling", "allowed are sharing, more, instead"),
        ("evaluation.primary.num_real=[35,0]", "a whole number, at least 1"),
        ("arm.real=none", "arm.real=none with synthesis.count=0"),
        ("arm.batches=half_real", "arm.batches=half_real with synthesis.count=0"),
        ("arm.finetune=true", "arm.finetune=true with synthesis.count=0"),
        ("arm=finetuned arm.steps_of=1000", "arm.finetune=true with arm.steps_of=1000"),
        (
            "arm=finetuned segmenter.max_epochs=null segmenter.max_steps=9",
            "arm.finetune=true with segmenter.max_steps=9",
        ),
        ("arm.num_real=701", "at most the 700 of S.train"),
        ("arm.num_real=0", "arm.num_real=0"),
        ("arm.real=s_and_g arm.world=closed", "a closed world excludes G"),
        ("arm.world=other", "allowed are open, closed"),
        ("data.split.fold=5", "data.split.fold=5: a whole number, at least 0 and at most 4"),
        ("segmenter.max_steps=5", "one of them, the other null"),
    ],
)
def test_what_cannot_be_is_said(override: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compose("data.root=/x", *([] if "arm=" in override else ["synthesis.count=0"]), *override.split())


@pytest.mark.usefixtures("_with_samples")
def test_arms_run_and_are_compared(tmp_path: Path) -> None:
    own = ["evaluation.primary.ours=pix2pixhd_1k", "evaluation.primary.purpose=instead"]
    small = [*miniature("pix2pixhd"), "synthesis.count=8", *own]
    without = [one for one in miniature("none") if one != "generator=none"] + own
    jobs = {
        "only": [*without, "arm=s_only"],
        "strong": [*without, "arm=s_plus_g_strong_1k", "arm.steps_of=8"],
        "warped": [*miniature("warp"), "arm=warped", "synthesis.count=8", *own],
        "with_g": [*without, "arm=s_plus_g"],
        "ours": [*small, "arm=pix2pixhd_1k"],
        "half": [*small, "arm=half_real"],
        "alone": [*small, "arm=synthetic_only"],
        "fine": [*small, "arm=finetuned"],
        "fading": [*small, "arm=half_real", "arm.name=fading", "arm.batches=fading"],
    }
    for job, overrides in jobs.items():
        run(tmp_path, *overrides, job=job)
    results = [(path.parent, load_results(path)) for path in sorted((tmp_path / "runs").glob("*/results.json"))]
    (table,) = arm_tables(records_of(results), primary_of(results))
    assert table.world == "open"
    assert {row.control for row in table.rows} == {None, "s_plus_g_strong_1k"}
    assert {row.arm for row in table.rows} == {
        *("s_only", "s_plus_g_strong_1k", "s_plus_g", "pix2pixhd_1k"),
        *("half_real", "synthetic_only", "finetuned", "fading", "warped"),
    }
    assert [row.arm for row in table.rows if row.primary] == ["pix2pixhd_1k"]
    assert [row.arm for row in table.rows if row.against is None] == ["s_plus_g_strong_1k"]
    assert all((row.adjusted is None) == (row.primary or row.against is None) for row in table.rows)
    assert len(table.pairs) == 9 * 8 / 2 - 8
    assert {row.purpose for row in table.purposes} == {"instead"}
    assert len(table.purposes) == 6
    page = write_sweep_page(tmp_path / "runs")
    assert page is not None
    assert "All other pairs: 28" in page.read_text()
    assert "pix2pixhd_1k against s_plus_g_strong_1k" in page.read_text()


def _job(folder: Path, arm: str, seed: int, dice: list[float], **settings: Any) -> tuple[Path, Results]:
    folder.mkdir()
    lines = [f"i{k},{value},0,0,0,0,0,0,0,0,0,0" for k, value in enumerate(dice)]
    head = "id,dice,iou,jaccard65,sensitivity,specificity,hd95,surface_dice,common,total,area,border"
    (folder / "scores.csv").write_text("\n".join([head, *lines]) + "\n")
    mean = Interval(sum(dice) / len(dice), 0, 1, len(dice))
    cell = Segmentation("unet", None, 0, mean, None, 0.0, 0.0, arm, None, seed, "scores.csv")
    primary = {"ours": "b", "purpose": "sharing", "segmenter": "unet", "num_real": None}
    cells = (replace(cell, **settings),)
    return folder, Results("e", "", None, None, 0, "unet", seed, 64, "isic", None, {}, primary, segmentation=cells)


CONTROL = {"steps_of": 5}
OURS = {"world": "open", "count": 5}


def test_a_comparison_of_two_arms_by_hand(tmp_path: Path) -> None:
    jobs = [
        _job(tmp_path / "1", "s_strong_5", 0, [0.5, 0.7, 0.6], **CONTROL),
        _job(tmp_path / "2", "s_strong_5", 1, [0.5, 0.5, 0.6], **CONTROL),
        _job(tmp_path / "3", "b", 0, [0.6, 0.7, 0.7], **OURS),
        _job(tmp_path / "4", "b", 1, [0.7, 0.6, 0.7], **OURS),
        _job(tmp_path / "5", "b", 2, [0.0, 0.0, 0.0], **OURS),  # a seed that the other has not
    ]
    (table,) = publish(records_of(jobs), primary_of(jobs), tmp_path)
    control, ours = table.rows
    assert control.dice is not None
    assert control.dice.mean == pytest.approx(3.4 / 6)
    assert (ours.control, ours.primary, table.pairs) == ("s_strong_5", True, ())
    assert ours.against is not None
    assert ours.against.gain.mean == pytest.approx((0.1 + 0 + 0.1 + 0.2 + 0.1 + 0.1) / 6)
    assert ours.against.gain.over == "images"
    assert ours.against.gain.seeds == 2
    assert verify(tmp_path) == []
    scores = tmp_path / "scores.csv.gz"
    scores.write_bytes(gzip.compress(gzip.decompress(scores.read_bytes()).replace(b"0.7", b"0.71", 1)))
    assert any("against.gain.mean" in line for line in verify(tmp_path))
    assert any("trainings.0.dice.mean" in line for line in verify(tmp_path))


def test_the_control_takes_as_many_steps() -> None:
    arms = [ArmId("open", f"s_strong_{k}k", 0, 1000 * k) for k in (1, 3, 5)]
    arms += [ArmId("open", "b", 3000, None), ArmId("", "s_steps_5k", 0, 5000), ArmId("open", "s_plus_g", 0, None)]
    controls = [control_of(arm, arms, "s_strong", "open", main=1000).name for arm in arms]
    assert controls == ["s_strong_1k", "s_strong_3k", "s_strong_5k", "s_strong_3k", "s_strong_5k", "s_strong_1k"]
    assert control_of(ArmId("open", "d", 1000, 5000), arms, "s_strong", "open", 1000).name == "s_strong_5k"
    assert control_of(ArmId("open", "c", 7, None), arms, "s_strong", "open", 7).name == "s_plus_g"


def test_samples_beside_all_real_pairs_are_judged_against_these_pairs() -> None:
    arms = [ArmId("open", "s_plus_g_strong_1k", 0, 1000), ArmId("", "s_strong_1k", 0, 1000)]
    beside = ArmId("open", "s_plus_g_controlnet_strong_1k", 1000, 1000)
    assert control_of(beside, [*arms, beside], "s_strong", "open", 1000).name == "s_plus_g_strong_1k"


def test_nothing_is_primary_but_what_was_named(tmp_path: Path) -> None:
    jobs = [
        _job(tmp_path / "1", "s_strong_5", 0, [0.5, 0.7], **CONTROL),
        _job(tmp_path / "2", "b", 0, [0.6, 0.9], **OURS),
    ]
    late = [(path, replace(results, primary={**results.primary, "declared": False})) for path, results in jobs]
    other = [jobs[0], (jobs[1][0], replace(jobs[1][1], primary={**jobs[1][1].primary, "hash": "x"}))]
    small = [(path, replace(r, segmentation=(replace(r.segmentation[0], num_real=70),))) for path, r in jobs]
    for named, expected in ((jobs, True), (late, False), (other, False), (small, False)):
        (table,) = arm_tables(records_of(named), primary_of(named))
        assert any(row.primary for row in table.rows) == expected


def test_jobs_of_one_arm_that_differ_are_told_apart(tmp_path: Path) -> None:
    jobs = [
        _job(tmp_path / "x-aa", "b", 0, [0.5, 0.7], **OURS),
        _job(tmp_path / "x-bb", "b", 0, [0.6, 0.9], **OURS),
        _job(tmp_path / "x-cc", "s_strong_5", 0, [0.6, 0.9], **CONTROL),
        _job(tmp_path / "x-dd", "s_strong_5", 0, [0.6, 0.9], **CONTROL),
        _job(tmp_path / "x-ee", "b", 0, [0.6, 0.9], **OURS),
    ]
    (table,) = arm_tables(records_of(jobs), {})
    assert {row.arm for row in table.rows} == {"b aa", "b bb", "s_strong_5"}


def test_a_swept_setting_names_arms_over_all_seeds(tmp_path: Path) -> None:
    jobs = []
    for seed, scale in product((0, 1), (1, 2)):
        words = f"python -m dermprompt x=1 generator.guidance_scale={scale} segmenter.seed={seed} data.split.fold=0"
        path, results = _job(tmp_path / f"{seed}-{scale}", "b", seed, [0.5, 0.1 * scale + 0.01 * seed], **OURS)
        jobs.append((path, replace(results, command=words)))
    (table,) = arm_tables(records_of(jobs), {})
    assert {row.arm for row in table.rows} == {"b generator.guidance_scale=1", "b generator.guidance_scale=2"}
    assert {row.dice.seeds for row in table.rows if row.dice} == {2}


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ((10, 10, 10, 10, 2), (4, 10)),  # a fifth seed has begun
        ((0, 8, 8, 0, 0), (2, 8)),
        ((4, 2, 2, 2, 2), (5, 2)),  # more scores than four of one seed
        ((1, 1, 1, 1, 1), None),
        ((0, 0, 0, 0, 0), None),
    ],
)
def test_an_unfinished_seed_discards_no_finished_one(images: tuple[int, ...], expected: tuple[int, int] | None) -> None:
    arm: Scored = {seed: {(None, str(k)): 0.5 for k in range(number)} for seed, number in enumerate(images)}
    tables = shared(arm, arm)
    assert (tables[0].shape if tables else None) == expected


def test_a_primary_comparison_with_all_of_s_train_is_made(tmp_path: Path) -> None:
    every = {"data.split.sizes": "[40,16,4,4]", "evaluation.primary.num_real": "[8,16]"}
    small = [*miniature("none"), "synthesis.count=0", *(f"{key}={value}" for key, value in every.items())]
    assert run(tmp_path, *small, job="first")["primary"]["num_real"] == [8, None]


def test_augmentation_names_an_arm_and_a_killed_job_is_listed(tmp_path: Path) -> None:
    results = run(tmp_path, *miniature("none"), "synthesis.count=0", "arm.augmentation=strong", job="strong")
    assert [cell["arm"] for cell in results["segmentation"]] == ["s strong"]
    killed = tmp_path / "runs" / "killed"
    killed.mkdir()
    (killed / "config.yaml").write_bytes((tmp_path / "runs" / "strong" / "config.yaml").read_bytes())
    page = write_sweep_page(tmp_path / "runs")
    assert page is not None
    for text in (page.read_text(), page.with_name("report.md").read_text()):
        assert "Not finished, and not on this page: killed" in text


def test_a_gap_is_marked_and_stops_nothing(tmp_path: Path) -> None:
    jobs = [
        _job(tmp_path / "1", "s_strong_5", 0, [0.5, 0.7], **CONTROL),
        _job(tmp_path / "2", "b", 1, [0.6, 0.9], **OURS),
        _job(tmp_path / "3", "c", 0, [0.6], **OURS),
    ]
    (table,) = publish(records_of(jobs), {"purpose": "sharing", "segmenter": "unet"}, tmp_path)
    found = {row.arm: row for row in table.rows}
    assert found["b"].control == "s_strong_5"
    assert found["b"].dice is not None
    assert found["b"].against is found["c"].against is found["c"].dice is None
    assert verify(tmp_path) == []


def test_where_s_was_rotated_the_folds_alone_count(tmp_path: Path) -> None:
    jobs = [_job(tmp_path / str(k), "b", 0, [0.5, 0.7], fold=fold, **OURS) for k, fold in enumerate((None, 0, 1))]
    jobs += [_job(tmp_path / f"c{k}", "c", 0, [0.5, 0.8], fold=fold, **OURS) for k, fold in enumerate((0, 1))]
    (table,) = arm_tables(records_of(jobs), {})
    assert all(row.dice is not None and row.dice.n == 4 for row in table.rows)


def test_the_first_scores_bind_the_primary_comparison(tmp_path: Path) -> None:
    small = [*miniature("none"), "synthesis.count=0"]
    first = run(tmp_path, *small, job="first")
    again = run(tmp_path, *small, "evaluation.primary.ours=pix2pixhd_1k", job="again")
    assert (first["primary"]["declared"], again["primary"]["declared"]) == (True, False)
    assert first["primary"]["hash"] != again["primary"]["hash"]
    page = write_sweep_page(tmp_path / "runs")
    assert page is not None
    assert "Nothing is primary" in page.read_text() or "arms" not in page.read_text()
    assert list((tmp_path / "runs").glob("split-*.json"))


def test_worlds_are_never_mixed(tmp_path: Path) -> None:
    dice = {
        "s_only": [0.5, 0.5, 0.6],
        "open_b": [0.6, 0.5, 0.7],
        "s_plus_g": [0.7, 0.5, 0.7],
        "closed_b": [0.5, 0.4, 0.6],
    }
    jobs = []
    for k, (arm, values) in enumerate(dice.items()):
        folder, results = _job(tmp_path / str(k), arm, 0, values)
        world = {"s_only": None, "closed_b": "closed"}.get(arm, "open")
        cells = tuple(replace(cell, world=world) for cell in results.segmentation)
        jobs.append((folder, replace(results, segmentation=cells)))
    primary = {"ours": "open_b", "purpose": "sharing", "segmenter": "unet", "num_real": None}
    closed, opened = arm_tables(records_of(jobs), primary)
    assert (closed.world, {row.arm for row in closed.rows}) == ("closed", {"s_only", "closed_b"})
    assert {row.control for row in closed.rows} == {None, "s_only"}
    assert {row.arm for row in opened.rows} == {"s_only", "open_b", "s_plus_g"}
    assert {row.control for row in opened.rows} == {None, "s_plus_g"}
    assert (closed.note, opened.note) == ("", "")
    assert not any(row.primary for row in (*closed.rows, *opened.rows)), "its control did not run"


def test_the_open_control_trains_for_the_steps_of_s_and_samples(tmp_path: Path) -> None:
    without = [one for one in miniature("none") if one != "generator=none"]
    run(tmp_path, *without, "arm=s_plus_g_strong_1k", "arm.steps_of=8", "stage=train_segmenter")
    (curves,) = (tmp_path / "store").glob("train_segmenter/*/curves.csv")
    split = json.loads(next((tmp_path / "store").glob("prepare/split-*/split.json")).read_text())
    steps = max(int(line.split(",")[0]) for line in curves.read_text().splitlines())
    assert steps == (len(split["parts"]["train"]) + 8) // 4


def test_s_decoded_trains_on_what_the_codec_leaves(tmp_path: Path) -> None:
    small = miniature("controlnet", "arm=s_decoded", "synthesis.count=0")
    results = run(tmp_path, *[one for one in small if one != "generator=controlnet"])
    assert [cell["arm"] for cell in results["segmentation"]] == ["s_decoded"]
    with pytest.raises(ValueError, match="only controlnet has a codec"):
        compose(*miniature("pix2pixhd", "arm.real=s_decoded"))


def test_arms_that_share_too_little_are_not_compared() -> None:
    assert shared({0: {(None, "a"): 0.5, (None, "b"): 0.5}}, {1: {(None, "a"): 0.5, (None, "b"): 0.5}}) == []
    assert shared({0: {(None, "a"): 0.5}}, {0: {(None, "a"): 0.5}}) == []


def _purposes(folder: Path, num_real: int | None = None) -> list[tuple[Path, Results]]:
    """An arm, S alone and S with G's real pairs, on forty images and five seeds: the arm closes half of the gap."""
    rng, jobs = np.random.default_rng(0), []
    image = rng.normal(0, 0.05, 40)
    means = {"b": (0.65, OURS), "s_strong_5": (0.6, CONTROL), "s_plus_g_strong_5": (0.7, {**CONTROL, "world": "open"})}
    for arm, (mean, settings) in means.items():
        for seed in range(5):
            dice = (mean + image + rng.normal(0, 0.01, 40)).tolist()
            jobs.append(_job(folder / f"{arm}-{seed}-{num_real}", arm, seed, dice, num_real=num_real, **settings))
    return jobs


def test_each_purpose_has_its_control_and_a_share_of_the_gap(tmp_path: Path) -> None:
    (table,) = arm_tables(records_of(_purposes(tmp_path)), {"purpose": "sharing", "segmenter": "unet", "ours": "b"})
    found = {row.purpose: row for row in table.purposes}
    assert {name: row.control for name, row in found.items()} == {
        "sharing": "s_strong_5",
        "instead": "s_plus_g_strong_5",
    }
    assert (found["sharing"].against.verdict, found["instead"].against.verdict) == ("better", "worse")
    share = found["instead"].share
    assert share is not None
    assert 0.3 < share.low < 0.5 < share.high < 0.7
    assert found["sharing"].share is None
    assert [(row.arm, row.control) for row in table.rows if row.primary] == [("b", "s_strong_5")]


def test_a_regime_of_several_numbers_holds_together(tmp_path: Path) -> None:
    jobs = [*_purposes(tmp_path, 35), *_purposes(tmp_path, 70), *_purposes(tmp_path, 175)]
    primary = {"purpose": "sharing", "segmenter": "unet", "ours": "b"}
    several = arm_tables(records_of(jobs), {**primary, "num_real": [35, 70]})
    alone = arm_tables(records_of(jobs), {**primary, "num_real": [35]})
    assert [any(row.primary for row in table.rows) for table in several] == [True, True, False]

    def width(table: Any) -> float:
        (row,) = (row for row in table.rows if row.primary)
        return row.against.gain.high - row.against.gain.low

    assert width(several[0]) > 1.05 * width(alone[0])


def test_a_chart_by_purpose_is_written_with_the_tables(tmp_path: Path) -> None:
    jobs = [*_purposes(tmp_path, 35), *_purposes(tmp_path, 70)]
    publish(records_of(jobs), {"purpose": "sharing", "segmenter": "unet", "ours": "b"}, tmp_path)
    tables = (tmp_path / "tables.json").read_text()
    (tmp_path / "tables.json").write_text(tables.replace("better", "worse"))
    assert verify(tmp_path)
    for name in ("arms-0", "purposes-0"):
        (tmp_path / f"{name}.svg").touch()
    rewrite(tmp_path)
    assert not (tmp_path / "arms-1.svg").exists()
    assert (tmp_path / "tables.json").read_text() == tables
    assert verify(tmp_path) == []
    chart = (tmp_path / "purposes-0.svg").read_text()
    assert all(word in chart for word in ("35", "70", "another site", "real pairs"))
