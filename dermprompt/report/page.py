"""The report page: the verdict and its certainty, then images, then tables, then how it was made."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.runtime import Context
from markupsafe import Markup

from dermprompt.files import write_bytes
from dermprompt.report import figures, tables
from dermprompt.report.arms import arm_chart, arm_setting, primary_sentence, primary_sentences, purpose_charts
from dermprompt.report.detail import MEASURES, details
from dermprompt.report.rows import distinct, distinct_by, names_that_tell, without_jobs
from dermprompt.report.samples import (
    FOLLOWED,
    colour_note,
    colour_tables,
    curated,
    distribution_tables,
    external_diagnoses,
    external_rows,
    fidelity_notes,
    fidelity_rows,
    images_text,
    label_tables,
    memorised,
    score_text,
    source_label,
)
from dermprompt.report.tables import Source
from dermprompt.results import ArmTable, Interval, Job, Segmentation

# With more jobs than this, a sweep's work is summed instead of shown by job.
MANY = 6
PRECISIONS = {"32-true": "float32", "bf16-mixed": "bfloat16, mixed", "16-mixed": "float16, mixed"}
# Number of validation images shown of a training.
NUM_STEPS = 5

GAINS = "gain in DSC over S only, 95 % interval over images"
VERDICTS = {
    "up": "above 0 for this training; another may differ",
    "down": "below 0 for this training; another may differ",
    "open": "the interval contains 0, no gain is shown",
}


@dataclass(frozen=True)
class RunRow:
    """One job's measured Dice and its context. ``job`` is empty if the other columns identify the row."""

    job: str
    setting: tables.Setting
    seed: int
    source: Source | None
    cell: Segmentation


def write_page(
    jobs: Sequence[Job],
    folder: Path,
    title: str,
    failed: Sequence[tuple[str, str]] = (),
    arms: Sequence[ArmTable] = (),
    unfinished: Sequence[str] = (),
) -> Path:
    """Write ``index.html`` (self-contained) and ``report.md`` with its charts into ``folder``.

    Each job is its run folder, to which the paths of its images are relative, and its results.
    ``failed``: names and errors of jobs that failed; ``arms``: the comparisons between jobs; ``unfinished``: names of
    jobs that have not ended, or were killed. Returns the
    path of ``index.html``. Raises FileNotFoundError if an image named in the results is not in the run folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = {
        "title": title,
        "failed": failed,
        "unfinished": unfinished,
        "folder": folder,
        **build_context(jobs, arms),
    }
    charts = _numbered(context["arm_charts"], context["purpose_charts"])
    save_charts({name: context[name] for name in ("gains", "curves")} | charts, folder)
    for template, target in (("page.html", "index.html"), ("page.md", "report.md")):
        text = templates().get_template(template).render(context)
        write_bytes(folder / target, text.encode())
    return folder / "index.html"


def comparison_charts(arms: Sequence[ArmTable]) -> dict[str, str]:
    """The charts of a comparison by name: ``arms-NUMBER`` for each table, and ``purposes-NUMBER``."""
    return _numbered([arm_chart(table) for table in arms], purpose_charts(arms))


def _numbered(arm_charts: Sequence[str], purposes: Sequence[tuple[str, str]]) -> dict[str, str]:
    charts = {f"arms-{number}": chart for number, chart in enumerate(arm_charts)}
    return charts | {f"purposes-{number}": chart for number, (_, chart) in enumerate(purposes)}


def save_charts(charts: Mapping[str, str], folder: Path) -> None:
    """Write charts that are not empty to ``NAME.svg``."""
    for name, chart in charts.items():
        if chart:
            # A separate file inherits no text colour; mid grey is legible on white and on black.
            write_bytes(folder / f"{name}.svg", chart.replace("currentColor", "#767676").encode())


def build_context(jobs: Sequence[Job], arms: Sequence[ArmTable] = ()) -> dict[str, Any]:
    """Gather all that the templates show, in the page's order."""
    runs, quality, fidelity = run_rows(jobs), tables.quality_tables(jobs), fidelity_rows(jobs)
    curves = [curve for _, results in jobs for curve in results.curves]
    gains = _gains(runs)
    return {
        "headlines": primary_sentences(arms) or headlines(jobs),
        "arms": arms,
        "arm_charts": [arm_chart(table) for table in arms],
        "purpose_charts": purpose_charts(arms),
        "purposes": tables.PURPOSES,
        "primary": primary_sentence(jobs, arms),
        "test_reads": max((results.test_reads for _, results in jobs), default=0),
        "cautions": distinct(results.caution for _, results in jobs if results.caution),
        "asked": asked(jobs),
        "commands": distinct(results.command for _, results in jobs),
        "dice": tables.dice_tables(jobs),
        "runs": runs,
        "gains": Markup(figures.gains_svg(gains, GAINS)) if gains else "",
        "details": details(jobs),
        "quality": [(table, trivial_sentence(table)) for table in quality],
        "distribution": distribution_tables(jobs),
        "colours": colour_tables(jobs),
        "fidelity": fidelity,
        "labels": label_tables(jobs),
        "followed": FOLLOWED,
        "warnings": [note for row in fidelity for note in fidelity_notes(row)],
        "curation": curated(jobs),
        "memorisation": memorised(jobs),
        "external": external_rows(jobs),
        "external_diagnoses": external_diagnoses(jobs),
        "gallery": figures.gallery(jobs),
        "samples": figures.samples(jobs),
        "quizzes": [*_quizzes(jobs).items()],
        "job_names": job_names(jobs) if len(jobs) <= MANY else ["all jobs"],
        "trainings": trainings(jobs),
        "curves": Markup(figures.curves_svg(curves)) if curves else "",
        "data": _data(jobs),
        "work": work_table(jobs, "work"),
        "seconds": work_table(jobs, "seconds"),
        "paper": tables,
        "measures": MEASURES,
    }


