"""Training of pix2pixHD (Wang et al. 2018): generator and discriminator together."""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from dermprompt.generator.averaging import averaged
from dermprompt.generator.pix2pixhd.losses import Features, adversarial_loss, feature_matching_loss
from dermprompt.generator.pix2pixhd.pool import ImagePool
from dermprompt.upstream import step_uncounted

PERCEPTUAL = "perceptual."


class Pix2PixHD(LightningModule):
    """The GAN that the paper compares with: mask to image, without noise or text.

    A batch is a dict of ``images``, float N3HW in [-1, 1], and ``masks``, float N1HW in {0, 1}. Logs
    ``generator/train/`` ``gan``, ``feature``, ``perceptual`` (if there is one) and ``discriminator``.

    ``global_step``, ``max_steps`` and the trainer's ``max_steps`` all count batches, because only the generator's
    optimizer steps are counted.

    Args:
        generator: one-hot labels N2HW (background, lesion) in, images N3HW in [-1, 1] out.
        discriminator: labels and images in, a list of features for each scale out.
        learning_rate: of both Adam optimizers; constant to ``decay_from_step``, then linear to zero at ``max_steps``.
        feature_weight: λ of feature matching, and of the perceptual loss as in the authors' release.
        perceptual: distance between two batches of images; neither trained nor saved in checkpoints.
        pool: earlier images for the discriminator's training; saved in checkpoints.
        ema_decay: decay of the generator's averaged weights, which are then kept; 0 keeps the last weights.
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
        pool: ImagePool | None = None,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator, self.perceptual, self.pool = generator, discriminator, perceptual, pool
        self.decay_from_step, self.max_steps = decay_from_step, max_steps
        self.learning_rate, self.feature_weight = learning_rate, feature_weight
        self.averaged = averaged(generator, ema_decay) if ema_decay else None

    @torch.no_grad()
    def sample(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Images N3HW in [-1, 1] for masks N1HW in {0, 1}; prompts and seeds are ignored."""
        network = self.ema_model()
        training = network.training
        images = network.eval()(one_hot(masks.to(self.device)))
        network.train(training)
        return images

    def ema_model(self) -> nn.Module:
        """The network whose weights are kept: the average, or the generator itself."""
        return self.generator if self.averaged is None else self.averaged.module

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Step both networks, then the learning rates; each network learns from the other's weights before the step.

        The graph is cut at the generated image. The gradients of the generator's losses at the image are computed
        first, and then one backward pass serves both networks. The discriminator therefore sees each image once; in
        the authors' release it sees the fake image twice, and gradients of its weights are computed only to be
        discarded.
        """
        labels, real = one_hot(batch["masks"]), batch["images"]
        fake = self.generator(labels).float()  # in float32, because three gradients are summed at the image
        image = fake.detach().requires_grad_()
        losses, wanted = self._ask_perceptual(image, real)
        on_fake, on_real = self.discriminator(labels, image), self.discriminator(labels, real)
        judged = self._judge(on_fake, on_real)
        wanted += _gradient(judged, image, retain_graph=True)
        on_fake = self._from_pool(labels, image.detach(), on_fake)
        discriminator = (adversarial_loss(on_fake, target=0) + adversarial_loss(on_real, target=1)) / 2
        self._step((fake * wanted).sum() + discriminator)
        losses |= judged | {"discriminator": discriminator}
        self.log_dict({f"generator/train/{name}": loss.detach() for name, loss in losses.items()})

    def _ask_perceptual(self, image: Tensor, real: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The perceptual loss by name, and its gradient at the image; its graph is freed here."""
        if self.perceptual is None:
            return {}, torch.zeros_like(image)
        losses = {"perceptual": self.feature_weight * self.perceptual(image, real)}
        return losses, _gradient(losses, image)

    def _judge(self, on_fake: Features, on_real: Features) -> dict[str, Tensor]:
        """The generator's weighted losses from the discriminator's features (equation 5)."""
        return {
            "gan": adversarial_loss(on_fake, target=1),
            "feature": self.feature_weight * feature_matching_loss(on_fake, on_real),
        }

    def _from_pool(self, labels: Tensor, image: Tensor, on_fake: Features) -> Features:
        """The fake features that train the discriminator: of these images, or of the pool's."""
        if self.pool is None:
            return on_fake
        pairs = self.pool.exchange(torch.cat([labels, image], dim=1), self.global_step)
        return self.discriminator(*pairs.split([labels.shape[1], image.shape[1]], dim=1))

    def _step(self, loss: Tensor) -> None:
        generator, discriminator = cast(list[LightningOptimizer], self.optimizers())
        for optimizer in (generator, discriminator):
            optimizer.zero_grad()
        self.manual_backward(loss, inputs=[*_trained(self.generator), *_trained(self.discriminator)])
        generator.step()
        step_uncounted(self.trainer, discriminator)
        if self.averaged is not None:
            self.averaged.update_parameters(self.generator)
        for schedule in cast(list[LambdaLR], self.lr_schedulers()):
            schedule.step()

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[LambdaLR]]:
        """Adam with β = (0.5, 0.999) for each network, and their schedules."""
        networks = (self.generator, self.discriminator)
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(_trained(network), lr=self.learning_rate, betas=(0.5, 0.999), fused=True)
            for network in networks
        ]
        return optimizers, [LambdaLR(optimizer, self._learning_rate_factor) for optimizer in optimizers]

    def _learning_rate_factor(self, step: int) -> float:
        return min(1.0, (self.max_steps - step) / max(1, self.max_steps - self.decay_from_step))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the perceptual network, which has its own file; add the pool's images."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith(PERCEPTUAL)}
        if self.pool is not None:
            checkpoint["pool"] = self.pool.pairs

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the perceptual network's weights, which strict loading requires; restore the pool."""
        checkpoint["state_dict"] |= {k: v for k, v in self.state_dict().items() if k.startswith(PERCEPTUAL)}
        if self.pool is not None:
            self.pool.pairs = [pair.to(self.device) for pair in checkpoint["pool"]]


def _trained(network: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in network.parameters() if weight.requires_grad]


def _gradient(losses: dict[str, Tensor], image: Tensor, retain_graph: bool = False) -> Tensor:
    (gradient,) = torch.autograd.grad(torch.stack(list(losses.values())).sum(), image, retain_graph=retain_graph)
    return gradient


def one_hot(masks: Tensor) -> Tensor:
    """Turn masks N1HW in {0, 1} into labels N2HW: background, lesion."""
    return torch.cat([1 - masks, masks], dim=1)
