"""Training of pix2pixHD against a plain loop; counting, checkpoints and generation."""

from __future__ import annotations

import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from dermprompt.generator.pix2pixhd.module import Pix2PixHD, one_hot
from dermprompt.generator.pix2pixhd.networks import GlobalGenerator, MultiscaleDiscriminator
from dermprompt.generator.pix2pixhd.pool import ImagePool


class Pairs(Dataset[dict[str, Tensor]]):
    """Four pairs of random images and masks, in two batches of two."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(4, 3, 16, 16, generator=generator) * 2 - 1
        self.masks = (torch.rand(4, 1, 16, 16, generator=generator) > 0.5).float()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        return {"images": self.images[item], "masks": self.masks[item]}


class Distance(nn.Module):
    """A perceptual loss small enough to work out again."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5), requires_grad=False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        return self.scale * F.l1_loss(fake, real)


def build(**settings: Any) -> Pix2PixHD:
    torch.manual_seed(0)
    generator = GlobalGenerator(base_channels=4, num_downsamplings=1, num_blocks=1)
    discriminator = MultiscaleDiscriminator(base_channels=4, num_layers=2, num_scales=2)
    return Pix2PixHD(generator, discriminator, **{"decay_from_step": 2, "max_steps": 4, **settings})


def loader() -> DataLoader:
    return DataLoader(Pairs(), batch_size=2)


def fit(module: Pix2PixHD, folder: Path, max_steps: int, checkpoint: Path | None = None) -> Trainer:
    """Train to ``max_steps``; a checkpoint is written at every end of an epoch's last batch."""
    trainer = Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        max_epochs=-1,
        default_root_dir=folder,
        logger=False,
        callbacks=[ModelCheckpoint(folder, filename="{step}", every_n_train_steps=2, save_top_k=-1)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader(), ckpt_path=checkpoint, weights_only=True)
    return trainer


def plain_loop(module: Pix2PixHD, factors: list[float]) -> dict[str, float]:
    """The authors' loop: all losses from one forward of the generator, then its step, then the other's."""
    generator, discriminator = module.generator, module.discriminator
    adams = [torch.optim.Adam(net.parameters(), betas=(0.5, 0.999)) for net in (generator, discriminator)]
    batches = list(loader())
    losses: dict[str, float] = {}
    for step, factor in enumerate(factors):
        for adam in adams:
            adam.param_groups[0]["lr"] = 2e-4 * factor
        losses = plain_step(generator, discriminator, adams, batches[step % 2])
    return losses


def plain_step(
    generator: nn.Module, discriminator: nn.Module, adams: list[torch.optim.Adam], batch: dict[str, Tensor]
) -> dict[str, float]:
    masks, real = batch["masks"], batch["images"]
    labels = F.one_hot(masks[:, 0].long(), 2).permute(0, 3, 1, 2).float()
    fake = generator(labels)
    on_real, on_fake = discriminator(labels, real), discriminator(labels, fake.detach())
    judged = discriminator(labels, fake)
    gan = sum(((scale[-1] - 1) ** 2).mean() for scale in judged)
    # num_layers = 2: the weight of a layer is 4 / 3, over two scales, times 10.
    feature = sum(
        (judged[i][j] - on_real[i][j].detach()).abs().mean() * 10 * 4 / 3 / 2 for i in range(2) for j in range(3)
    )
    perceptual = 10 * 0.5 * (fake - real).abs().mean()
    adversary = 0.5 * sum(
        (r[-1] - 1).pow(2).mean() + f[-1].pow(2).mean() for r, f in zip(on_real, on_fake, strict=True)
    )
    adams[0].zero_grad()
    (gan + feature + perceptual).backward()
    adams[0].step()
    adams[1].zero_grad()
    adversary.backward()
    adams[1].step()
    named = {"gan": gan, "feature": feature, "perceptual": perceptual, "discriminator": adversary}
    return {name: float(loss) for name, loss in named.items()}


def test_training_equals_the_plain_loop(tmp_path: Path) -> None:
    module = build(perceptual=Distance())
    expected = deepcopy(module)
    # Constant to step 2, then linear: step 3 at a half, and zero would come at step 4.
    losses = plain_loop(expected, factors=[1, 1, 1, 0.5])
    trainer = fit(module, tmp_path, max_steps=4)
    torch.testing.assert_close(module.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-6)
    logged = {name: float(trainer.callback_metrics[f"generator/train/{name}"]) for name in losses}
    assert logged == pytest.approx(losses, rel=1e-4)


