"""Measures: overlap and boundary of masks, image quality, distances between sets, fidelity, intervals, tests."""
