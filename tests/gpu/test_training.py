"""Training on the device: steps in both precisions, agreement with a CPU, and resuming."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gpu.trainings import BUILDERS, MakeBase, Training, build, weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

pytestmark = pytest.mark.gpu
Train = Callable[..., Training]
TRAINERS = pytest.mark.parametrize("name", BUILDERS)


@pytest.fixture
def train(make_trainer: Callable[..., Any], make_scratch_base: MakeBase, device: torch.device) -> Train:
    """Trains one of them for epochs of three steps, from the checkpoint in its folder if there is one."""
    from dermprompt.training.fit import fit

    def start(name: str, folder: Path, epochs: int, on: str = device.type, **settings: Any) -> Training:
        training = build(name, make_scratch_base)
        place = {"accelerator": "gpu" if on == "cuda" else on, **settings}
        steps = epochs * len(training.loader)
        fit(training.module, training.loader, partial(make_trainer, **place), folder, 0, max_steps=steps)
        return training

    return start


def moved(training: Training, start: Tensor) -> Tensor:
    return weights(training.trained) - start


@TRAINERS
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_trainer_steps(name: str, precision: str, train: Train, make_scratch_base: MakeBase, tmp_path: Path) -> None:
    start = weights(build(name, make_scratch_base).trained)
    training = train(name, tmp_path, 1, precision=precision)
    assert training.module.trainer.global_step == 3
    assert weights(training.trained).isfinite().all()
    assert moved(training, start).norm() > 0
    assert {weight.dtype.itemsize for weight in training.trained.parameters()} == {4}


@TRAINERS
def test_a_resumed_training_goes_on(name: str, train: Train, make_scratch_base: MakeBase, tmp_path: Path) -> None:
    """As near as a GPU's sums come again, which have no fixed order."""
    start = weights(build(name, make_scratch_base).trained)
    whole = moved(train(name, tmp_path / "whole", 2), start)
    train(name, tmp_path / "pieces", 1)
    pieces = moved(train(name, tmp_path / "pieces", 2), start)
    assert (pieces - whole).norm() < 0.05 * whole.norm()


@pytest.mark.parametrize("name", ["pix2pixhd"])
def test_a_training_without_random_numbers_is_that_of_a_cpu(
    name: str, train: Train, make_scratch_base: MakeBase, tmp_path: Path
) -> None:
    """Adam makes much of the smallest gradients, so the ways that the weights went are compared as a whole."""
    start = weights(build(name, make_scratch_base).trained)
    ours, theirs = (
        moved(train(name, tmp_path / on, 1, **at), start) for on, at in (("here", {}), ("cpu", {"on": "cpu"}))
    )
    assert (ours - theirs).norm() < 0.1 * theirs.norm()


@TRAINERS
def test_gradients_are_those_of_a_cpu(name: str, make_scratch_base: MakeBase, device: torch.device) -> None:
    """Of the networks' mean square, on the same inputs."""
    ours, theirs = (gradients(name, make_scratch_base, on) for on in (device.type, "cpu"))
    assert theirs.norm() > 0
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()


def gradients(name: str, make_scratch_base: MakeBase, on: str) -> Tensor:
    import torch

    training = build(name, make_scratch_base)
    module, generator = training.module.to(on), torch.Generator().manual_seed(1)
    masks = torch.zeros(2, 1, 16, 16)
    masks[..., :8] = 1
    if name in ("base", "controlnet"):
        noisy, steps = torch.randn(2, 12, 4, 4, generator=generator), torch.tensor([10, 900])
        inputs = (noisy, steps, torch.tensor([1, 2]), masks)
        output = module.denoise(*(one.to(on) for one in inputs))
    else:
        channels = {"pix2pixhd": 2, "segmenter": 3}[name]
        output = training.trained(torch.rand(2, channels, 32, 32, generator=generator).to(on))
    output.square().mean().backward()
    return torch.cat([p.grad.flatten().cpu() for p in training.trained.parameters() if p.grad is not None])
