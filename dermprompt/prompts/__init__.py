"""Prompts: which label each sample gets (sampler), and its text (template, vocabulary)."""
