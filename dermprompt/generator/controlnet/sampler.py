"""Sampling with classifier-free guidance, from masks and prompts to images."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ControlNetModel, DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor, nn

from dermprompt.generator.controlnet.base import LatentDiffusion, control, predict, sample_noise
from dermprompt.generator.controlnet.step_cache import step_cache

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
        guidance_scale: weight of classifier-free guidance; 1 is none.
        guidance_start, guidance_end: the steps that are guided, as shares of all, from the noisiest on (Kynkäänniemi et
            al. 2024); the others take half of the time.
        eta: of DDIM alone, 0 is DDIM and 1 is DDPM.
        conditioning_scale: weight of the control copy's residuals.
        sampler: a key of ``SCHEDULERS``, on the base's own noise schedule.

    ``networks`` are what every step runs; they may be of another precision, compiled, or of another memory format.
    The latents, the scheduler and the text stay in float32.
    """

    def __init__(
        self,
        base: LatentDiffusion,
        controlnet: ControlNetModel,
        num_steps: int = 50,
        guidance_scale: float = 9.0,
        eta: float = 0.0,
        conditioning_scale: float = 1.0,
        sampler: str = "ddim",
        guidance_start: float = 0.0,
        guidance_end: float = 1.0,
    ) -> None:
        super().__init__()
        self.base, self.controlnet = base, controlnet
        self.num_steps, self.guidance_scale, self.eta = num_steps, guidance_scale, eta
        self.conditioning_scale, self.sampler = conditioning_scale, sampler
        self.guidance_start, self.guidance_end = guidance_start, guidance_end
        self.networks: tuple[nn.Module, ...] = (base.unet, controlnet)
        self._states: dict[str, Tensor] = {}

    @torch.no_grad()
    def generate(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Images N3HW in [-1, 1] of masks N1HW; sample n draws its noise from ``seeds[n]`` alone."""
        weight = next(self.controlnet.parameters())
        # Without text both passes of the guidance are equal, so one is computed.
        guided = self.guidance_scale != 1 and any(prompts)
        text = self._encode([""] * len(prompts) + prompts if guided else prompts).to(weight.dtype)
        masks = masks.to(weight)
        latents = self._noise(masks, seeds).to(weight.device)
        with step_cache(self.base.unet, self.controlnet, masks, text):
            latents = self._denoise(latents, masks, text, seeds)
        with torch.autocast(weight.device.type, torch.bfloat16, enabled=weight.dtype == torch.bfloat16):
            return self.base.codec.decode(latents).float().clamp(-1, 1)

    def _encode(self, prompts: list[str]) -> Tensor:
        """Text states NLD; each prompt is encoded once and alone, so that no other one changes its rounding."""
        for prompt in prompts:
            if prompt not in self._states:
                self._states[prompt] = self.base.text_encoder.encode([prompt])
        return torch.cat([self._states[prompt] for prompt in prompts])

    def _noise(self, masks: Tensor, seeds: list[int]) -> Tensor:
        downscale = self.base.codec.downscale
        height, width = masks.shape[-2] // downscale, masks.shape[-1] // downscale
        return sample_noise((self.base.codec.channels, height, width), seeds)

    def _denoise(self, latents: Tensor, masks: Tensor, text: Tensor, seeds: list[int]) -> Tensor:
        scheduler = SCHEDULERS[self.sampler].from_config(self.base.scheduler.config)
        scheduler.set_timesteps(self.num_steps)
        latents = latents * scheduler.init_noise_sigma
        # eta > 0 draws noise at every step: one generator a sample here too.
        generators = [torch.Generator().manual_seed(seed + 1) for seed in seeds]
        chance = {"eta": self.eta, "generator": generators} if self.eta else {}
        hints = masks.repeat(len(text) // len(latents), 1, 1, 1)
        # The scheduler counts on the host: it would wait for the device at every step.
        for place, (step, on_device) in enumerate(
            zip(scheduler.timesteps, scheduler.timesteps.to(latents.device), strict=True)
        ):
            guided = self.guidance_start <= place / len(scheduler.timesteps) < self.guidance_end
            rows = slice(None if guided else -len(latents), None)
            prediction = self._predict(latents, on_device, hints[rows], text[rows])
            latents = scheduler.step(prediction, step, latents, **chance).prev_sample
        return latents

    def _predict(self, latents: Tensor, step: Tensor, masks: Tensor, text: Tensor) -> Tensor:
        """Ho & Salimans 2022, equation 6, where text and masks are twice as long as the latents: empty text first."""
        passes = len(text) // len(latents)
        noisy = latents.to(text.dtype).repeat(passes, 1, 1, 1)
        residuals = control(self.controlnet, noisy, step, text, masks, self.conditioning_scale)
        prediction = predict(self.base, noisy, step, text, residuals).float()
        if passes == 1:
            return prediction
        unconditional, conditional = prediction.chunk(2)
        return unconditional + self.guidance_scale * (conditional - unconditional)
