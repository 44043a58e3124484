"""Times of day and week as people write them: `"22:00-07:00"`, `"sat,sun 00:00-10:00"`, `"next 08:00"`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

Minute: TypeAlias = int
"""Of the day, by the clock on the wall: 0 to 1440."""

DAY_OF_MINUTES: Minute = 24 * 60
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_WINDOW = re.compile(r"(?:(?P<days>[a-z, -]+?)\s+)?(?P<begin>[0-9:]+)\s*-\s*(?P<end>[0-9:]+)")
_WRONG = 'must be a time such as "22:00-07:00" or "sat,sun 00:00-10:00"'


@dataclass(frozen=True, slots=True)
class Window:
    """From one time of day to another, on some days; one that ends at or before its begin ends on the next day."""

    days: frozenset[int]
    """On which it begins: 0 is Monday."""
    begin: Minute
    end: Minute

    @property
    def length(self) -> Minute:
        """By the clock on the wall; on the two days when that is set it lasts shorter or longer."""
        return self.end - self.begin if self.end > self.begin else self.end - self.begin + DAY_OF_MINUTES

    def __str__(self) -> str:
        days = "" if len(self.days) == len(DAYS) else f"{','.join(DAYS[day] for day in sorted(self.days))} "
        return f"{days}{_shown(self.begin)}-{_shown(self.end)}"


def window(text: str) -> Window:
    """Raises ValueError with a sentence."""
    found = _WINDOW.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(_WRONG)
    begin, end = clock(found["begin"]), clock(found["end"])
    if begin == DAY_OF_MINUTES:
        raise ValueError('must begin before "24:00": at "00:00", which is on the next day')
    if begin == end:
        raise ValueError('must end at another time than it begins; a whole day is "00:00-24:00"')
    return Window(_days(found["days"]), begin, end)


def clock(text: str) -> Minute:
    """`08:00` as 480. Raises ValueError with a sentence."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise ValueError('must have times such as "08:00", from "00:00" to "24:00"')
    return int(found[1]) * 60 + int(found[2]) if found[1] else DAY_OF_MINUTES


def covers_the_week(windows: Iterable[Window]) -> bool:
    """Whether there is no minute left between them."""
    week = len(DAYS) * DAY_OF_MINUTES
    covered = bytearray(week)
    for each in windows:
        for day in each.days:
            begin = day * DAY_OF_MINUTES + each.begin
            for minute in range(begin, begin + each.length):
                covered[minute % week] = 1
    return all(covered)


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(len(DAYS)))
    return frozenset(day for part in text.split(",") for day in _run(part.strip()))


def _run(part: str) -> Iterable[int]:
    """`sat`, or `fri-mon`, which goes round the end of the week."""
    first, dash, last = (word.strip() for word in part.partition("-"))
    if first not in DAYS or (dash and last not in DAYS):
        raise ValueError(f"must name days as {', '.join(DAYS)}, with commas between them, or mon-fri")
    begin = DAYS.index(first)
    length = (DAYS.index(last) - begin) % len(DAYS) if dash else 0
    return ((begin + step) % len(DAYS) for step in range(length + 1))


def _shown(minute: Minute) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
