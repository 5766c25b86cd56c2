"""A training step of the ControlNet, beside the loop body of diffusers' `train_controlnet.py`, with random weights.

    python benchmarks/controlnet_step.py [--size 256] [--batch 2] [--pairs 20] [--compile]

On a GPU Stable Diffusion 1.5 at full size and 512 pixels, batch 32, bfloat16; else the same networks a quarter as wide
at 256 pixels on two threads. The peer's step is restated here with diffusers' own classes, in the order of that script:
the autoencoder and the text encoder run in every step, then ControlNet, U-Net, the gradients' norm is clipped, AdamW
steps. `peer's best` is the same with compiled networks in channels-last memory and a fused AdamW (diffusers' attention
is PyTorch's own in all). Ours is the package's training step on stored latents and text, its average of the weights
included. The arms take turns; medians, and counts that do not depend on the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dermprompt.generator.codec.vae import VAECodec
from dermprompt.generator.controlnet.base import LatentDiffusion, scratch_scheduler
from dermprompt.generator.controlnet.module import ControlNetModule, build_controlnet, speed_up
from dermprompt.generator.text_encoder import TextEncoder

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PROMPTS = ("", *(f"dermoscopic image of a lesion with {n} globules" for n in range(8)))
Step = Callable[[int], None]


def build_base(narrow: bool) -> LatentDiffusion:
    """Stable Diffusion 1.5, random, or a quarter as wide."""
    part = 4 if narrow else 1
    channels = tuple(width // part for width in (320, 640, 1280, 1280))
    text = TextEncoder(768 // part, 12, 12)
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=channels, cross_attention_dim=768 // part, norm_num_groups=16
    )
    widths = tuple(width // part for width in (128, 256, 512, 512))
    vae = AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.18215,
    )
    return LatentDiffusion(unet, VAECodec(vae), text, scratch_scheduler("epsilon")).to(DEVICE)  # type: ignore[arg-type]


def mixed_precision() -> AbstractContextManager[Any]:
    """bfloat16 on a GPU."""
    return torch.autocast("cuda", torch.bfloat16) if DEVICE.type == "cuda" else nullcontext()


def peer(base: LatentDiffusion, size: int, batch: int, best: bool, compiled: bool) -> Step:
    """The script's loop body; ``best``: compiled, channels-last, fused AdamW."""
    controlnet = ControlNetModel.from_unet(base.unet).to(DEVICE).train()
    vae, text, unet = base.codec.vae, base.text_encoder, base.unet  # type: ignore[attr-defined]
    if best:
        speed_up([vae, unet, controlnet], compiled, channels_last=True)
    scheduler = DDPMScheduler.from_config(base.scheduler.config)
    optimizer = torch.optim.AdamW(controlnet.parameters(), lr=5e-6, weight_decay=1e-2, fused=best or None)
    images = torch.rand(batch, 3, size, size, device=DEVICE) * 2 - 1
    hints = (torch.rand(batch, 1, size, size, device=DEVICE) > 0.5).float().expand(-1, 3, -1, -1)
    ids = text.tokenize([PROMPTS[n % len(PROMPTS)] for n in range(batch)]).to(DEVICE)

    def step(number: int) -> None:
        with mixed_precision():
            with torch.no_grad():
                latents = vae.encode(images).latent_dist.sample() * vae.config.scaling_factor
                states = text(ids)
            noise = torch.randn_like(latents)
            times = torch.randint(1000, (batch,), device=DEVICE)
            noisy = scheduler.add_noise(latents, noise, times)
            down, middle = controlnet(noisy, times, states, hints, return_dict=False)
            prediction = unet(
                noisy, times, states, down_block_additional_residuals=down, mid_block_additional_residual=middle
            ).sample
            loss = F.mse_loss(prediction.float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(controlnet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def ours(base: LatentDiffusion, size: int, batch: int, compiled: bool) -> Step:
    """The package's step, on stored latents and text."""
    settings: dict[str, Any] = {"learning_rate": 1e-5, "warmup_steps": 500, "max_steps": 1000, "seed": 0}
    module = ControlNetModule(base, build_controlnet(base), PROMPTS, prompt_dropout=0.5, ema_decay=0.999, **settings)
    module.to(DEVICE).log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    speed_up([base.unet, module.trained["controlnet"]], compiled, channels_last=DEVICE.type == "cuda")
    optimizer = module.configure_optimizers()["optimizer"]
    mean = torch.randn(batch, 4, size // 8, size // 8, device=DEVICE)
    masks = (torch.rand(batch, 1, size, size, device=DEVICE) > 0.5).float()
    numbers = torch.arange(batch, device=DEVICE) % len(PROMPTS)
    data: dict[str, Tensor] = {"mean": mean, "std": 0.1 * mean.abs(), "masks": masks, "prompts": numbers}

    def step(number: int) -> None:
        with mixed_precision():
            loss = module.training_step(data, number)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        module.averaged.update_parameters(module.trained)

    return step


def seconds(step: Step, number: int) -> float:
    """Wall time of a step."""
    start = time.perf_counter()
    step(number)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def tflop(step: Step) -> float:
    """TFLOP of a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step(0)
    return counter.get_total_flops() / 1e12


def main() -> None:
    """Measure, and print a line for each arm."""
    gpu = DEVICE.type == "cuda"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512 if gpu else 256)
    parser.add_argument("--batch", type=int, default=32 if gpu else 2)
    parser.add_argument("--pairs", type=int, default=50 if gpu else 20)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=gpu)
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    arms: dict[str, Step] = {}
    counts = {}
    for name in ("peer as it stands", "peer's best", "ours"):
        base = build_base(narrow=not gpu)
        base.requires_grad_(False)
        if name == "ours":
            arms[name] = ours(base, args.size, args.batch, args.compile)
        else:
            arms[name] = peer(base, args.size, args.batch, name == "peer's best", args.compile)
        counts[name] = float("nan") if args.compile else tflop(arms[name])
    for step in arms.values():
        for number in range(20 if gpu else 2):
            seconds(step, number)
    times: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(args.pairs):
        for name, step in arms.items():
            times[name].append(seconds(step, number))
    mine = median(times["ours"])
    where = torch.cuda.get_device_name() if gpu else "CPU, 2 threads"
    print(f"{where}; {args.size}x{args.size}, batch {args.batch}, {args.pairs} rounds, compiled: {args.compile}")
    print("| arm | s a step | images/s | TFLOP a step | ours is faster by | fewer FLOP by |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, taken in times.items():
        one = median(taken)
        ratio = f"{one / mine:.2f} | {counts[name] / counts['ours']:.2f}"
        print(f"| {name} | {one:.3f} | {args.batch / one:.2f} | {counts[name]:.3f} | {ratio} |")


if __name__ == "__main__":
    main()
