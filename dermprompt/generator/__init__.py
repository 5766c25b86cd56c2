"""Generators: masks, prompts and seeds in, images out.

``controlnet`` and ``pix2pixhd`` are trained, ``warp`` is a baseline without a network, ``codec`` has the latent spaces.
CONTRIBUTING.md explains how to add a generator; ``tests/generator/test_new_kind.py`` is a complete example.
"""
