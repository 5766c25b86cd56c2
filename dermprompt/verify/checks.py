"""Checks whether a Stable Diffusion folder gives the same results here as in its own libraries, in float32 on a CPU.

The oracles are diffusers' StableDiffusionControlNetPipeline and transformers' CLIPTextModel, which open the same files
independently.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import DataLoader

from dermprompt.files import read_json
from dermprompt.generator.batches import TrainingImages, encode_latents
from dermprompt.generator.controlnet.base import LatentDiffusion, load_base, sample_noise
from dermprompt.generator.controlnet.module import ControlNetModule, build_controlnet
from dermprompt.generator.controlnet.sampler import ControlNetGenerator
from dermprompt.generator.source import PARTS, check_base
from dermprompt.generator.text_encoder import END_OF_TEXT, TextEncoder, load_text_encoder, to_transformers
from dermprompt.mapped import Rows

# Without exclamation marks, which the tokenizers of published 2.x folders use as padding.
PROMPTS = ("a photo of a dark disc, with a ring and small dots", "", "Disc  No. 7?", "dots " * 100)
# A buffer of numbers 0 … 76 that older versions of transformers saved.
BUFFERS = {"embeddings.position_ids"}
TEXT_ERROR, IMAGE_ERROR = 1e-4, 1e-3
SEED = 5


@dataclass(frozen=True)
class Family:
    """How a version of Stable Diffusion reads text: the padding token, and the maximum number of layers."""

    name: str
    pad_token_id: int
    text_layers: int


# By the activation of the text encoder: OpenAI's CLIP uses the quick GELU, OpenCLIP the exact one.
FAMILIES = {"quick_gelu": Family("1.x", END_OF_TEXT, 12), "gelu": Family("2.x", 0, 23)}


@dataclass(frozen=True)
class Check:
    """What was measured, and what is allowed."""

    name: str
    passed: bool
    measured: str
    allowed: str


def check_parts(folder: Path) -> Check:
    """Check that all parts exist and belong to one model.

    Raises:
        ValueError: a part is missing, the family is unknown, or see
            :func:`~dermprompt.generator.source.check_base`.
    """
    missing = [part for part in (*PARTS, "tokenizer") if not (folder / part).is_dir()]
    if missing:
        raise ValueError(f"no folder {', '.join(missing)} in {folder}")
    check_base(folder)
    family, layers = family_of(folder), _text_config(folder)["num_hidden_layers"]
    said = f"{family.name}, {text_layers(folder, family)} of {layers} text layers, padding {family.pad_token_id}"
    return Check("parts and family", True, said, "1.x or 2.x")


def _text_config(folder: Path) -> dict[str, Any]:
    return read_json(folder / "text_encoder" / "config.json", dict)


def family_of(folder: Path) -> Family:
    """The family of a folder. Raises ValueError if it is unknown."""
    activation = _text_config(folder)["hidden_act"]
    if activation not in FAMILIES:
        raise ValueError(f"text_encoder/config.json: hidden_act {activation}, allowed: {', '.join(FAMILIES)}")
    return FAMILIES[activation]


def text_layers(folder: Path, family: Family) -> int:
    """The number of text encoder layers that a model of this family was trained with."""
    return min(_text_config(folder)["num_hidden_layers"], family.text_layers)


def check_keys(folder: Path, part: str, family: Family) -> Check:
    """Check that no tensor of a part's weights is missing or left over."""
    missing, left, ignored = _text_keys(folder, family) if part == "text_encoder" else _network_keys(folder / part)
    said = [f"{word} {_some(keys)}" for word, keys in (("missing", missing), ("left over", left)) if keys]
    said += [f"ignored {_some(ignored)}"] if ignored else []
    number = sum(len(_shapes(path)) for path in weight_files(folder / part))
    allowed = "none missing, none left over"
    return Check(f"keys: {part}", not missing and not left, "; ".join([f"{number} tensors", *said]), allowed)


def weight_files(part: Path) -> list[Path]:
    """The file that diffusers and transformers open, without variants."""
    names = ("diffusion_pytorch_model.safetensors", "model.safetensors")
    return [part / name for name in names if (part / name).exists()]


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(path, "pt") as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more


