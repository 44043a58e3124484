"""Promises 1, 2 and 4 on a computer whose clock is set, which sleeps, or which starts in 1970.

The daemon is the real one, with its real heartbeat, operator, channels and ledger; only its clock is another:
one whose wall time the test sets. The operator and the receivers go by real time, and they are the judges. What
the wall clock does to the heartbeat itself, APScheduler's, is proven in `test_heartbeat`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lateness import SetClock, TimedWebhook, wall
from receivers import ACCEPT, Manner
from world import number_of, settings_of, until

from vmwatch import decide
from vmwatch.channels import prepare
from vmwatch.config import Loaded
from vmwatch.daemon import Daemon
from vmwatch.ledger import Ledger
from vmwatch.ledger.sqlite import BUSY_TIMEOUT_S
from vmwatch.models import DAY, HOUR, MINUTE, SECOND, Duration, Instant
from vmwatch.settings import Settings
from vmwatch.simulator import Odd, Simulator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

INTERVAL = SECOND
BACKOFF = 3 * SECOND
PAUSE = 9 * SECOND
STALL = 4 * SECOND
"""By how much a poll may be late on a machine that does other things too: a heartbeat, and its own lateness."""
WELL = [number_of(place) for place in range(4)]
LOCKED, FAILING, PAUSED = number_of(4), number_of(5), number_of(6)


def settings_at(operator: Simulator, hook: TimedWebhook) -> Settings:
    """Seven lines, of which the last three will be locked, failing and paused."""
    back_off = {"initial": "3s", "max": "3s"}
    return settings_of(
        operator,
        {"phone": hook.url},
        lines=7,
        polling={"interval": "1s", "jitter": 0, "error_backoff": back_off, "lockout_backoff": back_off},
        delivery={"retry": {"initial": "3s", "max": "3s", "give_up_after": "7d"}},
    )


@contextlib.asynccontextmanager
async def watching(folder: Path, settings: Settings, clock: SetClock) -> AsyncIterator[Daemon]:
    """The daemon, inside this process, by a clock that the test sets."""
    prepare()
    loaded = Loaded(settings, None, f"sqlite:///{folder / 'vmwatch.db'}")
    daemon = Daemon(loaded, lambda: loaded, UTC, clock=clock)
    task = asyncio.create_task(daemon.run())
    try:
        yield daemon
    finally:
        daemon.stop()
        await task


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(f"sqlite:///{folder / 'vmwatch.db'}", create=False)
    try:
        yield ledger
    finally:
        await ledger.close()


async def all_read(operator: Simulator) -> None:
    await until(lambda: all(len(operator.logins(number)) > 1 for number in WELL))


async def begin_all_waits(folder: Path, operator: Simulator, hook: TimedWebhook, clock: SetClock) -> Instant:
    """Begin a lock-out, a back-off, a pause and an alert's retries. Returns when, in real time."""
    await all_read(operator)
    began = wall()
    operator.lock_for = None
    operator.lines[LOCKED].locked_at = began
    operator.odd(FAILING, Odd.INTERNAL_ERROR)
    hook.manner = Manner(status=500, seconds=1.5)
    operator.leave(WELL[0], name="caller1")
    await pause(folder, PAUSED, clock.wall())
    await until(lambda: bool(hook.arrivals) and state_of(folder, LOCKED) == "locked")
    return began


async def pause(folder: Path, number: str, now: Instant) -> None:
    """What `vmwatch pause --for` does."""
    async with opened(folder) as ledger:
        standing = await ledger.lines.standing(number)
        while standing is not None and not await ledger.lines.change(decide.paused(standing, now + PAUSE, now)):
            standing = await ledger.lines.standing(number)


def state_of(folder: Path, number: str) -> str:
    return str(look(folder, "SELECT state FROM line WHERE number = ?", number)[0][0])


def look(folder: Path, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(folder / "vmwatch.db")) as connection:
        return connection.execute(statement, parameters).fetchall()


def gaps(operator: Simulator, number: str, since: Instant) -> list[Duration]:
    asked = [login.at for login in operator.logins(number) if login.at >= since]
    return [later - earlier for earlier, later in pairwise(asked)]


# ---- set while the daemon runs ----

UNDER_WAY = (FAILING, LOCKED, WELL[1], "a delivery", LOCKED)
"""What is under way when the clock is set: its verdict comes before the daemon can have noticed."""
BY_PEOPLE = (60 * DAY, -60 * DAY, 60 * DAY, 12 * 365 * DAY, -HOUR)
BY_NTP = (3 * SECOND, -4 * SECOND, 700, 700, 5 * SECOND)


