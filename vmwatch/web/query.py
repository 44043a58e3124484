"""What may stand behind a `?`, and what it means. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vmwatch.errors import UsageError
from vmwatch.web.asked import Request

MOST = 1000
"""Entries of one answer."""
_SWITCH = {"": True, "1": True, "true": True, "0": False, "false": False}


class NotThereError(UsageError):
    """What was asked for in the right form, and is not there."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of `vmwatch messages` and `vmwatch outbox`."""

    line: str | None = None
    """A line's name or number."""
    new: bool = False
    all: bool = False
    limit: int = 0
    openmetrics: bool = False
    """Metrics in OpenMetrics' form instead of Prometheus' own."""


DEFAULTS: Mapping[str, Wanted] = {"/api/messages": Wanted(limit=50), "/api/outbox": Wanted(limit=100)}
KEYS: Mapping[str, tuple[str, ...]] = {"/api/messages": ("line", "new", "limit"), "/api/outbox": ("all", "limit")}


def wanted(request: Request) -> Wanted:
    """Raises UsageError with a sentence."""
    known, given = KEYS.get(request.path, ()), dict(request.query)
    if not given.keys() <= set(known):
        raise UsageError(f"this is not understood behind the ?; {_understood(known)}")
    if len(given) < len(request.query):
        raise UsageError("the same is given twice behind the ?")
    default = DEFAULTS.get(request.path, Wanted())
    return Wanted(
        line=given.get("line"),
        new=_switch("new", given.get("new", "0")),
        all=_switch("all", given.get("all", "0")),
        limit=_limit(given["limit"]) if "limit" in given else default.limit,
        # Prometheus names OpenMetrics in its Accept header; browsers and curl do not.
        openmetrics=request.path == "/metrics" and "application/openmetrics-text" in request.accept.lower(),
    )


def _understood(known: Sequence[str]) -> str:
    return f"what is: {', '.join(known)}" if known else "nothing is"


def _switch(key: str, text: str) -> bool:
    if text not in _SWITCH:
        raise UsageError(f"{key}: must be 1 or 0")
    return _SWITCH[text]


def _limit(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) else 0
    if not 1 <= number <= MOST:
        raise UsageError(f"limit: must be a whole number from 1 to {MOST}")
    return number
