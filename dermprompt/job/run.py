"""One job: the asked stage and what it needs, then the run folder."""

from __future__ import annotations

import shlex
from pathlib import Path

from dermprompt.config import compose
from dermprompt.config.compose import is_dumped
from dermprompt.config.generators import FolderSamples, Pix2PixHD, PretrainedBase, ScratchBase, TinyCodec, VAECodec
from dermprompt.config.schema import Config
from dermprompt.distributed.processes import forget_ranks, num_processes
from dermprompt.distributed.slurm import check_nodes
from dermprompt.export.place import check_replaceable, export_folder
from dermprompt.files import printable, reading, write_bytes
from dermprompt.generator.source import check_base, check_folder, resolve_base
from dermprompt.pipeline import Pipeline
from dermprompt.store.artifacts import Planned, PlanningStore, Store
from dermprompt.training.wandb_run import is_asked
from dermprompt.weights.box import in_box

# What a report and its stages leave in a run's folder.
WRITTEN = (
    *("config.yaml", "results.json", "split.json", "index.html", "report.md", "samples.csv", "quiz.html"),
    *("pictures", "training"),
)


def run_job(config: Config, output: str, overrides: list[str]) -> None:
    """Run ``config.stage`` and what it needs."""
    forget_ranks()
    root = Path(config.paths.store).expanduser().resolve()
    if config.stage == "plan":
        store = PlanningStore(root)
        Pipeline(config, store).evaluate()
        print(format_plan(store.plan))
        return
    _check_files(config)
    folder = Path(output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _check_run_folder(folder)
    if config.stage == "export":
        check_replaceable(export_folder(config, folder))
    compose.dump(config, folder / "config.yaml")
    pipeline = Pipeline(config, Store(root))
    _rehearse(config, root)
    _check_conditions(pipeline)
    _make(pipeline)
    _show_made(pipeline)
    if config.stage == "export":
        from dermprompt.export.run import export

        print(f"{config.export}: {export(pipeline, folder)}")
    if config.stage == "report":
        _report(pipeline, folder, "python -m dermprompt " + shlex.join(overrides))
    if is_asked(config.logger):
        from dermprompt.job.dashboard import log_made

        log_made(pipeline)


def _check_files(config: Config) -> None:
    """What would otherwise fail after hours of work."""
    check_nodes(config.trainer)
    _check_batches(config)
    generator = config.generator
    for key, path in (
        ("generator.path", generator.path if isinstance(generator, FolderSamples) else None),
        ("segmenter.predictions", config.segmenter.predictions),
    ):
        if path and not Path(path).expanduser().is_dir():
            raise ValueError(f"{key}={path}: no such folder")
    if generator.has_base and isinstance(generator.base, PretrainedBase):
        check_base(resolve_base(generator.base.path))
    if getattr(generator, "init", None):
        check_folder("generator.init", in_box(generator.init, generator.name))
    if isinstance(generator, Pix2PixHD) and generator.pool_size and num_processes(config.trainer) > 1:
        raise ValueError(f"generator.pool_size={generator.pool_size}: 0 on several devices, each would have a pool")
    if generator.has_base and isinstance(getattr(generator.base, "codec", None), TinyCodec):
        from dermprompt.generator.codec.tiny import read_tiny

        read_tiny(generator.base.codec.path)
    if isinstance(generator, Pix2PixHD) and generator.perceptual_weights:
        from dermprompt.tensors import check_weights

        with reading(Path("generator.perceptual_weights")):
            check_weights(Path(generator.perceptual_weights).expanduser())


def _check_run_folder(folder: Path) -> None:
    """What a job writes over is what a job wrote: in a folder of the user's own, everything is.

    Raises:
        ValueError: something of the same name is not; names it.
    """
    there = [folder / name for name in WRITTEN if (folder / name).exists() or (folder / name).is_symlink()]
    linked = [path for path in there if path.is_symlink()]
    config = folder / "config.yaml"
    ours = config in there and is_dumped(config)
    if linked or (there and not ours):
        raise ValueError(
            f"{(linked or there)[0]} was not written by a job, and is not written over; choose another run"
        )


def _check_batches(config: Config) -> None:
    """Each device takes its share of a batch."""
    devices, generator = num_processes(config.trainer), config.generator
    sizes = {
        "segmenter.batch_size": config.segmenter.batch_size,
        "evaluation.judge.batch_size": config.evaluation.judge.batch_size,
    }
    if generator.is_trained:
        sizes["generator.batch_size"] = generator.batch_size
    if generator.has_base and isinstance(generator.base, ScratchBase):
        sizes["generator.base.batch_size"] = generator.base.batch_size
        if isinstance(generator.base.codec, VAECodec):
            sizes["generator.base.codec.batch_size"] = generator.base.codec.batch_size
    for key, size in sizes.items():
        if size % devices:
            raise ValueError(f"{key}={size}: a multiple of the {devices} devices, which share a batch")


def _check_conditions(pipeline: Pipeline) -> None:
    """Masks and prompts that cannot be drawn are said before the training that they wait for."""
    config = pipeline.config
    early = config.stage in ("prepare", "find_duplicates")
    if early or not config.synthesis.count:
        return
    elsewhere = not config.generator.is_drawn_from
    if not elsewhere and config.prompts.unseen != "error" and _are_drawn(pipeline):
        return
    from dermprompt.stages.synthesize import check_imported, check_prompts, mask_source

    if elsewhere:
        check_imported(config.synthesis.count, config.generator.path, pipeline.samples.path)
        return
    if config.generator.has_text:
        check_prompts(config.prompts, config.seed, pipeline.known.path)
    mask_source(pipeline.mask_settings, pipeline.known.path, pipeline.images.path)


def _are_drawn(pipeline: Pipeline) -> bool:
    """Whether all samples are there. Looked up in the store: what draws them takes seconds to import."""
    store = PlanningStore(pipeline.store.root)
    _ = Pipeline(pipeline.config, store).samples
    return all(one.exists for one in store.plan)


def _rehearse(config: Config, root: Path) -> None:
    """Build once what this job will train and compare with; nothing where all of that is done."""
    store = PlanningStore(root)
    _make(Pipeline(config, store))
    stages = {one.stage for one in store.plan if not one.exists}
    if any(one.startswith("train_") for one in stages):
        from dermprompt.stages.rehearsal import rehearse

        rehearse(config, stages)
    if {"evaluate", "curate"} & stages and config.synthesis.count:
        from dermprompt.stages.rehearsal import check_features

        check_features(config.evaluation.features)


def _make(pipeline: Pipeline) -> None:
    """What the stage is there for, and what that needs."""
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
        "export": pipeline.exported,
        "report": pipeline.evaluate,
    }
    stages[pipeline.config.stage]()


def _show_made(pipeline: Pipeline) -> None:
    if pipeline.config.stage == "prepare":
        report = pipeline.prepared.path / "coverage.txt"
        print(
            f"{printable(report.read_text())}\ncoverage report: {report}, {report.with_suffix('.json').name} beside it"
        )
    if pipeline.config.stage == "find_duplicates":
        print(f"near-duplicates, for data.clusters: {pipeline.duplicates.path / 'clusters.json'}")


def _report(pipeline: Pipeline, folder: Path, command: str) -> None:
    from dermprompt.export.sample_index import write_sample_index
    from dermprompt.job.summary import summarize, write_reader_quiz
    from dermprompt.report.page import write_page
    from dermprompt.results import save_results

    results = summarize(pipeline, folder, command)
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
    """A table: what exists, what would run, how long."""
    lines = dict.fromkeys(plan)
    rows = [f"{'there' if one.exists else 'to do':6} {_duration(one):>10}  {one.stage}: {one.name}" for one in lines]
    total = sum(one.seconds for one in lines if not one.exists)
    return "\n".join([*rows, f"about {_minutes(total)} to do"])


def _duration(one: Planned) -> str:
    return "" if one.exists else f"~{_minutes(one.seconds)}"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
