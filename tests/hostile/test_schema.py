"""Every key of the schema, found by reflection, takes hostile values: a job is refused in words, or planned.

By default a few hundred cases; ``--hypothesis-profile=slow`` takes 2,000 (``make test-slow``). Nothing of a value is
run, nothing is written outside the run's and the store's folders, nothing ends in a stack.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from overridden import overridden

from dermprompt.config import compose as configuration
from dermprompt.config.schema import Config
from dermprompt.job.run import run_job

GENERATORS = ("controlnet", "pix2pixhd", "warp")
TEXTS = (
    *("..", "/", "../../outside", ".hidden", "", "a/b", "a\x00b", "a\nb", "x" * 300, "x" * 5000, "\x1b[2J", "\udc80"),
    *("<img src=x onerror=alert(1)>", "{{7*7}}", "=cmd()", "$(touch MARKER)", "`touch MARKER`", "; touch MARKER"),
    *("${oc.env:HOME}", "${nothing}", "${", "???", "null", "~", "torch.load", "os.system", "é", "\u202e", "%s%n", "-1"),
)
NUMBERS = (
    *(float("nan"), float("inf"), float("-inf"), -1, 0, 1, 2**31, 2**63, -(2**63), 10**400, 1e-320, 1e38, 0.5, -0.0),
    *(True, False),
)
OTHERS = (None, [], {}, [None], [[]], {"_target_": "os.system"}, {"a": {"b": 1}}, ["x"], [float("nan")])
VALUES = (*TEXTS, *NUMBERS, *OTHERS)


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """The keys of all values below a frozen configuration, those of its dicts too."""
    fields = (
        {one.name: getattr(node, one.name) for one in dataclasses.fields(node)}
        if dataclasses.is_dataclass(node)
        else node
    )
    for name, value in fields.items():
        key = f"{prefix}{name}"
        yield key
        if dataclasses.is_dataclass(value) or isinstance(value, dict):
            yield from leaves(value, f"{key}.")


def value_of(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def frozen(found: DictConfig) -> Config:
    with open_dict(found):
        found.pop("hydra", None)
    return configuration.freeze(found)


KEYS = [(name, key) for name in GENERATORS for key in leaves(frozen(overridden(name)))]


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def drive(generator: str, key: str, value: Any, folder: Path, stage: str = "plan") -> str | None:
    """Plan the miniature job with one value put in, as a file may hold it; what it was refused with, if it was."""
    found = overridden(generator, "stage=plan", f"paths.store={folder}/store", f"paths.runs={folder}/runs")
    try:
        OmegaConf.update(found, key, value, merge=False, force_add=True)
        config = frozen(found)
        run_job(dataclasses.replace(config, stage=stage), str(folder / "runs/job"), [])
    except (ValueError, OSError) as error:
        return str(error) or "?"
    except OmegaConfBaseException as error:
        return str(error)
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        if "full_key" not in str(error):  # OmegaConf's own words, which the command says in a line
            raise
        return str(error)
    return None


def check(generator: str, key: str, value: Any, folder: Path, stage: str = "plan") -> str | None:
    """From a folder so deep that ``../..`` leads to none but ``folder``, where all that is written is seen."""
    (deep := folder / "runs" / "here").mkdir(parents=True, exist_ok=True)
    before = tree(folder)
    with contextlib.chdir(deep):
        said = drive(generator, key, value, folder, stage)
    outside = {path for path in tree(folder) - before if path.split("/")[0] not in ("store", "runs")}
    assert not outside
    assert not any(path.endswith("MARKER") for path in tree(folder))
    made = [path.parent for path in folder.glob("store/**/artifact.json")]
    assert stage != "plan" or not made, "a plan makes nothing"
    assert all(len(list(one.iterdir())) > 2 for one in made), "an artifact of nothing"
    return said


@settings(max_examples=examples(2000), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(KEYS), st.sampled_from(VALUES))
def test_every_key_takes_a_value_or_says_why_not(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, str], value: Any
) -> None:
    folder = tmp_path_factory.mktemp("x")
    check(*place, value, folder)


# Where a user wants it, the store may lie anywhere.
WARP = frozen(overridden("warp"))
TEXT_KEYS = [key for key in leaves(WARP) if isinstance(value_of(WARP, key), str) and not key.startswith("paths.")]


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("at_work")
    assert check("warp", "caution", "none", folder, "prepare") is None
    return folder


@settings(max_examples=examples(400), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(TEXT_KEYS), st.sampled_from(TEXTS))
def test_no_text_leads_a_job_that_works_out_of_its_folders(at_work: Path, key: str, value: str) -> None:
    check("warp", key, value, at_work, "prepare")


FLOATS = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("generator", GENERATORS)
def test_no_number_of_the_schema_may_be_none(generator: str, tmp_path: Path) -> None:
    """Whatever key holds one now."""
    config = frozen(overridden(generator))
    numeric = [key for key in leaves(config) if isinstance(value_of(config, key), float)]
    assert len(numeric) > 5
    for key in numeric:
        said = drive(generator, key, FLOATS[len(key) % 3], tmp_path)
        assert said is not None, key
        assert key.rpartition(".")[2] in said


def test_the_schema_is_walked_whole() -> None:
    found = {key for _, key in KEYS}
    assert {"generator.base.codec.channels", "trainer.timeout", "evaluation.reference.network.norm"} <= found
    assert len(found) > 150
