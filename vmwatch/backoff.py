"""How long to wait: growing delays after failures, and a poll's place in its interval. Pure arithmetic."""

from __future__ import annotations

from zlib import crc32

from vmwatch.models import Duration, Instant


def delay(initial: Duration, maximum: Duration, failures: int, jitter: float, spread: float) -> Duration:
    """The wait after `failures` failures in a row (1 or more): initial, doubling, never above maximum.

    `spread` is a number from -1 to 1. It only ever lengthens the wait, by up to the share `jitter`, because
    a lock-out's back-off is a promise not to ask earlier.
    """
    doubled = initial * 2 ** min(failures - 1, 40)
    return int(min(doubled, maximum) * (1 + jitter * abs(spread)))


def next_slot(number: str, now: Instant, interval: Duration, jitter: float, spread: float) -> Instant:
    """When a line that was just read is due again.

    Every number has a place of its own on a grid of intervals, so that many lines spread evenly and jitter
    never adds up to a drift: each poll is moved by up to half of `jitter` off its grid point, each wait
    between two polls therefore by up to `jitter`. Only the wait after a start or a back-off is shorter.
    """
    half = int(interval * jitter / 2)  # whole, as all that follows: rounded down, a poll at its earliest came twice
    phase = crc32(number.encode()) % interval
    latest = now + interval + half
    slot = latest - (latest - phase) % interval
    return slot + round(half * spread)
