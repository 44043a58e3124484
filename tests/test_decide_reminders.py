"""When a message that nobody has heard is told again, and to whom else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter
from test_quiet import COPENHAGEN, LORD_HOWE, NEW_YORK, ZONES, ZoneInfo, at

from vmwatch.decide.reminders import escalated, next_reminder, reminders
from vmwatch.models import HOUR, MINUTE, Instant
from vmwatch.settings import Escalation, Reminder, ReminderStep

ALERTED = at("2026-11-23 21:00")


def steps(*written: Any) -> tuple[Reminder, ...]:
    return TypeAdapter(tuple[ReminderStep, ...]).validate_python(written)


@pytest.mark.parametrize(
    ("written", "alerted", "reminded"),
    [
        ((), "2026-11-23 21:00", ()),
        (("30m", "2h"), "2026-11-23 21:00", ("2026-11-23 21:30", "2026-11-23 23:00")),
        (("next 08:00",), "2026-11-23 21:00", ("2026-11-24 08:00",)),
        (("next 08:00",), "2026-11-23 07:59", ("2026-11-23 08:00",)),
        (("next 08:00",), "2026-11-23 08:00", ("2026-11-24 08:00",)),
        (("30m", "next 08:00"), "2026-11-23 07:50", ("2026-11-23 08:20", "2026-11-24 08:00")),
        (("next 08:00", "next 08:00"), "2026-11-23 21:00", ("2026-11-24 08:00", "2026-11-25 08:00")),
        (("next 00:00",), "2026-11-23 21:00", ("2026-11-24 00:00",)),
    ],
)
def test_when_it_is_told_again(written: tuple[str, ...], alerted: str, reminded: tuple[str, ...]) -> None:
    assert reminders(steps(*written), at(alerted), COPENHAGEN) == tuple(map(at, reminded))


@pytest.mark.parametrize(
    ("zone", "evening", "clock", "wait"),
    [
        (COPENHAGEN, "2026-03-28 20:00", "next 08:00", 11 * HOUR),
        (COPENHAGEN, "2026-10-24 20:00", "next 08:00", 13 * HOUR),
        (NEW_YORK, "2026-03-07 20:00", "next 08:00", 11 * HOUR),
        (NEW_YORK, "2026-10-31 20:00", "next 08:00", 13 * HOUR),
        (LORD_HOWE, "2026-10-03 20:00", "next 08:00", 11 * HOUR + 30 * MINUTE),
        (LORD_HOWE, "2026-04-04 20:00", "next 08:00", 12 * HOUR + 30 * MINUTE),
        (COPENHAGEN, "2026-03-28 20:00", "next 02:30", 6 * HOUR),  # left out: at 03:00
        (COPENHAGEN, "2026-10-24 20:00", "next 02:30", 6 * HOUR + 30 * MINUTE),  # twice: the first one
    ],
)
def test_a_time_of_day_is_the_clock_s_also_when_that_is_set(
    zone: ZoneInfo, evening: str, clock: str, wait: int
) -> None:
    assert reminders(steps(clock), at(evening, zone), zone) == (at(evening, zone) + wait,)


def test_a_time_that_comes_twice_reminds_once() -> None:
    first = at("2026-10-25 02:30")
    assert reminders(steps("next 02:30"), first + MINUTE, COPENHAGEN) == (at("2026-10-26 02:30"),)


@pytest.mark.parametrize(
    ("last", "reminded"),
    [
        (ALERTED, "2026-11-23 21:30"),
        (at("2026-11-23 21:30"), "2026-11-23 23:00"),
        (at("2026-11-23 22:10"), "2026-11-23 23:00"),
        (at("2026-11-23 23:00"), "2026-11-24 08:00"),
        (at("2026-11-24 08:00"), None),
    ],
)
def test_the_next_one_comes_after_the_last_one(last: Instant, reminded: str | None) -> None:
    written = steps("30m", "2h", "next 08:00")
    assert next_reminder(written, ALERTED, last, COPENHAGEN) == (at(reminded) if reminded else None)


@pytest.mark.parametrize(
    ("minutes", "channels"), [(0, ()), (59, ()), (60, ("boss",)), (119, ("boss",)), (120, ("boss", "all"))]
)
def test_others_hear_of_it_when_it_was_not_heard_for_so_long(minutes: int, channels: tuple[str, ...]) -> None:
    written = [
        Escalation.model_validate({"after": "1h", "channels": ["boss"]}),
        Escalation.model_validate({"after": "2h", "channels": ["all", "boss"]}),
    ]
    assert escalated(written, ALERTED, ALERTED + minutes * MINUTE) == channels


def test_every_step_comes_after_the_alert_in_every_zone() -> None:
    written = steps("30m", "next 08:00", "next 02:15", "next 00:00")
    for zone in ZONES:
        for hour in range(0, 2 * 8760, 5):
            alerted = at("2026-01-01 00:00", zone) + hour * HOUR
            found = reminders(written, alerted, zone)
            assert alerted < found[0] < found[1] < found[2] < found[3] <= alerted + 4 * 24 * HOUR