def test_steps_are_batches(tmp_path: Path) -> None:
    module = build()
    forwards = []
    module.generator.register_forward_hook(lambda *_: forwards.append(1))
    trainer = fit(module, tmp_path, max_steps=3)
    assert trainer.global_step == 3
    assert len(forwards) == 3
    for optimizer in trainer.optimizers:
        assert {int(state["step"]) for state in optimizer.state.values()} == {3}


def test_the_discriminator_sees_each_image_once(tmp_path: Path) -> None:
    module, seen = build(perceptual=Distance()), []
    module.discriminator.register_forward_hook(lambda _, inputs, __: seen.append(inputs[1]))
    fit(module, tmp_path, max_steps=1)
    assert len(seen) == 2


def test_learning_rate_falls_to_zero(tmp_path: Path) -> None:
    trainer = fit(build(), tmp_path, max_steps=4)
    assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == [0.0, 0.0]
    constant = build(decay_from_step=4)
    trainer = fit(constant, tmp_path, max_steps=3)
    assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == [2e-4, 2e-4]


def test_no_perceptual_network_no_perceptual_loss(tmp_path: Path) -> None:
    trainer = fit(build(), tmp_path, max_steps=1)
    assert set(trainer.callback_metrics) == {f"generator/train/{name}" for name in ("gan", "feature", "discriminator")}


def test_a_resumed_training_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole, half, resumed = (build(perceptual=Distance()) for _ in range(3))
    fit(whole, tmp_path / "whole", max_steps=4)
    fit(half, tmp_path / "half", max_steps=2)

    checkpoint = torch.load(tmp_path / "half" / "step=2.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    assert not any(key.startswith("perceptual") for key in checkpoint["state_dict"])
    assert len(checkpoint["optimizer_states"]) == len(checkpoint["lr_schedulers"]) == 2

    trainer = fit(resumed, tmp_path / "resumed", max_steps=4, checkpoint=tmp_path / "half" / "step=2.ckpt")
    assert trainer.global_step == 4
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_pool_goes_on_where_it_was(tmp_path: Path) -> None:
    def pooled() -> Pix2PixHD:
        return build(pool=ImagePool(3, seed=0), max_steps=8)

    whole, half, resumed, without = pooled(), pooled(), pooled(), build(max_steps=8)
    fit(whole, tmp_path / "whole", max_steps=8)
    fit(half, tmp_path / "half", max_steps=4)
    fit(resumed, tmp_path / "resumed", max_steps=8, checkpoint=tmp_path / "half" / "step=4.ckpt")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(resumed.pool.pairs, whole.pool.pairs, rtol=0, atol=0)
    fit(without, tmp_path / "without", max_steps=8)
    assert not torch.equal(
        without.discriminator.scales[0].layers[0][0].weight, whole.discriminator.scales[0].layers[0][0].weight
    )


def test_a_checkpoint_without_a_weight_is_refused(tmp_path: Path) -> None:
    fit(build(), tmp_path, max_steps=1).save_checkpoint(tmp_path / "whole.ckpt")
    checkpoint = torch.load(tmp_path / "whole.ckpt", weights_only=True)
    del checkpoint["state_dict"]["generator.layers.1.weight"]
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    with pytest.raises(RuntimeError, match=r"Missing key.*generator\.layers\.1\.weight"):
        fit(build(), tmp_path, max_steps=2, checkpoint=tmp_path / "broken.ckpt")


def test_labels_are_skin_and_lesion() -> None:
    masks = torch.tensor([[[[0.0, 1.0]]]])
    assert one_hot(masks).tolist() == [[[[1.0, 0.0]], [[0.0, 1.0]]]]


def test_images_come_from_the_masks_alone() -> None:
    module, masks = build(), Pairs().masks
    images = module.sample(masks, [], [])
    assert images.shape == (4, 3, 16, 16)
    assert images.abs().max() <= 1
    assert not images.requires_grad
    assert module.generator.training
    assert torch.equal(images, module.sample(masks, [], []))
    torch.testing.assert_close(module.sample(masks[2:3], [], []), images[2:3])
    assert not torch.allclose(images, module.sample(1 - masks, [], []))
