"""How long to wait: growing delays after failures, and a poll's place in its interval. Pure arithmetic."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from vmwatch.models import Duration, Instant


def delay(initial: Duration, maximum: Duration, failures: int, jitter: float, spread: float) -> Duration:
    """The wait after `failures` failures in a row (1 or more): initial, doubling, never above maximum.

    `spread` is a number from -1 to 1. It only ever lengthens the wait, by up to the share `jitter`, because
    a lock-out's back-off is a promise not to ask earlier.
    """
    doubled = initial * 2 ** min(failures - 1, 40)
    return int(min(doubled, maximum) * (1 + jitter * abs(spread)))


@dataclass(frozen=True, slots=True)
class Grid:
    """When lines that have one interval are read: again and again at their places in it.

    Each poll is moved by up to half of `jitter` off its place, each wait between two polls therefore by up to
    `jitter`, and nothing adds up to a drift. By how much is a matter of place and time, not of chance: lines that
    share a place stay together.
    """

    interval: Duration
    jitter: float = 0.0
    leaders: Sequence[str] = ()
    """In order: each number shares its place with those after it, up to the next leader. A number that has no leader
    has a place of its own, and many of them spread evenly."""

    def following(self, number: str, now: Instant) -> Instant:
        """When a line that was just read is due again. Only the wait after a start or a back-off is shorter."""
        place = self._place(number)
        half = int(self.interval * self.jitter / 2)  # whole: rounded down, a poll at its earliest came twice
        latest = now + self.interval + half
        slot = latest - (latest - _hash(place)) % self.interval
        return slot + round(half * (_hash(f"{place} {slot}") / 2**31 - 1))

    def _place(self, number: str) -> str:
        led = bisect_right(self.leaders, number)
        return self.leaders[led - 1] if led else number


def _hash(text: str) -> int:
    return crc32(text.encode())
