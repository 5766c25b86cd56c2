"""One job: the asked stage and what it needs, then the run folder."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from dermprompt.config import compose
from dermprompt.config.generators import FolderSamples, Pix2PixHD, PretrainedBase, ScratchBase, TinyCodec, VAECodec
from dermprompt.config.schema import Config
from dermprompt.distributed.processes import group_timeout, max_seconds, num_processes
from dermprompt.distributed.slurm import check_nodes
from dermprompt.generator.source import check_base, resolve_base
from dermprompt.pipeline import Pipeline
from dermprompt.store.artifacts import Planned, PlanningStore, Store
from dermprompt.training.wandb_run import is_asked


def run_job(config: Config, output: str, overrides: list[str]) -> None:
    """Run ``config.stage`` and what it needs."""
    root = Path(config.paths.store).expanduser().resolve()
    if config.stage == "plan":
        store = PlanningStore(root)
        Pipeline(config, store).evaluate()
        print(format_plan(store.plan))
        return
    _check_files(config)
    folder = Path(output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    compose.dump(config, folder / "config.yaml")
    pipeline = Pipeline(config, Store(root))
    _check_conditions(pipeline)
    _run_stage(pipeline)
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
    max_seconds(config.trainer)
    group_timeout(config.trainer)
    generator = config.generator
    for key, path in (
        ("generator.path", generator.path if isinstance(generator, FolderSamples) else None),
        ("segmenter.predictions", config.segmenter.predictions),
    ):
        if path and not Path(path).expanduser().is_dir():
            raise ValueError(f"{key}={path}: no such folder")
    if generator.has_base and isinstance(generator.base, PretrainedBase):
        check_base(resolve_base(generator.base.path))
    if isinstance(generator, Pix2PixHD) and generator.pool_size and num_processes(config.trainer) > 1:
        raise ValueError(f"generator.pool_size={generator.pool_size}: 0 on several devices, each would have a pool")
    if generator.has_base and isinstance(getattr(generator.base, "codec", None), TinyCodec):
        from dermprompt.generator.codec.tiny import read_tiny

        read_tiny(generator.base.codec.path)
    if isinstance(generator, Pix2PixHD) and generator.perceptual_weights:
        weights = Path(generator.perceptual_weights).expanduser()
        if not weights.is_file():
            raise ValueError(f"generator.perceptual_weights={weights}: no such file")


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
    mask_source(pipeline.mask_settings, **{name: one.path for name, one in pipeline.mask_inputs.items()})


def _are_drawn(pipeline: Pipeline) -> bool:
    """Whether all samples are there. Looked up in the store: what draws them takes seconds to import."""
    store = PlanningStore(pipeline.store.root)
    _ = Pipeline(pipeline.config, store).samples
    return all(one.exists for one in store.plan)


def _run_stage(pipeline: Pipeline) -> None:
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
        "export": lambda: pipeline.prepared,
        "report": pipeline.evaluate,
    }
    stages[pipeline.config.stage]()
    if pipeline.config.stage == "prepare":
        report = pipeline.prepared.path / "coverage.txt"
        print(f"{report.read_text()}\ncoverage report: {report}, {report.with_suffix('.json').name} beside it")
    if pipeline.config.stage == "find_duplicates":
        print(f"near-duplicates, for data.clusters: {pipeline.duplicates.path / 'clusters.json'}")


def _report(pipeline: Pipeline, folder: Path, command: str) -> None:
    from dermprompt.export.sample_index import write_sample_index
    from dermprompt.job.summary import summarize, write_reader_quiz
    from dermprompt.report.page import write_page
    from dermprompt.results import save_results

    results = summarize(pipeline, folder, command)
    shutil.copyfile(pipeline.prepared.path / "split.json", folder / "split.json")
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
