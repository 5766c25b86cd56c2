"""Every experiment composes, fits the schema and runs; composing imports nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from miniature import (
    CONF,
    DATA,
    GENERATOR,
    SCRATCH,
    SEGMENTER,
    SYNTHESIS,
    UNET,
    _chosen,
    _composed,
    compose,
    composed,
    miniature,
    run,
)

from dermprompt.config import compose as configuration
from dermprompt.config.schema import Config

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def jobs(experiment: str) -> list[list[str]]:
    """The first job of an experiment's sweep for each generator; one without choices where it has no sweep."""
    whole = composed(f"+experiment={experiment}", return_hydra_config=True)
    params = dict(whole.hydra.sweeper.params or {})
    if "arm" in params:  # the first arm needs no generator; the others are in test_comparison.py
        params["generator"] = "none"
    generators = str(params.pop("generator", whole.hydra.runtime.choices.generator)).split(",")
    params |= {"arm.num_real": 5} if "arm.num_real" in params else {}  # there are few phantoms
    first = [f"{key}={str(values).split(',')[0]}" for key, values in params.items() if "count" not in key]
    return [[f"generator={name}", *first] for name in generators]


def test_the_papers_experiments_are_there():
    wanted = {"demo", "small", "s_only", "s_plus_1k", "s_plus_3k", "s_plus_5k", "table1", "table2"}
    assert wanted <= set(EXPERIMENTS)


def test_table2_is_the_whole_table():
    table2 = composed("+experiment=table2", return_hydra_config=True)
    assert table2.hydra.mode.name == "MULTIRUN"
    assert dict(table2.hydra.sweeper.params) == {
        "generator": "controlnet,pix2pixhd",
        "segmenter": "unet,dcsaunet",
        "synthesis.count": "1000,3000,5000",
    }


def test_the_papers_settings():
    config = compose("+experiment=s_plus_3k", "data.root=/data")
    assert config.synthesis.count == 3000
    assert config.image_size == 512
    assert config.generator.base.name == "sd15"
    assert config.data.split.sizes == [1594, 700, 100, 200]
    assert (config.segmenter.batch_size, config.segmenter.max_epochs) == (256, 350)
    assert config.segmenter.learning_rate == 1e-3
    assert config.segmenter.network["features"] == [64, 128, 256, 512, 1024, 64]


