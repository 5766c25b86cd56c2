"""What the package's weights are worth to someone with a hundred images from another dermatoscope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet
from PIL import Image

from dermprompt.evaluation.distribution import kernel_distance
from dermprompt.evaluation.features import FeatureExtractor
from dermprompt.generator.batches import LatentBatches, TrainingImages, encode_latents
from dermprompt.generator.codec.tiny import read_tiny
from dermprompt.generator.controlnet.base import LatentDiffusion, build_scratch, load_base
from dermprompt.generator.controlnet.module import ControlNetModule, build_controlnet
from dermprompt.generator.export import load_controlnet, load_weights
from dermprompt.lesion import images_to_uint8, masks_to_float
from dermprompt.mapped import Rows
from dermprompt.segmenter.module import dice_of_logits
from dermprompt.weights.box import BOX, SAMPLE, in_box

SIZE, BATCH, STEPS, OWN, HELD_OUT = 128, 4, 200, 100, 48
PROMPT = "dermoscopic image of a melanoma"
SAMPLER = {"sampler": "dpm", "num_steps": 10, "guidance_scale": 2.0, "guidance_start": 0.1, "guidance_end": 0.6}


def own_images(number: int) -> TrainingImages:
    """Images of the sample, which the weights have not seen, darker and browner: as from another dermatoscope."""
    photographs = sorted(SAMPLE.rglob("*.jpg"))[:number]
    masks = [next(SAMPLE.rglob(f"{one.stem}_segmentation.png")) for one in photographs]
    pixels = np.stack([np.array(Image.open(one).convert("RGB")) for one in photographs]) / 255
    pixels = pixels**1.3 * [0.95, 0.8, 0.65]
    outlines = np.stack([np.array(Image.open(one)) > 127 for one in masks])
    return TrainingImages(
        Rows((pixels * 255).round().astype(np.uint8)),
        Rows(outlines.astype(np.uint8)),
        (PROMPT,) * number,
        tuple(one.stem for one in photographs),
    )


def only(images: TrainingImages, part: slice) -> TrainingImages:
    pixels = (images.images.only(part), images.masks.only(part))
    return TrainingImages(*pixels, images.prompts[part], images.ids[part])


def from_box() -> ControlNetModule:
    base = load_base("box")
    return module(base, load_controlnet(in_box("box", "controlnet"), base).controlnet, learning_rate=3e-5)


def from_nothing() -> ControlNetModule:
    base = build_scratch(read_tiny("taef2"), SIZE, (96, 128, 160), 2, 1, 128, 2, 77, "v_prediction").eval()
    base.codec.load_state_dict(load_base("box").codec.state_dict())
    return module(base, build_controlnet(base, 8), learning_rate=3e-4)


def module(base: LatentDiffusion, controlnet: torch.nn.Module, learning_rate: float) -> ControlNetModule:
    return ControlNetModule(
        base,
        controlnet,  # type: ignore[arg-type]
        ("", PROMPT),
        trainable="unlocked_unet",
        sampler=SAMPLER,
        learning_rate=learning_rate,
        warmup_steps=20,
        max_steps=STEPS,
        prompt_dropout=0.1,
        ema_decay=0.98,
        seed=0,
        timesteps="lognormal",
    )


def train(module: ControlNetModule, data: LatentBatches, steps: int) -> None:
    own = module.configure_optimizers()
    optimizer, schedule = own["optimizer"], own["lr_scheduler"]["scheduler"]
    rng = np.random.default_rng(0)
    module.log = lambda *args, **settings: None  # type: ignore[method-assign]
    for step in range(steps):
        module._step_seed = lambda _, step=step: step  # type: ignore[method-assign]
        optimizer.zero_grad()
        module.training_step(data[rng.choice(len(data), BATCH, replace=False).tolist()], step).backward()
        optimizer.step()
        schedule.step()
        module.averaged.update_parameters(module.trained)


@dataclass(frozen=True)
class Quality:
    """Dice of samples by the package's segmenter, and their kernel distance to real images, times 1000."""

    dice: float
    distance: float


def quality(module: ControlNetModule, real: TrainingImages) -> Quality:
    """Of samples from held-out masks."""
    masks = masks_to_float(torch.from_numpy(np.asarray(real.masks[slice(None)])))
    samples = module.sample(masks, list(real.prompts), list(range(len(masks))))
    features = FeatureExtractor("tf_efficientnet_lite0", None, torch.device("cpu"))
    distance = kernel_distance(features(np.asarray(real.images[slice(None)])), features(images_to_uint8(samples)))
    return Quality(float(dice_of_logits(reference()(samples), masks).mean()), 1000 * distance)


def reference() -> torch.nn.Module:
    network = BasicUNet(2, 3, 1, (8, 16, 32, 64, 64, 8), norm="batch")
    return load_weights(network, BOX / "segmenter" / "network.safetensors").eval()


STARTS: dict[str, Callable[[], ControlNetModule]] = {"box": from_box, "nothing": from_nothing}


def trained_quality(build: Callable[[], ControlNetModule], seen: TrainingImages, unseen: TrainingImages) -> Quality:
    one = build()
    with torch.enable_grad():
        train(one, encode_latents(one.base.codec, seen, "none"), STEPS)
    return quality(one, unseen)


@pytest.mark.slow
@torch.no_grad()
def test_200_steps_from_the_box_beat_200_from_nothing_by_far() -> None:
    every = own_images(OWN + HELD_OUT)
    seen, unseen = only(every, slice(HELD_OUT, None)), only(every, slice(HELD_OUT))
    before = quality(from_box(), unseen)
    found = {name: trained_quality(build, seen, unseen) for name, build in STARTS.items()}
    print("before", before, found)
    assert found["box"].distance < 0.4 * found["nothing"].distance, found
    assert found["box"].distance < 0.7 * before.distance, (before, found)
    assert found["box"].dice > max(0.88, found["nothing"].dice), found
