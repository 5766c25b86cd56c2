"""What the weights of the package are worth to someone with a few images of his own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dermprompt.generator.batches import LatentBatches, TrainingImages, encode_latents
from dermprompt.generator.codec.tiny import read_tiny
from dermprompt.generator.controlnet.base import LatentDiffusion, build_scratch, load_base
from dermprompt.generator.controlnet.module import ControlNetModule, build_controlnet
from dermprompt.generator.export import load_controlnet
from dermprompt.mapped import Rows
from dermprompt.weights.box import SAMPLE, in_box

SIZE, BATCH, STEPS, OWN, HELD_OUT = 64, 8, 20, 36, 12
CHANNELS = (96, 128, 160)


def own_images(number: int) -> TrainingImages:
    """Images of the sample, which the weights have not seen, all with one prompt."""
    photographs = sorted(SAMPLE.rglob("*.jpg"))[:number]
    masks = [next(SAMPLE.rglob(f"{one.stem}_segmentation.png")) for one in photographs]
    pixels = [
        np.array(Image.open(one).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)) for one in photographs
    ]
    outlines = [np.array(Image.open(one).resize((SIZE, SIZE), Image.Resampling.BOX)) > 127 for one in masks]
    return TrainingImages(
        Rows(np.stack(pixels)),
        Rows(np.stack(outlines).astype(np.uint8)),
        ("dermoscopic image of a melanoma",) * number,
        tuple(one.stem for one in photographs),
    )


def only(images: TrainingImages, part: slice) -> TrainingImages:
    pixels = (images.images.only(part), images.masks.only(part))
    return TrainingImages(*pixels, images.prompts[part], images.ids[part])


def from_box() -> ControlNetModule:
    base = load_base("box")
    return module(base, load_controlnet(in_box("box", "controlnet"), base).controlnet)


def from_nothing() -> ControlNetModule:
    base = build_scratch(read_tiny("taef2"), SIZE, CHANNELS, 2, 1, 128, 2, 77, "v_prediction").eval()
    base.codec.load_state_dict(load_base("box").codec.state_dict())
    return module(base, build_controlnet(base, 8))


def module(base: LatentDiffusion, controlnet: torch.nn.Module) -> ControlNetModule:
    return ControlNetModule(
        base,
        controlnet,  # type: ignore[arg-type]
        ("", "dermoscopic image of a melanoma"),
        trainable="unlocked_unet",
        learning_rate=3e-4,
        warmup_steps=5,
        max_steps=STEPS,
        prompt_dropout=0.1,
        ema_decay=0.9,
        seed=0,
        timesteps="lognormal",
    )


def error(module: ControlNetModule, data: LatentBatches) -> float:
    """The denoising error on held-out images, at noise levels and with noise that are the same for all."""
    batch = data[list(range(len(data)))]
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(batch["mean"].shape, generator=generator)
    steps = torch.linspace(200, 900, len(data)).long()
    noisy = module.base.scheduler.add_noise(batch["mean"], noise, steps)
    with torch.no_grad():
        found = module.denoise(noisy, steps, batch["prompts"], batch["masks"])
    return float((found - module.base.target(batch["mean"], noise, steps)).square().mean())


def train(module: ControlNetModule, data: LatentBatches, steps: int) -> None:
    optimizer = torch.optim.AdamW([p for p in module.trained.parameters() if p.requires_grad], lr=3e-4)
    rng = np.random.default_rng(0)
    module.log = lambda *args, **settings: None  # type: ignore[method-assign]
    for step in range(steps):
        module._step_seed = lambda _, step=step: step  # type: ignore[method-assign]
        optimizer.zero_grad()
        module.training_step(data[rng.choice(len(data), BATCH, replace=False).tolist()], step).backward()
        optimizer.step()


@pytest.mark.slow
def test_a_few_steps_from_the_box_beat_as_many_from_nothing() -> None:
    """In so few steps a network from nothing learns to predict zero, whose error is one."""
    every = own_images(OWN + HELD_OUT)
    seen, unseen = only(every, slice(HELD_OUT, None)), only(every, slice(HELD_OUT))
    errors = {}
    for name, build in (("box", from_box), ("nothing", from_nothing)):
        one = build()
        held_out = encode_latents(one.base.codec, unseen, "none")
        before = error(one, held_out)
        train(one, encode_latents(one.base.codec, seen, "none"), STEPS)
        errors[name] = before, error(one, held_out)
    print(errors)
    assert errors["box"][0] < 0.85 * errors["nothing"][1], errors
    assert errors["box"][1] < 0.85 * errors["nothing"][1], errors
