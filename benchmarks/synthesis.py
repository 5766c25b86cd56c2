"""Samples on the disk a second, beside diffusers' StableDiffusionControlNetPipeline with the same weights.

    python benchmarks/synthesis.py [--size 128] [--images 8] [--steps 10] [--repeats 3] [--batches 1 4 8] [--compile]
                                    [--guidance-end 1.0] [--cache-interval 1]

On a GPU it is Stable Diffusion 1.5's size at 512 pixels, else a narrow model, both with random weights; the same
scheduler, steps, guidance and noise. The peer gets its best batch and writes its images as its users do, one after
the other. At equal precision: float32, and bfloat16 with channels last. With ``--compile``, the default on a GPU, our
networks are compiled in bfloat16, and the peer is measured with and without. The last two options are settings of
ours alone, and change the images.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dermprompt.generator.controlnet.base import load_base, sample_noise
from dermprompt.generator.controlnet.module import build_controlnet
from dermprompt.generator.export import load_controlnet
from dermprompt.stages.networks import PRECISIONS, make_fast
from dermprompt.synthesis.draw import draw_batches, sample_seed
from dermprompt.synthesis.samples import JPEG_QUALITY, Condition, image_path

# U-Net's and autoencoder's channels, the text's width and layers.
NARROW = ((64, 128, 256, 256), (32, 64, 128, 128), 256, 4)
SD15 = ((320, 640, 1280, 1280), (128, 256, 512, 512), 768, 12)
GUIDANCE = 7.5
PROMPTS = ("a red disc", "a disc", "a grey disc with dots", "two colours")
# Draws a number of images with these prompts into a folder.
Draw = Callable[[Path, int, tuple[str, ...]], None]


def build(folder: Path, sizes: tuple[Any, ...]) -> None:
    """A checkpoint in diffusers' format with a ControlNet, weights at random."""
    torch.manual_seed(0)
    channels, codec, width, layers = sizes
    unet = UNet2DConditionModel(block_out_channels=channels, cross_attention_dim=width)
    vae = AutoencoderKL(
        block_out_channels=codec,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    text = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        vocab_size=49408,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    theirs = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {names.get(token, token): number for token, number in theirs.encoder.items()}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=list(theirs.bpe_ranks), model_max_length=77)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    parts = {"unet": unet, "vae": vae, "text_encoder": CLIPTextModel(text)}
    for name, part in (*parts.items(), ("tokenizer", tokenizer), ("scheduler", scheduler)):
        part.save_pretrained(folder / name)
    controlnet = build_controlnet(load_base(str(folder)))
    for weight in controlnet.parameters():
        # As if trained: the zero convolutions give something.
        nn.init.normal_(weight, std=0.02) if not weight.any() else None
    controlnet.save_pretrained(folder / "controlnet")


def mask(index: int, size: int) -> np.ndarray:
    """A disc, uint8 SS in {0, 1}."""
    rows, columns = np.mgrid[:size, :size] - size / 2
    return np.asarray(rows**2 + columns**2 < (size * (0.2 + 0.02 * (index % 10))) ** 2, np.uint8)


