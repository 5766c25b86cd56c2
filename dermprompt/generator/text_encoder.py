"""The text encoder of a diffusion model, based on open_clip's transformer.

Stable Diffusion uses the states of CLIP's text transformer without its final projection: all layers of ViT-L-14 in
1.x, all but the last of ViT-H-14 in 2.x, both followed by the final norm. 1.x was trained with the end token as
padding, 2.x with token 0. Folders are in transformers' CLIPTextModel format.
"""

from __future__ import annotations

import json
import warnings
from functools import cache
from itertools import product
from pathlib import Path

import open_clip
import torch
from open_clip.transformer import QuickGELU, TextTransformer
from safetensors.torch import save_file
from torch import Tensor, nn

from dermprompt.files import read_json, reading
from dermprompt.tensors import fill, load_tensors

END_OF_TEXT = 49407
NUM_TOKENS = 49408

# The names of a block's weights in transformers, by open_clip's names.
_BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_KINDS = ("weight", "bias")


@cache
def tokenizer() -> open_clip.SimpleTokenizer:
    """CLIP's; to read its vocabulary takes a fifth of a second."""
    return open_clip.SimpleTokenizer()


class TextEncoder(nn.Module):
    """Prompts to states NLD: L tokens, D wide.

    Args:
        width, heads, layers: size of the transformer.
        context_length: L; longer prompts are truncated.
        pad_token_id: the token that pads a prompt to L.
        quick_gelu: the activation of OpenAI's CLIP (Stable Diffusion 1.x).
    """

    def __init__(
        self,
        width: int = 768,
        heads: int = 12,
        layers: int = 12,
        context_length: int = 77,
        pad_token_id: int = END_OF_TEXT,
        quick_gelu: bool = True,
    ) -> None:
        super().__init__()
        self.settings = {
            "width": width,
            "heads": heads,
            "layers": layers,
            "context_length": context_length,
            "pad_token_id": pad_token_id,
            "quick_gelu": quick_gelu,
        }
        self.context_length, self.pad_token_id = context_length, pad_token_id
        self.transformer = TextTransformer(
            context_length,
            width=width,
            heads=heads,
            layers=layers,
            act_layer=QuickGELU if quick_gelu else nn.GELU,
            pool_type="none",
            proj_type="none",
        )

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Token ids NL (int64), padded with ``pad_token_id``.

        Warns about prompts that are too long and are truncated, and about words without an embedding (see
        :func:`keep_tokens`).
        """
        for prompt in dict.fromkeys(prompts):
            length = self.length(prompt)
            if length > self.context_length:
                warnings.warn(f"a prompt of {length} tokens, cut to {self.context_length}: {prompt!r}", stacklevel=2)
        ids = tokenizer()(prompts, self.context_length)
        ends = (ids == END_OF_TEXT).int().argmax(1, keepdim=True)
        ids[torch.arange(self.context_length).expand_as(ids) > ends] = self.pad_token_id
        unread = dict.fromkeys(word for prompt in prompts for word in self.unread(prompt))
        if unread:
            warnings.warn(f"words without an embedding, which change nothing: {', '.join(unread)}", stacklevel=2)
        return ids

    def length(self, prompt: str) -> int:
        """The number of tokens of a prompt, including its start and end tokens."""
        return len(tokenizer().encode(prompt)) + 2

    @torch.no_grad()
    def unread(self, prompt: str) -> list[str]:
        """The words of a prompt without an embedding in this encoder, which have no effect (:func:`keep_tokens`)."""
        weights = self.transformer.token_embedding.weight
        ids = tokenizer().encode(prompt)
        return [tokenizer().decode([one]).strip() for one in ids if not weights[one].any()]

    def forward(self, ids: Tensor) -> Tensor:
        """States NLD of token ids NL."""
        return self.transformer(ids)

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """States NLD of prompts."""
        device = next(self.parameters()).device
        return self(self.tokenize(prompts).to(device))

    def save(self, folder: Path) -> None:
        """Write the folder in transformers' CLIPTextModel format."""
        folder.mkdir(parents=True, exist_ok=True)
        width = self.settings["width"]
        config = {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_attention_heads": self.settings["heads"],
            "num_hidden_layers": self.settings["layers"],
            "max_position_embeddings": self.context_length,
            "projection_dim": width,
            "vocab_size": NUM_TOKENS,
            "hidden_act": "quick_gelu" if self.settings["quick_gelu"] else "gelu",
            "bos_token_id": 49406,
            "eos_token_id": END_OF_TEXT,
            "pad_token_id": self.pad_token_id,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        save_file(to_transformers(self.transformer.state_dict()), folder / "model.safetensors")


def load_text_encoder(folder: Path, pad_token_id: int, layers: int | None = None) -> TextEncoder:
    """Open a ``text_encoder`` folder; ``layers`` keeps only that many of its first layers (None: all).

    Raises:
        ValueError: the folder has fewer than ``layers`` layers, or is damaged; names it.
    """
    with reading(folder):
        config = read_json(folder / "config.json", dict)
        kept = config["num_hidden_layers"] if layers is None else layers
        if kept > config["num_hidden_layers"]:
            raise ValueError(
                f"generator.base.text_layers={kept}: {folder} has only {config['num_hidden_layers']} layers"
            )
        encoder = TextEncoder(
            config["hidden_size"],
            config["num_attention_heads"],
            kept,
            config["max_position_embeddings"],
            pad_token_id,
            config["hidden_act"] == "quick_gelu",
        )
        weights = folder / "model.safetensors"
        fill(encoder.transformer, _from_transformers(load_tensors(weights), kept), weights)
    return encoder


def _names(layers: int) -> dict[str, str]:
    """Transformers' name of each of open_clip's weights that both have."""
    names = {
        "token_embedding.weight": "embeddings.token_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
    }
    names |= {f"ln_final.{kind}": f"final_layer_norm.{kind}" for kind in _KINDS}
    for layer, (ours, theirs), kind in product(range(layers), _BLOCK_NAMES.items(), _KINDS):
        names[f"transformer.resblocks.{layer}.{ours}.{kind}"] = f"encoder.layers.{layer}.{theirs}.{kind}"
    return names


def _joint(layers: int) -> dict[str, list[str]]:
    """Transformers' names of the query, key and value that open_clip has in one weight."""
    return {
        f"transformer.resblocks.{layer}.attn.in_proj_{kind}": [
            f"encoder.layers.{layer}.self_attn.{part}_proj.{kind}" for part in "qkv"
        ]
        for layer, kind in product(range(layers), _KINDS)
    }


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename open_clip's weights to transformers' CLIPTextModel, with separate query, key and value."""
    layers = sum(key.endswith("in_proj_weight") for key in state)
    renamed = {theirs: state[ours] for ours, theirs in _names(layers).items()}
    for ours, parts in _joint(layers).items():
        renamed |= {name: part.contiguous() for name, part in zip(parts, state[ours].chunk(3), strict=True)}
    return {f"text_model.{name}": value for name, value in renamed.items()}


def keep_tokens(state: dict[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
    """Transformers' weights with only the embeddings of ``tokens`` (int64, sorted); all others are loaded as zero."""
    kept = dict(state)
    embeddings = kept.pop("text_model.embeddings.token_embedding.weight")
    kept["text_model.embeddings.token_embedding.tokens"] = tokens
    kept["text_model.embeddings.token_embedding.rows"] = embeddings[tokens].contiguous()
    return kept


def _all_tokens(state: dict[str, Tensor]) -> Tensor:
    rows = state["embeddings.token_embedding.rows"]
    return rows.new_zeros(NUM_TOKENS, rows.shape[1]).index_copy(0, state["embeddings.token_embedding.tokens"], rows)


def _from_transformers(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Rename transformers' CLIPTextModel weights, with or without the ``text_model.`` prefix, to open_clip's."""
    state = {key.removeprefix("text_model."): value for key, value in state.items()}
    if "embeddings.token_embedding.tokens" in state:
        state["embeddings.token_embedding.weight"] = _all_tokens(state)
    renamed = {ours: state[theirs].float() for ours, theirs in _names(layers).items()}
    return renamed | {ours: torch.cat([state[one].float() for one in parts]) for ours, parts in _joint(layers).items()}