def trainings(jobs: Sequence[Job]) -> list[tuple[str, list[tuple[int, Path]]]]:
    """Each generator's name, and validation images of its training by step: the first, the last and some in between."""
    found: dict[tuple[Any, ...], tuple[str, list[tuple[int, Path]]]] = {}
    for folder, results in jobs:
        key = (results.generator, results.base, results.generator_seed, results.scope)
        steps = [(int(Path(name).stem), folder / name) for name in results.validation_pictures]
        if steps and key not in found:
            shown = sorted({round(k * (len(steps) - 1) / (NUM_STEPS - 1)) for k in range(NUM_STEPS)})
            found[key] = (str(results.generator), [steps[k] for k in shown])
    return [*found.values()]


def headlines(jobs: Sequence[Job]) -> tuple[str, ...]:
    """The result of each generator at its largest count, or else of other measurements, in a sentence each."""
    dice = tables.dice_tables(jobs)
    several = len({(table.setting, table.segmenter) for table in dice}) > 1
    found = [sentence for table in dice for sentence in _dice_sentences(table, several)]
    if found or not jobs:
        return tuple(found) or ("No job finished.",)
    sentences = [
        f"{row.source.generator}: MSE {row.values['standard', 'mse'].text(4)}, "
        f"PSNR {row.values['standard', 'psnr'].text(2)} dB, SSIM {row.values['standard', 'ssim'].text(3)}"
        for table in tables.quality_tables(jobs)
        for row in table.rows
        if row.kind == "generator"
    ]
    return tuple(sentences) or ("Nothing was measured.",)


def _dice_sentences(table: tables.DiceTable, several: bool) -> list[str]:
    who = f", {table.label}, {table.setting.label}" if several else ""
    sentences = []
    for row in table.rows:
        count, cell = [pair for pair in zip(table.counts, row.cells, strict=True) if pair[1]][-1]
        assert cell is not None
        name = f"{tables.count_label(count)} ({row.source.generator}{who})"
        sentences += [f"{name}: {_entry_sentence(entry, cell)}" for entry in cell.entries]
    if not sentences and table.s_only:
        name = f"S only ({table.label})" if not several else f"S only ({who[2:]})"
        sentences = [f"{name}: {_entry_sentence(entry, table.s_only)}" for entry in table.s_only.entries]
    return sentences


def _entry_sentence(entry: tables.Entry, cell: tables.Cell) -> str:
    note = f" {entry.note}" if entry.note else ""
    if entry.gain is None:
        return f"DSC {entry.dice}{note}"
    if len(cell.groups) > 1 or len(cell.groups[0]) == 1:
        return f"DSC {entry.dice}{note}; gain over S only {entry.gain}: {VERDICTS[entry.sign]}"
    shown = sum(tables.gain_sign(run.value.gain) == "up" for run in cell.groups[0])
    verdict = f"above 0 for {shown} of {len(cell.groups[0])} seeds"
    return f"DSC {entry.dice}{note}; gain over S only {entry.gain}: {verdict}"


