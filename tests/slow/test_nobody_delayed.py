"""Promise 4: one dead channel, hanging line or bad answer delays nobody else.

The daemon is a process of its own; the operator and the receivers live in the test's. The operator's and the
lines' times are a tenth of the defaults (a line is read every 6 s instead of 60 s, a request may take 2 s instead
of 20 s, back-offs begin at 3 s instead of 30 s), so that the lines are as busy as with the defaults and a minute
has ten polls of each. The heartbeat, `concurrency`, `[delivery]` and the bounds are not scaled. A line's first
poll is not counted: lines that were never read share half of the room, as those that are not well do.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lateness import Figures, TimedWebhook, late_alerts, late_polls, most_memory, seen_at, wall, with_a_second_chance
from receivers import ACCEPT, DRIP, HANG, MailServer, Webhook, refuse
from values import alert
from world import World, bench_in, settings_of, until, world_in

from vmwatch.models import MINUTE, SECOND, Duration, Instant
from vmwatch.simulator import Odd, Simulator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

INTERVAL: Duration = 6 * SECOND
TIMEOUT: Duration = 2 * SECOND
BACKOFF: Duration = 3 * SECOND
A_TENTH: dict[str, dict[str, Any]] = {
    "operator": {"timeout": "2s"},
    "polling": {"interval": "6s", "jitter": 0, "error_backoff": {"initial": "3s", "max": "90s"}},
}
TRAVEL: Duration = 100
"""By how much later one request may reach the operator than another, after they were sent."""
WATCHED_S = 30.0
MB = 2**20


@contextlib.asynccontextmanager
async def world_of(folder: Path, lines: int, **simulator: Any) -> AsyncIterator[World]:
    async with world_in(folder, **simulator) as world:
        for name, table in A_TENTH.items():
            world.config[name] |= table
        for place in range(lines):
            world.line(f"line{place}")
        yield world


async def all_read(world: World) -> None:
    """Every line was read once, and so is known to be well."""

    def every_line_is_ok() -> bool:
        return world.sql("SELECT COUNT(*) FROM line WHERE state = 'ok'") == [(len(world.numbers),)]

    await until(every_line_is_ok, 60)


# ---- 50 lines of which 20 are dead, 10 channels of which 4 are ----


async def test_hanging_lines_and_channels_delay_nobody_else(tmp_path: Path) -> None:
    await with_a_second_chance(_hanging_lines_and_channels, tmp_path)


async def _hanging_lines_and_channels(folder: Path) -> None:
    async with world_of(folder, 50) as world, receivers(world) as healthy:
        names = list(world.numbers)
        hanging, dripping, well = names[:10], names[10:20], names[20:]
        async with world.running() as daemon:
            await all_read(world)
            since = wall()
            for name in hanging + dripping:
                world.operator.odd(world.numbers[name], Odd.HANG if name in hanging else Odd.DRIP)
            await calls(world, well)
            ended = wall()
            await until(lambda: all(len(hook.arrivals) >= len(seen_at(world)) for hook in healthy))
            memory = most_memory(daemon.process.pid)
            await daemon.kill()
        _judge_lines(world, well, hanging + dripping, since, ended)
        alerts = late_alerts("alerts on healthy channels", healthy, seen_at(world))
        print(alerts, f"; memory {memory / MB:.0f} MB")
        assert alerts.p99 < SECOND
        assert memory < 150 * MB


@contextlib.asynccontextmanager
async def receivers(world: World) -> AsyncIterator[list[TimedWebhook]]:
    """Ten channels: six that are well, two that hang, one that drips, and a mail server that hangs."""
    async with contextlib.AsyncExitStack() as stack:
        hooks = [await stack.enter_async_context(TimedWebhook()) for _ in range(9)]
        mail = await stack.enter_async_context(MailServer(HANG))
        for place, hook in enumerate(hooks):
            world.channel(f"channel{place}", hook.url)
        world.channel("channel9", mail.url)
        for hook, manner in zip(hooks[6:], (HANG, HANG, DRIP), strict=True):
            hook.manner = manner
        yield hooks[:6]


async def calls(world: World, names: list[str]) -> None:
    """Messages on these lines, one after the other, for as long as is watched."""
    count = int(WATCHED_S / 0.5)
    for place in range(count):
        world.operator.leave(world.numbers[names[place % len(names)]], name=f"caller{place}")
        await asyncio.sleep(WATCHED_S / count)
    await until(lambda: len(seen_at(world)) == count)


def _judge_lines(world: World, well: list[str], dead: list[str], since: Instant, ended: Instant) -> None:
    polls = late_polls(
        "polls of healthy lines", world.operator, [world.numbers[name] for name in well], INTERVAL, since, ended
    )
    print(polls)
    assert polls.p99 < 2 * SECOND
    retries = Figures("retries of dead lines", [late for name in dead for late in _late_retries(world, name, since)])
    print(retries)
    assert min(retries.samples) >= -TRAVEL, "a line was asked before its back-off was over"
    # Twenty share half of the room, so that each may have to wait for another one's timeout, and for a heartbeat.
    assert retries.p99 < 2 * TIMEOUT + 2 * SECOND


def _late_retries(world: World, name: str, since: Instant) -> list[int]:
    """How much later than its back-off, which begins when an attempt ends, a dead line was asked again."""
    asked = [login.at for login in world.logins(name) if login.at >= since]
    assert len(asked) >= 3, f"{name} was asked {len(asked)} times"
    assert world.operator.most_at_once(world.numbers[name]) == 1
    gaps = [later - earlier - TIMEOUT for earlier, later in pairwise(asked)]
    return [gap - BACKOFF * 2**place for place, gap in enumerate(gaps)]


async def test_twenty_lines_that_hang_all_at_once_leave_half_of_the_room(tmp_path: Path) -> None:
    """In the test's own process, which turns the clock: all fifty fall due at the same moment."""
    async with (
        Simulator() as operator,
        bench_in(tmp_path, settings_of(operator, {"phone": "json://127.0.0.1:9/"}, lines=50)) as bench,
    ):
        while await bench.poll():
            pass
        numbers = list(operator.lines)
        dead, well = numbers[:20], numbers[20:]
        for number in dead:
            operator.odd(number, Odd.INTERNAL_ERROR, 1)
            operator.odd(number, Odd.HANG)
        bench.clock.ahead += MINUTE
        while await bench.poll():
            pass
        bench.clock.ahead += 2 * MINUTE

        async def all_that_are_well_were_read() -> bool:
            await bench.poller.round()
            return all(len(operator.logins(number)) >= 3 for number in well)  # one may be due again already

        await until(all_that_are_well_were_read)
        assert sum(len(operator.logins(number)) == 3 for number in dead) == 10
        await bench.poller.stop(0)


