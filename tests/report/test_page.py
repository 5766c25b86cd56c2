from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from dermprompt.report.page import flatten, headlines, write_page
from dermprompt.results import (
    ColourRow,
    Curve,
    ImageQuality,
    Interval,
    Job,
    MaskFidelity,
    Picture,
    Results,
    Segmentation,
    TextFidelity,
)

GAINS = {("controlnet", 64): 0.0103, ("controlnet", 1000): 0.0312, ("pix2pixhd", 64): -0.0051}
GAINS["pix2pixhd", 1000] = -0.0343


def pictures(run: Path, kind: str, seed: int) -> tuple[Picture, ...]:
    (run / kind).mkdir(parents=True)
    found = []
    for index in range(2):
        rng = np.random.default_rng([seed, index])
        rows, columns = np.mgrid[:48, :48]
        inside = (rows - 24) ** 2 + (columns - 24) ** 2 < rng.integers(80, 300)
        skin = np.where(inside[..., None], (110, 70, 50), (220, 180, 160)) + rng.integers(-20, 20, (48, 48, 1))
        files = {part: f"{kind}/{index} {part}.png" for part in ("mask", "image", "real")}
        for part, pixels in (("mask", inside * 255), ("image", skin), ("real", skin[::-1])):
            Image.fromarray(pixels.astype(np.uint8)).save(run / files[part])
        found.append(Picture(f"TEST_{index}", files["mask"], files["image"], files["real"], "a <i>nevus</i>"))
    return tuple(found)


def make_results(run: Path, generator: str, count: int) -> Results:
    gain = GAINS[generator, count]
    base = 0.8017
    shift = 0.01 if generator == "controlnet" else 0.0
    return Results(
        experiment="table2",
        command=f"python -m dermprompt generator={generator} 'prompt=<script>alert(1)</script>'",
        generator=generator,
        base="tiny-base" if generator == "controlnet" else None,
        count=count,
        segmenter="unet",
        seed=7,
        image_size=48,
        dataset="phantom",
        caution="Small networks: <b>the path works</b>, no more.",
        data={"images": 2594, "diagnosis": {"NV": 1866, "MEL": 519}},
        image_quality=(
            ImageQuality(
                generator,
                "generator",
                199,
                {"mse": 0.0612 + shift, "psnr": 60.27 + shift, "ssim": 0.733 + shift},
                {"mse": 0.0612 + shift, "psnr": 12.14 + shift, "ssim": 0.488 + shift},
            ),
            ImageQuality(
                "mean image",
                "trivial",
                199,
                {"mse": 0.0243, "psnr": 65.78, "ssim": 0.884},
                {"mse": 0.0243, "psnr": 17.65, "ssim": 0.785},
            ),
        ),
        segmentation=(
            Segmentation("unet", None, 0, Interval(base, 0.7791, 0.8233, 198), None, 0.8611, 0.045),
            Segmentation(
                "unet",
                generator,
                count,
                Interval(base + gain, 0.7771, 0.8444, 198),
                Interval(gain, gain - 0.0145, gain + 0.0145, 198),
                0.8722,
                0.035,
            ),
        ),
        mask_fidelity=MaskFidelity(0.802, 0.871 + shift, 0.313, 197),
        text_fidelity=TextFidelity(0.612, 0.347, 63) if generator == "controlnet" else None,
        curves=(Curve(generator, "generator/train/loss", (0, 10, 20), (1.0, 0.5, 0.2718)),),
        gallery=pictures(run, "gallery", count),
        samples=pictures(run, "samples", count + 1),
        work={"generator_steps": 12345},
        seconds={"generator": 678.94},
    )


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    root = tmp_path_factory.mktemp("sweep")
    names = [f"{generator} {count}" for generator, count in GAINS]
    return [(root / n, make_results(root / n, *key)) for n, key in zip(names, GAINS, strict=True)]


@pytest.fixture(scope="module")
def sweep(jobs: list[Job]) -> Path:
    return write_page(jobs, jobs[0][0].parent, "A <sweep>", [("job 9", "ValueError: seed=<x>")])


@pytest.fixture(scope="module")
def html(sweep: Path) -> str:
    return sweep.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def markdown(sweep: Path) -> str:
    return (sweep.parent / "report.md").read_text(encoding="utf-8")