def _network_keys(part: Path) -> tuple[list[str], list[str], list[str]]:
    """Missing and unexpected names as diffusers reports them after loading, and no ignored ones."""
    kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part.name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # low_cpu_mem_usage=True would fail on missing tensors before naming them.
        _, found = kind.from_pretrained(
            part, use_safetensors=True, output_loading_info=True, low_cpu_mem_usage=False, ignore_mismatched_sizes=True
        )
    wrong = [f"{key} {tuple(there)} for {tuple(here)}" for key, there, here in found["mismatched_keys"]]
    return sorted(found["missing_keys"]) + wrong, sorted(found["unexpected_keys"]), []


def _text_keys(folder: Path, family: Family) -> tuple[list[str], list[str], list[str]]:
    """Missing, unexpected and ignored names of the text encoder; layers that the family does not use are ignored."""
    used, config = text_layers(folder, family), _text_config(folder)
    (file,) = weight_files(folder / "text_encoder")
    found = _without_prefix(_shapes(file))
    with torch.device("meta"):
        sizes = (config["hidden_size"], config["num_attention_heads"], used, config["max_position_embeddings"])
        state = to_transformers(TextEncoder(*sizes).transformer.state_dict())
    wanted = _without_prefix({key: tuple(tensor.shape) for key, tensor in state.items()})
    wrong = [
        f"{key} {found[key]} for {wanted[key]}" for key in wanted.keys() & found.keys() if wanted[key] != found[key]
    ]
    unused = tuple(f"encoder.layers.{number}." for number in range(used, config["num_hidden_layers"]))
    ignored = {key for key in found if key.startswith(unused)} | (BUFFERS & found.keys())
    return sorted(wanted.keys() - found.keys()) + wrong, sorted(found.keys() - wanted.keys() - ignored), sorted(ignored)


