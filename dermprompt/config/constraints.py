"""Constraints on the values of keys, declared with each key: ``key: int = whole(at_least=1)``."""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from omegaconf import MISSING

from dermprompt.files import NAME_IN_WORDS, is_name, printable
from dermprompt.store.artifacts import SINCE, WAS

KEY, KNOWN, OPTIONAL = "constraint", "known", "optional"
DURATION = "days, hours, minutes and seconds as DD:HH:MM:SS"
# Kinds of values that are neither listed words nor numbers.
_KINDS: dict[str, Callable[[Any], bool]] = {
    NAME_IN_WORDS: is_name,
    "true or false": lambda value: isinstance(value, bool),
    DURATION: lambda value: re.fullmatch(r"\d\d:\d\d:\d\d:\d\d", str(value)) is not None,
}
# The bounds of a number: in words, and whether a value keeps them.
_BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "multiple_of": ("a multiple of", lambda value, step: value % step == 0),
    "at_least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "at_most": ("at most", operator.le),
    "below": ("below", operator.lt),
}
# The default upper bound of whole numbers: small enough that no count overflows.
MOST = 10**9
# Bytes of the longest text: Linux's limit for a path.
MOST_TEXT = 4096
# Characters of a value shown in a message.
MOST_SHOWN = 200


