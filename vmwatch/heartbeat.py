"""The clock and the heartbeat: APScheduler looks at the ledger once a second, and does the chores once an hour.

The schedule itself lives in the ledger. Everything that decides gets its `Moment` from the clock here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from vmwatch.models import SECOND, Duration, Instant, Moment

BEAT_S = 1.0
"""A look at least so often; polls that fall due in between ring for themselves (`poll`)."""
LATE_S = 2.5
"""A heartbeat that is this late was stopped by a clock set back; it is started again."""
CHORES_EVERY_S = 3600.0
STEP: Duration = SECOND
"""A wall clock that departs from the daemon's own by more than this was set; less is left as it is."""
UNSURE: Duration = SECOND
"""A store that takes longer to tell its time does not tell it well enough."""
HELD_UP: Duration = 50
"""Two readings that are further apart than this do not belong together: the process was held up in between."""

Ring = Callable[[], None]


class Clock:
    """The time that everything is decided by, the randomness for jitter, and a watch over the wall clock's being set.

    It never jumps: it is the steady clock, set by the wall clock once, and again by `follow`. So between the
    setting of the wall clock and the moving of what the ledger waits for, nothing is written down by a time
    that the rest of the ledger does not go by. Where several computers share the ledger, its database's clock
    stands for the wall clock (`go_by`), or a claim of one would be over for another before it began.
    """

    def __init__(self) -> None:
        self._store_minus_steady: Duration | None = None
        self._offset = self._wall_minus_steady()
        self.followed: Duration = 0
        """By how much the wall clock was set, in all, since this clock was."""

    def now(self) -> Instant:
        return self.steady() + self._offset + self.followed

    def moment(self) -> Moment:
        return Moment(self.now(), random.uniform(-1, 1))  # noqa: S311 - jitter keeps no secret

    async def go_by(self, time_of_store: Callable[[], Awaitable[Instant | None]]) -> None:
        """Ask what the store's own clock says, if it has one, and go by that from now on."""
        asked = self.steady()
        told = await time_of_store()
        answered = self.steady()
        if told is None or answered - asked > UNSURE:
            return
        is_first = self._store_minus_steady is None
        self._store_minus_steady = told - (asked + answered) // 2
        if is_first:
            self._offset, self.followed = self._store_minus_steady, 0

    def step(self) -> Duration:
        """By how much the wall clock was set and is not yet followed: 0, or more than STEP either way.

        A computer that slept did not have its clock set: the steady clock counts sleep too.
        """
        departed = self._set_to() - self._offset - self.followed
        return departed if abs(departed) > STEP else 0

    def follow(self, step: Duration) -> None:
        """Go by the wall clock as it was set; what the ledger waits for has been moved by as much."""
        self.followed += step

    def wall(self) -> Instant:
        """What people and other processes go by."""
        return time.time_ns() // 1_000_000

    def steady(self) -> Duration:
        """Since the computer was started, its sleep included, whatever is done to its clock."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def _set_to(self) -> Duration:
        return self._wall_minus_steady() if self._store_minus_steady is None else self._store_minus_steady

    def _wall_minus_steady(self) -> Duration:
        while True:
            before, wall = self.steady(), self.wall()
            if self.steady() - before <= HELD_UP:
                return wall - before


class Heartbeat:
    """Calls `beat` once a second and `chores` once an hour, whatever is done to the computer's clock.

    Both only ring for somebody else's work: APScheduler would swallow what the work raises.
    """

    def __init__(self, beat: Ring, chores: Ring) -> None:
        self._beat = beat
        self._chores = chores
        self._last = time.monotonic()
        # Misfires are never skipped, and a backlog of them is one run.
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        self._scheduler = AsyncIOScheduler(timezone=UTC, job_defaults=defaults)
        rounds = {self._on_beat: BEAT_S, self._on_chores: CHORES_EVERY_S}
        self._jobs = [self._scheduler.add_job(ring, _Every(pace)) for ring, pace in rounds.items()]

    async def run(self) -> None:
        """Beat until cancelled."""
        self._scheduler.start()
        try:
            while True:
                await asyncio.sleep(BEAT_S)
                self._start_again_if_late()
        finally:
            self._scheduler.pause()  # or it would begin what its end cuts off, and log that as a failure
            self._scheduler.shutdown(wait=False)

    async def _on_beat(self) -> None:
        self._last = time.monotonic()
        self._beat()

    async def _on_chores(self) -> None:
        self._chores()

    def _start_again_if_late(self) -> None:
        """APScheduler waits for the wall clock: set back by an hour, it would stand still for an hour."""
        if time.monotonic() - self._last > LATE_S:
            for job in self._jobs:
                job.modify(next_run_time=datetime.now(UTC))


class _Every(BaseTrigger):  # type: ignore[misc] # APScheduler ships no types
    """A steady pace from now on: a clock set forward by days leaves no million of missed runs to count."""

    def __init__(self, seconds: float) -> None:
        self._pace = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous_fire_time: Any, now: datetime) -> datetime:
        if previous_fire_time is None:
            return now
        following: datetime = previous_fire_time + self._pace
        return following if following > now - self._pace else now + self._pace
