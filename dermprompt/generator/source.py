"""Where a pretrained base comes from: a folder in diffusers' format, or a hub id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dermprompt.files import read_json, sha256, stamps
from dermprompt.store.artifacts import Artifact
from dermprompt.weights.box import digest, in_box

PARTS = ("unet", "vae", "text_encoder", "scheduler")
# Without half-precision and other variants in the same folders.
FILES = ("*.json", "diffusion_pytorch_model.safetensors", "model.safetensors")


def resolve_base(path: str) -> Path:
    """The local folder of a base, given as a folder or as a hub id, which is downloaded.

    Raises:
        ValueError: it is neither, or a part is missing.
    """
    folder = in_box(path, "base")
    if not folder.is_dir():
        folder = _download(path)
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise ValueError(
            f"generator.base.path={path}: no {', '.join(missing)} in it; a base in diffusers' format has "
            f"the folders {', '.join(PARTS)}"
        )
    return folder


def check_base(folder: Path) -> None:
    """Check that a base is a Stable Diffusion 1 or 2 model with matching parts and safetensors weights.

    Raises:
        ValueError: it is of another family, an inpainting model, or has only pickled weights; names the file.
    """
    for part in ("unet", "vae", "text_encoder"):
        if not any((folder / part).glob("*.safetensors")):
            found = ", ".join(sorted(path.name for path in (folder / part).iterdir())) or "nothing"
            raise ValueError(
                f"generator.base.path: no *.safetensors in {folder / part} (there is {found}); pickled weights may run "
                "code and are not opened: save the model again with safe_serialization=True"
            )
        check_folder("generator.base.path", folder / part)
    unet, vae, text = (read_json(folder / part / "config.json", dict) for part in ("unet", "vae", "text_encoder"))
    if unet.get("addition_embed_type") or (folder / "text_encoder_2").exists():
        raise ValueError(f"generator.base.path={folder}: a model like SDXL; allowed are Stable Diffusion 1.x and 2.x")
    # Our own codecs have "channels" instead.
    latent = vae.get("latent_channels", vae.get("channels", 4))
    file = folder / "unet" / "config.json"
    for key in ("in_channels", "out_channels"):
        if unet.get(key, 4) != latent:
            raise ValueError(
                f"{file}: {key} {unet.get(key, 4)}, and the vae has {latent} latent channels; inpainting and depth "
                "models cannot be a base"
            )
    if unet.get("cross_attention_dim") != text.get("hidden_size"):
        raise ValueError(
            f"{file}: cross_attention_dim {unet.get('cross_attention_dim')}, and the text encoder's hidden_size is "
            f"{text.get('hidden_size')}: these parts are of two models"
        )


def check_folder(key: str, folder: Path) -> None:
    """Open every config file, and the header of every weights file, below a folder.

    Raises:
        ValueError: a file is damaged, or there are no weights; names it.
    """
    from dermprompt.tensors import check_weights

    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise ValueError(f"{key}: no *.safetensors below {folder}")
    for path in sorted(folder.rglob("*config.json")):
        read_json(path, dict)
    for path in files:
        check_weights(path)


def stamps_of(path: str | None) -> list[tuple[str, int, int]] | None:
    """The stamps (names, sizes and times) of a file or folder; None without a path."""
    return stamps(path) if path else None


def pretrained_artifact(path: str, settings: dict[str, Any]) -> Artifact:
    """A pretrained base, used where it is.

    Its digest covers its settings and its files' stamps, or for the packaged base the contents of its files.
    """
    files = digest(in_box("box", "base")) if path == "box" else stamps(path)
    return Artifact(Path(path), sha256(repr((sorted(settings.items()), files)))[:16])


def stamped_artifact(path: str) -> Artifact:
    """A user's folder, identified by the names, sizes and times of its files."""
    return Artifact(Path(path).expanduser(), sha256(json.dumps(stamps(path))))


def given_artifact(key: str, path: str) -> Artifact:
    """A file or folder that a setting names."""
    return stamped_artifact(path) if Path(path).expanduser().is_dir() else file_artifact(key, path)


def file_artifact(key: str, path: str) -> Artifact:
    """A small file that a setting names, identified by the sha256 (hex) of its content."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{key}={path}: no such file")
    return Artifact(file, sha256(file))


def _download(path: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, allow_patterns=[f"{part}/{name}" for part in PARTS for name in FILES]))
    except Exception as error:
        raise ValueError(
            f"generator.base.path={path}: neither a folder nor a model that the hub gives "
            f"({type(error).__name__}); download it elsewhere and set generator.base.path to its folder, or "
            "train a small one here with generator/base=scratch"
        ) from error
