"""Checks whether a Stable Diffusion folder gives the same results here as in diffusers: ``make verify-sd``."""
