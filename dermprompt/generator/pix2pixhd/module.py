"""Training of pix2pixHD (Wang et al. 2018): generator and discriminator in turn."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from dermprompt.generator.pix2pixhd.losses import adversarial_loss, feature_matching_loss

PERCEPTUAL = "perceptual."


class Pix2PixHD(LightningModule):
    """The GAN that the paper compares with: a mask becomes an image, without noise and without text.

    A batch is a dict of ``images``, float N3HW in [-1, 1], and ``masks``, float N1HW in {0, 1}. Logs
    ``generator/train/`` ``gan``, ``feature``, ``perceptual`` (if there is one) and ``discriminator``.

    ``global_step``, ``max_steps`` and the trainer's ``max_steps`` all count batches: only the generator's
    steps are counted. On several devices the strategy must be ``ddp_find_unused_parameters_true``, for
    each of the two backward passes reaches one network alone.

    Args:
        generator: one-hot labels N2HW (background, lesion) in, images N3HW in [-1, 1] out.
        discriminator: labels and images in, for each scale a list of features out.
        learning_rate: of both Adams, constant to ``decay_from_step``, then linear to zero at ``max_steps``.
        feature_weight: λ of feature matching, and of the perceptual loss as in the authors' release.
        perceptual: distance of two batches of images, not trained and not in the checkpoints.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        decay_from_step: int,
        max_steps: int,
        learning_rate: float = 2e-4,
        feature_weight: float = 10.0,
        perceptual: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator, self.perceptual = generator, discriminator, perceptual
        self.decay_from_step, self.max_steps = decay_from_step, max_steps
        self.learning_rate, self.feature_weight = learning_rate, feature_weight

    @torch.no_grad()
    def draw(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Give images N3HW in [-1, 1] for masks N1HW in {0, 1}; prompts and seeds change nothing."""
        training = self.generator.training
        images = self.generator.eval()(one_hot(masks.to(self.device)))
        self.generator.train(training)
        return images

    def finished(self) -> nn.Module:
        """The weights that are kept."""
        return self.generator

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Step the generator, then the discriminator on the same images, then the learning rates."""
        labels, real = one_hot(batch["masks"]), batch["images"]
        fake = self._step_generator(labels, real)
        self._step_discriminator(labels, real, fake)
        schedules = self.lr_schedulers()
        assert isinstance(schedules, list)
        for schedule in schedules:
            assert isinstance(schedule, LambdaLR)
            schedule.step()

    def _step_generator(self, labels: Tensor, real: Tensor) -> Tensor:
        """Give the images that the generator made, before the step, without their graph."""
        optimizer = self._optimizers()[0]
        with optimizer.toggle_model():
            fake = self.generator(labels)
            losses = self._generator_losses(labels, real, fake)
            optimizer.zero_grad()
            self.manual_backward(torch.stack(list(losses.values())).sum())
            optimizer.step()
        self.log_dict({f"generator/train/{name}": loss.detach() for name, loss in losses.items()})
        return fake.detach()

    def _generator_losses(self, labels: Tensor, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Weighted: the generator's objective is their sum (equation 5)."""
        features = self.discriminator(labels, fake)
        with torch.no_grad():
            goal = self.discriminator(labels, real)
        losses = {
            "gan": adversarial_loss(features, target=1),
            "feature": self.feature_weight * feature_matching_loss(features, goal),
        }
        if self.perceptual is not None:
            losses["perceptual"] = self.feature_weight * self.perceptual(fake, real)
        return losses

    def _step_discriminator(self, labels: Tensor, real: Tensor, fake: Tensor) -> None:
        optimizer = self._optimizers()[1]
        with optimizer.toggle_model():
            fake_loss = adversarial_loss(self.discriminator(labels, fake), target=0)
            real_loss = adversarial_loss(self.discriminator(labels, real), target=1)
            loss = (fake_loss + real_loss) / 2
            optimizer.zero_grad()
            self.manual_backward(loss)
            # What optimizer.step() does, gradient scaling included, but for its count of steps.
            self.trainer.strategy.optimizer_step(optimizer.optimizer, lambda: None)
        self.log("generator/train/discriminator", loss.detach())

    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers  # type: ignore[return-value]

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[LambdaLR]]:
        """Adam with β = (0.5, 0.999) for each network, and their schedules."""
        networks = (self.generator, self.discriminator)
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=(0.5, 0.999)) for network in networks
        ]
        return optimizers, [LambdaLR(optimizer, self._learning_rate_factor) for optimizer in optimizers]

    def _learning_rate_factor(self, step: int) -> float:
        return min(1.0, (self.max_steps - step) / max(1, self.max_steps - self.decay_from_step))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the perceptual network out: it has a file of its own."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith(PERCEPTUAL)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the perceptual network's own weights where strict loading wants them."""
        checkpoint["state_dict"] |= {k: v for k, v in self.state_dict().items() if k.startswith(PERCEPTUAL)}


def one_hot(masks: Tensor) -> Tensor:
    """Turn masks N1HW in {0, 1} into labels N2HW: background, lesion."""
    return torch.cat([1 - masks, masks], dim=1)