def text(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<style.*?</style>", "", html)))


def test_the_page_has_every_number_of_the_results(html, markdown):
    numbers = ["0.802 [0.779, 0.823]", "0.861", "4.5 %", "0.872", "3.5 %", "198"]  # Table 2
    numbers += [f"{gain:+.3f} [{gain - 0.0145:+.3f}, {gain + 0.0145:+.3f}]" for gain in GAINS.values()]
    numbers += [f"{0.8017 + gain:.3f} [0.777, 0.844]" for gain in GAINS.values()]
    numbers += ["0.0612", "60.27", "0.733", "12.14", "0.488", "0.0712", "60.28", "0.743", "12.15", "0.498"]
    numbers += ["0.0243", "65.78", "0.884", "17.65", "0.785", "199"]  # Table 1
    numbers += ["0.871", "0.881", "0.313", "197", "0.612", "0.347", "63"]  # fidelity
    numbers += ["2594", "1866", "519", "12345", "678.9"]
    for page in (text(html), markdown):
        assert [number for number in numbers if number not in page] == []
    assert "last 0.2718" in html


def test_the_papers_numbers_stand_beside_ours(html, markdown):
    numbers = ["0.861", "0.903", "0.871", "0.912", "0.913", "0.914", "0.09", "58.80", "0.71", "0.06", "61.64"]
    for page in (text(html), markdown):
        assert [number for number in [*numbers, "0.80"] if not re.search(rf"{number}\b", page)] == []
    assert "paper 0.871" in html  # in the cell of Pix2PixHD at 1K


def test_the_page_is_self_contained(html):
    assert not re.search(r"<(script|link|iframe|object|base)\b", html)
    assert not re.search(r"@import|url\((?!#)", html)
    targets = re.findall(r"""(?:src|href|srcset|data|poster|action)\s*=\s*["']?([^"'\s>]*)""", html)
    assert len(targets) > 20
    assert {target[:23] for target in targets if not target.startswith("#")} == {"data:image/webp;base64,"}


def test_anchors_and_names_are_consistent(html):
    class Ids(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.ids: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.ids += [value or "" for name, value in attrs if name == "id"]
            if tag == "img":
                assert dict(attrs).get("alt")

    parser = Ids()
    parser.feed(html)
    assert set(re.findall(r'href="#(\w+)"', html)) <= set(parser.ids)
    sections = re.findall(r'<section id="(\w+)"', html)
    assert sections[:5] == ["gallery", "samples", "dice", "quality", "fidelity"]
    assert sections[5:] == ["detail", "curves", "data", "asked", "work"]
    assert "texture" in parser.ids


def test_a_users_text_is_escaped(html, markdown):
    for tag in ("<script", "<i>", "<sweep>", "<b>the path", "<x>"):
        assert tag not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "a &lt;i&gt;nevus&lt;/i&gt;" in html
    # In markdown, only an indented block of code may hold it as it is.
    assert all(line.startswith("    ") for line in markdown.splitlines() if "<script" in line)
    assert "<i>" not in markdown


def test_markdown_tables_are_rectangular(markdown):
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_the_links_of_the_markdown_lead_to_files(sweep, markdown):
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", markdown)
    assert len(links) == 2 * (2 + 2) + 4 * 2 + 2  # gallery, samples, charts
    assert all((sweep.parent / unquote(link)).is_file() for link in links)


def test_a_sweep_shows_what_its_jobs_share_once(html):
    table1 = html[html.index('id="quality"') : html.index('id="fidelity"')]
    assert table1.count("mean image") == 2  # its row and the sentence
    fidelity = html[html.index('id="fidelity"') : html.index('id="detail"')]
    assert fidelity.count("not measured") == 1
    assert html.count("last 0.2718<") == 2  # one panel per generator
    runs = html[html.index("Every run") : html.index("The paper’s Table 2")]
    assert runs.count("S only") == 1
    assert html.count('alt="Mask of TEST_0"') == 1


def test_caution_then_verdicts_then_pictures_then_tables_then_setup(html):
    order = [
        "Small networks",
        "S + 1K (pix2pixhd): DSC 0.767",
        "ValueError",
        "Mask of TEST_0",
        "Synthetic sample TEST_0",
    ]
    order += ['class="dice"', "paper’s convention", "<h2>Setup"]
    places = [html.index(part) for part in order]
    assert places == sorted(places)


def test_markdown_has_the_same_order(markdown):
    order = ["Small networks", "S + 1K", "ValueError", "## The same test masks", "## Synthetic samples", "## Table 2"]
    order += ["## Table 1", "## Fidelity", "## Setup", "## Work"]
    places = [markdown.index(part) for part in order]
    assert places == sorted(places)


def test_explanations_fold_away(html):
    assert html.count("<details") == html.count("</details>") == html.count("<summary") > 3
    unfolded = re.sub(r"(?s)<details.*?</details>", "", html)
    assert "How to read this" not in unfolded
    assert max(len(text(one)) for one in re.findall(r"(?s)<p\b.*?</p>", unfolded[unfolded.index("<section") :])) < 300


def test_a_job_is_named_only_where_nothing_else_tells_rows_apart(jobs, html, tmp_path):
    folders = [path.name for path, _ in jobs]
    assert not [name for name in folders if name in text(html)]
    twice = [*jobs, (tmp_path / "again 5f", replace(jobs[0][1], segmentation=jobs[1][1].segmentation[1:]))]
    other = replace(twice[-1][1].segmentation[0], count=64)
    twice[-1] = (twice[-1][0], replace(twice[-1][1], segmentation=(other,), gallery=(), samples=()))
    page = text(write_page(twice, tmp_path / "sweep", "x").read_text())
    assert "again 5f" in page
    assert folders[0] in page
    assert folders[1] not in page


def test_a_failed_job_is_shown(html, markdown):
    assert "1 job failed" in html
    assert "job 9</strong>: ValueError: seed=&lt;x&gt;" in html
    assert "job 9: ValueError: seed=&lt;x&gt;" in markdown


def test_a_sweep_without_results_says_so(tmp_path):
    page = write_page([], tmp_path, "Nothing", [("0", "died")]).read_text()
    assert "No job finished." in page
    assert "died" in page


def test_bad_news_is_told(html):
    assert "Beware of cartoons" in html
    assert "“mean image” needs no generator and is better than the best generator in MSE, PSNR, SSIM" in html


@pytest.mark.parametrize("chance", [None, 0.33])
def test_masks_that_are_not_obeyed_are_said_whatever_else_was_gained(jobs, tmp_path, chance):
    """Above one shuffled order by chance, or below it."""
    path, results = jobs[1]
    mask = MaskFidelity(0.8, 0.32 if chance else 0.3, 0.31, 20, chance)
    page = write_page([(path, replace(results, mask_fidelity=mask))], tmp_path, "ignored").read_text()
    assert "not above chance, so the images do not follow their masks" in page
    assert "is better" not in page.replace("is better than the best generator", "")


def test_colours_stand_beside_real_ones_and_drift_is_said(jobs, tmp_path):
    path, results = jobs[0]
    mean, deviation = (150.25, 100.0, 90.0), (12.0, 11.0, 10.0)
    real = ColourRow("real images", "real", "inside", 40, mean, deviation)
    drawn = ColourRow("controlnet", "generator", "inside", 50, (90.5, *mean[1:]), deviation, ("mean of red",))
    write_page([(path, replace(results, colours=(drawn, real)))], tmp_path, "colours")
    for name in ("index.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert text.index("150.2") < text.index("90.5")
        assert "ours (ControlNet): colours inside the masks drift from those of real images: mean of red." in text
    write_page([(path, replace(results, colours=(real,)))], tmp_path, "calm")
    assert "drift" not in (tmp_path / "index.html").read_text()


def test_no_warning_without_a_reason(jobs, tmp_path):
    path, results = jobs[0]
    quality = (results.image_quality[0],)
    calm = replace(results, caution=None, mask_fidelity=MaskFidelity(0.8, 0.7, 0.3, 9), image_quality=quality)
    page = write_page([(path, calm)], tmp_path, "calm").read_text()
    for word in ("cartoons", "needs no generator", 'class="banner', "not above chance,"):
        assert word not in page


@pytest.mark.parametrize(
    ("key", "verdict"),
    [
        (("controlnet", 64), "the interval contains 0, no gain is shown"),
        (("controlnet", 1000), "above 0 for this training; another may differ"),
        (("pix2pixhd", 1000), "below 0 for this training; another may differ"),
    ],
)
def test_the_headline_says_what_the_interval_says(jobs, key, verdict):
    (sentence,) = headlines([jobs[list(GAINS).index(key)]])
    count = {64: "S + 64", 1000: "S + 1K"}[key[1]]
    gain = GAINS[key]
    assert sentence == (
        f"{count} ({key[0]}): DSC {0.8017 + gain:.3f} [0.777, 0.844]; gain over S only "
        f"{gain:+.3f} [{gain - 0.0145:+.3f}, {gain + 0.0145:+.3f}]: {verdict}"
    )


def test_the_headline_of_seeds_counts_those_that_gain(jobs):
    path, results = jobs[0]
    other = replace(results, seed=8, segmentation=jobs[1][1].segmentation)
    cell = replace(other.segmentation[1], count=64)
    other = replace(other, segmentation=(other.segmentation[0], cell))
    (sentence,) = headlines([(path, results), (path, other)])
    assert "DSC 0.822 (0.812 to 0.833) mean of 2 seeds" in sentence
    assert sentence.endswith("above 0 for 1 of 2 seeds")


def test_the_headline_falls_back_to_what_was_measured(jobs):
    path, results = jobs[0]
    s_only = replace(results, segmentation=results.segmentation[:1])
    assert headlines([(path, s_only)]) == ("S only (U-Net): DSC 0.802 [0.779, 0.823]",)
    (table1,) = headlines([(path, replace(results, segmentation=()))])
    assert table1 == "controlnet: MSE 0.0712, PSNR 12.15 dB, SSIM 0.498"
    empty = replace(results, segmentation=(), image_quality=())
    assert headlines([(path, empty)]) == ("Nothing was measured.",)


def test_the_page_is_the_same_every_time(jobs, tmp_path):
    first = write_page(jobs[:1], tmp_path / "a", "x").read_bytes()
    assert write_page(jobs[:1], tmp_path / "b", "x").read_bytes() == first


def test_a_missing_picture_is_an_error(jobs, tmp_path):
    path, results = jobs[0]
    broken = replace(results, samples=(Picture("x", "none.png", "none.png"),))
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        write_page([(path, broken)], tmp_path, "x")


def test_nested_data_becomes_rows():
    data = {"images": 3, "split": {"G": 2, "share": {"NV": 0.123456}}, "classes": ["NV", "MEL"]}
    assert flatten(data) == [
        ("images", "3"),
        ("split / G", "2"),
        ("split / share / NV", "0.1235"),
        ("classes", "NV, MEL"),
    ]