# ---- a channel that is dead while much waits for it ----


async def test_much_that_waits_for_a_dead_channel_tries_it_gently_and_arrives_at_once(tmp_path: Path) -> None:
    """In the test's own process, where ten minutes are ten minutes only for the ledger."""
    async with Simulator() as operator, Webhook(refuse(500)) as hook:
        settings = settings_of(operator, {"phone": hook.url})
        async with bench_in(tmp_path, settings) as bench:
            for _ in range(300):
                await bench.ledger.outbox.owe(alert(channels=("phone",)), bench.clock.now())
            for _ in range(600):
                await bench.deliver(SECOND)
            retries = len(hook.record) - 300
            assert 20 < retries <= 600 / 10, "each is tried once, and then one of them every ten seconds"
            hook.manner = ACCEPT
            tried = len(hook.record)
            for _ in range(12):
                await bench.deliver(SECOND)
            assert len(hook.record) - tried == 300
            assert {one["state"] for one in await bench.outbox()} == {"sent"}


# ---- ten thousand messages at once ----

STORM = 10_000


async def test_ten_thousand_messages_at_once_are_one_summary_on_each_channel(tmp_path: Path) -> None:
    await with_a_second_chance(_ten_thousand_messages, tmp_path)


async def _ten_thousand_messages(folder: Path) -> None:
    async with world_of(folder, 10) as world, receivers(world) as healthy:
        async with world.running() as daemon:
            await all_read(world)
            since = wall()
            for place in range(STORM):
                world.operator.leave(world.numbers["line0"], name=f"caller{place}")
            await until(lambda: len(seen_at(world)) == STORM, 60)
            await until(lambda: all(hook.record for hook in healthy))
            world.operator.leave(world.numbers["line0"], name="the next one")
            await until(lambda: all(len(hook.record) > 1 for hook in healthy))
            await asyncio.sleep(INTERVAL / SECOND)
            ended, memory = wall(), most_memory(daemon.process.pid)
            await daemon.kill()
        others = [number for name, number in world.numbers.items() if name != "line0"]
        polls = late_polls("polls of other lines", world.operator, others, INTERVAL, since, ended)
        print(f"{STORM} messages at once: memory {memory / MB:.0f} MB; {polls}")
        assert [len(hook.record) for hook in healthy] == [2] * 6
        assert all("10000 new voicemails" in str(hook.record[0].body) for hook in healthy)
        assert world.sql("SELECT kind, COUNT(*) FROM alert WHERE number IS NOT NULL GROUP BY kind") == [
            ("voicemail.new", 1),
            ("voicemail.summary", 1),
        ]
        assert memory < 150 * MB
        assert polls.p99 < 2 * SECOND


