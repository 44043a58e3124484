"""Groups of callers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from vmwatch.settings.numbers import e164
from vmwatch.settings.spans import Span
from vmwatch.settings.table import Table

_NUMBERS = re.compile(r"\+[1-9][0-9]{0,13}\*")
WITHHELD, UNKNOWN = "withheld", "unknown"


def _callers(value: Any) -> str:
    if value in (WITHHELD, UNKNOWN) or (isinstance(value, str) and _NUMBERS.fullmatch(value)):
        return str(value)
    if not isinstance(value, str) or not value.startswith("+"):
        raise ValueError('must be a number like "+4571919998", a beginning like "+4570*", "withheld" or "unknown"')
    return e164(value)


class Callers(Table):
    """A group of callers, and what becomes of their messages."""

    numbers: tuple[Annotated[str, BeforeValidator(_callers)], ...] = ()
    """E.164, beginnings (`+4570*`), `withheld`, `unknown`."""
    in_contacts: bool = False
    channels: tuple[str, ...] | None = None
    """None: the line's."""
    urgent: bool = False
    mute: bool = False
    min_length: Span = 0
    """Shorter messages are noted, but not announced."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if not self.numbers and not self.in_contacts:
            raise ValueError("has no callers: set numbers, or in_contacts = true")
        if self.mute and self.urgent:
            raise ValueError("set mute or urgent, not both")
        return self
