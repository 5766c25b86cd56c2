"""Sweeps: their page, the comparison of arms, and the recomputation of published tables."""
