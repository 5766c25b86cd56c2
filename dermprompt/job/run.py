"""One job: the requested stage and all that it needs, then the run folder."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dermprompt import cost
from dermprompt.config import compose
from dermprompt.config.compose import is_dumped
from dermprompt.config.generators import FolderSamples, Pix2PixHD, PretrainedBase, ScratchBase, TinyCodec
from dermprompt.config.schema import Config
from dermprompt.config.secrets import mask
from dermprompt.distributed.processes import forget_ranks, num_processes
from dermprompt.distributed.slurm import check_nodes
from dermprompt.export.place import check_replaceable, export_folder
from dermprompt.files import printable, reading, write_bytes
from dermprompt.generator.source import check_base, check_folder, resolve_base
from dermprompt.pipeline import Pipeline
from dermprompt.store.artifacts import Planned, PlanningStore, Store
from dermprompt.training.wandb_run import is_asked
from dermprompt.weights.box import in_box

# What a report writes to a run's folder.
WRITTEN = (
    "config.yaml",
    "results.json",
    "split.json",
    "index.html",
    "report.md",
    "samples.csv",
    "quiz.html",
    "pictures",
    "training",
)


def run_job(config: Config, output: str, overrides: list[str]) -> None:
    """Run ``config.stage`` and what it needs."""
    forget_ranks()
    root = Path(config.paths.store).expanduser().resolve()
    store = PlanningStore(root)
    planned = Pipeline(config, store)
    _ask(planned)
    to_do = {one.stage for one in store.plan if not one.exists}
    _check_given(planned, to_do)
    if config.stage == "plan":
        print(f"{format_plan(store.plan)} on {cost.device(config)}")
        return
    check_nodes(config.trainer)
    _check(planned, to_do)
    folder = Path(output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _check_run_folder(folder)
    if config.stage == "export":
        check_replaceable(export_folder(config, folder))
    compose.dump(config, folder / "config.yaml")
    pipeline = Pipeline(config, Store(root))
    samples = _needs(planned, "samples") and config.synthesis.count > 0
    _check_shared(pipeline, samples)
    if samples:
        _check_conditions(pipeline, all(one.exists for one in store.plan if one.stage == "synthesize"))
    _ask(pipeline)
    _tell(pipeline, folder, overrides)
    if is_asked(config.logger):
        from dermprompt.job.dashboard import log_made

        log_made(pipeline)


def _ask(pipeline: Pipeline) -> None:
    """Request the artifacts of the configured stage, and so all that they need."""
    stages = {
        "prepare": pipeline.prepare,
        "find_duplicates": lambda: pipeline.duplicates,
        "train_codec": lambda: pipeline.codec,
        "train_base": lambda: pipeline.base,
        "train_generator": lambda: pipeline.generator,
        "draw_masks": lambda: pipeline.masks,
        "synthesize": lambda: pipeline.samples,
        "train_segmenter": lambda: [pipeline.segmenter(arm) for arm in pipeline.arms],
        "evaluate": pipeline.evaluate,
        "plan": pipeline.evaluate,
        "export": pipeline.export,
        "report": pipeline.evaluate,
    }
    stages[pipeline.config.stage]()


def _tell(pipeline: Pipeline, folder: Path, overrides: list[str]) -> None:
    """Write the stage's output outside the store, and print where it is."""
    stage = pipeline.config.stage
    if stage == "prepare":
        report = pipeline.coverage.path / "coverage.txt"
        print(printable(report.read_text()))
        print(f"coverage report: {report}, {report.with_suffix('.json').name} next to it")
    if stage == "find_duplicates":
        print(f"near-duplicates, for data.clusters: {pipeline.duplicates.path / 'clusters.json'}")
    if stage == "export":
        from dermprompt.export.run import export

        print(f"{pipeline.config.export}: {export(pipeline, folder)}")
    if stage == "report":
        _report(pipeline, folder, "python -m dermprompt " + shlex.join(overrides))


def _check_run_folder(folder: Path) -> None:
    """Check that the job would overwrite only another job's files, never a user's own."""
    there = [folder / name for name in WRITTEN if (folder / name).exists() or (folder / name).is_symlink()]
    linked = [path for path in there if path.is_symlink()]
    ours = folder / "config.yaml" in there and is_dumped(folder / "config.yaml")
    if linked or (there and not ours):
        raise ValueError(f"{(linked or there)[0]} was not written by a job, and stays as it is; choose another run")


def _needs(planned: Pipeline, name: str) -> bool:
    """Whether the job asked for this artifact: a cached property is in the instance's dictionary once it is read."""
    return name in vars(planned)


def _check_given(planned: Pipeline, to_do: set[str]) -> None:
    """Check what a job is given, as far as the stages ``to_do`` need it, in an instant.

    ``planned``: the pipeline on a planning store, after all that the job's stage needs was requested.
    """
    config, generator = planned.config, planned.config.generator
    _check_batches(config, to_do)
    if config.segmenter.predictions:
        _check_folder("segmenter.predictions", config.segmenter.predictions)
    if isinstance(generator, FolderSamples) and _needs(planned, "samples"):
        _check_folder("generator.path", generator.path)


def _check(planned: Pipeline, to_do: set[str]) -> None:
    """Check early what would otherwise fail after hours of work, as :func:`_check_given` does."""
    config, generator = planned.config, planned.config.generator
    if _needs(planned, "base") and to_do and generator.has_base:
        _check_base(generator.base)
    if getattr(generator, "init", None) and to_do:
        check_folder("generator.init", in_box(generator.init, generator.name))
    if isinstance(generator, Pix2PixHD) and "train_generator" in to_do:
        _check_pix2pixhd(generator, num_processes(config.trainer))
    _rehearse(config, to_do)