def _without_prefix(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Names without the prefix ``text_model.``, which published folders have and transformers 5 does not write."""
    return {key.removeprefix("text_model."): shape for key, shape in shapes.items()}


def open_folder(folder: Path, family: Family) -> LatentDiffusion:
    """The base, opened as for training."""
    return load_base(str(folder), family.pad_token_id, text_layers(folder, family))


def _tokens(encoder: TextEncoder) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one prompt is too long on purpose
        return encoder.tokenize(list(PROMPTS))


def check_tokens(folder: Path, family: Family) -> Check:
    """Check that prompts get the same token ids, including padding, as from the folder's tokenizer."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    theirs = tokenizer(list(PROMPTS), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    ours = _tokens(TextEncoder(32, 1, 1, pad_token_id=family.pad_token_id))
    different = int((ours != theirs.input_ids).sum())
    said = f"{different} of {ours.numel()} differ; this family pads with {family.pad_token_id}, "
    said += f"the folder's tokenizer with {tokenizer.pad_token_id}"
    return Check("token ids", not different, said, "0 differ")


@torch.no_grad()
def check_text(folder: Path, family: Family) -> Check:
    """Compare text states with transformers', after the layer that the family was trained with."""
    encoder = load_text_encoder(folder / "text_encoder", family.pad_token_id, text_layers(folder, family))
    ids = _tokens(encoder)
    return _near("text states", encoder(ids), _transformers(folder, family)(ids).last_hidden_state, TEXT_ERROR)


def _transformers(folder: Path, family: Family) -> Any:
    """The text encoder without the layers that the family does not use; the final norm follows the last used layer."""
    from transformers import CLIPTextModel

    return CLIPTextModel.from_pretrained(
        folder / "text_encoder",
        num_hidden_layers=text_layers(folder, family),
        dtype=torch.float32,
        use_safetensors=True,
    ).eval()


def _near(name: str, ours: Tensor, theirs: Tensor, allowed: float) -> Check:
    error = float((ours - theirs).abs().max())
    said = f"largest difference {error:.2g}, at a deviation of {float(theirs.std()):.2g}"
    return Check(name, error <= allowed, said, f"{allowed:g}")


def disc(size: int, radius: float = 0.3) -> Tensor:
    """A mask 11SS with a central disc; ``radius`` is a fraction of the side."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    inside = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (radius * size) ** 2
    return inside[None, None].float()


@torch.no_grad()
def drawn_controlnet(base: LatentDiffusion) -> ControlNetModel:
    """A ControlNet with an effect: its zero convolutions and hint network have random weights."""
    controlnet, generator = build_controlnet(base), torch.Generator().manual_seed(SEED)
    for name, weight in controlnet.named_parameters():
        if name.startswith("controlnet_") and weight.ndim == 1:
            weight.zero_()
        elif name.startswith("controlnet_"):
            gain = 2.0 if "cond_embedding" in name else 1.0
            weight.copy_((gain / weight[0].numel()) ** 0.5 * torch.randn(weight.shape, generator=generator))
    return controlnet.eval()


def check_image(folder: Path, family: Family, size: int, num_steps: int) -> list[Check]:
    """Compare an image with that of diffusers' pipeline, with a ControlNet that has an effect; DDIM, guidance 3."""
    base = open_folder(folder, family)
    controlnet = drawn_controlnet(base)
    generator = ControlNetGenerator(base, controlnet, num_steps, guidance_scale=3.0)
    ours, other = (generator.generate(mask, [PROMPTS[0]], [SEED]) for mask in (disc(size), 1 - disc(size)))
    del base, generator  # a second base in memory would take another 4 GB
    theirs = _image_of_diffusers(folder, family, controlnet, size, num_steps)
    effect = float((ours - other).abs().max()) / 2
    return [
        _near("image", (ours + 1) / 2, theirs, IMAGE_ERROR),
        Check("the mask matters in it", effect > 10 * IMAGE_ERROR, f"{effect:.2g}", f"more than {10 * IMAGE_ERROR:g}"),
    ]


def _image_of_diffusers(folder: Path, family: Family, controlnet: ControlNetModel, size: int, num_steps: int) -> Tensor:
    """The same image N3HW in [0, 1] from diffusers' pipeline, which opens the folder's parts itself."""
    from transformers import CLIPTokenizer

    pipeline = StableDiffusionControlNetPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True),
        text_encoder=_transformers(folder, family),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", use_safetensors=True),
        controlnet=controlnet,
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    channels, downscale = pipeline.unet.config.in_channels, pipeline.vae_scale_factor
    return pipeline(
        PROMPTS[0],
        image=Image.fromarray((disc(size)[0, 0] * 255).byte().numpy()).convert("RGB"),
        num_inference_steps=num_steps,
        guidance_scale=3.0,
        latents=sample_noise((channels, size // downscale, size // downscale), [SEED]),
        output_type="pt",
    ).images


class _SameNoise(ControlNetModule):
    """Uses the same noise at every step, so that losses can be compared."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.losses: list[float] = []

    def _step_seed(self, batch_idx: int) -> int:
        return self.seed

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.item())
        return loss


def check_training(folder: Path, family: Family, size: int, num_steps: int = 10) -> Check:
    """Train the ControlNet on two images, always with the same noise; its loss must fall."""
    base = open_folder(folder, family)
    # The recipe's learning rate without warm-up, which would keep it near zero for ten steps.
    settings = {"learning_rate": 1e-5, "warmup_steps": 0, "max_steps": num_steps, "decay": False}
    settings |= {"prompt_dropout": 0.0, "ema_decay": 0.9, "seed": SEED}
    module = _SameNoise(base, build_controlnet(base), ("", PROMPTS[0]), **settings)
    batch = _batch(base, size)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=num_steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader([batch], batch_size=None))  # type: ignore[arg-type]
    first, last = module.losses[0], module.losses[-1]
    said = f"{first:.6f} at step 1, {last:.6f} at step {len(module.losses)}"
    return Check("ten training steps", len(module.losses) == num_steps and last < first, said, "falling loss")


def _batch(base: LatentDiffusion, size: int) -> dict[str, Tensor]:
    """Two dark discs on a light background, with their masks."""
    masks = torch.cat([disc(size, radius)[:, 0] for radius in (0.2, 0.4)]).byte()
    ground = torch.tensor([220, 180, 170], dtype=torch.uint8)
    images = torch.where(masks[..., None].bool(), ground // 2, ground)
    pixels = (Rows(images.numpy()), Rows(masks.numpy()))
    data = encode_latents(base.codec, TrainingImages(*pixels, (PROMPTS[0],) * 2, ("small", "large")), "none")
    return data[[0, 1]]
