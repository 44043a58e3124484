"""Quiet hours, on ordinary days and in the nights when the clock is set, in three time zones."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.decide.local import wall
from vmwatch.decide.quiet import quiet_until
from vmwatch.hours import DAYS, Window, clock, covers_the_week, window
from vmwatch.models import HOUR, MINUTE, Instant

COPENHAGEN, NEW_YORK, LORD_HOWE = (
    ZoneInfo(name) for name in ("Europe/Copenhagen", "America/New_York", "Australia/Lord_Howe")
)
ZONES = (COPENHAGEN, NEW_YORK, LORD_HOWE)


def at(text: str, zone: ZoneInfo = COPENHAGEN, fold: int = 0) -> Instant:
    """`2026-11-23 22:00` as an instant."""
    when = datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)
    return round(when.astimezone(UTC).timestamp() * 1000)


def windows(*texts: str) -> tuple[Window, ...]:
    return tuple(map(window, texts))


NIGHT = windows("22:00-07:00")
WEEKEND = windows("22:00-07:00", "sat,sun 00:00-10:00")


@pytest.mark.parametrize(
    ("quiet", "now", "end"),
    [
        # 2026-11-23 is a Monday.
        (NIGHT, "2026-11-23 21:59", None),
        (NIGHT, "2026-11-23 22:00", "2026-11-24 07:00"),
        (NIGHT, "2026-11-23 23:59", "2026-11-24 07:00"),
        (NIGHT, "2026-11-24 00:00", "2026-11-24 07:00"),
        (NIGHT, "2026-11-24 06:59", "2026-11-24 07:00"),
        (NIGHT, "2026-11-24 07:00", None),
        (WEEKEND, "2026-11-27 23:00", "2026-11-28 10:00"),
        (WEEKEND, "2026-11-28 09:59", "2026-11-28 10:00"),
        (WEEKEND, "2026-11-28 10:00", None),
        (WEEKEND, "2026-11-30 08:00", None),
        (windows("sun 22:00-06:00"), "2026-11-30 05:00", "2026-11-30 06:00"),
        (windows("sun 22:00-06:00"), "2026-11-29 05:00", None),
        (windows("fri-mon 00:00-24:00"), "2026-11-27 00:00", "2026-12-01 00:00"),
        (windows("12:00-13:00", "12:30-14:00", "14:00-15:00"), "2026-11-23 12:10", "2026-11-23 15:00"),
        (windows("12:00-15:00", "12:30-13:00"), "2026-11-23 12:40", "2026-11-23 15:00"),
        ((), "2026-11-23 12:40", None),
    ],
)
def test_when_it_is_quiet_and_until_when(quiet: tuple[Window, ...], now: str, end: str | None) -> None:
    assert quiet_until(quiet, at(now), COPENHAGEN) == (at(end) if end else None)


@pytest.mark.parametrize(
    ("zone", "night", "hours"),
    [
        (COPENHAGEN, "2026-03-28", 8),
        (COPENHAGEN, "2026-10-24", 10),
        (COPENHAGEN, "2026-11-23", 9),
        (NEW_YORK, "2026-03-07", 8),
        (NEW_YORK, "2026-10-31", 10),
        (LORD_HOWE, "2026-10-03", 8.5),
        (LORD_HOWE, "2026-04-04", 9.5),
    ],
)
def test_a_night_is_as_long_as_it_is_on_the_clock_s_two_days(zone: ZoneInfo, night: str, hours: float) -> None:
    begin = at(f"{night} 22:00", zone)
    assert quiet_until(NIGHT, begin - 1, zone) is None
    assert quiet_until(NIGHT, begin, zone) == begin + hours * HOUR


@pytest.mark.parametrize(
    ("text", "zone", "begin", "end"),
    [
        # Left out: 02:00-03:00 in Copenhagen and New York, 02:00-02:30 on Lord Howe.
        ("02:15-04:00", COPENHAGEN, at("2026-03-29 03:00"), at("2026-03-29 04:00")),
        ("01:00-02:30", COPENHAGEN, at("2026-03-29 01:00"), at("2026-03-29 03:00")),
        ("02:15-04:00", NEW_YORK, at("2026-03-08 03:00", NEW_YORK), at("2026-03-08 04:00", NEW_YORK)),
        ("02:15-04:00", LORD_HOWE, at("2026-10-04 02:30", LORD_HOWE), at("2026-10-04 04:00", LORD_HOWE)),
        # Twice: 02:00-03:00 in Copenhagen, 01:00-02:00 in New York, 01:30-02:00 on Lord Howe.
        ("02:15-04:00", COPENHAGEN, at("2026-10-25 02:15"), at("2026-10-25 04:00")),
        ("01:00-02:30", COPENHAGEN, at("2026-10-25 01:00"), at("2026-10-25 02:30", fold=1)),
        ("00:30-01:30", NEW_YORK, at("2026-11-01 00:30", NEW_YORK), at("2026-11-01 01:30", NEW_YORK, fold=1)),
        ("01:00-01:45", LORD_HOWE, at("2026-04-05 01:00", LORD_HOWE), at("2026-04-05 01:45", LORD_HOWE, fold=1)),
    ],
)
def test_a_window_that_begins_or_ends_when_the_clock_is_set(
    text: str, zone: ZoneInfo, begin: Instant, end: Instant
) -> None:
    quiet = windows(text)
    assert quiet_until(quiet, begin - 1, zone) is None
    assert quiet_until(quiet, begin, zone) == end
    assert quiet_until(quiet, end - 1, zone) == end
    assert quiet_until(quiet, end, zone) is None


def test_a_window_that_is_left_out_altogether_is_no_quiet() -> None:
    for minute in range(90):
        assert quiet_until(windows("02:15-02:45"), at("2026-03-29 01:30") + minute * MINUTE, COPENHAGEN) is None


minutes = st.integers(0, 24 * 60 - 1)
a_window = st.builds(Window, st.frozensets(st.integers(0, 6), min_size=1), minutes, st.integers(1, 24 * 60)).filter(
    lambda each: each.begin != each.end
)
some_windows = st.lists(a_window, min_size=1, max_size=4).map(tuple).filter(lambda some: not covers_the_week(some))
instants = st.integers(at("2025-01-01 00:00") // 1000, at("2028-01-01 00:00") // 1000).map(lambda second: second * 1000)


def in_a_window(some: tuple[Window, ...], instant: Instant, zone: ZoneInfo) -> bool:
    """By the clock on the wall alone."""
    shown = wall(instant, zone)
    minute = shown.hour * 60 + shown.minute
    return any(
        (shown.weekday() - days) % 7 in each.days and each.begin <= minute + days * 1440 < each.begin + each.length
        for each in some
        for days in (0, 1)
    )


def is_set_nearby(instant: Instant, zone: ZoneInfo) -> bool:
    return wall(instant - 3 * HOUR, zone).utcoffset() != wall(instant + 3 * HOUR, zone).utcoffset()


@given(some_windows, instants, st.sampled_from(ZONES))
def test_it_is_quiet_when_the_clock_on_the_wall_says_so(some: tuple[Window, ...], now: Instant, zone: ZoneInfo) -> None:
    quiet = quiet_until(some, now, zone) is not None
    if in_a_window(some, now, zone):
        assert quiet
    elif not is_set_nearby(now, zone):
        assert not quiet


@given(some_windows, instants, st.sampled_from(ZONES))
def test_the_end_is_the_first_moment_that_is_not_quiet(some: tuple[Window, ...], now: Instant, zone: ZoneInfo) -> None:
    end = quiet_until(some, now, zone)
    if end is not None:
        assert end > now
        assert quiet_until(some, end, zone) is None
        assert quiet_until(some, end - 1, zone) == end
        assert quiet_until(some, (now + end) // 2, zone) == end


@given(a_window)
def test_a_window_is_read_as_it_is_shown(each: Window) -> None:
    assert window(str(each)) == each


@pytest.mark.parametrize(
    ("text", "days", "begin", "end"),
    [
        ("22:00-07:00", "mon,tue,wed,thu,fri,sat,sun", "22:00", "07:00"),
        ("sat,sun 00:00-10:00", "sat,sun", "00:00", "10:00"),
        ("Mon-Fri 12:00 - 13:00", "mon,tue,wed,thu,fri", "12:00", "13:00"),
        ("sat - mon, wed  00:00-24:00", "sat,sun,mon,wed", "00:00", "24:00"),
    ],
)
def test_what_may_be_written(text: str, days: str, begin: str, end: str) -> None:
    numbers = frozenset(DAYS.index(day) for day in days.split(","))
    assert window(text) == Window(numbers, clock(begin), clock(end))


NO_DAYS = "must name days as mon, tue, wed, thu, fri, sat, sun, with commas between them, or mon-fri"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'must be a time such as "22:00-07:00" or "sat,sun 00:00-10:00"'),
        ("at night", 'must be a time such as "22:00-07:00" or "sat,sun 00:00-10:00"'),
        ("22:00", 'must be a time such as "22:00-07:00" or "sat,sun 00:00-10:00"'),
        ("22:00-25:00", 'must have times such as "08:00", from "00:00" to "24:00"'),
        ("7:00-9:00", 'must have times such as "08:00", from "00:00" to "24:00"'),
        ("07:00-07:00", 'must end at another time than it begins; a whole day is "00:00-24:00"'),
        ("24:00-07:00", 'must begin before "24:00": at "00:00", which is on the next day'),
        (
            "sad 22:00-07:00",
            "must name days as mon, tue, wed, thu, fri, sat, sun, with commas between them, or mon-fri",
        ),
        (
            "mon- 22:00-07:00",
            "must name days as mon, tue, wed, thu, fri, sat, sun, with commas between them, or mon-fri",
        ),
    ],
)
def test_what_is_no_window_is_refused_with_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        window(text)


@pytest.mark.parametrize(
    ("texts", "all_of_it"),
    [
        (("00:00-24:00",), True),
        (("00:00-12:00", "12:00-24:00"), True),
        (("22:00-07:00", "07:00-21:59"), False),
        (("mon-sat 00:00-24:00",), False),
        (("mon-sat 00:00-24:00", "sun 00:00-23:00", "sun 22:00-01:00"), True),
    ],
)
def test_whether_a_week_has_a_minute_left(texts: tuple[str, ...], all_of_it: bool) -> None:
    assert covers_the_week(windows(*texts)) == all_of_it


def test_a_clock_that_is_set_does_not_make_the_quiet_endless() -> None:
    """The one free slot of the week is left out when summer begins: it is quiet until the next week's."""
    some = windows("mon-sat 00:00-24:00", "sun 00:00-02:10", "sun 02:20-24:00")
    assert quiet_until(some, at("2026-03-27 12:00"), COPENHAGEN) == at("2026-04-05 02:10")
    assert timedelta(milliseconds=at("2026-04-05 02:10") - at("2026-03-27 12:00")) < timedelta(days=10)
