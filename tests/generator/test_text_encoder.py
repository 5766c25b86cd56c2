"""The text encoder against transformers' CLIPTextModel on the same weights, in both directions."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dermprompt.generator.text_encoder import END_OF_TEXT, TextEncoder, keep_tokens, load_text_encoder

transformers = pytest.importorskip("transformers")

PROMPTS = ["a dermoscopic image of melanoma, with pigment network and milia-like cysts", "", "Naevus  No. 7!"]


@pytest.fixture(scope="module")
def folder(tiny_stable_diffusion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny text encoder with weights so large that every one of them shows in the states."""
    generator = torch.Generator().manual_seed(0)
    model = transformers.CLIPTextModel.from_pretrained(tiny_stable_diffusion / "text_encoder")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    path = tmp_path_factory.mktemp("text_encoder")
    model.save_pretrained(path)
    return path


def with_prefix(folder: Path, path: Path) -> Path:
    """The same weights under the keys of published Stable Diffusion folders."""
    path.mkdir()
    (path / "config.json").write_text((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    bare = {key.removeprefix("text_model."): value for key, value in weights.items()}
    save_file({f"text_model.{key}": value for key, value in bare.items()}, path / "model.safetensors")
    return path


def without_prefix(folder: Path, path: Path) -> Path:
    """The same weights under the keys that transformers 5 writes."""
    path.mkdir()
    (path / "config.json").write_text((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    save_file({k.removeprefix("text_model."): v for k, v in weights.items()}, path / "model.safetensors")
    return path


@torch.no_grad()
def reference(folder: Path, ids: Tensor) -> Tensor:
    return transformers.CLIPTextModel.from_pretrained(folder)(ids).last_hidden_state


@pytest.mark.parametrize("rename", [with_prefix, without_prefix])
def test_states_are_those_of_transformers(folder: Path, tmp_path: Path, rename) -> None:  # type: ignore[no-untyped-def]
    encoder = load_text_encoder(rename(folder, tmp_path / "renamed"), END_OF_TEXT)
    states = encoder.encode(PROMPTS)
    assert states.std() > 0.5
    torch.testing.assert_close(states, reference(folder, encoder.tokenize(PROMPTS)), atol=1e-4, rtol=0)


def test_token_ids_are_those_of_transformers(tiny_stable_diffusion: Path, folder: Path) -> None:
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tiny_stable_diffusion / "tokenizer")
    prompts = [*PROMPTS, "globules " * 100]
    theirs = tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    assert torch.equal(load_text_encoder(folder, END_OF_TEXT).tokenize(prompts), theirs.input_ids)


def test_padding_fills_what_follows_the_end_token(folder: Path) -> None:
    one, two = (load_text_encoder(folder, pad_token_id) for pad_token_id in (END_OF_TEXT, 0))
    with_end, with_zero = one.tokenize(PROMPTS), two.tokenize(PROMPTS)
    ends = (with_end == END_OF_TEXT).int().argmax(1)
    states = one.encode(PROMPTS), two.encode(PROMPTS)
    for row, end in enumerate(ends.tolist()):
        assert torch.equal(with_zero[row, : end + 1], with_end[row, : end + 1])
        assert (with_end[row, end:] == END_OF_TEXT).all()
        assert not with_zero[row, end + 1 :].any()
        # The transformer is causal: the padding shows after the end token alone.
        torch.testing.assert_close(states[0][row, : end + 1], states[1][row, : end + 1])
        assert (states[0][row, end + 1 :] - states[1][row, end + 1 :]).abs().max() > 0.5
    torch.testing.assert_close(states[1], reference(folder, with_zero), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_prompt_that_is_too_long_is_cut_and_that_said(folder: Path) -> None:
    encoder = load_text_encoder(folder, pad_token_id=0)
    long = "a dermoscopic image of " + "very " * 80 + "large streaks"
    with pytest.warns(UserWarning, match=r"a prompt of \d+ tokens, cut to 77: 'a dermoscopic"):
        ids = encoder.tokenize([long])
    assert ids.shape == (1, 77)
    assert ids[0, -1] == 49407
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.tokenize(["a melanoma", ""])


def test_fewer_layers_are_the_first_ones_and_the_final_norm(folder: Path) -> None:
    encoder = load_text_encoder(folder, END_OF_TEXT, layers=1)
    model = transformers.CLIPTextModel.from_pretrained(folder)
    hidden = model(encoder.tokenize(PROMPTS), output_hidden_states=True).hidden_states[1]
    norm = getattr(model, "text_model", model).final_layer_norm
    torch.testing.assert_close(encoder.encode(PROMPTS), norm(hidden), atol=1e-4, rtol=0)


def test_more_layers_than_there_are(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"text_layers=3: .* has only 2 layers"):
        load_text_encoder(folder, END_OF_TEXT, layers=3)


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_transformers_opens_what_is_saved(tmp_path: Path, quick_gelu: bool) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(32, 2, 2, context_length=16, pad_token_id=0, quick_gelu=quick_gelu)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
    encoder.save(tmp_path)
    model, report = transformers.CLIPTextModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = encoder.tokenize(PROMPTS)
    assert ids.shape == (3, 16)
    with torch.no_grad():
        states = model(ids).last_hidden_state
    torch.testing.assert_close(encoder.encode(PROMPTS), states, atol=1e-4, rtol=0)


def test_the_same_after_a_round_trip_on_disk(folder: Path, tmp_path: Path) -> None:
    encoder = load_text_encoder(folder, pad_token_id=0)
    encoder.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["hidden_act"] == "quick_gelu"
    torch.testing.assert_close(load_text_encoder(tmp_path, pad_token_id=0).encode(PROMPTS), encoder.encode(PROMPTS))


def test_words_that_were_not_kept_are_named(tmp_path: Path) -> None:
    encoder = TextEncoder(32, 1, 1, context_length=16)
    encoder.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    save_file(keep_tokens(load_file(weights), encoder.tokenize(["", "a melanoma"]).unique()), weights)
    kept = load_text_encoder(tmp_path, END_OF_TEXT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(kept.encode(["a melanoma"]), encoder.encode(["a melanoma"]))
    with pytest.warns(UserWarning, match=r"words without an embedding, which change nothing: "):
        kept.encode(["a melanoma", "a polyp"])
