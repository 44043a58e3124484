"""From the clock on the wall to the instant, also in the nights when that clock is set."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo

from vmwatch.hours import Minute
from vmwatch.models import Instant

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def wall(instant: Instant, zone: tzinfo) -> datetime:
    return (_EPOCH + instant * _MS).astimezone(zone)


def instant_of(day: date, minute: Minute, zone: tzinfo, *, last: bool) -> Instant:
    """When the clock shows that minute of that day (1440: midnight at its end).

    Of a minute that comes twice, the `last` or the first one; of one that is left out, the moment it is left out.
    """
    shown = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001 - the zone comes next
    first, second = (_instant(shown.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if first > second:
        return _change(second, first, zone)
    return second if last else first


def _instant(when: datetime) -> Instant:
    return (when.astimezone(UTC) - _EPOCH) // _MS


def _change(before: Instant, after: Instant, zone: tzinfo) -> Instant:
    """The moment between the two at which the clock is set."""
    offset = wall(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if wall(middle, zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
