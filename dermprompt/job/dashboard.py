"""What W&B shows besides trainings: a job's samples and results, and the table of a sweep.

``python -m dermprompt.job.dashboard FOLDER`` (``make dashboard``) sends the table of a sweep again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dermprompt.config import compose
from dermprompt.config.schema import Config
from dermprompt.distributed.processes import Runtime
from dermprompt.entry import in_words
from dermprompt.pipeline import Pipeline
from dermprompt.results import Results, load_results
from dermprompt.stages.arrays import load_samples
from dermprompt.training.wandb_run import WandbRun, has_ended

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long to wait for the server (s): a page has megabytes, and nothing else waits for it.
PAGE_SECONDS = 20
# Number and size (pixels) of the samples in the image of a set.
NUM_SHOWN, SHOWN_SIZE = 8, 256
COLUMNS = ("generator", "count", "segmenter", "arm", "seed", "DSC", "low", "high", "images")


def log_made(pipeline: Pipeline) -> None:
    """Log a run for the split and for the samples that this job needed, if they have none; trainings have their own."""
    # The pipeline remembers what the job needed; accessing anything else would make it.
    needed = {"prepare": vars(pipeline).get("prepared"), "synthesize": vars(pipeline).get("samples")}
    for stage, artifact in needed.items():
        if artifact is None or has_ended(artifact.path):
            continue
        with _run(pipeline.config, artifact.path, artifact.path.name, stage) as run:
            run.inputs(artifact.path)
            run.output(artifact.path)
            if stage == "synthesize":
                run.picture("synthesize/samples", _grid(pipeline.config, artifact.path))


def _grid(config: Config, samples: Path) -> np.ndarray:
    """The first samples side by side, each above its mask, uint8 HW3."""
    size = min(config.image_size, SHOWN_SIZE)
    shown = load_samples(samples, min(config.synthesis.count, NUM_SHOWN), size)
    masks = np.repeat(255 * shown.masks[..., None], 3, axis=-1)
    return np.vstack([np.hstack(list(row)) for row in (shown.images, masks)])


def log_report(pipeline: Pipeline, folder: Path, results: Results) -> None:
    """Log a run for the job's report: its page, its table, and the artifacts that they are based on."""
    trained = [pipeline.segmenter(arm).path for arm in pipeline.arms if not arm.settings.predictions]
    samples = [pipeline.samples.path] if results.count else []
    with _run(pipeline.config, folder, f"report-{folder.name}", "report") as run:
        run.table("report/dsc", COLUMNS, rows_of([results]))
        own = results.segmentation[-1].dice  # of the job's own arm
        run.summary({"dsc": own.mean, "dsc_low": own.low, "dsc_high": own.high})
        made_from = [pipeline.prepared.path, *samples, *trained]
        run.page(f"report-{folder.name}", _pages(folder), made_from)


def log_sweep(sweep: Path) -> None:
    """Log the run of a sweep: the page, and DSC with its interval by generator and count; renewed after every job."""
    jobs = sorted(sweep.glob("*/results.json"))
    config = compose.thaw(jobs[0].with_name("config.yaml"))
    with _run(config, sweep, sweep.name, "sweep") as run:
        run.table("sweep/dsc", COLUMNS, rows_of([load_results(path) for path in jobs]))
        run.page(f"sweep-{sweep.name}", _pages(sweep), [])


def rows_of(jobs: Sequence[Results]) -> list[list[Any]]:
    """A row of :data:`COLUMNS` for each training; trainings that jobs share, such as S only, appear once."""
    rows = {
        (cell.generator or "none", cell.count, cell.segmenter, cell.label, cell.seed): (
            *(round(value, 4) for value in (cell.dice.mean, cell.dice.low, cell.dice.high)),
            cell.dice.n,
        )
        for results in jobs
        for cell in results.segmentation
    }
    return [[*place, *numbers] for place, numbers in sorted(rows.items())]


def _pages(folder: Path) -> list[Path]:
    return [path for name in ("index.html", "report.md", "results.json") if (path := folder / name).exists()]


@contextmanager
def _run(config: Config, folder: Path, identity: str, stage: str) -> Iterator[WandbRun]:
    name, settings = f"{Runtime.of(config).label}-{stage}", asdict(config)
    run = WandbRun(config.logger, folder, identity, PAGE_SECONDS, name=name, job_type=stage, config=settings)
    try:
        yield run
    finally:
        run.close(failed=sys.exc_info()[0] is not None)


@in_words
def main() -> None:
    """Send the table of the sweep named on the command line."""
    if len(sys.argv) != 2 or not list(Path(sys.argv[1]).glob("*/results.json")):
        sys.exit(
            "usage: python -m dermprompt.job.dashboard FOLDER   (make dashboard FOLDER=runs/…-sweep-…, of logger=wandb)"
        )
    compose.register()
    log_sweep(Path(sys.argv[1]).resolve())


if __name__ == "__main__":
    main()
