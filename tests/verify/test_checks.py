"""A folder of Stable Diffusion is verified: of either family it passes, and what is wrong with it is said."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from miniature import compose, miniature
from safetensors.torch import load_file, save_file

from dermprompt.verify import __main__ as command
from dermprompt.verify import checks as verification
from dermprompt.verify.__main__ import as_markdown, verify
from dermprompt.verify.checks import FAMILIES

transformers = pytest.importorskip("transformers")

REPOSITORY = Path(__file__).parents[2]
ONE, TWO = FAMILIES["quick_gelu"], FAMILIES["gelu"]
FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}


@pytest.fixture
def one(tiny_stable_diffusion: Path, tmp_path: Path) -> Path:
    """Stable Diffusion 1.x in small."""
    return Path(shutil.copytree(tiny_stable_diffusion, tmp_path / "sd1"))


@pytest.fixture
def two(one: Path, tmp_path: Path) -> Path:
    """The same as 2.x: OpenCLIP with one layer more than is used, padding 0, velocity, linear projections."""
    folder = Path(shutil.copytree(one, tmp_path / "sd2"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        text = {**json.loads((one / "text_encoder" / "config.json").read_text())}
        config = transformers.CLIPTextConfig(**{**text, "hidden_act": "gelu", "num_hidden_layers": 24})
        transformers.CLIPTextModel(config).save_pretrained(folder / "text_encoder")
        unet = UNet2DConditionModel.load_config(one / "unet")
        UNet2DConditionModel.from_config({**unet, "use_linear_projection": True}).save_pretrained(folder / "unet")
    alter(folder / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    pad_with(folder, "!")
    return folder


def alter(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def pad_with(folder: Path, token: str) -> None:
    alter(folder / "tokenizer" / "tokenizer_config.json", pad_token=token)


def rename(file: Path, change: Callable[[str], str | None]) -> None:
    """Change the names of tensors; None leaves one out."""
    tensors = {change(key): value for key, value in load_file(file).items()}
    save_file({key: value for key, value in tensors.items() if key is not None}, file)


def as_published(folder: Path) -> None:
    """Names as in published folders: a prefix and a buffer of positions, the VAE's attention by its old names."""
    rename(folder / FILES["text_encoder"], lambda key: "text_model." + key.removeprefix("text_model."))
    text = load_file(folder / FILES["text_encoder"])
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file(text | positions, folder / FILES["text_encoder"])
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def change(key: str) -> str:
        for new, name in old.items():
            key = key.replace(f".{new}.", f".{name}.")
        return key

    rename(folder / FILES["vae"], change)
    assert any(".proj_attn." in key for key in load_file(folder / FILES["vae"]))


def rows(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in found["checks"]}


def small(folder: Path) -> dict[str, Any]:
    return verify(folder, size=64, num_steps=2)


