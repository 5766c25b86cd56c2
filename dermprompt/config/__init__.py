"""Configuration: every key with its type and constraint, checks before any work, and what Hydra may build."""
