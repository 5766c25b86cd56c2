"""What the value of a key may be, said where the key is declared: ``key: int = whole(at_least=1)``."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from dermprompt.store.artifacts import WAS

KEY = "constraint"


@dataclass(frozen=True)
class Constraint:
    """One of ``words``, or a finite number within bounds; of a list, each element, and ``length`` of them."""

    words: tuple[str | int, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    multiple_of: int | None = None
    length: int | None = None
    noun: str = "number"

    def check(self, key: str, value: Any, nullable: bool = False) -> None:
        """Raise ValueError that says key, value, what is allowed and the nearest word."""
        values = value if isinstance(value, list) else [value]
        if not all(map(self._holds, values)) or self.length not in (None, len(values)):
            null = ", or null" if nullable else ""
            raise ValueError(f"{key}={value}: {self}{null}{self._hint(value)}")

    def _holds(self, value: Any) -> bool:
        if self.words:
            return value in self.words
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
            and (self.multiple_of is None or value % self.multiple_of == 0)
        )

    def _hint(self, value: Any) -> str:
        near = difflib.get_close_matches(str(value), [str(word) for word in self.words], 1)
        return f"; did you mean {near[0]}?" if near else ""

    def __str__(self) -> str:
        if self.words:
            return f"allowed are {', '.join(map(str, self.words))}"
        bounds = {
            "a multiple of": self.multiple_of,
            "at least": self.at_least,
            "above": self.above,
            "at most": self.at_most,
            "below": self.below,
        }
        said = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
        article = f"{self.length} times a" if self.length else "a"
        return f"{article} {self.noun}, {said}"


def one_of(*words: str | int, was: str | None = None) -> Any:
    """A key whose value is one of these words or numbers; ``was``: its former name, which recipes go on with."""
    return _field(Constraint(words=words), was)


def whole(at_least: int = 0, was: str | None = None, **bounds: Any) -> Any:
    """A key whose value is a whole number within bounds (those of ``Constraint``), or a list of such."""
    return _field(Constraint(at_least=at_least, noun="whole number", **bounds), was)


def number(was: str | None = None, **bounds: Any) -> Any:
    """A key whose value is a finite number within bounds (those of ``Constraint``), or a list of such."""
    return _field(Constraint(**bounds), was)


def _field(constraint: Constraint, was: str | None) -> Any:
    return dataclasses.field(default=MISSING, metadata={KEY: constraint, **({WAS: was} if was else {})})


def check_section(section: Any, prefix: str = "") -> None:
    """Check every key below a section of the configuration that has a constraint and is not null.

    Raises:
        ValueError: names the key, its value and what is allowed, or a key that was added with ``+`` and is none.
    """
    known = [one.name for one in dataclasses.fields(section)]
    for added in vars(section).keys() - set(known):
        near = difflib.get_close_matches(added, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{prefix}{added}: no such key; allowed are {', '.join(known)}{hint}")
    for one in dataclasses.fields(section):
        key, value = prefix + one.name, getattr(section, one.name)
        if dataclasses.is_dataclass(value):
            check_section(value, f"{key}.")
        elif KEY in one.metadata and value is not None:
            one.metadata[KEY].check(key, value, nullable="None" in str(one.type))
