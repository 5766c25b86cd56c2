"""The table of labels: what it shows, what it leaves out, and that its rows come back from their file."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from dermprompt.report.page import write_page
from dermprompt.report.samples import distribution_tables, label_tables
from dermprompt.results import (
    Distribution,
    DistributionRow,
    Interval,
    Job,
    LabelFidelity,
    LabelScore,
    Results,
    Segmentation,
    load_results,
    save_results,
)


def interval(mean: float) -> Interval:
    return Interval(mean, mean - 0.05, mean + 0.05, 100)


def score(label: str, accuracy: float | None, positives: int | None = 31) -> LabelScore:
    numbers = (None, None, None) if accuracy is None else (interval(accuracy), interval(0.5), interval(0.777))
    return LabelScore(label, "balanced accuracy", 200, positives, *numbers)


ROWS = (
    LabelFidelity(score("diagnosis", 0.712, None), score("diagnosis", 0.567, None)),
    LabelFidelity(score("streaks", 0.654), score("streaks", 0.549)),
    LabelFidelity(score("globules", None, 8), score("globules", None, 3)),
)


def job(name: str, count: int, rows: tuple[LabelFidelity, ...] = ROWS, seed: int = 0) -> Job:
    results = Results("small", "", "controlnet", "scratch", count, "unet", seed, 64, "isic", None, {})
    return Path(name), replace(results, label_fidelity=rows, generator_seed=seed)


def test_what_lies_above_the_range_of_exchanged_prompts_is_obeyed() -> None:
    assert [row.shown for row in ROWS] == [True, False, None]


def test_of_each_generator_and_seed_the_largest_number_of_samples_is_shown() -> None:
    fewer = (ROWS[0],)
    none = job("d", 900, ())
    found = label_tables([job("a", 250, fewer), job("b", 500), job("c", 250, fewer, seed=1), none])
    assert [(source.generator, seed, rows) for source, _, seed, rows in found] == [
        ("controlnet", 0, ROWS),
        ("controlnet", 1, fewer),
    ]


def test_samples_of_other_prompts_are_told_apart_and_equal_ones_are_listed_once() -> None:
    values = Distribution(20, 55.5, 0.03, 0.9, 0.2, 1.0, 0.7)
    floor = DistributionRow("real images seen", "floor", "net", replace(values, frechet=19.5))
    jobs = []
    for fold, drawn in product((0, 1), ("", "balanced prompts")):
        # Folds have the same images in another order, so their sums are rounded otherwise.
        own = replace(values, frechet=55.5 + len(drawn) + 1e-12 * fold)
        _, results = job("a", 20)
        row = DistributionRow("controlnet", "generator", "net", own)
        cell = Segmentation("unet", "controlnet", 20, interval(0.8), None, 0.8, 0.0, fold=fold)
        jobs.append((Path("a"), replace(results, distribution=(floor, row), drawn=drawn, segmentation=(cell,))))
    ((_, rows),) = distribution_tables(jobs)
    names = ["real images seen", "ours (ControlNet)", "ours (ControlNet), balanced prompts"]
    assert [row.name for row in rows] == names
    assert [source.label for source, *_ in label_tables(jobs)] == names[1:]


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    results = job("a", 250)[1]
    save_results(results, tmp_path / "results.json")
    assert load_results(tmp_path / "results.json") == results


def test_both_pages_show_every_row(tmp_path: Path) -> None:
    html = write_page([job("a", 250)], tmp_path, "x").read_text()
    for page in (html, (tmp_path / "report.md").read_text()):
        for part in (
            "Is the text followed?",
            "0.712 [0.662, 0.762]",
            "0.567 [0.517, 0.617]",
            "0.549 [0.499, 0.599]",
            "0.777 [0.727, 0.827]",
            "31 of 200",
            "3 of 200",
            "too few",
            "not shown",
            "by label, below",
        ):
            assert part in page
    assert "Is the text followed" not in write_page([job("a", 250, ())], tmp_path, "x").read_text()


@pytest.mark.parametrize("accuracy", [None, 0.6])
def test_a_row_of_all_classes_has_no_area(tmp_path: Path, accuracy: float | None) -> None:
    every = replace(score("diagnosis", accuracy, None), auc=None)
    write_page([job("a", 9, (LabelFidelity(every, every),))], tmp_path, "x")
    (line,) = [one for one in (tmp_path / "report.md").read_text().splitlines() if one.startswith("| diagnosis")]
    assert [cell.strip() for cell in line.split("|")][5] == ""
