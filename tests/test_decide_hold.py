"""Whether an alert is sent now, or held until when, and why."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import NOW

from vmwatch import decide
from vmwatch.hours import clock, window
from vmwatch.models import DAY, HOUR, MINUTE, SECOND, Arrival, Held, Hold, Kind, Queue
from vmwatch.settings import Budget

UTC = ZoneInfo("UTC")
NEW, LOCKED, DIGEST = Kind.VOICEMAIL_NEW, Kind.LINE_LOCKED, Kind.VOICEMAIL_DIGEST
NIGHT = (window("22:00-07:00"),)
SEVEN = NOW + 7 * HOUR  # NOW is a Monday's midnight in UTC
EIGHT = NOW + 8 * HOUR


def patience(**more: Any) -> decide.Patience:
    return decide.Patience(**({"zone": UTC} | more))


CASES: list[tuple[str, dict[str, Any], Kind, bool, int, tuple[int, ...], Hold | None]] = [
    ("nothing is configured", {}, NEW, False, NOW, (), None),
    ("quiet", {"quiet": NIGHT}, NEW, False, NOW, (), Hold(SEVEN, Held.QUIET)),
    ("trouble in quiet hours", {"quiet": NIGHT}, LOCKED, False, NOW, (), Hold(SEVEN, Held.QUIET)),
    ("a channel's trouble", {"quiet": NIGHT}, Kind.CHANNEL_FAILING, False, NOW, (), Hold(SEVEN, Held.QUIET)),
    ("a store's", {"quiet": NIGHT}, Kind.STORE_RECOVERED, False, NOW, (), None),
    ("a test", {"quiet": NIGHT, "budget": Budget(1, HOUR)}, Kind.TEST, False, NOW, (NOW,), None),
    ("the last ms of the quiet", {"quiet": NIGHT}, NEW, False, SEVEN - 1, (), Hold(SEVEN, Held.QUIET)),
    ("its end", {"quiet": NIGHT}, NEW, False, SEVEN, (), None),
    ("an urgent caller", {"quiet": NIGHT}, NEW, True, NOW, (), None),
    ("an urgent kind", {"quiet": NIGHT, "urgent": ("line.locked",)}, LOCKED, False, NOW, (), None),
    ("an urgent group", {"quiet": NIGHT, "urgent": ("line",)}, LOCKED, False, NOW, (), None),
    (
        "another urgent kind",
        {"quiet": NIGHT, "urgent": ("line.rejected",)},
        LOCKED,
        False,
        NOW,
        (),
        Hold(SEVEN, Held.QUIET),
    ),
    ("a digest", {"digest": clock("08:00")}, NEW, False, NOW, (), Hold(EIGHT, Held.DIGEST)),
    ("a digest just missed", {"digest": clock("08:00")}, NEW, False, EIGHT, (), Hold(EIGHT + DAY, Held.DIGEST)),
    ("the digest itself", {"digest": clock("08:00")}, DIGEST, False, EIGHT, (), None),
    ("the digest itself in quiet hours", {"quiet": NIGHT}, DIGEST, False, NOW, (), Hold(SEVEN, Held.QUIET)),
    ("trouble where there is a digest", {"digest": clock("08:00")}, LOCKED, False, NOW, (), None),
    ("a clearing", {"quiet": NIGHT, "budget": Budget(1, HOUR)}, Kind.VOICEMAIL_CLEARED, False, NOW, (NOW,), None),
    ("that it was heard", {"digest": clock("08:00")}, Kind.VOICEMAIL_HEARD, False, NOW, (), None),
    (
        "a digest in quiet hours",
        {"digest": clock("06:00"), "quiet": NIGHT},
        NEW,
        False,
        NOW - 4 * HOUR,
        (),
        Hold(SEVEN, Held.DIGEST),
    ),
    ("room in the budget", {"budget": Budget(2, HOUR)}, NEW, False, NOW, (NOW - MINUTE,), None),
    (
        "a budget that is spent",
        {"budget": Budget(2, HOUR)},
        NEW,
        False,
        NOW,
        (NOW - 3 * MINUTE, NOW - 2 * MINUTE, NOW - MINUTE),
        Hold(NOW - 2 * MINUTE + HOUR, Held.BUDGET),
    ),
    ("what was sent long ago", {"budget": Budget(1, HOUR)}, NEW, False, NOW, (NOW - HOUR,), None),
    ("urgent beyond the budget", {"budget": Budget(1, HOUR)}, NEW, True, NOW, (NOW,), None),
    (
        "a budget that frees in quiet hours",
        {"budget": Budget(1, HOUR), "quiet": NIGHT},
        NEW,
        False,
        NOW - 2 * HOUR - SECOND,
        (NOW - 2 * HOUR - MINUTE,),
        Hold(SEVEN, Held.BUDGET),
    ),
]


@pytest.mark.parametrize(("what", "settings", "kind", "urgent", "now", "sent_at", "expected"), CASES)
def test_what_is_held_and_why(
    what: str, settings: dict[str, Any], kind: Kind, urgent: bool, now: int, sent_at: tuple[int, ...], expected: Hold
) -> None:
    assert decide.hold(patience(**settings), kind, urgent, now, sent_at) == expected, what


def test_a_clearing_counts_against_nothing_that_comes_after_it() -> None:
    fresh = (Arrival(1, 0, 1, Kind.VOICEMAIL_CLEARED, False), Arrival(2, 0, 2, NEW, False))
    assert decide.holds(patience(budget=Budget(1, HOUR)), Queue(fresh, ()), NOW) == []


def test_what_is_sent_now_counts_against_what_comes_after_it() -> None:
    queue = Queue(tuple(Arrival(id_, 0, id_, NEW, urgent=False) for id_ in range(5)), (), (NOW - MINUTE,))
    held = decide.holds(patience(budget=Budget(3, HOUR)), queue, NOW)
    assert [(arrival.id, hold.until) for arrival, hold in held] == [(2, NOW + 59 * MINUTE)] + [
        (id_, NOW + 59 * MINUTE) for id_ in (3, 4)
    ]


@pytest.mark.parametrize("zone", ["Europe/Copenhagen", "America/New_York", "Australia/Lord_Howe"])
@given(now=st.integers(NOW, NOW + 366 * DAY), digest=st.none() | st.integers(0, 1439), budget=st.booleans())
def test_a_hold_ends_after_it_began_within_two_days_and_outside_the_quiet(
    zone: str, now: int, digest: int | None, budget: bool
) -> None:
    spent = Budget(1, HOUR) if budget else None
    waiting = patience(zone=ZoneInfo(zone), quiet=NIGHT, digest=digest, budget=spent)
    held = decide.hold(waiting, NEW, False, now, (now,))
    if held is not None:
        assert now < held.until <= now + 2 * DAY
        assert decide.hold(patience(zone=ZoneInfo(zone), quiet=NIGHT), NEW, False, held.until) is None