def asked(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """The jobs' settings, each value once."""
    fields: dict[str, Callable[[Any], Any]] = {
        "Experiment": lambda r: r.experiment,
        "Dataset": lambda r: r.dataset,
        "Image size": lambda r: f"{r.image_size} × {r.image_size} px",
        "Generator": lambda r: tables.GENERATORS.get(r.generator, r.generator) if r.generator else "none",
        "Base": lambda r: r.base,
        "Synthetic images": lambda r: str(r.count),
        "Segmenter": lambda r: tables.segmenter_label(r.segmenter),
        "Seed": lambda r: str(r.seed),
        "Training precision": lambda r: PRECISIONS.get(r.precision, r.precision),
    }
    rows = [(name, ", ".join(dict.fromkeys(filter(None, (get(r) for _, r in jobs))))) for name, get in fields.items()]
    return [("Jobs", str(len(jobs))), *(row for row in rows if row[1])]


def run_rows(jobs: Sequence[Job]) -> tuple[RunRow, ...]:
    """Every measured Dice; one that several jobs share is listed once."""
    measured = (
        RunRow(path.name, tables.setting_of(results), results.seed, tables.source_of(results, cell.generator), cell)
        for path, results in jobs
        for cell in results.segmentation
    )
    rows = distinct_by(measured, lambda row: repr(replace(row, job="")))
    of_cell = attrgetter("segmenter", "label", "count", "num_real", "fold")
    return without_jobs(rows, lambda row: (row.setting, row.seed, row.source, of_cell(row.cell)))


def job_names(jobs: Sequence[Job]) -> list[str]:
    """A name for each job: its count and generator, other settings that differ, and its folder only if needed."""
    parts = [
        _parts(f"{tables.count_label(one.count)}, {source_label(one)}", tables.setting_of(one), one.segmenter, one.seed)
        for _, one in jobs
    ]
    return names_that_tell(parts, [path.name for path, _ in jobs])


def _parts(name: str, setting: tables.Setting, segmenter: str, seed: int) -> tuple[str, ...]:
    """The parts of a name, as :func:`~dermprompt.report.rows.names_that_tell` takes them."""
    return name, setting.label, tables.segmenter_label(segmenter), f"seed {seed}"


def _gains(runs: Sequence[RunRow]) -> list[tuple[str, Interval]]:
    """Each gain, named by what distinguishes its run from the others."""
    shown = [(run, run.source, run.cell.gain) for run in runs if run.source and run.cell.gain]
    shown.sort(key=lambda item: tables.paper_order(item[1]))
    parts = [
        _parts(f"{tables.count_label(run.cell.count)} {source.label}", run.setting, run.cell.segmenter, run.seed)
        for run, source, _ in shown
    ]
    names = names_that_tell(parts, [run.job for run, _, _ in shown])
    return [(name, gain) for name, (_, _, gain) in zip(names, shown, strict=True)]


def trivial_sentence(table: tables.QualityTable) -> str:
    """A sentence on the rows that need no generator; empty without such rows."""
    if {row.kind for row in table.rows} != {"generator", "trivial"}:
        return ""
    winners = [row for row in table.rows if row.beats]
    if not winners:
        return "No row that needs no generator beats the best generator here."
    labels = dict.fromkeys(f"“{row.source.label}”" for row in winners)
    names = " and ".join(labels)
    beaten = {metric for row in winners for _, metric in row.beats}
    metrics = ", ".join(metric.upper() for metric in tables.METRICS if metric in beaten)
    needs = "needs no generator and is" if len(labels) == 1 else "need no generator and are"
    return (
        f"{names} {needs} better than the best generator in {metrics} (marked †): "
        "a good place in this table is no evidence of good images; trust Table 2 and mask fidelity instead."
    )


def work_table(jobs: Sequence[Job], name: str) -> list[tuple[str, list[float | None]]]:
    """The ``work`` or ``seconds`` of each job (None if it has no such number), or the sum if there are many jobs."""
    columns = [getattr(results, name) for _, results in jobs]
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = [(key, [column.get(key) for column in columns]) for key in keys]
    return rows if len(jobs) <= MANY else [(key, [sum(filter(None, values))]) for key, values in rows]


def _quizzes(jobs: Sequence[Job]) -> dict[str, Path]:
    """The first quiz of each generator."""
    found: dict[str, Path] = {}
    for path, results in jobs:
        if (path / "quiz.html").exists():
            found.setdefault(source_label(results), path / "quiz.html")
    return found


def flatten(data: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested dictionaries as rows of key (``outer / inner``) and text."""
    rows = []
    for key, value in data.items():
        if isinstance(value, dict):
            rows += flatten(value, f"{prefix}{key} / ")
        elif isinstance(value, list | tuple):
            rows.append((f"{prefix}{key}", ", ".join(str(item) for item in value)))
        else:
            rows.append((f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows


def _data(jobs: Sequence[Job]) -> list[tuple[str, list[tuple[str, str]]]]:
    seen = distinct((results.dataset, results.data) for _, results in jobs if results.data)
    return [(dataset, flatten(data)) for dataset, data in seen]


@cache
def templates() -> Environment:
    """Reads the templates once, as a sweep writes a page after each of its jobs."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "strip": lambda path: _embedded(figures.thumbnail(path, 1024)),
        "thumbnail": lambda path: _embedded(figures.thumbnail(path)),
        "crop": lambda path: _embedded(figures.centre_crop(path)),
        "outlined": lambda image, mask: _embedded(figures.outlined(image, mask)),
        "link": _link,
        "md": _markdown,
        "interval": tables.interval_text,
        "drift": colour_note,
        "score": score_text,
        "images": images_text,
        "count": tables.count_label,
        "setting": arm_setting,
        "plain": tables.is_plain,
        "sign": tables.gain_sign,
    }
    return environment


@pass_context
def _link(context: Context, path: Path) -> str:
    """A path as seen from the page's folder."""
    return quote(Path(os.path.relpath(path, context["folder"])).as_posix())


def _embedded(webp: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp).decode()


def _markdown(text: object) -> str:
    """Escape a user's text for a line or table cell in Markdown."""
    plain = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", " ".join(plain.split()))
