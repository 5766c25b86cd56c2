"""A sweep's page: updated by Hydra's callback; ``python -m dermprompt.sweep.page FOLDER`` writes it again."""

from __future__ import annotations

import io
import sys
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dermprompt.entry import in_words
from dermprompt.files import check_name, printable, read_json, reading, sha256, write_bytes
from dermprompt.store.locks import hold
from dermprompt.training.wandb_run import is_asked

if TYPE_CHECKING:
    from dermprompt.results import Results

ERROR = "error.txt"


class SweepReport(Callback):
    """Rewrites the sweep's page from the jobs' ``results.json`` whenever a job ends or fails.

    Hydra does not call ``on_multirun_end`` if a job fails.
    """

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write the page of the sweep that the job belongs to."""
        hydra = config.hydra
        if hydra.mode is None or hydra.mode.name != "MULTIRUN":
            return
        job = Path(hydra.runtime.output_dir)
        _note_failure(job, job_return)
        # Jobs of an array may end at the same time on other machines, and the last page must include all of them.
        with hold(job.parent / ".page.lock", "the sweep's page"):
            page = write_sweep_page(job.parent)
            if page is None:
                return
            print(f"report of the sweep: {page}", flush=True)
            if is_asked(config.logger):
                from dermprompt.job.dashboard import log_sweep

                log_sweep(job.parent)


def _note_failure(job: Path, job_return: JobReturn) -> None:
    """Write a failed job's error to its folder."""
    path = job / ERROR
    path.unlink(missing_ok=True)
    if job_return.status != JobStatus.FAILED:
        return
    try:
        with redirect_stderr(io.StringIO()):  # hides Hydra's print of the job's overrides
            _ = job_return.return_value
    except Exception as error:  # the job's error
        write_bytes(path, f"{type(error).__name__}: {error}\n".encode())
        # Hydra raises the first failure at the end of the sweep.
        print(f"this job failed; the sweep continues: {type(error).__name__}: {error}", flush=True)


def _noted(path: Path) -> str:
    """A failed job's error, as :func:`_note_failure` keeps it."""
    try:
        with reading(path):
            return printable(path.read_text(errors="replace").strip())
    except ValueError as error:
        return printable(f"damaged: {error}")


def write_sweep_page(sweep: Path) -> Path | None:
    """Write a sweep's page from the folders of its jobs; return None if there are no results yet."""
    from dermprompt.report.page import write_page
    from dermprompt.sweep.comparison import primary_of, records_of
    from dermprompt.sweep.published import publish

    failed = [(path.parent.name, _noted(path)) for path in sorted(sweep.glob(f"*/{ERROR}"))]
    jobs = []
    for path in sorted(sweep.glob("*/results.json")):
        try:
            jobs.append((path.parent, _load_job(path)))
        except ValueError as error:
            failed.append((path.parent.name, printable(f"damaged: {error}")))
            print(printable(f"left out of the page: {error}"), flush=True)
    if not jobs:
        return None
    made: Counter[str] = Counter()
    for _, results in jobs:
        made.update(results.work)
    print("made by the sweep so far: " + ", ".join(f"{number} {key}" for key, number in made.items()))
    arms = publish(records_of(jobs), primary_of(jobs), sweep)
    for split in {(path / "split.json").read_bytes() for path, _ in jobs if (path / "split.json").exists()}:
        write_bytes(sweep / f"split-{sha256(split)[:8]}.json", split)
    begun = {path.parent.name for path in sweep.glob("*/config.yaml")}
    unfinished = begun - {path.name for path, _ in jobs} - {name for name, _ in failed}
    return write_page(jobs, sweep, f"dermprompt · {jobs[0][1].experiment}", failed, arms, sorted(unfinished))


def _load_job(path: Path) -> Results:
    """The results of a job, after checking all files that the page and the comparison read.

    Raises:
        ValueError: a file is damaged, missing, or outside the job's folder; names it.
    """
    from dermprompt.evaluation.scores import load_scores
    from dermprompt.results import load_results, pictures_of

    results, folder = load_results(path), path.parent.resolve()
    pictures, split = pictures_of(results), folder / "split.json"
    if split.exists():
        read_json(split, dict)
    with reading(path):
        for cell in results.segmentation:
            found = load_scores(folder / check_name("its scores", cell.scores))
            if len(found) != cell.dice.n:
                raise ValueError(f"{cell.scores} has {len(found)} of {cell.dice.n} images")
        for name in pictures:
            place = (folder / name).resolve()
            if not place.is_relative_to(folder) or not place.is_file():
                raise ValueError(f"no picture {name} in its folder")
    return results


@in_words
def main() -> None:
    """Write the page of the folder named on the command line, for a sweep or a single job."""
    from dermprompt.report.page import write_page

    if len(sys.argv) != 2:
        sys.exit("usage: python -m dermprompt.sweep.page FOLDER   (make report FOLDER=runs/...)")
    folder = Path(sys.argv[1])
    if (folder / "results.json").exists():
        results = _load_job(folder / "results.json")
        print(write_page([(folder, results)], folder, f"dermprompt · {results.experiment}"))
        return
    page = write_sweep_page(folder)
    if page is None:
        sys.exit(f"error: {folder}: no results.json that can be read in it, nor in its folders")
    print(page)


if __name__ == "__main__":
    main()