@pytest.mark.parametrize(
    ("trainer", "flags", "precision"),
    [
        (["trainer=gpu"], "", "bf16-mixed"),
        (["trainer=ddp"], "", "bf16-mixed"),
        (["trainer=cpu"], "avx512f amx_bf16", "bf16-mixed"),
        (["trainer=cpu"], "avx512f", "32-true"),
        (["trainer=gpu", "trainer.precision=32-true"], "", "32-true"),
    ],
)
def test_trainings_run_in_bfloat16_where_that_is_faster(trainer, flags, precision, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr("dermprompt.config.compose.CPU", tmp_path / "cpuinfo")
    assert _composed.__wrapped__(("data=phantom", *trainer)).trainer["precision"] == precision


def tiny_job(experiment: str, job: list[str], sd: Path) -> list[str]:
    """Overrides of the same job as small as :func:`miniature.miniature`'s, on Stable Diffusion in ``sd``."""
    name = job[0].removeprefix("generator=")
    whole = compose_whole(experiment, job)
    if name == "none" or name == "pix2pixhd":
        base = []
    elif whole.generator.base.name == "scratch":
        base = [one for one in SCRATCH if one != "generator/base=scratch"]
    else:
        base = [f"generator.base.path={sd}", "generator.base.text_layers=2"]
    fresh = ["generator.init=null"] if getattr(whole.generator, "init", None) else []
    count = ["synthesis.count=4"] if whole.synthesis.count else []
    network = [f"segmenter.{UNET}"] if whole.segmenter.name == "unet" else []
    return [
        f"+experiment={experiment}",
        *job,
        *DATA,
        *SEGMENTER,
        *SYNTHESIS,
        *network,
        *base,
        *GENERATOR[name],
        *fresh,
        *count,
    ]


def compose_whole(experiment: str, job: list[str]) -> Config:
    """The experiment as it is, but for the data and the trainer: a tiny job is composed of the same groups."""
    return compose(f"+experiment={experiment}", *job, *DATA)


@pytest.mark.parametrize("experiment", ["table2", "fair_arms_small", "studio"])
def test_a_configuration_in_two_steps_is_that_of_one(experiment):
    """Tests set single keys in a configuration that is composed once: miniature.composed."""
    overrides = [f"+experiment={experiment}", *miniature("controlnet", "seed=3", "+data@external=folder")]
    overrides += ["external.root=/x", "trainer=ddp", "++trainer.strategy=ddp", "generator.init=null"]
    overrides = [one for one in overrides if one != "trainer=cpu"]
    assert compose(*overrides) == configuration.freeze(_chosen(tuple(overrides)))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_planned(experiment, tiny_stable_diffusion, tmp_path, capfd):
    for job in jobs(experiment):
        run(tmp_path, *tiny_job(experiment, job, tiny_stable_diffusion), "stage=plan")
        planned = set(re.findall(r"(\w+): ", capfd.readouterr().out))
        drawn = {"train_generator", "synthesize"} if compose_whole(experiment, job).synthesis.count else set()
        assert {"train_segmenter"} | drawn <= planned
        assert not (tmp_path / "store").exists()


def becomes(config: Config) -> str:
    """What a job does, without what it is called."""
    return repr(replace(config, name="", caution=""))


def run_tiny(experiment: str, job: list[str], sd: Path, folder: Path) -> tuple[str, int, int]:
    """The experiment, the number of samples, and of segmenters, that the results tell."""
    results = run(folder, *tiny_job(experiment, job, sd))
    return results["experiment"], results["count"], len(results["segmentation"])


def expected(experiment: str, job: list[str]) -> tuple[str, int, int]:
    whole = compose_whole(experiment, job)
    return (whole.name, 4, 2) if whole.synthesis.count else (whole.name, 0, 1)


# Both generators on a base from scratch are in test_table2.py.
OF_EACH_KIND = {"on Stable Diffusion": ("table2", "controlnet"), "no generator": ("s_only", "none")}


@pytest.mark.parametrize(("experiment", "generator"), OF_EACH_KIND.values(), ids=OF_EACH_KIND)
def test_one_experiment_of_each_kind_runs(experiment, generator, tiny_stable_diffusion, tmp_path):
    (job,) = (one for one in jobs(experiment) if one[0] == f"generator={generator}")
    assert run_tiny(experiment, job, tiny_stable_diffusion, tmp_path) == expected(experiment, job)


@pytest.mark.slow
def test_all_other_experiments_run(tiny_stable_diffusion, tmp_path):
    """Those that become the same job when they are so small run once."""
    kept = {}
    reported = [name for name in EXPERIMENTS if name != "studio"]  # which ends with samples: tests/studio
    for experiment, job in [(name, job) for name in reported for job in jobs(name)]:
        if (experiment, job[0].removeprefix("generator=")) not in OF_EACH_KIND.values():
            kept[becomes(compose(*tiny_job(experiment, job, tiny_stable_diffusion)))] = experiment, job
    for number, (experiment, job) in enumerate(kept.values()):
        made = run_tiny(experiment, job, tiny_stable_diffusion, tmp_path / str(number))
        assert made == expected(experiment, job)


def shown(*arguments: str) -> str:
    """What a command line prints, which must import nothing heavy."""
    code = (
        f"import sys; sys.argv = ['dermprompt', *{arguments!r}];"
        "from dermprompt.__main__ import main; main();"
        "print(sorted({'torch', 'lightning', 'diffusers', 'monai', 'kornia', 'wandb'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"
    return ended.stdout


def test_composing_imports_nothing_heavy():
    assert "count: 3000" in shown("--cfg", "job", "+experiment=s_plus_3k")


def test_help_imports_nothing_heavy():
    assert "+experiment=demo" in shown("--help")


def test_a_plan_imports_nothing_heavy(tmp_path):
    places = [f"paths.store={tmp_path}/store", f"hydra.run.dir={tmp_path}/run"]
    printed = shown("+experiment=s_plus_3k", "data=phantom", "stage=plan", *places)
    assert "synthesize: controlnet, 188 batches" in printed
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("generator.perceptual=vgg16", "did you mean vgg19"),
        ("generator.perceptual=vgg19", "perceptual_weights=None: vgg19 needs"),
        ("generator.perceptual_weights=vgg19.pth", "the others take none"),
        ("generator.pool_size=-1", "at least 0"),
        ("trainer.precision=16-mixed", "32-true or bf16-mixed"),
    ],
)
def test_what_pix2pixhd_refuses(override, words):
    with pytest.raises(ValueError, match=words):
        compose(*miniature("pix2pixhd", override))


def test_each_of_several_devices_would_have_a_pool(tmp_path):
    with pytest.raises(ValueError, match="pool_size=2: 0 on several devices"):
        run(tmp_path, *miniature("pix2pixhd", "generator.pool_size=2", "trainer.devices=2"))


def test_pix2pixhd_trains_with_a_pool_and_packaged_features(tmp_path):
    extra = ("generator.pool_size=2", "generator.perceptual=efficientnet_lite0", "stage=train_generator")
    run(tmp_path, *miniature("pix2pixhd", *extra))
    (trained,) = (tmp_path / "store" / "train_generator").iterdir()
    assert "perceptual" in (trained / "curves.csv").read_text()
