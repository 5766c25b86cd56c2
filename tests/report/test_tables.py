from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dermprompt.report import tables
from dermprompt.results import ImageQuality, Interval, Job, Results, Segmentation

S_ONLY = Segmentation("unet", None, 0, Interval(0.80, 0.78, 0.82, 200), None, 0.86, 0.04)


def job(name: str, generator: str, count: int, dice: float, gain: float, **changes: object) -> Job:
    helped = Segmentation(
        "unet",
        generator,
        count,
        Interval(dice, dice - 0.02, dice + 0.02, 200),
        Interval(gain, gain - 0.01, gain + 0.01, 200),
        0.87,
        0.03,
    )
    results = Results(
        experiment="table2",
        command="run",
        generator=generator,
        base=None,
        count=count,
        segmenter="unet",
        seed=0,
        image_size=64,
        dataset="isic2018",
        caution=None,
        data={},
        segmentation=(S_ONLY, helped),
    )
    return Path("runs") / name, replace(results, **changes)  # type: ignore[arg-type]


def quality(name: str, kind: str, mse: float, psnr: float, ssim: float) -> ImageQuality:
    standard = {"mse": mse, "psnr": psnr, "ssim": ssim}
    return ImageQuality(name, kind, 200, {"mse": mse, "psnr": psnr + 48.13, "ssim": (1 + ssim) / 2}, standard)


def test_table_2_has_a_row_per_generator_in_the_papers_order_and_a_column_per_count():
    jobs = [
        job("0", "controlnet", 64, 0.81, 0.01),
        job("1", "controlnet", 1000, 0.83, 0.03),
        job("2", "pix2pixhd", 1000, 0.79, -0.01),
    ]
    (table,) = tables.dice_tables(jobs)
    assert [row.source.generator for row in table.rows] == ["pix2pixhd", "controlnet"]
    assert table.counts == (64, 1000)
    assert table.rows[0].cells[0] is None
    assert [cell and cell.paper for cell in table.rows[1].cells] == [None, 0.912]
    assert table.s_only is not None
    assert table.s_only.paper == 0.861


def test_a_measurement_that_jobs_share_stands_once():
    jobs = [job("0", "controlnet", 64, 0.81, 0.01), job("1", "pix2pixhd", 64, 0.80, 0.0)]
    (table,) = tables.dice_tables(jobs)
    assert table.s_only is not None
    assert len(table.s_only.groups) == len(table.s_only.groups[0]) == 1


def test_seeds_become_a_mean_and_a_range():
    jobs = [
        job(str(seed), "controlnet", 64, dice, dice - 0.8, seed=seed) for seed, dice in enumerate((0.79, 0.80, 0.84))
    ]
    (table,) = tables.dice_tables(jobs)
    cell = table.rows[0].cells[0]
    assert cell is not None
    (entry,) = cell.entries
    assert entry.dice == "0.810 (0.790 to 0.840)"
    assert entry.gain == "+0.010 (-0.010 to +0.040)"
    assert "3 seeds" in entry.note
    # The intervals of seeds 0 and 1 contain 0, that of seed 2 does not: no common verdict.
    assert entry.sign == "open"


def test_two_settings_of_one_seed_are_never_averaged():
    jobs = [job("lr=1", "controlnet", 64, 0.70, -0.1), job("lr=2", "controlnet", 64, 0.90, 0.1)]
    (table,) = tables.dice_tables(jobs)
    cell = table.rows[0].cells[0]
    assert cell is not None
    assert [entry.note for entry in cell.entries] == ["job lr=1", "job lr=2"]
    assert [entry.dice[:5] for entry in cell.entries] == ["0.700", "0.900"]
    assert [entry.sign for entry in cell.entries] == ["down", "up"]


@pytest.mark.parametrize("change", [{"image_size": 128}, {"dataset": "phantom"}])
def test_numbers_of_different_data_stand_in_different_tables(change):
    jobs = [job("0", "controlnet", 64, 0.81, 0.01), job("1", "controlnet", 64, 0.71, 0.0, **change)]
    assert len(tables.dice_tables(jobs)) == 2


