"""DDIM with guidance against a loop by hand; samples on their own; what the conditions do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dermprompt.generator.controlnet.base import LatentDiffusion, control, load_base, predict
from dermprompt.generator.controlnet.deep_cache import DeepCache
from dermprompt.generator.controlnet.module import build_controlnet
from dermprompt.generator.controlnet.sampler import ControlNetGenerator

MakeBase = Callable[..., LatentDiffusion]
PROMPTS, SEEDS = ["melanoma", "", "naevus with globules"], [11, 12, 2**62]
CACHED = pytest.mark.parametrize("settings", [{}, {"cache_interval": 2, "guidance_end": 0.75}], ids=["whole", "cached"])


def build(base: LatentDiffusion, drawn: bool = True, **settings: Any) -> ControlNetGenerator:
    """A generator whose ControlNet has random weights, its zero convolutions too, if ``drawn``."""
    generator = torch.Generator().manual_seed(1)
    controlnet = build_controlnet(base)
    for name, weight in controlnet.named_parameters():
        if drawn and weight.ndim > 1:
            nn.init.kaiming_normal_(weight, generator=generator)
        elif name.startswith("controlnet_cond_embedding"):
            # Drawn by torch from its global generator.
            nn.init.zeros_(weight)
    return ControlNetGenerator(base.eval(), controlnet.eval(), **{"num_steps": 4, "guidance_scale": 3.0, **settings})


def squares(count: int, size: int = 16) -> Tensor:
    """A square, larger from mask to mask."""
    masks = torch.zeros(count, 1, size, size)
    for row in range(count):
        masks[row, :, 2 : 6 + 3 * row, 2 : 6 + 3 * row] = 1
    return masks


class Decoded:
    """Stands before a codec's ``decode`` and keeps the latents."""

    def __init__(self, base: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
        self.latents, self.decode = torch.empty(0), base.codec.decode
        monkeypatch.setattr(base.codec, "decode", self)

    def __call__(self, latents: Tensor) -> Tensor:
        self.latents = latents
        return self.decode(latents)


@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("dpm", 0.0), ("unipc", 0.0)])
def test_a_sample_does_not_depend_on_its_batch(make_scratch_base: MakeBase, sampler: str, eta: float) -> None:
    generator = build(make_scratch_base(), sampler=sampler, eta=eta)
    masks = squares(3)
    together = generator.generate(masks, PROMPTS, SEEDS)
    for row in range(3):
        alone = generator.generate(masks[row : row + 1], PROMPTS[row : row + 1], SEEDS[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=0)
    others = generator.generate(masks, [PROMPTS[0], "seborrheic keratosis", ""], [SEEDS[0], 0, 1])
    torch.testing.assert_close(together[0], others[0], atol=1e-4, rtol=0)
    assert (together[1:] - others[1:]).abs().amax((1, 2, 3)).min() > 0.01


def test_images_are_in_range_and_come_again(make_scratch_base: MakeBase) -> None:
    base = make_scratch_base()
    generator, settings = build(base), dict(base.scheduler.config)
    images = generator.generate(squares(2), PROMPTS[:2], SEEDS[:2])
    assert images.shape == (2, 3, 16, 16)
    assert images.abs().max() <= 1
    assert images.std() > 0.1
    assert torch.equal(generator.generate(squares(2), PROMPTS[:2], SEEDS[:2]), images)
    assert (base.scheduler.num_inference_steps, dict(base.scheduler.config)) == (None, settings)


def passes(network: nn.Module) -> list[int]:
    """A list that grows by the batch's size with every forward pass of the network."""
    sizes: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    return sizes


def test_without_text_guidance_changes_nothing_and_costs_nothing(make_scratch_base: MakeBase) -> None:
    base = make_scratch_base()
    plain, guided = build(base, guidance_scale=1.0), build(base, guidance_scale=9.0)
    masks, prompts, seeds = squares(2), ["", ""], SEEDS[:2]
    sizes = passes(base.unet)
    assert torch.equal(guided.generate(masks, prompts, seeds), plain.generate(masks, prompts, seeds))
    assert sizes == [2] * 8


def test_with_text_guidance_doubles_the_batch_and_changes_the_image(make_scratch_base: MakeBase) -> None:
    base = make_scratch_base()
    plain, guided = build(base, guidance_scale=1.0), build(base, guidance_scale=9.0)
    sizes = passes(base.unet)
    masks, prompts, seeds = squares(2), ["melanoma", ""], SEEDS[:2]
    one, two = guided.generate(masks, prompts, seeds), plain.generate(masks, prompts, seeds)
    assert sizes == [4] * 4 + [2] * 4
    assert (one[0] - two[0]).abs().max() > 0.01
    torch.testing.assert_close(one[1], two[1], atol=1e-4, rtol=0)


def test_guidance_in_some_steps_halves_the_others(make_scratch_base: MakeBase) -> None:
    base = make_scratch_base()
    masks, prompts, seeds = squares(2), PROMPTS[:2], SEEDS[:2]
    middle = {"guidance_scale": 9.0, "guidance_start": 0.25, "guidance_end": 0.75}
    sizes = passes(base.unet)
    one = build(base, **middle).generate(masks, prompts, seeds)
    assert sizes == [2, 4, 4, 2]
    for other in ({"guidance_scale": 9.0}, {"guidance_scale": 1.0}):
        assert (one - build(base, **other).generate(masks, prompts, seeds)).abs().max() > 0.01
    none = build(base, guidance_scale=9.0, guidance_start=0.5, guidance_end=0.5).generate(masks, prompts, seeds)
    torch.testing.assert_close(none, build(base, guidance_scale=1.0).generate(masks, prompts, seeds))


def test_deep_features_are_reused_in_between(make_scratch_base: MakeBase) -> None:
    base = make_scratch_base()
    masks, prompts, seeds = squares(2), PROMPTS[:2], SEEDS[:2]
    ways: dict[str, dict[str, Any]] = {"every": {}, "no": {"conditioning_scale": 0.0}, "second": {"cache_interval": 2}}
    built = {name: build(base, guidance_scale=1.0, **settings) for name, settings in ways.items()}
    images = {name: built[name].generate(masks, prompts, seeds) for name in ("every", "no")}
    copied, middles, last = (
        passes(one) for one in (built["second"].controlnet, base.unet.mid_block, base.unet.conv_out)
    )
    images["second"] = built["second"].generate(masks, prompts, seeds)
    assert (copied, middles, last) == ([2, 2], [2, 2], [2, 2, 2, 2])
    apart = {name: float((images[name] - images["every"]).abs().mean()) for name in ("second", "no")}
    assert 0 < apart["second"] < apart["no"]
    middle = {"guidance_scale": 9.0, "guidance_start": 0.25, "guidance_end": 0.75}
    mixed = build(base, **middle, cache_interval=4)
    copied, middles = passes(mixed.controlnet), passes(base.unet.mid_block)
    mixed.generate(masks, prompts, seeds)
    assert copied == middles == [2, 4]  # guidance needs features for both passes


@torch.no_grad()
def test_a_step_on_its_own_deep_features_is_the_whole_step(make_scratch_base: MakeBase) -> None:
    """As diffusers computes it; also at a side that the levels do not divide."""
    for base, side in ((make_scratch_base(), 4), (load_base("box"), 16), (load_base("box"), 9)):
        generator = torch.Generator().manual_seed(0)
        noisy = torch.randn(2, base.unet.config.in_channels, side, side, generator=generator)
        step, text = torch.tensor(500), base.text_encoder.encode(PROMPTS[:2])
        masks = torch.zeros(2, 1, side * base.codec.downscale, side * base.codec.downscale)
        residuals = control(build(base).controlnet, noisy, step, text, masks)
        cached, expected = DeepCache(base.unet), predict(base, noisy, step, text, residuals)
        whole, deep = cached(noisy, step, text, residuals)
        middles = passes(base.unet.mid_block)
        again, kept = cached(noisy, step, text, residuals, deep)
        assert torch.equal(whole, expected)
        assert torch.equal(again, expected)
        assert kept is deep
        assert middles == []


@torch.no_grad()
def ddim(generator: ControlNetGenerator, masks: Tensor, prompts: list[str], steps: list[int], last: Tensor) -> Tensor:
    """Song et al. 2020, equation 12, with σ = 0; ``last`` is ᾱ after the last step."""
    base, alphas = generator.base, generator.base.scheduler.alphas_cumprod
    kept = [*alphas[steps], last]
    downscale = base.codec.downscale
    shape = (base.codec.channels, masks.shape[-2] // downscale, masks.shape[-1] // downscale)
    latents = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in SEEDS])
    for step, now, then in zip(steps, kept, kept[1:], strict=False):
        one, none = (velocity_or_noise(generator, latents, step, text, masks) for text in (prompts, [""] * 3))
        prediction = none + generator.guidance_scale * (one - none)
        if base.scheduler.config.prediction_type == "v_prediction":
            start = now.sqrt() * latents - (1 - now).sqrt() * prediction
            noise = now.sqrt() * prediction + (1 - now).sqrt() * latents
        else:
            start, noise = (latents - (1 - now).sqrt() * prediction) / now.sqrt(), prediction
        latents = then.sqrt() * start + (1 - then).sqrt() * noise
    return latents


