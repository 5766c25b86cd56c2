"""Masks what no page, result or run may show: keys, tokens, and values taken from the environment."""

from __future__ import annotations

import os
import re
from typing import Any

MASK = "***"
_WORDS = r"(?:api_?key|token|secret|passw(?:or)?d|credentials?)"
_NAME = re.compile(rf"{_WORDS}$", re.IGNORECASE)
# A W&B key; tokens of Hugging Face, GitHub and similar services.
_VALUE = re.compile(r"\b(?:[0-9a-f]{40}|(?:hf|gh[a-z]|github_pat|sk)[_-]\w{20,})\b")
_ASSIGNED = re.compile(rf"({_WORDS}=)[^\s'\"}}]+", re.IGNORECASE)
# Shorter secrets are not masked, because they would match ordinary words.
_MIN_LENGTH = 6
_taken: set[str] = set()


def from_environment(name: str, default: str | None = None) -> str | None:
    """OmegaConf's ``oc.env``, which also remembers the values so that they are masked."""
    value = os.environ.get(name, default)
    if value is None:
        raise KeyError(f"{name}: no such environment variable")
    _taken.add(value)
    return value


def mask(value: Any, name: str = "") -> Any:
    """Plain values with ``***`` in place of anything that is or looks like a secret."""
    if isinstance(value, dict):
        return {key: mask(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [mask(one, name) for one in value]
    if not isinstance(value, str):
        return value
    if _NAME.search(name):
        return MASK
    for secret in _secrets():
        value = value.replace(secret, MASK)
    return _ASSIGNED.sub(rf"\1{MASK}", _VALUE.sub(MASK, value))


def _secrets() -> list[str]:
    named = {value for name, value in os.environ.items() if _NAME.search(name)}
    return sorted((one for one in named | _taken if len(one) >= _MIN_LENGTH), key=len, reverse=True)
