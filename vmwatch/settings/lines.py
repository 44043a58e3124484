"""The lines that are watched."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from vmwatch.settings.numbers import e164
from vmwatch.settings.spans import Interval, Leisure
from vmwatch.settings.table import HIDDEN, Table
from vmwatch.settings.times import ReminderStep, later_each

_PIN = re.compile(r"[0-9]{4,10}")
MOST_STEPS = 20
"""Of reminders, and of escalations, for one line."""
LONGEST_LABEL = 80
"""Characters."""


def _pin(value: Any) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not _PIN.fullmatch(text):
        raise ValueError("must be 4 to 10 digits, in quotes")
    return SecretStr(text)


def _label(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value):
        raise ValueError("must not have control characters or line breaks")
    if len(value) > LONGEST_LABEL:
        raise ValueError(f"must be at most {LONGEST_LABEL} characters")
    return value.strip()


def _longer_each(value: tuple[Escalation, ...]) -> tuple[Escalation, ...]:
    waits = [step.after for step in value]
    if waits != sorted(set(waits)):
        raise ValueError("must be in order: each one's after is longer than that of the one before")
    return value


class Escalation(Table):
    after: Leisure
    channels: Annotated[tuple[str, ...], Field(min_length=1)]


class Line(Table):
    number: Annotated[str, BeforeValidator(e164)]
    pin: Annotated[SecretStr, BeforeValidator(_pin), HIDDEN]
    label: Annotated[str, AfterValidator(_label)] = ""
    """What people see; `Settings.label_of` falls back to the name."""
    channels: tuple[str, ...] | None = None
    """None: every channel."""
    interval: Interval | None = None
    """None: polling.interval."""
    enabled: bool = True
    remind: Annotated[tuple[ReminderStep, ...], Field(max_length=MOST_STEPS), AfterValidator(later_each)] = ()
    """When a message that nobody has heard is told again."""
    escalate: Annotated[tuple[Escalation, ...], Field(max_length=MOST_STEPS), AfterValidator(_longer_each)] = ()
    """Who else is told of it."""

    @property
    def follows(self) -> bool:
        return bool(self.remind or self.escalate)