def velocity_or_noise(
    generator: ControlNetGenerator, latents: Tensor, step: int, prompts: list[str], masks: Tensor
) -> Tensor:
    steps, text = torch.full((len(latents),), step), generator.base.text_encoder.encode(prompts)
    return predict(generator.base, latents, steps, text, control(generator.controlnet, latents, steps, text, masks))


def test_latents_are_those_of_a_loop_by_hand_with_velocity(
    make_scratch_base: MakeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_scratch_base(prediction="v_prediction")
    generator, decoded = build(base), Decoded(base, monkeypatch)
    images = generator.generate(squares(3), PROMPTS, SEEDS)
    oracle = ddim(generator, squares(3), PROMPTS, [999, 749, 499, 249], torch.tensor(1.0))
    torch.testing.assert_close(decoded.latents, oracle, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(images, decoded.decode(oracle).clamp(-1, 1), atol=1e-4, rtol=0)


def test_latents_are_those_of_a_loop_by_hand_with_noise(
    tiny_stable_diffusion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stable Diffusion's schedule: steps from the start, one on, and ᾱ of step 0 at the end."""
    base = load_base(str(tiny_stable_diffusion))
    generator, decoded = build(base), Decoded(base, monkeypatch)
    generator.generate(squares(3, 64), PROMPTS, SEEDS)
    oracle = ddim(generator, squares(3, 64), PROMPTS, [751, 501, 251, 1], base.scheduler.alphas_cumprod[0])
    torch.testing.assert_close(decoded.latents, oracle, atol=1e-4, rtol=1e-4)


def test_masks_change_the_image_through_the_controlnet(make_scratch_base: MakeBase) -> None:
    base = make_scratch_base()
    masks, same = squares(2), (["", ""], [5, 5])
    one, two = build(base).generate(masks, *same)
    assert (one - two).abs().max() > 0.01
    one, two = build(base, drawn=False).generate(masks, *same)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_what_does_not_change_over_steps_is_computed_once(make_scratch_base: MakeBase) -> None:
    generator = build(make_scratch_base())
    networks = {"unet": generator.base.unet, "controlnet": generator.controlnet}
    layers = {
        f"{of}.{name}": layer
        for of, network in networks.items()
        for name, layer in network.named_modules()
        if name.endswith(("attn2.to_k", "attn2.to_v", "controlnet_cond_embedding"))
    }
    sizes = {name: passes(layer) for name, layer in layers.items()}
    before = {name: dict(network.named_modules()) for name, network in networks.items()}
    generator.generate(squares(3), PROMPTS, SEEDS)
    assert len(layers) >= 7
    for name, seen in sizes.items():
        assert seen == ([3] if name.endswith("embedding") else [6]), name
    # Afterwards the networks are as they were: their next batch has other masks and another text.
    assert {name: dict(network.named_modules()) for name, network in networks.items()} == before


def test_a_prompt_is_encoded_once_and_alone(make_scratch_base: MakeBase) -> None:
    base = make_scratch_base()
    generator, sizes = build(base), passes(base.text_encoder)
    for prompts in (PROMPTS, PROMPTS[::-1], ["melanoma"] * 3):
        generator.generate(squares(3), prompts, SEEDS)
    assert sizes == [1, 1, 1]


@CACHED
def test_in_bfloat16_the_images_are_nearly_the_same(make_scratch_base: MakeBase, settings: dict[str, Any]) -> None:
    generator = build(make_scratch_base(), **settings)
    exact = generator.generate(squares(3), PROMPTS, SEEDS)
    for network in generator.networks:
        network.to(torch.bfloat16, memory_format=torch.channels_last)
    rounded = generator.generate(squares(3), PROMPTS, SEEDS)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().mean() < 0.05 * exact.std()


@CACHED
def test_compiled_networks_serve_every_batch_and_keep_their_keys(
    make_scratch_base: MakeBase, settings: dict[str, Any]
) -> None:
    generator = build(make_scratch_base(), **settings)
    exact = generator.generate(squares(3), PROMPTS, SEEDS)
    keys = list(generator.state_dict())
    for network in generator.networks:
        network.compile(backend="eager")
    assert list(generator.state_dict()) == keys
    generator.generate(squares(3).flip(0), PROMPTS[::-1], SEEDS)
    with torch._dynamo.config.patch(error_on_recompile=True):
        torch.testing.assert_close(generator.generate(squares(3), PROMPTS, SEEDS), exact, atol=1e-5, rtol=0)