@dataclass(frozen=True)
class Constraint:
    """One of ``words``, a name, or a finite number within bounds; in a list, every element must be.

    ``length``: of the list, if fixed; ``empty``: whether the list may be empty.
    """

    words: tuple[str | int, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    multiple_of: int | None = None
    length: int | None = None
    empty: bool = False
    noun: str = "number"

    def check(self, key: str, value: Any, nullable: bool = False) -> None:
        """Raise ValueError with key, value, what is allowed and the nearest word, unless the value is allowed."""
        values = value if isinstance(value, list) else [value]
        too_few = isinstance(value, list) and not (value or self.empty)
        if too_few or not all(map(self._holds, values)) or self.length not in (None, len(values)):
            null = ", or null" if nullable else ""
            raise ValueError(f"{key}={_shown(value)}: {self}{null}{_hint(value, map(str, self.words))}")

    def _holds(self, value: Any) -> bool:
        if self.words:
            return value in self.words and not isinstance(value, bool)
        if self.noun in _KINDS:
            return _KINDS[self.noun](value)
        if isinstance(value, bool) or not isinstance(value, int if self.noun == "whole number" else int | float):
            return False
        finite = isinstance(value, int) or math.isfinite(value)
        return finite and all(_BOUNDS[name][1](value, bound) for name, bound in self._bounds())

    def _bounds(self) -> list[tuple[str, float]]:
        return [(name, getattr(self, name)) for name in _BOUNDS if getattr(self, name) is not None]

    def __str__(self) -> str:
        if self.words:
            return f"allowed are {', '.join(map(str, self.words))}"
        if self.noun in _KINDS:
            return self.noun
        said = " and ".join(f"{_BOUNDS[name][0]} {bound:.15g}" for name, bound in self._bounds())
        article = f"{self.length} times a" if self.length else "a"
        return f"{article} {self.noun}, {said}"


def _shown(value: Any) -> str:
    return printable(str(value)[:MOST_SHOWN], "")


def _hint(value: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(value), list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def one_of(*words: str | int, was: str | None = None) -> Any:
    """A key whose value is one of these words or numbers; ``was``: its former name, which recipes keep using."""
    return _field(Constraint(words=words), was)


def whole(
    at_least: int = 0, at_most: int = MOST, was: str | None = None, since: int | None = None, **bounds: Any
) -> Any:
    """A key whose value is a whole number within bounds (those of ``Constraint``), or a list of them.

    ``since``: for a key added later, the default that keeps the former behaviour and that recipes leave out.
    """
    return _field(Constraint(at_least=at_least, at_most=at_most, noun="whole number", **bounds), was, since)


def number(was: str | None = None, since: float | None = None, **bounds: Any) -> Any:
    """A key whose value is a finite number within bounds (those of ``Constraint``), or a list of them.

    ``since`` as in :func:`whole`.
    """
    return _field(Constraint(**bounds), was, since)


def named() -> Any:
    """A key whose value is safe as the name of a file or folder: it cannot point elsewhere."""
    return _field(Constraint(noun=NAME_IN_WORDS))


def truth() -> Any:
    """A key that is true or false, for sections whose types are not checked by OmegaConf."""
    return _field(Constraint(noun="true or false"))


def duration() -> Any:
    """A key whose value is a time in Lightning's notation."""
    return _field(Constraint(noun=DURATION))


def optional(constrained: Any) -> Any:
    """The given key, but it may be absent; only in a section of :func:`known`."""
    return dataclasses.field(default=MISSING, metadata={**constrained.metadata, OPTIONAL: True})


def known(section: type) -> Any:
    """A key whose value is a dict with the keys of the dataclass ``section``; only keys that are given are hashed."""
    return dataclasses.field(default=MISSING, metadata={KNOWN: section})


def _field(constraint: Constraint, was: str | None = None, since: float | None = None) -> Any:
    metadata = {KEY: constraint, **({WAS: was} if was else {}), **({SINCE: since} if since is not None else {})}
    return dataclasses.field(default=MISSING if since is None else since, metadata=metadata)


def check_section(section: Any, prefix: str = "") -> None:
    """Check every key below a section of the configuration against its constraint.

    Keys without a constraint, and nulls, must not hold values that no key may have (:func:`_check_plain`).

    Raises:
        ValueError: names the key, its value and what is allowed, or an unknown key that was added with ``+``.
    """
    names = [one.name for one in dataclasses.fields(section)]
    for added in vars(section).keys() - set(names):
        _refuse(prefix, added, names)
    for one in dataclasses.fields(section):
        key, value = prefix + one.name, getattr(section, one.name)
        _check_container(one, key, value)
        if dataclasses.is_dataclass(value):
            check_section(value, f"{key}.")
        elif KNOWN in one.metadata:
            _check_known(one.metadata[KNOWN], key, value)
        else:
            _check_value(one, key, value)


def _check_container(one: dataclasses.Field, key: str, value: Any) -> None:
    """Check that dicts and lists are such: an interpolation may have put a text in their place."""
    word = str(one.type).partition("[")[0]
    kind = {"dict": dict, "list": list}.get(word, one.default_factory)
    if isinstance(kind, type) and not isinstance(value, kind) and not (value is None and "None" in str(one.type)):
        what = "a list" if kind is list else "keys and their values"
        raise ValueError(f"{key}={_shown(value)}: {what}")


def _check_value(one: dataclasses.Field, key: str, value: Any) -> None:
    """Check a value against its key's constraint, or with :func:`_check_plain` if it has none."""
    nullable = "None" in str(one.type)
    if KEY in one.metadata and not (value is None and nullable):
        one.metadata[KEY].check(key, value, nullable)
    else:
        _check_plain(key, value)


def _check_known(section: type, key: str, values: Any) -> None:
    """Check a dict against the dataclass that lists its keys."""
    if not isinstance(values, dict):
        raise ValueError(f"{key}={values}: keys and their values")
    fields = {one.name: one for one in dataclasses.fields(section)}
    for name in values:
        if name not in fields:
            _refuse(f"{key}.", name, fields)
    missing = [name for name, one in fields.items() if name not in values and not one.metadata.get(OPTIONAL)]
    if missing:
        raise ValueError(f"{key}.{missing[0]} is missing")
    for name, value in values.items():
        _check_value(fields[name], f"{key}.{name}", value)


def _refuse(prefix: str, name: Any, names: Collection[str]) -> NoReturn:
    raise ValueError(f"{prefix}{_shown(name)}: no such key; allowed are {', '.join(names)}{_hint(name, names)}")


def _check_plain(key: str, value: Any) -> None:
    """Check that numbers are finite and that texts are short and printable, also inside dicts and lists."""
    if isinstance(value, dict):
        for name, one in value.items():
            _check_plain(f"{key}.{name}", name)
            _check_plain(f"{key}.{name}", one)
    elif isinstance(value, list):
        for one in value:
            _check_plain(key, one)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}={value}: a finite number")
    elif isinstance(value, str) and (printable(value, "") != value or len(value.encode()) > MOST_TEXT):
        raise ValueError(f"{key}={_shown(value)}: a text without control characters, of at most {MOST_TEXT} bytes")
