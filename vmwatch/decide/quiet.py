"""Quiet hours: whether an instant lies in one of a channel's windows, and when the quiet ends.

In the night when the clock is set back, an hour comes twice: a window that begins in it begins with the first, one that
ends in it ends with the second, and nothing in between interrupts it. A minute that is left out in spring is no
minute: a window that would begin or end with it begins or ends when the clock is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta, tzinfo

from vmwatch.decide.local import instant_of, wall
from vmwatch.hours import Window
from vmwatch.models import Instant

_DAY = timedelta(days=1)


def quiet_until(windows: Sequence[Window], now: Instant, zone: tzinfo) -> Instant | None:
    """The end of the quiet that holds now, windows that follow each other without a gap counted as one; None: no quiet.

    `windows` must not cover the whole week (`hours.covers_the_week`).
    """
    end = now
    while (later := _end(windows, end, zone)) is not None:
        end = later
    return end if end > now else None


def _end(windows: Sequence[Window], instant: Instant, zone: tzinfo) -> Instant | None:
    """The latest end of the windows that the instant lies in."""
    today = wall(instant, zone).date()
    spans = (span for window in windows for day in (today - _DAY, today) for span in _span(window, day, zone))
    return max((end for begin, end in spans if begin <= instant < end), default=None)


def _span(window: Window, day: date, zone: tzinfo) -> Iterator[tuple[Instant, Instant]]:
    """From when to when it lasts that begins on this day, if one does."""
    if day.weekday() in window.days:
        begin = instant_of(day, window.begin, zone, last=False)
        yield begin, instant_of(day, window.begin + window.length, zone, last=True)