def _rehearse(config: Config, to_do: set[str]) -> None:
    """Build the networks once that this job will train or use for comparisons."""
    if any(stage.startswith("train_") for stage in to_do):
        from dermprompt.stages.rehearsal import rehearse

        rehearse(config, to_do)
    if {"evaluate", "curate"} & to_do and config.synthesis.count:
        from dermprompt.stages.rehearsal import check_features

        check_features(config.evaluation.features)


def _check_folder(key: str, path: str) -> None:
    if not Path(path).expanduser().is_dir():
        raise ValueError(f"{key}={path}: no such folder")


def _check_base(base: Any) -> None:
    if isinstance(base, PretrainedBase):
        check_base(resolve_base(base.path))
    elif isinstance(base.codec, TinyCodec):
        from dermprompt.generator.codec.tiny import read_tiny

        read_tiny(base.codec.path)


def _check_pix2pixhd(generator: Pix2PixHD, devices: int) -> None:
    if generator.pool_size and devices > 1:
        raise ValueError(f"generator.pool_size={generator.pool_size}: 0 on several devices, each would have a pool")
    if generator.perceptual_weights:
        from dermprompt.tensors import check_weights

        with reading(Path("generator.perceptual_weights")):
            check_weights(Path(generator.perceptual_weights).expanduser())


def _check_batches(config: Config, to_do: set[str]) -> None:
    """Check that batch sizes are divisible by the number of devices, which share each batch."""
    devices, generator = num_processes(config.trainer), config.generator
    sizes: dict[str, tuple[str, Any]] = {
        "segmenter": ("train_segmenter", config.segmenter),
        "evaluation.reference": ("train_segmenter", config.evaluation.reference),
        "generator": ("train_generator", generator),
    }
    if generator.has_base and isinstance(generator.base, ScratchBase):
        sizes["generator.base"] = ("train_base", generator.base)
        sizes["generator.base.codec"] = ("train_codec", generator.base.codec)
    for key, (stage, part) in sizes.items():
        size = getattr(part, "batch_size", devices)
        if stage in to_do and size % devices:
            raise ValueError(f"{key}.batch_size={size}: a multiple of the {devices} devices, which share a batch")


def _check_shared(pipeline: Pipeline, samples: bool) -> None:
    """Check, before anything is trained, that external images, or samples if needed, are not images of this study."""
    generator, external = pipeline.config.generator, pipeline.external_data
    from_elsewhere = samples and isinstance(generator, FolderSamples)
    if external is None and not from_elsewhere:
        return
    from dermprompt.stages.overlap import check_overlap

    if external is not None:
        ways, remedy = ("id", "file", "pixels", "picture"), "take them out of that folder"
        check_overlap(pipeline.overlap(external).path, f"external.root={external.config.data.root}", ways, remedy)
    if from_elsewhere:
        overlap = pipeline.overlap(pipeline.made_elsewhere)
        check_overlap(overlap.path, f"generator.path={generator.path}", ("file", "pixels"), "they are no samples")


def _check_conditions(pipeline: Pipeline, drawn: bool) -> None:
    """Report masks and prompts that cannot be made, before the generator is trained."""
    config = pipeline.config
    elsewhere = not config.generator.is_drawn_from
    if not elsewhere and config.prompts.unseen != "error" and drawn:
        return
    from dermprompt.stages.synthesize import check_imported, check_prompts, mask_source

    if elsewhere:
        check_imported(config.synthesis.count, config.generator.path, pipeline.samples.path)
        return
    if config.generator.has_text:
        check_prompts(config.prompts, config.seed, pipeline.generator_set.path)
    mask_source(pipeline.mask_settings, **{name: one.path for name, one in pipeline.mask_inputs.items()})


def _report(pipeline: Pipeline, folder: Path, command: str) -> None:
    from dermprompt.export.sample_index import write_sample_index
    from dermprompt.job.summary import summarize, write_reader_quiz
    from dermprompt.report.page import write_page
    from dermprompt.results import Results, record, save_results

    results = record(Results, mask(asdict(summarize(pipeline, folder, command))))
    write_bytes(folder / "split.json", (pipeline.prepared.path / "split.json").read_bytes())
    if results.count:
        write_sample_index(pipeline, folder / "samples.csv")
        if pipeline.config.evaluation.quiz:
            write_reader_quiz(pipeline, folder / "quiz.html")
    save_results(results, folder / "results.json")
    page = write_page([(folder, results)], folder, f"dermprompt · {results.experiment}")
    if is_asked(pipeline.config.logger):
        from dermprompt.job.dashboard import log_report

        log_report(pipeline, folder, results)
    made = ", ".join(f"{number} {name}" for name, number in results.work.items())
    print(f"made by this job: {made}\nreport: {page}")


def format_plan(plan: list[Planned]) -> str:
    """The plan as a table: what exists, what would run, and for how long."""
    lines = {one.folder: one for one in plan}.values()
    total = sum(one.seconds for one in lines if not one.exists)
    return "\n".join([*map(_line, lines), f"about {_duration(total)} to do"])


def _line(one: Planned) -> str:
    state, duration = ("there", "") if one.exists else ("to do", f"~{_duration(one.seconds)}")
    return f"{state:6} {duration:>10}  {one.stage}: {one.name}"


def _duration(seconds: float) -> str:
    for limit, unit, digits, name in ((90, 1, 0, "s"), (5400, 60, 0, "min"), (172800, 3600, 1, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86400:.0f} days"
