"""What a command line may not say: each is refused in one sentence that names the key."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from overridden import frozen

from dermprompt.config import compose as configuration
from dermprompt.config.schema import Config

REFUSED = {
    "generator.guidance_scale=nan": "generator.guidance_scale=nan",
    "generator.guidance_scale=1e38": "at most 100",
    "generator.validation.guidance_scale=inf": "generator.validation.guidance_scale=inf",
    "generator.conditioning_scale=nan": "generator.conditioning_scale=nan",
    "generator.eta=nan": "generator.eta=nan",
    "generator.ema_decay=nan": "generator.ema_decay=nan",
    "generator.base.max_steps=-1": "at least 1",
    "generator.base.channels=[]": "generator.base.channels=[]",
    "generator.batch_size=0": "generator.batch_size=0",
    "seed=-1": "seed=-1",
    "seed=9223372036854775808": "at most 1000000000",
    "generator.name=unknown": "generator.name=unknown: chosen by generator=NAME",
    "generator.name=warp": "generator.name=warp: chosen by generator=NAME",
    "generator.base=null": "generator.base.name=None",
    "masks.name=x": "masks.name=x: chosen by masks=NAME",
    "data.num_images=null": "data.num_images=None with data=phantom",
    # The trainer and the logger take known keys alone.
    "+trainer.limit_train_batches=0": "trainer.limit_train_batches: no such key",
    "+trainer.fast_dev_run=true": "trainer.fast_dev_run: no such key",
    "+trainer.max_steps=3": "trainer.max_steps: no such key",
    "+trainer.gradient_clip_val=nan": "trainer.gradient_clip_val=nan",
    "~trainer.accelerator": "trainer.accelerator is missing",
    "~trainer.timeout": "trainer.timeout is missing",
    "logger.name=x": "logger.name=x: chosen by logger=NAME",
    "trainer.devices=0": "trainer.devices=0",
    "trainer.devices=[]": r"trainer.devices=[]",
    "trainer.devices=[-1]": r"trainer.devices=[-1]",
    "trainer.devices=null": "trainer.devices=None",
    "trainer.devices=abc": "trainer.devices=abc",
    "trainer.devices=true": "trainer.devices=True",
    "trainer.num_nodes=0": "trainer.num_nodes=0",
    "trainer.timeout=inf": "trainer.timeout=inf",
    "trainer.timeout=nan": "trainer.timeout=nan",
    "trainer.timeout=soon": "trainer.timeout=soon",
    "trainer.timeout=true": "trainer.timeout=True",
    "trainer.max_time=10": "trainer.max_time=10: days, hours",
    "trainer.precision=17": "trainer.precision=17",
    "trainer.accelerator=tpu": "trainer.accelerator=tpu",
    "+trainer.strategy=deepspeed": "trainer.strategy=deepspeed",
    "+logger.api_key=secret": "logger.api_key: no such key",
    # Texts.
    "name=../../escaped": "name=../../escaped: a name",
    "name=.hidden": "name=.hidden: a name",
    "arm.name=a/b": "arm.name=a/b: a name",
    "arm.name=''": "arm.name=: a name",
    "segmenter.name=../../escaped": "segmenter.name=../../escaped: a name",
    "segmenter.name=${oc.env:HOME}": "segmenter.name=/",
    "evaluation.reference.name=a/../b": "evaluation.reference.name=a/../b: a name",
    "evaluation.primary.ours=../x": "evaluation.primary.ours=../x: a name",
}


@pytest.mark.parametrize("override", REFUSED)
def test_a_value_is_refused_by_its_key(override: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        frozen("controlnet", override)
    assert REFUSED[override] in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("segmenter.network", "/root"),
        ("evaluation.primary", []),
        ("masks.centre", "/root"),
        ("caution", "one\nmore"),
        ("caution", "\x1b]0;title\x07"),
        ("caution", "\u202egpj"),
        ("caution", "x" * 5000),
        ("data.root", "a\x00b"),
        ("data.root", "\udc80"),
        ("segmenter.network.dropout", math.nan),
        ("segmenter.network.features", [4.0, math.inf]),
        ("name", "x" * 300),
        ("name", "ends with a line\n"),
        ("trainer.timeout", "5"),
        ("trainer", None),
        ("seed", True),
        ("generator", None),
        ("generator.base.codec", "pca"),
    ],
)
def test_a_value_that_reaches_the_checks_by_another_way_is_refused_too(key: str, value: Any) -> None:
    config = frozen("controlnet")
    put(config, key, value)
    with pytest.raises(ValueError, match=r".") as refused:
        configuration.check(config)
    assert str(refused.value).startswith(key.partition(".")[0])
    assert str(refused.value).isprintable()


def put(config: Config, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    holder: Any = config
    for name in parents:
        holder = holder[name] if isinstance(holder, dict) else getattr(holder, name)
    if isinstance(holder, dict):
        holder[last] = value
    else:
        setattr(holder, last, value)


@pytest.mark.parametrize("text", ["a ${b}", r"\${b}", r"\\${b}", "$ {", "é|: #", "'", "???x", "1e5", "true"])
def test_a_configuration_is_read_back_as_it_was_written(text: str, tmp_path: Path) -> None:
    config = frozen("controlnet")
    config.caution = text
    configuration.dump(config, tmp_path / "config.yaml")
    assert configuration.thaw(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("content", [b"", b"[]", b"a: b", b"\xff\xfe", b"generator: {name: x}", b"{", b"trainer: 5"])
def test_what_is_no_configuration_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.yaml: not the configuration of a job"):
        configuration.thaw(path)
