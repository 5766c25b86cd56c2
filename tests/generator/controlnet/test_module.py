"""Training of the base and of the ControlNet: what changes, what does not, and going on after a stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dermprompt.generator.batches import LatentBatches, TrainingImages, make_loader
from dermprompt.generator.controlnet.base import LatentDiffusion, control, load_base, predict, scratch_scheduler
from dermprompt.generator.controlnet.module import (
    LOG_SIGMA,
    UNLOCKED,
    BaseModule,
    ControlNetModule,
    DiffusionModule,
    build_controlnet,
    draw_timesteps,
    loss_weights,
)
from dermprompt.generator.export import load_controlnet, save_controlnet
from dermprompt.generator.validation import Conditions, ValidateGenerator
from dermprompt.mapped import Rows
from dermprompt.training.fit import fit

MakeBase = Callable[..., LatentDiffusion]
MakeTrainer = Callable[..., Trainer]
Weights = dict[str, Tensor]
PROMPTS = ("", "melanoma", "naevus")
SETTINGS = {
    "learning_rate": 1e-2, "warmup_steps": 1, "max_steps": 100, "prompt_dropout": 0.1, "ema_decay": 0.5, "seed": 0
}  # fmt: skip


def build_base_module(base: LatentDiffusion, prompts: tuple[str, ...] = PROMPTS, **settings: Any) -> BaseModule:
    return BaseModule(base, prompts, **{**SETTINGS, **settings})


def build_controlnet_module(
    base: LatentDiffusion, prompts: tuple[str, ...] = PROMPTS, **settings: Any
) -> ControlNetModule:
    # The hint network's first weights are drawn.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return ControlNetModule(base, build_controlnet(base), prompts, **{**SETTINGS, **settings})


BUILDERS = pytest.mark.parametrize("build", [build_base_module, build_controlnet_module])


def latents(count: int = 6) -> LatentBatches:
    """Random latents of 4×4 with random masks of 16×16 and all three prompts."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(count, 12, 4, 4, generator=generator)
    masks = Rows((torch.rand(count, 16, 16, generator=generator) > 0.5).byte().numpy())
    data = TrainingImages(
        Rows(np.zeros((count, 16, 16, 3), np.uint8)), masks, PROMPTS[::-1] * (count // 3), tuple(map(str, range(count)))
    )
    return LatentBatches(mean, torch.full_like(mean, 0.1), data, "none")


def loader() -> DataLoader:
    return make_loader(latents(), 6, 2, seed=0)


def copied(network: nn.Module) -> Weights:
    return {key: value.clone() for key, value in network.state_dict().items()}


def unequal(one: Weights, two: Weights) -> list[str]:
    assert one.keys() == two.keys()
    return [key for key in one if not torch.equal(one[key], two[key])]


def train(module: DiffusionModule, make_trainer: MakeTrainer, folder: Path, epochs: int, *calls: Callback) -> None:
    fit(module, loader(), make_trainer, folder, seed=0, max_steps=epochs * len(loader()), callbacks=calls)


@torch.no_grad()
def test_zero_convolutions_leave_the_base_alone_before_the_first_step(make_scratch_base: MakeBase) -> None:
    base = make_scratch_base()
    module = build_controlnet_module(base)
    batch = next(iter(loader()))
    steps = torch.tensor([10, 900])
    alone = predict(base, batch["mean"], steps, base.text_encoder.encode([PROMPTS[n] for n in batch["prompts"]]))
    controlled = module.denoise(batch["mean"], steps, batch["prompts"], batch["masks"])
    torch.testing.assert_close(controlled, alone, atol=1e-6, rtol=0)


def test_only_the_controlnet_is_trained(make_scratch_base: MakeBase, make_trainer: MakeTrainer, tmp_path: Path) -> None:
    base = make_scratch_base()
    module = build_controlnet_module(base)
    frozen, start = copied(base), copied(module.trained)
    train(module, make_trainer, tmp_path, 1)
    assert not unequal(copied(base), frozen)
    changed = unequal(copied(module.trained), start)
    assert all(f"controlnet.controlnet_down_blocks.{block}.weight" in changed for block in range(4))
    # The hint network learns from the second step on: behind zero convolutions no gradient comes first.
    assert "controlnet.controlnet_cond_embedding.conv_in.weight" in changed


def test_of_the_middle_block_alone_no_copied_encoder_changes(
    make_scratch_base: MakeBase, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    base = make_scratch_base()
    module = build_controlnet_module(base, trainable="middle_block")
    frozen, start = copied(base), copied(module.trained)
    train(module, make_trainer, tmp_path, 1)
    assert not unequal(copied(base), frozen)
    changed = {key.split(".")[1] for key in unequal(copied(module.trained), start)}
    assert changed == {"mid_block", "controlnet_cond_embedding", "controlnet_down_blocks", "controlnet_mid_block"}


@pytest.mark.parametrize("part", UNLOCKED)
def test_what_is_unlocked_is_trained_and_nothing_else_of_the_base(
    make_scratch_base: MakeBase, make_trainer: MakeTrainer, tmp_path: Path, part: str
) -> None:
    base = make_scratch_base()
    module = build_controlnet_module(base, trainable=part)
    frozen = copied(base)
    train(module, make_trainer, tmp_path, 1)
    changed = {".".join(key.split(".")[:2]) for key in unequal(copied(base), frozen)}
    assert changed == {f"unet.{name}" for name in UNLOCKED[part]}


@pytest.mark.parametrize("part", UNLOCKED)
def test_pictures_on_the_way_are_of_the_averaged_unlocked_weights(
    make_scratch_base: MakeBase, make_trainer: MakeTrainer, tmp_path: Path, part: str
) -> None:
    module = build_controlnet_module(make_scratch_base(), trainable=part, sampler={"num_steps": 2})
    train(module, make_trainer, tmp_path, 1)
    own = module.base.unet.conv_out
    masks, rest = torch.ones(1, 1, 16, 16), (["naevus"], [0])
    images = module.sample(masks, *rest)
    assert module.base.unet.conv_out is own
    save_controlnet(module.ema_model(), module.base.unet, tmp_path)
    opened = load_controlnet(tmp_path, module.base, num_steps=2)
    torch.testing.assert_close(opened.generate(masks, *rest), images)


def test_pictures_on_the_way_leave_the_trained_weights_in_place(
    make_scratch_base: MakeBase, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """Averaged weights that a validation draws by are swapped out again: all ends as without it."""
    ends = []
    for name in ("unwatched", "watched"):
        module = build_controlnet_module(make_scratch_base(), trainable="unlocked_decoder", sampler={"num_steps": 2})
        conditions = Conditions(torch.ones(2, 1, 16, 16), ("naevus", ""), (0, 1))
        watch = ValidateGenerator(conditions, lambda images, masks: images[:, 0, 0, 0], 0.8, 2, tmp_path / name)
        train(module, make_trainer, tmp_path / name, 2, *([watch] if name == "watched" else []))
        ends.append((copied(module.trained), copied(module.ema_model())))
    assert not unequal(ends[0][0], ends[1][0])
    assert not unequal(ends[0][1], ends[1][1])
    assert unequal(*ends[0])


def test_the_trained_noise_levels_are_uniform_or_log_normal() -> None:
    scheduler = scratch_scheduler("v_prediction")
    sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()
    drawn = {
        name: draw_timesteps(scheduler, name, 20_000, torch.Generator().manual_seed(0))
        for name in ("uniform", "lognormal")
    }
    assert drawn["uniform"].float().mean() == pytest.approx(499.5, abs=10)
    log_sigmas = sigmas[drawn["lognormal"]].log()
    assert log_sigmas.median() == pytest.approx(LOG_SIGMA[0], abs=0.1)
    # Between the quartiles of a normal distribution lie 1.349 standard deviations; a tenth is uniform.
    spread = (log_sigmas.quantile(0.75) - log_sigmas.quantile(0.25)) / 1.349
    assert spread == pytest.approx(LOG_SIGMA[1], abs=0.2)
    assert {0, 999} <= {int(drawn["lognormal"].min()), int(drawn["lognormal"].max())}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weighs_the_error_of_the_image_by_the_clipped_ratio(prediction: str) -> None:
    scheduler = scratch_scheduler(prediction)
    kept = scheduler.alphas_cumprod.double()
    ratio = kept / (1 - kept)
    # An error d of the image is one of d sqrt(SNR) of the noise, and of d / sqrt(1 - kept) of the velocity.
    of_image = ratio if prediction == "epsilon" else 1 / (1 - kept)
    torch.testing.assert_close(
        loss_weights(scheduler, 5.0).double() * of_image, ratio.clamp(max=5.0), rtol=1e-3, atol=1e-7
    )
    assert torch.equal(loss_weights(scheduler, None), torch.ones(1000))


def test_two_batches_to_a_step_take_half_the_steps(
    make_scratch_base: MakeBase, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    class Steps(Callback):
        def __init__(self) -> None:
            self.seeds: list[int] = []

        def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            self.seeds.append(module._step_seed(batch_idx))

    module, steps = build_controlnet_module(make_scratch_base()), Steps()
    fit(module, loader(), make_trainer, tmp_path, seed=0, max_steps=3, callbacks=(steps,), accumulate_grad_batches=2)
    # An epoch has three batches: two steps, the second of the one batch that is left.
    assert module.trainer.global_step == 3
    assert len(set(steps.seeds)) == len(steps.seeds) == 5


def test_the_base_trains_text_encoder_and_unet(
    make_scratch_base: MakeBase, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    base = make_scratch_base()
    start = copied(base)
    train(build_base_module(base), make_trainer, tmp_path, 1)
    changed = set(unequal(copied(base), start))
    assert "unet.conv_in.weight" in changed
    assert "text_encoder.transformer.positional_embedding" in changed
    assert "text_encoder.transformer.transformer.resblocks.0.attn.in_proj_weight" in changed
    assert "text_encoder.transformer.token_embedding.weight" not in changed
    assert not any(key.startswith("codec.") for key in changed)


@BUILDERS
def test_a_checkpoint_holds_trained_and_averaged_weights_and_no_more(
    make_scratch_base: MakeBase,
    make_trainer: MakeTrainer,
    tmp_path: Path,
    build: Callable[..., DiffusionModule],
) -> None:
    module = build(make_scratch_base())
    train(module, make_trainer, tmp_path, 1)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    wanted = {f"trained.{key}": value for key, value in module.trained.state_dict().items()}
    wanted |= {f"averaged.{key}": value for key, value in module.averaged.state_dict().items()}
    assert not unequal(state, wanted)


@BUILDERS
def test_a_resumed_training_ends_with_the_same_weights(
    make_scratch_base: MakeBase,
    make_trainer: MakeTrainer,
    tmp_path: Path,
    build: Callable[..., DiffusionModule],
) -> None:
    straight = build(make_scratch_base())
    train(straight, make_trainer, tmp_path / "straight", 2)
    train(build(make_scratch_base()), make_trainer, tmp_path / "resumed", 1)
    resumed = build(make_scratch_base())
    train(resumed, make_trainer, tmp_path / "resumed", 2)
    assert not unequal(copied(resumed), copied(straight))
    assert not unequal(finished_weights(resumed), finished_weights(straight))


def finished_weights(module: DiffusionModule) -> Weights:
    return copied(module.ema_model())  # type: ignore[operator]


class Average(Callback):
    """The exponential moving average of the weights, from their first step on, worked out again."""

    def __init__(self, decay: float) -> None:
        self.decay, self.weights, self.number = decay, {}, 0

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        now = {key: value.double() for key, value in copied(module.trained).items()}
        before, decay = self.weights or now, min(self.decay, (1 + self.number) / (10 + self.number))
        self.weights = {key: decay * before[key] + (1 - decay) * now[key] for key in now}
        self.number += 1


@BUILDERS
def test_the_finished_network_has_the_averaged_weights(
    make_scratch_base: MakeBase,
    make_trainer: MakeTrainer,
    tmp_path: Path,
    build: Callable[..., DiffusionModule],
) -> None:
    module, average = build(make_scratch_base(), ema_decay=0.7), Average(0.7)
    train(module, make_trainer, tmp_path, 1, average)
    finished = finished_weights(module)
    for key, value in average.weights.items():
        torch.testing.assert_close(finished[key].double(), value, atol=1e-5, rtol=1e-4)
    assert unequal(finished, finished | {k: v for k, v in copied(module.trained).items() if k in finished})


@torch.no_grad()
def test_a_finished_base_predicts_as_it_does_after_a_round_trip_on_disk(
    make_scratch_base: MakeBase, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    module = build_base_module(make_scratch_base())
    with torch.enable_grad():
        train(module, make_trainer, tmp_path, 1)
    finished = module.ema_model()
    finished.save(tmp_path / "base")
    loaded = load_base(str(tmp_path / "base"))
    noisy, steps = torch.ones(2, 12, 4, 4), torch.tensor([10, 900])
    one, two = (predict(b, noisy, steps, b.text_encoder.encode(["", "naevus"])) for b in (finished, loaded))
    assert one.isfinite().all()
    torch.testing.assert_close(one, two)


@BUILDERS
@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_with_full_dropout_prompts_do_not_matter(
    make_scratch_base: MakeBase,
    make_trainer: MakeTrainer,
    tmp_path: Path,
    build: Callable[..., DiffusionModule],
    dropout: float,
) -> None:
    results = []
    for prompts in (PROMPTS, ("", "pigment network", "globules")):
        module = build(make_scratch_base(), prompts, prompt_dropout=dropout)
        train(module, make_trainer, tmp_path / prompts[1], 1)
        results.append(copied(module.trained))
    assert bool(unequal(*results)) == (dropout == 0)


def test_learning_rate_warms_up_and_falls_as_a_cosine(make_scratch_base: MakeBase) -> None:
    base = make_scratch_base()
    settings = {"learning_rate": 2.0, "warmup_steps": 4, "max_steps": 10}
    for decay in (True, False):
        chosen = build_base_module(base, **settings, decay=decay).configure_optimizers()
        rates = []
        for _ in range(12):
            rates.append(chosen["lr_scheduler"]["scheduler"].get_last_lr()[0])
            chosen["optimizer"].step()
            chosen["lr_scheduler"]["scheduler"].step()
        fall = [(1 + math.cos(math.pi * min(1, k / 10))) / 2 if decay else 1 for k in range(12)]
        warm = [0.25, 0.5, 0.75, *[1] * 9]
        assert rates == pytest.approx([2 * w * f for w, f in zip(warm, fall, strict=True)], abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("size", [64, 32])
def test_a_control_copy_fits_stable_diffusion(tiny_stable_diffusion: Path, size: int) -> None:
    base = load_base(str(tiny_stable_diffusion))
    controlnet = build_controlnet(base)
    theirs, ours = base.unet.state_dict(), controlnet.state_dict()
    shared = [key for key in ours if key.startswith(("conv_in", "time_emb", "down_blocks", "mid_block"))]
    assert all(torch.equal(ours[key], theirs[key]) for key in shared)
    noisy, masks = torch.ones(2, 4, size // 8, size // 8), torch.ones(2, 1, size, size)
    residuals = control(controlnet, noisy, torch.tensor([1, 2]), base.text_encoder.encode(["", "naevus"]), masks)
    assert not any(one.any() for one in residuals)
    assert residuals[0].shape[-2:] == noisy.shape[-2:]


def test_a_trained_controlnet_is_trained_apart_from_its_average(make_scratch_base: MakeBase) -> None:
    module = build_controlnet_module(make_scratch_base())
    before = deepcopy(finished_weights(module))
    with torch.no_grad():
        next(module.trained.parameters()).add_(1)
    assert not unequal(finished_weights(module), before)
    optimised = {id(p) for group in module.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert optimised == {id(p) for p in module.trained.parameters()}
