"""Who would be told of a message, when and why: tables over whole configurations."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest
from values import NOW, NUMBER, voicemail

from vmwatch import decide
from vmwatch.book import Book
from vmwatch.decide import Route
from vmwatch.models import DAY, HOUR, MINUTE, Instant
from vmwatch.settings import Settings

BOSS, FRIEND, STRANGER = "+4520304050", "+4520304060", "+4620304050"
BOOK = Book("DK", {FRIEND: "Freja"})
MIDNIGHT = NOW  # 2024-01-01, a Monday, 00:00 UTC
NOON = MIDNIGHT + 12 * HOUR


def settings(line: dict[str, Any] | None = None, **tables: Any) -> Settings:
    channels = {"phone": {"url": "json://127.0.0.1"}, "mail": {"url": "json://127.0.0.2"}}
    given = tables.pop("channels", {})
    return Settings.model_validate(
        {
            "channels": {name: table | given.get(name, {}) for name, table in channels.items()},
            "lines": {"home": {"number": NUMBER, "pin": "8352", "channels": ["phone"], **(line or {})}},
            **tables,
        }
    )


def routed(by: Settings, caller: str | None = STRANGER, at: Instant = NOON, length: int = 30) -> Route:
    patience = {name: decide.patience_of(channel, UTC) for name, channel in by.channels.items()}
    ways = decide.ways_of(by, "home", patience, UTC)
    return decide.route(voicemail("a", caller=caller, length=length), ways, BOOK, at)


def shown(route: Route) -> list[tuple[str, str, int | None, str | None]]:
    """Channel, why, after how many minutes (None: never), what holds it."""
    return [
        (each.channel, each.why.value, None if each.at is None else (each.at - NOON) // MINUTE, each.held)
        for each in route.tellings
    ]


def test_a_line_s_channels_are_told_at_once() -> None:
    assert shown(routed(settings())) == [("phone", "line", 0, None), ("mail", "not_asked", None, None)]


@pytest.mark.parametrize(
    ("caller", "length", "told"),
    [
        (BOSS, 1, [("phone", "not_asked", None, None), ("mail", "group", 0, None)]),
        (FRIEND, 1, [("phone", "muted", None, None), ("mail", "muted", None, None)]),
        (STRANGER, 1, [("phone", "too_short", None, None), ("mail", "too_short", None, None)]),
        (STRANGER, 3, [("phone", "line", 0, None), ("mail", "not_asked", None, None)]),
        (None, 1, [("phone", "line", 0, None), ("mail", "not_asked", None, None)]),
    ],
)
def test_a_group_of_callers_has_its_say(caller: str | None, length: int, told: list[Any]) -> None:
    callers = {
        "boss": {"numbers": [BOSS], "channels": ["mail"]},
        "friends": {"in_contacts": True, "mute": True},
        "strangers": {"numbers": ["unknown"], "min_length": "3s"},
    }
    assert shown(routed(settings(callers=callers), caller, length=length)) == told


def test_a_channel_that_asks_for_other_alerts_is_not_told() -> None:
    assert shown(routed(settings(channels={"phone": {"events": ["line"]}})))[0] == ("phone", "events", None, None)


@pytest.mark.parametrize(
    ("channel", "urgent", "telling"),
    [
        ({"quiet": ["11:00-14:00"]}, False, ("phone", "line", 120, "quiet")),
        ({"quiet": ["11:00-14:00"]}, True, ("phone", "line", 0, None)),
        ({"digest": "18:00"}, False, ("phone", "line", 360, "digest")),
        ({"digest": "18:00", "quiet": ["17:00-19:30"]}, False, ("phone", "line", 450, "digest")),
        ({"digest": "18:00", "urgent": ["voicemail"]}, False, ("phone", "line", 0, None)),
        ({"budget": "1/1h"}, False, ("phone", "line", 0, None)),
    ],
)
def test_what_holds_it_is_told_with_its_end(channel: dict[str, Any], urgent: bool, telling: tuple[Any, ...]) -> None:
    callers = {"strangers": {"numbers": ["unknown"], "urgent": urgent}}
    assert shown(routed(settings(channels={"phone": channel}, callers=callers)))[0] == telling


def test_reminders_and_escalations_come_in_their_order_and_are_held_as_well() -> None:
    line = {"remind": ["30m", "next 08:00"], "escalate": [{"after": "1h", "channels": ["mail"]}]}
    quiet = {"mail": {"quiet": ["12:30-14:00"]}}
    assert shown(routed(settings(line, channels=quiet)))[2:] == [
        ("phone", "reminded", 30, None),
        ("mail", "escalated", 120, "quiet"),
        ("phone", "reminded", 20 * 60, None),
    ]


def test_a_channel_that_still_waits_for_the_announcement_is_not_reminded_of_it() -> None:
    line, channels = {"remind": ["30m", "3h"]}, {"phone": {"quiet": ["11:00-14:00"]}}
    assert [telling for telling in shown(routed(settings(line, channels=channels))) if telling[1] == "reminded"] == [
        ("phone", "reminded", 180, None)
    ]


def test_a_channel_where_a_reminder_waits_is_not_reminded_again() -> None:
    line, channels = {"remind": ["30m", "1h", "2h", "4h"]}, {"phone": {"quiet": ["12:15-14:00"]}}
    assert [telling for telling in shown(routed(settings(line, channels=channels))) if telling[1] == "reminded"] == [
        ("phone", "reminded", 120, "quiet"),
        ("phone", "reminded", 240, None),
    ]


def test_nobody_is_reminded_of_what_is_muted() -> None:
    line = {"remind": ["30m"], "escalate": [{"after": "1h", "channels": ["mail"]}]}
    muted = settings(line, callers={"all": {"numbers": ["unknown"], "mute": True}})
    assert {telling[1] for telling in shown(routed(muted))} == {"muted"}


def test_a_day_s_digest_takes_the_time_of_the_next_day_when_today_s_has_passed() -> None:
    found = routed(settings(channels={"phone": {"digest": "08:00"}}))
    assert found.tellings[0].at == MIDNIGHT + DAY + 8 * HOUR
