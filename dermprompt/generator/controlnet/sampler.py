"""Sampling with classifier-free guidance, from masks and prompts to images."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ControlNetModel, DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor, nn

from dermprompt.generator.controlnet.base import LatentDiffusion, control, predict, sample_noise
from dermprompt.generator.controlnet.deep_cache import DeepCache
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
        controlnet: the trained ControlNet.
        num_steps: steps of the sampler; for DDIM (Song et al. 2020, equation 12) a divisor of 1000.
        guidance_scale: weight of classifier-free guidance; 1 is no guidance.
        guidance_start, guidance_end: which steps are guided, as fractions of all steps, starting from the noisiest
            (Kynkäänniemi et al. 2024); steps without guidance take half the time.
        eta: of DDIM only; 0 is DDIM and 1 is DDPM.
        conditioning_scale: weight of the ControlNet's residuals.
        cache_interval: the ControlNet and the U-Net's deep levels run at every n-th step only; their features are
            reused in between (:class:`~dermprompt.generator.controlnet.deep_cache.DeepCache`).
        sampler: a key of ``SCHEDULERS``, used with the base's noise schedule.

    ``networks``, which the steps run, may have another precision or memory format, or be compiled. Latents,
    scheduler and text encoder stay in float32.
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
        cache_interval: int = 1,
    ) -> None:
        super().__init__()
        self.base, self.controlnet = base, controlnet
        self.num_steps, self.guidance_scale, self.eta = num_steps, guidance_scale, eta
        self.conditioning_scale, self.sampler = conditioning_scale, sampler
        self.guidance_start, self.guidance_end = guidance_start, guidance_end
        self.cache_interval = cache_interval
        # A tuple, because as a module the second would give the weights further keys.
        self._unets = (base.unet, DeepCache(base.unet))
        self._states: dict[str, Tensor] = {}

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The U-Net, which every step runs, at least in part, and the ControlNet."""
        return self._unets[self.cache_interval > 1], self.controlnet

    @torch.no_grad()
    def generate(self, masks: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        """Images N3HW in [-1, 1] for masks N1HW; the noise of sample n depends on ``seeds[n]`` alone."""
        weight = next(self.controlnet.parameters())
        # Without text, both passes of the guidance are equal, so only one is computed.
        guided = self.guidance_scale != 1 and any(prompts)
        text = self._encode([""] * len(prompts) + prompts if guided else prompts).to(weight.dtype)
        masks = masks.to(weight)
        latents = self._noise(masks, seeds).to(weight.device)
        with step_cache(self.base.unet, self.controlnet, masks, text):
            latents = self._denoise(latents, masks, text, seeds)
        with torch.autocast(weight.device.type, torch.bfloat16, enabled=weight.dtype == torch.bfloat16):
            return self.base.codec.decode(latents).float().clamp(-1, 1)

    def _encode(self, prompts: list[str]) -> Tensor:
        """Text states NLD; each prompt is encoded once, in its own batch, so that others do not affect its rounding."""
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
        # With eta > 0 every step draws noise, here too with one generator per sample.
        generators = [torch.Generator().manual_seed(seed + 1) for seed in seeds]
        chance = {"eta": self.eta, "generator": generators} if self.eta else {}
        hints = masks.repeat(len(text) // len(latents), 1, 1, 1)
        residuals: tuple[Tensor, ...] = ()
        # The scheduler looks steps up on the host; a step on the device would force a synchronisation every time.
        for place, (step, on_device) in enumerate(
            zip(scheduler.timesteps, scheduler.timesteps.to(latents.device), strict=True)
        ):
            guided = self.guidance_start <= place / len(scheduler.timesteps) < self.guidance_end
            states = text if guided else text[-len(latents) :]
            noisy = latents.to(text.dtype).repeat(len(states) // len(latents), 1, 1, 1)
            rows = slice(-len(noisy), None)
            # Where guidance begins, the cached features lack the rows of empty text.
            if place % self.cache_interval == 0 or len(residuals[0]) < len(noisy):
                residuals = control(self.controlnet, noisy, on_device, states, hints[rows], self.conditioning_scale)
                deep = None
            given = noisy, on_device, states, tuple(one[rows] for one in residuals)
            if self.cache_interval == 1:
                prediction = predict(self.base, *given)
            else:
                prediction, deep = self._unets[1](*given, None if deep is None else deep[rows])
            prediction = self._guide(prediction.float(), len(latents))
            latents = scheduler.step(prediction, step, latents, **chance).prev_sample
        return latents

    def _guide(self, prediction: Tensor, number: int) -> Tensor:
        """Apply guidance (Ho & Salimans 2022, equation 6) to predictions for ``number`` latents.

        If there are two for each, those for empty text come first.
        """
        if len(prediction) == number:
            return prediction
        unconditional, conditional = prediction.chunk(2)
        return unconditional + self.guidance_scale * (conditional - unconditional)