def ours(folder: Path, options: argparse.Namespace, precision: str, batch: int) -> tuple[Draw, dict[str, nn.Module]]:
    """Draws as `stage=synthesize` does."""
    fewer = {"guidance_end": options.guidance_end, "cache_interval": options.cache_interval}
    base = load_base(str(folder))
    generator = load_controlnet(folder, base, num_steps=options.steps, guidance_scale=GUIDANCE, **fewer)
    generator.to(options.device)
    make_fast(generator.networks, precision, compiled=options.compile and precision != "32-true")

    def draw(target: Path, number: int, prompts: tuple[str, ...]) -> None:
        def condition(i: int) -> Condition:
            return Condition(mask(i, options.size), str(i), prompt=prompts[i % len(prompts)])

        (target / "batches").mkdir(exist_ok=True)
        batches = range(-(-number // batch))
        draw_batches(generator, condition, batches, batch, 0, target, lambda k: target / f"{k}.json", "ours", number)

    counted = {"U-Net": base.unet.mid_block, "ControlNet": generator.controlnet, "text": base.text_encoder}
    return draw, {**counted, "decoder": base.codec.vae.decoder}


def peer(
    folder: Path, options: argparse.Namespace, precision: str, batch: int, compiled: bool = False
) -> tuple[Draw, dict[str, nn.Module]]:
    """Draws with diffusers' pipeline and writes what it gives."""
    controlnet = ControlNetModel.from_pretrained(folder / "controlnet")
    parts = {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "vae": AutoencoderKL.from_pretrained(folder / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler"),
    }
    pipeline = StableDiffusionControlNetPipeline(
        **parts, controlnet=controlnet, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).to(options.device, PRECISIONS[precision])
    pipeline.set_progress_bar_config(disable=True)
    if precision != "32-true":
        make_fast((pipeline.unet, pipeline.controlnet), precision, compiled)
        pipeline.vae.to(memory_format=torch.channels_last)

    def draw(target: Path, number: int, prompts: tuple[str, ...]) -> None:
        for start in range(0, number, batch):
            rows = range(start, min(start + batch, number))
            noise = sample_noise((4, options.size // 8, options.size // 8), [sample_seed(0, i) for i in rows])
            images = pipeline(
                [prompts[i % len(prompts)] for i in rows],
                image=[Image.fromarray(mask(i, options.size) * 255).convert("RGB") for i in rows],
                num_inference_steps=options.steps,
                guidance_scale=GUIDANCE,
                latents=noise.to(options.device, PRECISIONS[precision]),
            ).images
            image_path(target, "").parent.mkdir(exist_ok=True)
            for i, image in zip(rows, images, strict=True):
                image.save(image_path(target, f"SYN_{i:07d}"), quality=JPEG_QUALITY, subsampling=0)

    counted = {"U-Net": pipeline.unet.mid_block, "ControlNet": controlnet, "text": pipeline.text_encoder}
    return draw, {**counted, "decoder": pipeline.vae.decoder}


def seconds(draw: Draw, number: int, prompts: tuple[str, ...]) -> float:
    """Until ``number`` images are on the disk."""
    with tempfile.TemporaryDirectory() as target:
        start = time.perf_counter()
        draw(Path(target), number, prompts)
        return time.perf_counter() - start


def count(draw: Draw, networks: dict[str, nn.Module], number: int, prompts: tuple[str, ...]) -> tuple[str, float]:
    """Images that pass through each network (the U-Net's middle), for one image drawn; and GFLOP for one."""
    rows = dict.fromkeys(networks, 0)

    def add(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            first = inputs[0] if inputs else next(iter(named.values()))
            rows[name] += len(first)

        return hook

    hooks = [one.register_forward_pre_hook(add(name), with_kwargs=True) for name, one in networks.items()]
    with FlopCounterMode(display=False) as flops:
        seconds(draw, number, prompts)
    for hook in hooks:
        hook.remove()
    said = ", ".join(f"{name} {passed / number:g}" for name, passed in rows.items())
    return said, flops.get_total_flops() / number / 1e9


def difference(one: Draw, other: Draw, number: int) -> float:
    """Mean distance of the images in grey levels, both as JPEG."""
    pictures = []
    for draw in (one, other):
        with tempfile.TemporaryDirectory() as target:
            draw(Path(target), number, PROMPTS)
            files = sorted(Path(target).rglob("*.jpg"))
            pictures.append(np.stack([np.asarray(Image.open(file), np.float32) for file in files]))
    return float(np.abs(pictures[0] - pictures[1]).mean())


def main() -> None:
    """Print rates, ratios, and what does not depend on the machine."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 512 if cuda else 128), ("images", 64 if cuda else 8), ("steps", 20 if cuda else 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 16] if cuda else [1, 4, 8])
    parser.add_argument("--compile", action="store_true", default=cuda)
    parser.add_argument("--guidance-end", type=float, default=1.0)
    parser.add_argument("--cache-interval", type=int, default=1)
    options = parser.parse_args()
    options.device = torch.device("cuda" if cuda else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), SD15 if cuda else NARROW)
        for precision in PRECISIONS:
            compare(Path(folder), options, precision)


def images_per_second(
    draws: dict[str, Draw], options: argparse.Namespace, batch: int, prompts: tuple[str, ...]
) -> dict[str, float]:
    """Medians of repeats that take turns, after a first batch each, which compiles."""
    for draw in draws.values():
        seconds(draw, batch, prompts)
    turns = [
        {name: seconds(draw, options.images, prompts) for name, draw in draws.items()} for _ in range(options.repeats)
    ]
    return {name: options.images / statistics.median(turn[name] for turn in turns) for name in draws}


def compare(folder: Path, options: argparse.Namespace, precision: str) -> None:
    """Ours beside the peer in one precision."""
    size = max(options.batches)
    rates = {}
    for batch in options.batches:
        draw, _ = peer(folder, options, precision, batch)
        seconds(draw, batch, PROMPTS)  # warms up
        rates[batch] = size / seconds(draw, size, PROMPTS)
    best = max(rates, key=lambda batch: rates[batch])
    said = ", ".join(f"{rate:.3f} in batches of {batch}" for batch, rate in rates.items())
    print(f"{precision}: the peer's images a second: {said}")
    draws = {"ours": ours(folder, options, precision, best)[0], "peer": peer(folder, options, precision, best)[0]}
    print(f"  the images differ by {difference(draws['ours'], draws['peer'], best):.3f} grey levels")
    if options.compile and precision != "32-true":
        draws["compiled peer"] = peer(folder, options, precision, best, compiled=True)[0]
    for words, prompts in (("prompts", PROMPTS), ("empty prompts", ("",))):
        rate = images_per_second(draws, options, best, prompts)
        ratios = [f"{name} {rate[name]:.3f} ({rate['ours'] / rate[name]:.2f})" for name in draws if name != "ours"]
        print(f"  {words}, images/s, and ours by the peer's: ours {rate['ours']:.3f}, {', '.join(ratios)}", flush=True)
        if precision == "32-true":
            for each in (ours, peer):
                passes, gflop = count(*each(folder, options, precision, best), options.images, prompts)
                print(f"    {each.__name__}, passes for an image: {passes}; {gflop:.2f} GFLOP")


if __name__ == "__main__":
    main()