async def test_however_the_clock_is_set_every_wait_is_as_long_as_it_was(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as both:
        for name, steps in {"people": BY_PEOPLE, "ntp": BY_NTP}.items():
            (tmp_path / name).mkdir()
            both.create_task(_set_again_and_again(tmp_path / name, steps))


async def _set_again_and_again(folder: Path, steps: tuple[Duration, ...]) -> None:
    async with Simulator(delay=300) as operator, TimedWebhook() as hook:
        clock = SetClock()
        async with watching(folder, settings_at(operator, hook), clock):
            began = await begin_all_waits(folder, operator, hook, clock)
            for step, what in zip(steps, UNDER_WAY, strict=True):
                await begun(what, operator, hook)
                clock.set_by += step
            await asyncio.sleep(2 * BACKOFF / SECOND)
            ended = wall()
            hook.manner = ACCEPT
            await until(lambda: sent(folder) == {"caller1", "caller2"})
        judge(operator, hook, began, ended, len(steps))


async def begun(what: str, operator: Simulator, hook: TimedWebhook) -> None:
    """Wait until a line is being asked, about a message that is new, or until an alert is being delivered."""
    if what == WELL[1]:
        operator.leave(what, name="caller2")
    before = len(operator.logins(what)), len(hook.arrivals)
    if what in operator.lines:
        await until(lambda: len(operator.logins(what)) > before[0])
    else:
        await until(lambda: len(hook.arrivals) > before[1])


def sent(folder: Path) -> set[str]:
    """Whose messages were announced, by the ledger's own word."""
    told = "SELECT m.caller_name FROM delivery d JOIN message m ON m.alert_id = d.alert_id WHERE d.state = 'sent'"
    return {caller for (caller,) in look(folder, told)}


def judge(operator: Simulator, hook: TimedWebhook, began: Instant, ended: Instant, steps: int) -> None:
    """In real time: no stop, no storm, nothing earlier than its wait, and nothing lost."""
    for number in WELL:
        found = gaps(operator, number, began)
        assert max(found) < INTERVAL + STALL, "a line's polls stopped"
        # Where the clock was set, the next poll finds its place on the new time's grid: that may be an earlier one.
        assert len(found) <= (ended - began) / INTERVAL + steps + STALL / INTERVAL, "a storm"
    for number in (LOCKED, FAILING):
        found = gaps(operator, number, began)[1:]
        assert min(found) >= BACKOFF, f"asked {BACKOFF - min(found)} ms too early"
        assert max(found) < BACKOFF * 1.1 + STALL
    paused = max(gaps(operator, PAUSED, began - 2 * INTERVAL))
    assert PAUSE - INTERVAL <= paused < PAUSE + INTERVAL + STALL
    tries = [at for caller, at in hook.arrivals if caller == "caller1" and at <= ended]
    assert len(tries) >= 2, "the alert was no longer tried"
    assert min(later - earlier for earlier, later in pairwise(tries)) >= BACKOFF


async def test_a_setting_that_can_not_be_followed_yet_is_followed_later(tmp_path: Path) -> None:
    """Another process holds the store for longer than is waited for, right when the clock is set."""
    async with Simulator() as operator, TimedWebhook() as hook:
        clock = SetClock()
        async with watching(tmp_path, settings_at(operator, hook), clock):
            await all_read(operator)
            with contextlib.closing(sqlite3.connect(tmp_path / "vmwatch.db", isolation_level=None)) as holder:
                holder.execute("BEGIN IMMEDIATE")
                clock.set_by -= HOUR
                await asyncio.sleep(BUSY_TIMEOUT_S + 1.5)
                holder.execute("ROLLBACK")
            count = len(operator.logins(WELL[0]))
            await until(lambda: len(operator.logins(WELL[0])) > count + 1)
            assert clock.followed == pytest.approx(-HOUR, abs=100)


# ---- a computer that sleeps, or that starts without knowing the time ----


async def test_a_night_s_sleep_is_no_storm(tmp_path: Path) -> None:
    """What came to its end meanwhile is due once, however often it would have been."""
    async with Simulator() as operator, TimedWebhook() as hook:
        clock = SetClock()
        async with watching(tmp_path, settings_at(operator, hook), clock):
            await begin_all_waits(tmp_path, operator, hook, clock)
            tried = len(hook.arrivals)
            hook.manner = ACCEPT
            woken = wall()
            clock.slept += 8 * HOUR
            await asyncio.sleep(2.5)
            ended = wall()
        assert clock.followed == 0, "sleep was taken for a setting of the clock"
        for number in (LOCKED, FAILING, PAUSED):
            assert logins_between(operator, number, woken, woken + 2 * SECOND), "what ended while it slept is due"
        for number in operator.lines:
            asked = logins_between(operator, number, woken, ended)
            assert asked <= (ended - woken) / INTERVAL + 2, "at once, and at each of its own times from there on"
        assert len(hook.arrivals) == tried + 1


def logins_between(operator: Simulator, number: str, since: Instant, until_: Instant) -> int:
    return sum(since <= login.at <= until_ for login in operator.logins(number))


async def test_a_computer_that_starts_in_1970_and_is_told_the_time_later(tmp_path: Path) -> None:
    async with Simulator(delay=300) as operator, TimedWebhook() as hook:
        settings = settings_at(operator, hook)
        clock = SetClock()
        async with watching(tmp_path, settings, clock):
            began = await begin_all_waits(tmp_path, operator, hook, clock)
        clock = SetClock(set_by=30 * SECOND - wall())
        assert clock.now() < MINUTE
        async with watching(tmp_path, settings, clock):
            await until(lambda: len(gaps(operator, FAILING, began)) > 1)
            await begun(LOCKED, operator, hook)
            clock.set_by = 0
            await begun(LOCKED, operator, hook)
            ended = wall()
            hook.manner = ACCEPT
            await until(lambda: sent(tmp_path) == {"caller1"})
            assert clock.followed == pytest.approx(wall(), abs=2 * MINUTE)
        judge(operator, hook, began, ended, 2)
        assert look(tmp_path, "SELECT COUNT(*) FROM delivery WHERE state = 'dead'") == [(0,)]