@pytest.mark.parametrize(("name", "family"), [("one", ONE), ("two", TWO)])
def test_a_sound_folder_of_either_family_passes(
    name: str, family: verification.Family, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    as_published(folder)
    found = small(folder)
    assert found["passed"], as_markdown(found)
    by_name = rows(found)
    assert list(by_name) == [
        "parts and family",
        *(f"keys: {part}" for part in FILES),
        "token ids",
        "text states",
        "image",
        "the mask matters in it",
        "ten training steps",
    ]
    assert by_name["parts and family"]["measured"].startswith(family.name)
    assert "ignored embeddings.position_ids" in by_name["keys: text_encoder"]["measured"]
    assert ("encoder.layers.23." in by_name["keys: text_encoder"]["measured"]) == (family is TWO)
    digest = hashlib.sha256((folder / FILES["unet"]).read_bytes()).hexdigest()
    assert found["sha256"][FILES["unet"]] == digest
    assert set(found["sha256"]) == set(FILES.values())
    page = as_markdown(found)
    assert digest in page
    assert page.count("| pass |") == len(by_name)


def test_the_families_are_those_of_the_configuration() -> None:
    for base, family in (("sd15", ONE), ("sd21", TWO)):
        settings = compose(*miniature("none"), "generator=controlnet", f"generator/base={base}").generator.base
        assert (settings.pad_token_id, settings.text_layers) == (family.pad_token_id, family.text_layers)


@pytest.mark.parametrize("part", FILES)
@pytest.mark.parametrize("renamed", [True, False])
def test_a_tensor_that_is_renamed_or_missing_is_named(one: Path, part: str, renamed: bool) -> None:
    key = sorted(load_file(one / FILES[part]))[3]
    other = key + "_" if renamed else None
    rename(one / FILES[part], lambda name: other if name == key else name)
    check = verification.check_keys(one, part, ONE)
    assert not check.passed
    assert f"missing {key.removeprefix('text_model.')}" in check.measured
    assert (f"left over {key.removeprefix('text_model.')}_" in check.measured) == renamed


@pytest.mark.parametrize("part", FILES)
def test_a_tensor_of_another_shape_is_named(one: Path, part: str) -> None:
    tensors = load_file(one / FILES[part])
    key = sorted(tensors)[3]
    save_file({**tensors, key: torch.zeros(3)}, one / FILES[part])
    check = verification.check_keys(one, part, ONE)
    assert not check.passed
    assert f"{key.removeprefix('text_model.')} (3,) for " in check.measured


def test_another_padding_is_said(one: Path) -> None:
    pad_with(one, "!")
    check = verification.check_tokens(one, ONE)
    assert not check.passed
    assert check.measured.endswith("pads with 49407, the folder's tokenizer with 0")
    pad_with(one, "<|endoftext|>")
    assert verification.check_tokens(one, ONE).passed


def test_states_of_another_text_encoder_fail(two: Path) -> None:
    assert verification.check_text(two, TWO).passed
    alter(two / "text_encoder" / "config.json", hidden_act="quick_gelu")
    exact = verification.load_text_encoder(two / "text_encoder", 0, 23)
    alter(two / "text_encoder" / "config.json", hidden_act="gelu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "load_text_encoder", lambda *_: exact)
        assert not verification.check_text(two, TWO).passed


def test_an_image_by_other_settings_fails(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = partial(verification.ControlNetGenerator, conditioning_scale=0.9)
    monkeypatch.setattr(verification, "ControlNetGenerator", other)
    image, matters = verification.check_image(one, ONE, size=64, num_steps=2)
    assert (image.passed, matters.passed) == (False, True)


def test_an_image_that_no_mask_changes_fails(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "drawn_controlnet", lambda base: verification.build_controlnet(base).eval())
    image, matters = verification.check_image(one, ONE, size=64, num_steps=2)
    assert (image.passed, matters.passed) == (True, False)


def test_a_loss_that_rises_fails(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def uphill(self: verification.ControlNetModule) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.trained.parameters(), 0.01, maximize=True)

    monkeypatch.setattr(verification.ControlNetModule, "configure_optimizers", uphill)
    assert not verification.check_training(one, ONE, size=64).passed


@pytest.mark.parametrize("part", ["tokenizer", "vae"])
def test_a_missing_part_is_said_and_nothing_else_is_tried(one: Path, part: str) -> None:
    shutil.rmtree(one / part)
    found = small(one)
    ((name, row),) = rows(found).items()
    assert (name, found["passed"]) == ("parts and family", False)
    assert f"no folder {part} in" in row["measured"]


def test_the_command_writes_a_page_and_fails_with_a_folder(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename(one / FILES["text_encoder"], lambda key: key + "_" if key.endswith("final_layer_norm.bias") else key)
    monkeypatch.setattr(sys, "argv", ["verify", str(one), str(tmp_path / "out")])
    monkeypatch.setattr(command, "verify", partial(verify, size=64, num_steps=2))
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    page = (tmp_path / "out" / "README.md").read_text()
    assert "# sd1: it does not work here" in page
    assert f"| text states | FAIL | ValueError: {one / 'text_encoder'}: no 'final_layer_norm.bias' in it |" in page
    assert json.loads((tmp_path / "out" / "checks.json").read_text())["passed"] is False


def test_a_folder_that_is_not_there_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["verify", "/no/such folder"])
    with pytest.raises(SystemExit, match=r"^1$"):
        command.main()
    assert capsys.readouterr().err == "error: /no/such folder: no such folder\n"


def test_make_takes_the_folder_as_its_path(tmp_path: Path) -> None:
    """Python and what it starts are found, though PATH is a folder of models."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nuname\n')
    python.chmod(0o755)
    make = ["make", "--silent", "--old-file", f"{tmp_path}/.installed", "verify-sd", "PATH=/no/such folder"]
    ended = subprocess.run([*make, f"VENV={tmp_path}"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert ended.stdout.splitlines() == ["-m", "dermprompt.verify", "/no/such folder", os.uname().sysname]
