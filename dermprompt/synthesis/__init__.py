"""Synthetic sets: the sampling loop (draw), files and provenance (samples, index), and the card."""
