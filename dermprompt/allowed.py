"""What a key may be. Each raises ValueError with the key, its value and what is allowed."""

from __future__ import annotations

import difflib


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Say which key has a value that is none of those allowed, and the nearest one."""
    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{key}={value}: allowed are {', '.join(allowed)}{hint}")


def at_least(key: str, value: int, bound: int) -> None:
    """Say which whole number is too small."""
    if value < bound:
        raise ValueError(f"{key}={value}: a whole number of at least {bound}")


def multiple_of_16(key: str, value: int) -> None:
    """Say which size in pixels is too small or no multiple of 16."""
    if value < 32 or value % 16:
        raise ValueError(f"{key}={value}: a multiple of 16 pixels, at least 32")
