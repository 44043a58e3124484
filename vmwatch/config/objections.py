"""Where a value was written, and what there is to say against it: one sentence, never with a value in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

Key: TypeAlias = tuple[str, ...]
"""A key with the tables it is in: ("lines", "home", "pin")."""
LONGEST = 60
"""Characters of a key that a sentence repeats."""
QUOTED = ", in quotes"
"""How words end that speak of TOML; elsewhere there is nothing to quote."""
HIDDEN = "…"
"""What stands for a word that may be a secret in the wrong place."""
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Origin(IntEnum):
    """The kinds of places, in the order in which objections are listed."""

    FILE = 0
    ENVIRONMENT = 1
    CREDENTIAL = 2


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the file, an environment variable or a credential; `key` is the one that was written there."""

    origin: Origin
    source: str
    """The file's name as the person gave it, or the name of the variable or credential."""
    line: int
    """0 where there are none."""
    key: Key

    def sentence(self, key: Key, words: str) -> str:
        if self.origin is Origin.FILE:
            return f"{self.source}:{self.line}: {dotted(key)}: {words}"
        words = words.removesuffix(QUOTED)
        # The name of a variable says its key; only what it leads to (a key that is missing) needs naming.
        about = words if key == self.key else f"{dotted(key)}: {words}"
        kind = "environment variable" if self.origin is Origin.ENVIRONMENT else "credential"
        return f"{kind} {clean(self.source)}: {about}"


@dataclass(frozen=True, slots=True)
class Found:
    """A value as one source has it. Its repr hides the value: pydantic-settings can log what sources return."""

    value: Any = field(repr=False)
    place: Place


@dataclass(frozen=True, slots=True)
class Objection:
    key: Key
    """The key that has no usable value because of it."""
    place: Place
    written: Key
    """The key that the sentence names."""
    words: str

    @property
    def sentence(self) -> str:
        return self.place.sentence(self.written, self.words)

    @property
    def order(self) -> tuple[int, int, str, Key]:
        source = "" if self.place.origin is Origin.FILE else self.place.source
        return self.place.origin, self.place.line, source, self.written


def clean(name: str) -> str:
    """A name as a sentence may repeat it: short, no URL, and without what would move a terminal's cursor."""
    return HIDDEN if "://" in name else _UNSEEN.sub("", name)[:LONGEST]


def dotted(key: Key) -> str:
    """A key as a sentence names it. A line's name may be a number; as a key, digits may be a PIN that strayed."""
    return ".".join(HIDDEN if part.isdigit() and depth != 1 else clean(part) for depth, part in enumerate(key))


def did_you_mean(name: str | None) -> str:
    return f"; did you mean {clean(name)}?" if name else ""
