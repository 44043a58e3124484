"""The clock and the heartbeat, on a computer whose clock people set."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest

from vmwatch.heartbeat import BEAT_S, CHORES_EVERY_S, LATE_S, Clock, Heartbeat, _Every
from vmwatch.models import DAY, HOUR, SECOND, Duration, Instant

LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)


class SetClock(Clock):
    """A clock whose wall time people set, on a computer that can be sent to sleep."""

    set_by = 0
    slept = 0

    def wall(self) -> Instant:
        return super().wall() + self.slept + self.set_by

    def steady(self) -> Duration:
        return super().steady() + self.slept


def test_the_clock_tells_milliseconds() -> None:
    assert abs(Clock().now() - time.time() * 1000) < SECOND


def test_a_moment_is_now_with_a_spread_of_its_own() -> None:
    clock = Clock()
    moments = [clock.moment() for _ in range(100)]
    spreads = {moment.spread for moment in moments}
    assert abs(moments[-1].now - clock.now()) < SECOND
    assert len(spreads) > 50
    assert -1 <= min(spreads) < -0.5
    assert 0.5 < max(spreads) <= 1


@pytest.mark.parametrize("by", [-60 * DAY, -HOUR, -6 * SECOND, 6 * SECOND, HOUR, 60 * DAY])
def test_a_wall_clock_that_was_set_is_noticed_and_not_gone_by_until_it_is_followed(by: int) -> None:
    clock = SetClock()
    before = clock.now()
    clock.set_by = by
    step = clock.step()
    assert step == pytest.approx(by, abs=100)
    assert clock.now() - before < SECOND
    clock.follow(step)
    assert clock.now() - before == pytest.approx(by, abs=SECOND)
    assert clock.step() == 0


def test_small_corrections_are_no_step_until_they_add_up() -> None:
    clock = SetClock()
    steps = []
    for _ in range(4):
        clock.set_by += 400
        steps.append(clock.step())
    assert steps[0] == 0
    assert steps[-1] == pytest.approx(1600, abs=100)


def test_a_computer_that_slept_did_not_have_its_clock_set() -> None:
    clock = SetClock()
    before = clock.now()
    clock.slept = 3 * HOUR
    assert clock.step() == 0
    assert clock.now() - before == pytest.approx(3 * HOUR, abs=SECOND)


@asynccontextmanager
async def beating(beats: list[float], chores: list[float]) -> AsyncIterator[Heartbeat]:
    """A heartbeat under way that writes down when it rang."""
    heartbeat = Heartbeat(lambda: beats.append(time.monotonic()), lambda: chores.append(time.monotonic()))
    task = asyncio.create_task(heartbeat.run())
    try:
        yield heartbeat
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_it_beats_at_once_and_then_steadily() -> None:
    beats: list[float] = []
    chores: list[float] = []
    began = time.monotonic()
    async with beating(beats, chores):
        await asyncio.sleep(4.5 * BEAT_S)
    assert beats[0] - began < BEAT_S / 2
    assert len(beats) == 5
    assert len(chores) == 1


async def test_it_ends_without_a_word_also_when_a_beat_falls_due(caplog: pytest.LogCaptureFixture) -> None:
    heartbeat = Heartbeat(lambda: None, lambda: None)
    task = asyncio.create_task(heartbeat.run())
    await asyncio.sleep(0.1)
    task.cancel()
    for job in heartbeat._jobs:
        job.modify(next_run_time=datetime.now(UTC))
    await asyncio.sleep(0.1)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_it_beats_on_and_does_its_chores_when_the_clock_was_set_back() -> None:
    beats: list[float] = []
    chores: list[float] = []
    async with beating(beats, chores) as heartbeat:
        await asyncio.sleep(0.2)
        rung = len(beats), len(chores)
        # To APScheduler, a clock set back by an hour is a next run that is an hour away.
        for job in heartbeat._jobs:
            job.modify(next_run_time=datetime.now(UTC) + timedelta(hours=1))
        await asyncio.sleep(LATE_S + BEAT_S + 0.7)
    assert rung == (1, 1)
    assert len(beats) >= 2
    assert len(chores) == 2


@pytest.mark.parametrize("ahead", [timedelta(days=60), timedelta(hours=2), timedelta(seconds=2)])
@pytest.mark.parametrize("pace", [1.0, CHORES_EVERY_S])
def test_a_clock_set_forward_leaves_no_backlog(pace: float, ahead: timedelta) -> None:
    now = LONG_AGO + ahead
    due, missed = LONG_AGO, 0
    while due <= now:
        due = _Every(pace).get_next_fire_time(due, now)
        missed += 1
    assert missed <= 2
    assert due - now <= timedelta(seconds=pace)


def test_the_pace_is_steady_from_now_on() -> None:
    every = _Every(1.0)
    assert every.get_next_fire_time(None, LONG_AGO) == LONG_AGO
    late = timedelta(seconds=0.3)
    assert every.get_next_fire_time(LONG_AGO, LONG_AGO + late) == LONG_AGO + timedelta(seconds=1)
