"""Times of day, reminders and budgets as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from vmwatch import hours
from vmwatch.models import MINUTE, Duration
from vmwatch.settings.spans import at_least, spelled

_COUNT = re.compile(r"[1-9][0-9]{0,5}")


def _window(value: Any) -> hours.Window:
    if not isinstance(value, str):
        raise ValueError('must be text such as "22:00-07:00"')
    return hours.window(value)


def leaving_time(value: tuple[hours.Window, ...]) -> tuple[hours.Window, ...]:
    if value and hours.covers_the_week(value):
        raise ValueError("covers the whole week: no alert would ever be sent")
    return value


def time_of_day(value: Any) -> TimeOfDay:
    if not isinstance(value, str):
        raise ValueError('must be a time such as "08:00"')
    return TimeOfDay(hours.clock(value) % hours.DAY_OF_MINUTES)


def read_budget(value: Any) -> Budget:
    count, slash, span = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash or not _COUNT.fullmatch(count.strip()):
        raise ValueError('must be like "20/1h": at most so many alerts in so long')
    return Budget(int(count), at_least(MINUTE, '"1m"')(span.strip()))


def _reminder(value: Any) -> Reminder:
    if isinstance(value, str) and value.startswith("next "):
        return Reminder(at=hours.clock(value.removeprefix("next ").strip()) % hours.DAY_OF_MINUTES)
    return Reminder(after=at_least(MINUTE, '"1m"')(value))


def later_each(value: tuple[Reminder, ...]) -> tuple[Reminder, ...]:
    waits = [step.after for step in value if step.at is None]
    if waits != sorted(set(waits)) or any(step.at is not None for step in value[: len(waits)]):
        raise ValueError('must be in order: first waits such as "30m", "2h", then times such as "next 08:00"')
    return value


@dataclass(frozen=True, slots=True)
class Reminder:
    """So long after the alert, or at the next time of day `at`."""

    after: Duration = 0
    at: hours.Minute | None = None

    def __str__(self) -> str:
        return spelled(self.after) if self.at is None else f"next {self.at // 60:02}:{self.at % 60:02}"


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    minute: hours.Minute

    def __str__(self) -> str:
        return f"{self.minute // 60:02}:{self.minute % 60:02}"


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `count` alerts in any time as long as `span`."""

    count: int
    span: Duration

    def __str__(self) -> str:
        return f"{self.count}/{spelled(self.span)}"


QuietWindow = Annotated[hours.Window, BeforeValidator(_window), PlainSerializer(str, return_type=str, when_used="json")]
ReminderStep = Annotated[Reminder, BeforeValidator(_reminder), PlainSerializer(str, return_type=str, when_used="json")]
