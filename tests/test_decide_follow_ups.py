"""What becomes of messages that nobody hears: when they are told again, to whom, and when that ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from values import NOW, NUMBER, voicemail

from vmwatch import decide
from vmwatch.decide.follow_ups import next_step
from vmwatch.models import HOUR, MINUTE, SECOND, Due, FollowUp, Kind, Recipient, Unheard
from vmwatch.settings import Escalation, Settings

UTC = ZoneInfo("UTC")
PHONE = Recipient("phone", ("voicemail",))
MAIL = Recipient("mail", ("voicemail.reminder",))
BOSS = Recipient("boss", ("line",))
SECOND_LOOK = 2 * MINUTE


def steps(remind: tuple[str, ...] = ("30m", "2h"), escalate: dict[str, tuple[str, ...]] | None = None) -> decide.Steps:
    settings = Settings.model_validate(
        {
            "operator": {"timeout": 0.001},
            "channels": {name: {"url": "json://127.0.0.1:9/"} for name in ("phone", "mail", "boss")},
            "lines": {"home": {"number": NUMBER, "pin": "8352", "remind": list(remind)}},
        }
    )
    further = tuple(Escalation(after=after, channels=names) for after, names in (escalate or {}).items())
    return replace(
        decide.steps_of(settings, "home"), escalate=further, everyone=(PHONE, MAIL, BOSS), second_look=SECOND_LOOK
    )


def follow_up(at: int, **changes: Any) -> FollowUp:
    """Announced NOW, looked at for the first time, and due at `at`."""
    return replace(FollowUp(NUMBER, "a", alerted_at=NOW, done_until=NOW, at=at), **changes)


def unheard(at: int, id_: str = "a", **changes: Any) -> Unheard:
    defaults = Unheard(follow_up(at, message=id_), voicemail(id_), False, at, told=("phone", "mail"))
    return replace(defaults, **changes)


def told(found: Any) -> list[tuple[Kind, tuple[str, ...], tuple[str, ...]]]:
    return [(alert.kind, alert.channels, alert.messages) for alert in found.alerts]


def judged(*waiting: Unheard, now: int, by: decide.Steps) -> Any:
    return decide.followed_up(waiting, by, now, UTC)


REMINDED = (Kind.VOICEMAIL_REMINDER, ("phone", "mail"), ("a",))


@pytest.mark.parametrize(
    ("now", "remind", "escalate", "alerts", "following"),
    [
        (0, ("30m",), {}, [], 30),  # the first look finds out when the first step is
        (0, (), {"1h": ("boss",)}, [], 60),
        (30, ("30m", "2h"), {}, [REMINDED], 120),
        (120, ("30m", "2h"), {}, [REMINDED], None),
        (120, ("30m", "2h", "next 08:00"), {}, [REMINDED], 8 * 60),  # NOW is midnight
        (60, (), {"1h": ("boss",)}, [(Kind.VOICEMAIL_ESCALATED, ("boss",), ("a",))], None),
        # Whoever is told more just now is not reminded too.
        (
            60,
            ("1h",),
            {"1h": ("phone",)},
            [(Kind.VOICEMAIL_ESCALATED, ("phone",), ("a",)), (Kind.VOICEMAIL_REMINDER, ("mail",), ("a",))],
            None,
        ),
        # After a standstill, one reminder stands for all that were missed, and nobody is left out.
        (
            300,
            ("30m", "2h"),
            {"1h": ("boss",), "4h": ("boss", "mail"), "6h": ("phone",)},
            [
                (Kind.VOICEMAIL_ESCALATED, ("boss", "mail"), ("a",)),
                (Kind.VOICEMAIL_REMINDER, ("phone",), ("a",)),
            ],
            360,
        ),
        (60, (), {}, [], None),  # the steps are no longer configured
        (60, (), {"1h": ("gone",)}, [], None),
    ],
)
def test_a_message_that_waits_is_told_again_at_each_step(
    now: int, remind: tuple[str, ...], escalate: dict[str, Any], alerts: list[Any], following: int | None
) -> None:
    found = judged(unheard(NOW + now * MINUTE), now=NOW + now * MINUTE, by=steps(remind, escalate))
    assert told(found) == alerts
    next_ = None if following is None else follow_up(NOW + following * MINUTE, done_until=NOW + now * MINUTE)
    assert found.next == (() if next_ is None else (next_,))


@pytest.mark.parametrize(
    ("late", "read_ago", "due", "missed", "sure"),
    [
        (0, HOUR, Due.STEP, False, True),  # in time: the polls before it would have told
        (0, 0, Due.STEP, True, False),  # the last answer did not list it: it may be gone
        (HOUR, 2 * HOUR, Due.STEP, False, False),  # nobody looked for long: it may have been heard
        (HOUR, MINUTE, Due.STEP, False, True),  # late, but read since
        (HOUR, 2 * HOUR, Due.SECOND_LOOK, False, True),  # an operator out of reach does not silence it for ever
        (HOUR, 2 * HOUR, Due.SNOOZE, False, False),
    ],
)
def test_nobody_is_reminded_of_what_may_have_been_heard_until_the_line_was_read_again(
    late: int, read_ago: int, due: Due, missed: bool, sure: bool
) -> None:
    at = NOW + 30 * MINUTE
    now = at + late
    waiting = unheard(at, is_missed=missed, read_at=now - read_ago, follow_up=follow_up(at, due=due))
    found = judged(waiting, now=now, by=steps())
    assert bool(found.alerts) is sure
    if not sure:
        (following,) = found.next
        expected = Due.SNOOZE if due is Due.SNOOZE else Due.SECOND_LOOK
        assert following == replace(waiting.follow_up, at=now + SECOND_LOOK, due=expected)


def test_messages_that_are_due_together_make_one_reminder() -> None:
    now = NOW + 30 * MINUTE
    (alert,) = judged(unheard(now, "a"), unheard(now, "b"), now=now, by=steps()).alerts
    assert (alert.messages, alert.count, alert.since) == (("a", "b"), 2, NOW)
    assert [one.id for one in alert.voicemails] == ["b", "a"]
    assert (alert.subject, alert.number) == ("home", NUMBER)


def test_only_channels_that_need_not_wait_for_the_announcement_and_want_reminders_are_reminded() -> None:
    now = NOW + 30 * MINUTE
    assert told(judged(unheard(now, told=("phone", "boss", "gone")), now=now, by=steps())) == [
        (Kind.VOICEMAIL_REMINDER, ("phone",), ("a",))
    ]
    assert told(judged(unheard(now, told=()), now=now, by=steps())) == []


def test_the_end_of_a_snooze_is_one_reminder_and_everything_begins_again() -> None:
    at = NOW + 3 * HOUR
    waiting = unheard(at, follow_up=follow_up(at, due=Due.SNOOZE))
    found = judged(waiting, now=at + SECOND, by=steps(escalate={"1h": ("boss",)}))
    assert told(found) == [REMINDED]
    begun = at + SECOND
    assert found.next == (FollowUp(NUMBER, "a", begun, begun, begun + 30 * MINUTE, Due.STEP),)


def test_a_reminder_of_an_urgent_message_is_urgent() -> None:
    now = NOW + 30 * MINUTE
    for urgent in (False, True):
        (alert,) = judged(unheard(now, urgent=urgent), now=now, by=steps()).alerts
        assert alert.urgent is urgent


@pytest.mark.parametrize(
    ("zone", "alerted", "expected"),
    [
        # 2024-03-31: Copenhagen's clocks go from 02:00 to 03:00. 08:00 is 06:00 UTC that day, 07:00 the day before.
        ("Europe/Copenhagen", 1_711_836_000_000, 1_711_864_800_000),  # 30 March 23:00 local -> 31 March 08:00
        ("America/New_York", 1_711_836_000_000, 1_711_886_400_000),  # 18:00 local -> 31 March 08:00 = 12:00 UTC
        ("Australia/Lord_Howe", 1_711_836_000_000, 1_711_832_400_000 + 24 * HOUR),
    ],
)
def test_a_time_of_day_is_the_clocks_on_the_wall_also_when_that_is_set(zone: str, alerted: int, expected: int) -> None:
    assert next_step(steps(("next 08:00",)), alerted, alerted, ZoneInfo(zone)) == expected


@pytest.mark.parametrize(
    ("due_at", "now", "by", "left"),
    [
        ({"at": NOW + 30 * MINUTE}, 30, ("30m", "2h"), False),
        ({"at": NOW + 30 * MINUTE}, 30, ("20m",), False),  # an earlier one of ours was not done
        ({"at": NOW + 30 * MINUTE}, 30, ("2h",), True),
        ({"at": NOW + 30 * MINUTE}, 30, (), True),
        ({"at": NOW + 30 * MINUTE}, 31, (), False),  # nobody did it
        ({"at": NOW + 30 * MINUTE, "done_until": NOW + 30 * MINUTE}, 30, ("2h",), False),  # what is next?
        ({"at": NOW + 30 * MINUTE, "done_until": NOW + 30 * MINUTE}, 30, (), True),
        ({"at": NOW}, 0, ("2h",), False),
        ({"at": NOW}, 0, (), True),
        ({"at": NOW + 30 * MINUTE, "due": Due.SECOND_LOOK}, 30, ("20m",), False),
        ({"at": NOW + 30 * MINUTE, "due": Due.SECOND_LOOK}, 30, (), True),
        ({"at": NOW + 30 * MINUTE, "due": Due.SNOOZE}, 30, (), False),
    ],
)
def test_what_another_process_s_steps_are_for_is_left_to_it_for_a_while(
    due_at: dict[str, Any], now: int, by: tuple[str, ...], left: bool
) -> None:
    waiting = unheard(NOW, follow_up=follow_up(**due_at))
    found = decide.followed_up([waiting], steps(by), NOW + now * MINUTE, UTC, patience=MINUTE)
    assert (found.next == (waiting.follow_up,)) is left
    assert not (left and found.alerts)
