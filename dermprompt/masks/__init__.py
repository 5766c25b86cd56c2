"""Masks for synthetic images: deformed circles, realistic shapes, transformed real masks, given files."""
