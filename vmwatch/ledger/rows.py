"""Values to rows and back. A column has its field's name, so that neither is listed twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from enum import Enum
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar

from vmwatch.ledger.engine import Row
from vmwatch.models import (
    Alert,
    ChannelStanding,
    ChannelState,
    Due,
    FollowUp,
    Kind,
    LineState,
    OperatorStanding,
    Reason,
    Remembered,
    Standing,
    Voicemail,
)

T = TypeVar("T")


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


@cache
def columns(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def listed(names: tuple[str, ...], prefix: str = "") -> str:
    """`a, b, c`, or with a prefix `:a, :b, :c`."""
    return ", ".join(prefix + name for name in names)


def assigned(names: tuple[str, ...]) -> str:
    """`a = :a, b = :b`."""
    return ", ".join(f"{name} = :{name}" for name in names)


LINE = columns(Standing)
OPERATOR = columns(OperatorStanding)
CHANNEL = columns(ChannelStanding)
VOICEMAIL = columns(Voicemail)
REMEMBERED = columns(Remembered)

_ENUMS: dict[type[Any], dict[str, type[Enum]]] = {
    Standing: {"state": LineState, "reason": Reason, "alerted": Kind},
    ChannelStanding: {"state": ChannelState},
    Alert: {"kind": Kind, "reason": Reason},
    FollowUp: {"due": Due},
}
_FLAGS: dict[type[Any], frozenset[str]] = {
    Standing: frozenset({"enabled", "configured", "trusted"}),
    ChannelStanding: frozenset({"alerted"}),
    Voicemail: frozenset({"played"}),
}


def value(kind: type[T], row: Row) -> T:
    """The value that a row of its columns, in their order, stands for."""
    cells = list(row)
    for place, read in _readers(kind):  # type: ignore[arg-type] # mypy 11470: a type is hashable
        if cells[place] is not None:
            cells[place] = read(cells[place])
    return kind(*cells)


@cache
def _readers(kind: Any) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
    """Which columns hold something else than the value has, and what makes that of it. Every poll reads rows."""
    readers = {**_ENUMS.get(kind, {}), **dict.fromkeys(_FLAGS.get(kind, ()), bool)}
    return tuple((place, readers[name]) for place, name in enumerate(columns(kind)) if name in readers)


def cells(thing: _Dataclass) -> dict[str, Any]:
    """A value's fields as a statement's parameters."""
    return {name: _cell(getattr(thing, name)) for name in columns(type(thing))}


def _cell(content: Any) -> Any:
    if isinstance(content, Enum):
        return content.value
    return int(content) if isinstance(content, bool) else content


def alert_to_json(alert: Alert) -> str:
    facts = asdict(alert)
    del facts["messages"], facts["channels"]  # The message and delivery rows have them, however many there are.
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


def alert_from_json(text: str) -> Alert:
    facts = json.loads(text)
    facts["voicemails"] = tuple(Voicemail(**entry) for entry in facts["voicemails"])
    for name, enum in _ENUMS[Alert].items():
        facts[name] = None if facts[name] is None else enum(facts[name])
    return Alert(channels=(), **facts)
