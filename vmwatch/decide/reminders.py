"""When a message that nobody has heard is told again, and to whom else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta, tzinfo

from vmwatch.decide.local import instant_of, wall
from vmwatch.hours import Minute
from vmwatch.models import Instant
from vmwatch.settings import Escalation, Reminder

_DAY = timedelta(days=1)


def reminders(steps: Sequence[Reminder], alerted_at: Instant, zone: tzinfo) -> tuple[Instant, ...]:
    """When to remind, in order: so long after the alert; `next HH:MM`: at that local time after the step before."""
    found: list[Instant] = []
    for step in steps:
        before = found[-1] if found else alerted_at
        found.append(alerted_at + step.after if step.at is None else _next(step.at, before, zone))
    return tuple(found)


def next_reminder(steps: Sequence[Reminder], alerted_at: Instant, last: Instant, zone: tzinfo) -> Instant | None:
    """The first reminder after the `last` one (or after the alert); None: there are no more."""
    return next((at for at in reminders(steps, alerted_at, zone) if at > last), None)


def escalated(steps: Sequence[Escalation], alerted_at: Instant, now: Instant) -> tuple[str, ...]:
    """The channels that are to hear of it by now because nobody has heard the message, each once."""
    due = (step for step in steps if now >= alerted_at + step.after)
    return tuple(dict.fromkeys(channel for step in due for channel in step.channels))


def _next(minute: Minute, after: Instant, zone: tzinfo) -> Instant:
    today = wall(after, zone).date()
    days = (today + number * _DAY for number in range(3))
    return next(at for day in days if (at := instant_of(day, minute, zone, last=False)) > after)
