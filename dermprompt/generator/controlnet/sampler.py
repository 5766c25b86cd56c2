"""Sampling with classifier-free guidance, from masks and prompts to images."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ControlNetModel, DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor, nn

from dermprompt.generator.controlnet.base import LatentDiffusion, control, predict, sample_noise

# Song et al. 2020; Lu et al. 2022 (DPM-Solver++, second order); Zhao et al. 2023 (UniPC).
SCHEDULERS: dict[str, Any] = {
    "ddim": DDIMScheduler,
    "dpm": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
}


class ControlNetGenerator(nn.Module):
    """A trained ControlNet on its base: masks and prompts in, images out.

    Args:
        base: the frozen latent diffusion model.
        controlnet: the trained control copy.
        num_steps: steps of the sampler; of DDIM (Song et al. 2020, equation 12) a divisor of 1000.
        guidance: weight of classifier-free guidance; 1 is none.
        eta: of DDIM alone, 0 is DDIM and 1 is DDPM.
        control_scale: weight of the control copy's residuals.
        sampler: a key of ``SCHEDULERS``, on the base's own noise schedule.
    """

    def __init__(
        self,
        base: LatentDiffusion,
        controlnet: ControlNetModel,
        num_steps: int = 50,
        guidance: float = 9.0,
        eta: float = 0.0,
        control_scale: float = 1.0,
        sampler: str = "ddim",
    ) -> None:
        super().__init__()
        self.base, self.controlnet = base, controlnet
        self.num_steps, self.guidance, self.eta = num_steps, guidance, eta
        self.control_scale, self.sampler = control_scale, sampler

    @torch.no_grad()
    def generate(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Images N3HW in [-1, 1] of masks N1HW; sample n draws its noise from ``seeds[n]`` alone."""
        device = next(self.controlnet.parameters()).device
        masks, text = masks.to(device), self.base.text_encoder.encode(prompts)
        guided = self.guidance != 1 and any(prompts)
        empty = self.base.text_encoder.encode([""] * len(prompts)) if guided else None
        latents = self._denoise(self._noise(masks, seeds).to(device), masks, text, empty, seeds)
        return self.base.codec.decode(latents).clamp(-1, 1)

    def _noise(self, masks: Tensor, seeds: list[int]) -> Tensor:
        downscale = self.base.codec.downscale
        height, width = masks.shape[-2] // downscale, masks.shape[-1] // downscale
        return sample_noise((self.base.codec.channels, height, width), seeds)

    def _denoise(self, latents: Tensor, masks: Tensor, text: Tensor, empty: Tensor | None, seeds: list[int]) -> Tensor:
        scheduler = SCHEDULERS[self.sampler].from_config(self.base.scheduler.config)
        scheduler.set_timesteps(self.num_steps, device=latents.device)
        latents = latents * scheduler.init_noise_sigma
        # eta > 0 draws noise at every step: one generator a sample here too.
        generators = [torch.Generator().manual_seed(seed + 1) for seed in seeds]
        chance = {"eta": self.eta, "generator": generators} if self.eta else {}
        for step in scheduler.timesteps:
            prediction = self._predict(latents, step, masks, text, empty)
            latents = scheduler.step(prediction, step, latents, **chance).prev_sample
        return latents

    def _predict(self, latents: Tensor, step: Tensor, masks: Tensor, text: Tensor, empty: Tensor | None) -> Tensor:
        """Ho & Salimans 2022, equation 6. Without text both passes are equal, so one is computed."""
        if empty is None:
            return self._once(latents, step, masks, text)
        both = self._once(latents.repeat(2, 1, 1, 1), step, masks.repeat(2, 1, 1, 1), torch.cat([empty, text]))
        unconditional, conditional = both.chunk(2)
        return unconditional + self.guidance * (conditional - unconditional)

    def _once(self, latents: Tensor, step: Tensor, masks: Tensor, text: Tensor) -> Tensor:
        residuals = control(self.controlnet, latents, step, text, masks, self.control_scale)
        return predict(self.base, latents, step, text, residuals)
