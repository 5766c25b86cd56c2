"""Training of the base and of the ControlNet: the same training step, for different weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from diffusers import ControlNetModel, DDIMScheduler
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from dermprompt.generator.averaging import averaged
from dermprompt.generator.controlnet.base import LatentDiffusion, control, predict
from dermprompt.generator.controlnet.sampler import ControlNetGenerator


class DiffusionModule(LightningModule, ABC):
    """Denoising with the simple loss (Ho et al. 2020, equation 14), prompt dropout and averaged weights.

    Batches come from :class:`~dermprompt.generator.batches.LatentBatches`. All randomness of a batch is a function of
    (seed, step, batch, rank).

    Args:
        base: the latent diffusion model.
        trained: the network whose weights are trained and averaged.
        prompts: the text of each prompt index; index 0 is empty.
        learning_rate, warmup_steps, max_steps: AdamW with linear warm-up, then cosine decay to zero if ``decay``.
        prompt_dropout: share of prompts replaced by the empty one.
        ema_decay: decay of the averaged weights, see :func:`~dermprompt.generator.averaging.averaged`.
        name: prefix of the metrics.
        snr_gamma: of :func:`loss_weights`; None weights all steps equally.
        timesteps: which noise levels are trained, see :func:`draw_timesteps`.
    """

    def __init__(
        self,
        base: LatentDiffusion,
        trained: nn.Module,
        prompts: tuple[str, ...],
        learning_rate: float,
        warmup_steps: int,
        max_steps: int,
        prompt_dropout: float,
        ema_decay: float,
        seed: int,
        name: str,
        decay: bool = True,
        snr_gamma: float | None = None,
        timesteps: str = "uniform",
    ) -> None:
        super().__init__()
        self.base = base
        # Any, because diffusers' classes are unknown to the type checker.
        self.trained: Any = trained
        self.averaged = averaged(trained, ema_decay)
        self.learning_rate, self.warmup_steps, self.max_steps = learning_rate, warmup_steps, max_steps
        self.prompt_dropout, self.seed, self.name, self.decay = prompt_dropout, seed, name, decay
        self.timesteps = timesteps
        self.register_buffer("weights", loss_weights(base.scheduler, snr_gamma), persistent=False)
        self.register_buffer("tokens", base.text_encoder.tokenize(list(prompts)), persistent=False)
        self.strict_loading = False

    @abstractmethod
    def denoise(self, noisy: Tensor, steps: Tensor, prompts: Tensor, masks: Tensor) -> Tensor:
        """The network's prediction."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        # Random numbers are drawn on the device: a GPU would wait longer for the host's than for the step itself.
        generator = torch.Generator(self.device).manual_seed(self._step_seed(batch_idx))
        latents, noise = self._draw_latents(batch, generator)
        steps = draw_timesteps(self.base.scheduler, self.timesteps, len(latents), generator)
        dropped = torch.rand(len(latents), generator=generator, device=self.device) < self.prompt_dropout
        prompts = batch["prompts"].masked_fill(dropped, 0)

        noisy = self.base.scheduler.add_noise(latents, noise, steps)
        with attention_kernel(self.device):
            prediction = self.denoise(noisy, steps, prompts, batch["masks"])
        errors = F.mse_loss(prediction, self.base.target(latents, noise, steps), reduction="none").mean((1, 2, 3))
        loss = (cast(Tensor, self.weights)[steps] * errors).mean()
        self.log(f"{self.name}/train/loss", loss, prog_bar=True)
        return loss

    def _step_seed(self, batch_idx: int) -> int:
        """A seed that depends only on the batch's place, so that a resumed training continues identically.

        The batch is hashed as well as the step, because several batches may be accumulated into one step.
        """
        place = [self.seed, self.global_step, batch_idx, self.global_rank]
        return int(np.random.SeedSequence(place).generate_state(1)[0])

    def _draw_latents(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A latent drawn from each image's distribution, and the noise to add to it."""
        mean, std = batch["mean"], batch["std"]
        draws = torch.randn(2, *mean.shape, generator=generator, device=mean.device)
        return mean + std * draws[0], draws[1]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Average the weights after each step, before a checkpoint can be saved."""
        super().optimizer_step(*args, **kwargs)
        self.averaged.update_parameters(self.trained)

    def configure_optimizers(self) -> Any:
        """AdamW with a schedule per step."""
        weights = [p for p in self.trained.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=1e-2, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _learning_rate_factor(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if not self.decay:
            return warm
        return warm * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * min(1.0, step / self.max_steps)))))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the base: a frozen one has its own folder, and a trained one's weights are under ``trained``."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: value for key, value in state.items() if not key.startswith("base.")}


class BaseModule(DiffusionModule):
    """Trains a scratch base: U-Net and text encoder together (Rombach et al. 2021, equation 3)."""

    def __init__(self, base: LatentDiffusion, prompts: tuple[str, ...], **settings: Any) -> None:
        trained = nn.ModuleDict({"unet": base.unet, "text_encoder": base.text_encoder})
        super().__init__(base, trained, prompts, name="base", **settings)

    def denoise(self, noisy: Tensor, steps: Tensor, prompts: Tensor, masks: Tensor) -> Tensor:
        """See :class:`DiffusionModule`; the base does not see the masks."""
        text = self.trained["text_encoder"](cast(Tensor, self.tokens)[prompts])
        return predict(self.base, noisy, steps, text)

    def ema_model(self) -> LatentDiffusion:
        """The base with its averaged weights."""
        finished: Any = self.averaged.module
        return LatentDiffusion(finished["unet"], self.base.codec, finished["text_encoder"], self.base.scheduler)


class ControlNetModule(DiffusionModule):
    """Trains a ControlNet on a base that is frozen, except for the parts that ``trainable`` unlocks
    (Zhang & Agrawala 2023; paper, section 2.2).

    The text is encoded once: ``states`` holds the states of every prompt.

    Args:
        trainable: which weights are trained, see :func:`trained_part`.
        sampler: settings of :class:`ControlNetGenerator` for validation images.
    """

    def __init__(
        self,
        base: LatentDiffusion,
        controlnet: ControlNetModel,
        prompts: tuple[str, ...],
        trainable: str = "controlnet",
        sampler: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.sampler = sampler or {}
        base.requires_grad_(False)
        super().__init__(base, trained_part(base, controlnet, trainable), prompts, name="generator", **settings)
        self.register_buffer("states", base.text_encoder.encode(list(prompts)), persistent=False)

    def sample(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Images N3HW in [-1, 1], generated with the averaged weights."""
        finished = self.ema_model()
        with with_unlocked(self.base, finished):
            generator = ControlNetGenerator(self.base, finished["controlnet"], **self.sampler)
            return generator.generate(masks, prompts, seeds)

    def denoise(self, noisy: Tensor, steps: Tensor, prompts: Tensor, masks: Tensor) -> Tensor:
        """See :class:`DiffusionModule`."""
        text = cast(Tensor, self.states)[prompts]
        residuals = control(self.trained["controlnet"], noisy, steps, text, masks)
        return predict(self.base, noisy, steps, text, residuals)

    def ema_model(self) -> nn.ModuleDict:
        """The averaged weights: ``controlnet``, and the parts of the U-Net that are trained with it."""
        return cast(nn.ModuleDict, self.averaged.module)


# The U-Net's modules with weights, by name: its decoder, and all of it.
DECODER = ("up_blocks", "conv_norm_out", "conv_out")
WHOLE = ("conv_in", "time_embedding", "down_blocks", "mid_block", *DECODER)
UNLOCKED = {"unlocked_decoder": DECODER, "unlocked_unet": WHOLE}


def trained_part(base: LatentDiffusion, controlnet: ControlNetModel, trainable: str) -> nn.ModuleDict:
    """The networks that are trained; no others need gradients.

    ``controlnet``: the whole ControlNet. ``middle_block``: only its middle block and its new layers (mask embedding,
    zero convolutions), another reading of the paper. ``unlocked_decoder``: the ControlNet and the base U-Net's decoder
    (``sd_locked=False`` in the authors' release). ``unlocked_unet``: the ControlNet and the whole base U-Net.
    """
    trained: Any = nn.ModuleDict({"controlnet": controlnet})
    controlnet.requires_grad_(True)
    if trainable == "middle_block":
        for copied in (controlnet.conv_in, controlnet.time_embedding, controlnet.down_blocks):
            copied.requires_grad_(False)
    trained.update({name: getattr(base.unet, name).requires_grad_(True) for name in UNLOCKED.get(trainable, ())})
    return trained


def speed_up(networks: Sequence[nn.Module], compiled: bool, channels_last: bool) -> None:
    """Compile networks in place, which keeps the names of their weights, and use channels last for tensor cores."""
    for network in networks:
        if channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compiled:
            network.compile()


@contextmanager
def with_unlocked(base: LatentDiffusion, trained: nn.ModuleDict) -> Iterator[None]:
    """A context in which the trained modules, if any, replace those of the base's U-Net."""
    own = {name: getattr(base.unet, name) for name in WHOLE if name in trained}
    for name in own:
        setattr(base.unet, name, trained[name])
    try:
        yield
    finally:
        for name, module in own.items():
            setattr(base.unet, name, module)


def attention_kernel(device: torch.device) -> AbstractContextManager[None]:
    """Avoid PyTorch's fused attention on a CPU: its backward pass in bfloat16 takes up to 9 times as long."""
    slow = device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


def loss_weights(scheduler: DDIMScheduler, gamma: float | None) -> Tensor:
    """The loss weight of each of the T steps: 1, or with ``gamma`` that of Min-SNR (Hang et al. 2023, section 3.4).

    It is min(SNR, γ) / SNR for noise prediction (equation 8), and min(SNR, γ) / (SNR + 1) for v-prediction.
    """
    kept = scheduler.alphas_cumprod
    if gamma is None:
        return torch.ones_like(kept)
    ratio = kept / (1 - kept)
    velocity = scheduler.config.prediction_type == "v_prediction"
    return ratio.clamp(max=gamma) / (ratio + 1 if velocity else ratio)


# Share of steps drawn uniformly, so that both ends of the schedule are trained too.
UNIFORM_SHARE = 0.1
# Mean and standard deviation of log σ (Karras et al. 2022, section 5, for latents of unit variance).
LOG_SIGMA = (0.5, 1.1)


def draw_timesteps(scheduler: DDIMScheduler, distribution: str, number: int, generator: torch.Generator) -> Tensor:
    """Draw the diffusion steps (int64, on the generator's device) at which a batch is trained.

    ``uniform``: all steps are equally likely (Ho et al. 2020). ``lognormal``: log σ is normal, where σ² = (1 - ᾱ) / ᾱ,
    because there is almost nothing to learn at low noise; a tenth of the steps is still drawn uniformly.
    """
    last, device = scheduler.config.num_train_timesteps - 1, generator.device
    steps = torch.randint(last + 1, (number,), generator=generator, device=device)
    if distribution == "uniform":
        return steps
    kept = scheduler.alphas_cumprod.double()
    log_sigmas = ((1 - kept) / kept).log() / 2
    mean, std = LOG_SIGMA
    drawn = mean + std * torch.randn(number, generator=generator, device=device, dtype=torch.float64)
    likely = torch.searchsorted(log_sigmas.to(device), drawn).clamp(max=last)
    return torch.where(torch.rand(number, generator=generator, device=device) < UNIFORM_SHARE, steps, likely)


def build_controlnet(base: LatentDiffusion, hint_width: int = 16) -> ControlNetModel:
    """A ControlNet initialised from the base's encoder, with zero convolutions at zero.

    The hint network downscales the mask to the latents' size.
    """
    channels = hint_channels(base.codec.downscale, hint_width)
    return ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=channels)


def hint_channels(downscale: int, width: int = 16) -> tuple[int, ...]:
    """Channels of a hint network that downscales by ``downscale``, a power of two; each after the first has stride 2.

    They double from ``width``. For a ``downscale`` of 8 and ``width`` 16, they are those of Stable Diffusion's
    ControlNets, so that these can be loaded.
    """
    if (downscale, width) == (8, 16):
        return (16, 32, 96, 256)
    return tuple(width * 2**level for level in range(downscale.bit_length()))
