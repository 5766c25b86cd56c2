"""Checks whether a folder of Stable Diffusion gives the same results here as in diffusers: ``make verify-sd``."""