# ---- a slow operator, a slow store, a reload ----


async def test_two_hundred_lines_are_read_in_time_from_an_operator_that_takes_five_seconds(tmp_path: Path) -> None:
    """All in a tenth: it takes half a second. Twenty at once read forty a second, and 33 a second fall due."""
    await with_a_second_chance(_slow_operator, tmp_path)


async def _slow_operator(folder: Path) -> None:
    async with world_of(folder, 200, delay=500) as world, TimedWebhook() as hook:
        world.channel("phone", hook.url)
        async with world.running() as daemon:
            await all_read(world)
            since = wall()
            await asyncio.sleep(2 * INTERVAL / SECOND)
            ended = wall()
            await daemon.kill()
        polls = late_polls("polls at a slow operator", world.operator, world.numbers.values(), INTERVAL, since, ended)
        print(polls)
        assert polls.p99 < 2 * SECOND


HOLD = """
import sqlite3, sys, time
store = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
while True:
    store.execute("BEGIN IMMEDIATE")
    time.sleep(2)
    store.execute("ROLLBACK")
    time.sleep(0.3)
"""


async def test_a_store_that_another_process_holds_for_two_seconds_again_and_again_stops_nothing(tmp_path: Path) -> None:
    await with_a_second_chance(_slow_store, tmp_path)


async def _slow_store(folder: Path) -> None:
    async with world_of(folder, 20) as world, TimedWebhook() as hook:
        world.channel("phone", hook.url)
        async with world.running() as daemon:
            await all_read(world)
            holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLD, str(world.store))
            since = wall()
            try:
                for place in range(6):
                    world.operator.leave(world.numbers[f"line{place}"], name=f"caller{place}")
                    await asyncio.sleep(2)
                await until(lambda: len(hook.arrivals) == 6)
            finally:
                holder.kill()
                await holder.wait()
            ended = wall()
            await daemon.stop()
        polls = late_polls("polls with a held store", world.operator, world.numbers.values(), INTERVAL, since, ended)
        alerts = late_alerts("alerts with a held store", [hook], seen_at(world))
        print(polls, alerts, sep="; ")
        # What must be written down waits for the store; that never adds up to a missed poll.
        assert polls.share(1) < INTERVAL
        assert "Traceback" not in daemon.said()


async def test_a_reload_with_a_thousand_lines_delays_no_poll(tmp_path: Path) -> None:
    await with_a_second_chance(_reload, tmp_path)


async def _reload(folder: Path) -> None:
    async with world_of(folder, 1000) as world, TimedWebhook() as hook:
        world.channel("phone", hook.url)
        async with world.running() as daemon:
            await all_read(world)
            since = wall()
            for place in range(4):
                world.config[f"lines.line{place}"]["label"] = f"Line {place}"
                world.write()
                daemon.send(signal.SIGHUP)
                await until(daemon.has_noticed("READY=1", 2 + place))
                await asyncio.sleep(3)
            world.operator.leave(world.numbers["line0"], name="caller0")
            await until(lambda: len(hook.arrivals) == 1, 30)
            ended = wall()
            await daemon.stop()
        polls = late_polls("polls beside reloads", world.operator, world.numbers.values(), INTERVAL, since, ended)
        print(polls)
        assert polls.p99 < 2 * SECOND
        assert {world.operator.most_at_once(number) for number in world.numbers.values()} == {1}