def test_bases_are_different_generators():
    jobs = [job(base, "controlnet", 64, 0.81, 0.01, base=base) for base in ("sd15", "tiny")]
    (table,) = tables.dice_tables(jobs)
    assert [row.source.base for row in table.rows] == ["sd15", "tiny"]


@pytest.mark.parametrize(
    ("low", "high", "sign"),
    [(0.001, 0.02, "up"), (-0.02, -0.001, "down"), (-0.01, 0.01, "open"), (0.0, 0.02, "open")],
)
def test_a_gain_needs_an_interval_without_zero(low, high, sign):
    assert tables.gain_sign(Interval((low + high) / 2, low, high, 200)) == sign


def test_table_1_puts_generators_first_and_marks_what_beats_the_best_of_them():
    rows = (
        quality("mean image", "trivial", 0.02, 17.0, 0.70),
        quality("noise", "trivial", 0.30, 5.0, 0.01),
        quality("controlnet", "generator", 0.04, 14.0, 0.75),
    )
    jobs = [
        job("0", "controlnet", 64, 0.8, 0.0, image_quality=rows),
        job(
            "1",
            "pix2pixhd",
            64,
            0.8,
            0.0,
            image_quality=(*rows[:2], quality("pix2pixhd", "generator", 0.06, 12, 0.6)),
        ),
    ]
    (table,) = tables.quality_tables(jobs)
    assert [row.source.generator for row in table.rows] == ["pix2pixhd", "controlnet", "mean image", "noise"]
    beats = {row.source.generator: {metric for _, metric in row.beats} for row in table.rows}
    # 0.70 beats Pix2PixHD's SSIM of 0.6, but not the best one, 0.75.
    assert beats == {"pix2pixhd": set(), "controlnet": set(), "mean image": {"mse", "psnr"}, "noise": set()}
    assert table.rows[1].values["paper", "psnr"].text(2) == "62.13"


def test_table_1_averages_the_generators_seeds():
    jobs = [
        job(
            str(k),
            "controlnet",
            64,
            0.8,
            0,
            seed=k,
            generator_seed=s,
            image_quality=(quality("controlnet", "generator", m, 9, 0),),
        )
        for k, (s, m) in enumerate([(0, 0.02), (1, 0.04), (1, 0.04)])  # two segmenters on the same images
    ]
    (table,) = tables.quality_tables(jobs)
    assert [row.values["standard", "mse"].text(4) for row in table.rows] == ["0.0300 (0.0200 to 0.0400)"]


def test_table_1_is_the_mean_over_the_images_of_all_folds():
    jobs = []
    for fold, (mse, n) in enumerate([(0.02, 30), (0.05, 10)]):
        row = replace(quality("controlnet", "generator", mse, 9, 0), n=n)
        path, results = job(str(fold), "controlnet", 64, 0.8, 0, image_quality=(row,))
        cells = tuple(replace(cell, fold=fold) for cell in results.segmentation)
        jobs.append((path, replace(results, segmentation=cells)))
    (table,) = tables.quality_tables([*jobs, *jobs])
    (row,) = table.rows
    assert row.n == 40
    assert row.values["standard", "mse"].mean == pytest.approx((0.02 * 30 + 0.05 * 10) / 40)


def test_the_papers_numbers_are_those_of_the_paper():
    assert tables.PAPER_DICE["pix2pixhd"] == (0.871, 0.903, 0.912)
    assert tables.PAPER_DICE["controlnet"] == (0.912, 0.913, 0.914)
    assert tables.PAPER_S_ONLY == {"unet": 0.861, "dcsaunet": 0.903}
    assert tables.PAPER_QUALITY["pix2pixhd"] == {"mse": 0.09, "psnr": 58.80, "ssim": 0.71}
    assert tables.PAPER_QUALITY["controlnet"] == {"mse": 0.06, "psnr": 61.64, "ssim": 0.80}


@pytest.mark.parametrize(("count", "label"), [(0, "S only"), (64, "S + 64"), (3000, "S + 3K"), (1500, "S + 1500")])
def test_counts_read_like_the_papers_columns(count, label):
    assert tables.count_label(count) == label
