"""However often it is looked at, nobody's poll is late: live pages, open connections, many questions, slow readers."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lateness import Figures, late_polls, most_memory, wall, with_a_second_chance
from pages import live_page
from receivers import Webhook
from visitors import ask
from world import World, until, world_in

from vmwatch.models import SECOND, Duration

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]
LINES, OPEN, A_SECOND, LASTS_S = 20, 200, 100, 15.0
DELAY: Duration = 500
FOLLOWED, FOLLOWED_EVERY, SLOW = 50, 2 * SECOND, 20
MEMORY = 250 << 20
TARGETS = ("/api/status", "/api/messages?limit=1000", "/api/outbox?all=1", "/metrics", "/healthz", "/readyz")
PAGES = ("/", "/?lang=da", "/page.css", "/page.js", "/api/status")


@contextlib.asynccontextmanager
async def visited(port: int) -> AsyncIterator[list[int]]:
    """Connections that say nothing more, others that ask and never read, and a hundred questions a second."""
    statuses: list[int] = []
    tasks = [asyncio.create_task(_lingers(port, reads=bool(place % 2))) for place in range(OPEN)]
    tasks += [asyncio.create_task(_asks(port, place, statuses)) for place in range(A_SECOND // 10)]
    try:
        yield statuses
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _lingers(port: int, *, reads: bool) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                ending = b"" if reads else b"\r\n"
                writer.write(b"GET /api/messages?limit=1000 HTTP/1.1\r\nHost: localhost\r\n" + ending)
                await (reader.read() if reads else asyncio.sleep(30))
            finally:
                writer.close()
        await asyncio.sleep(1)


async def _asks(port: int, place: int, statuses: list[int], targets: tuple[str, ...] = TARGETS) -> None:
    while True:
        with contextlib.suppress(OSError, IndexError, ValueError, TimeoutError):
            statuses.append((await ask(port, targets[place % len(targets)])).status)
        place += 1
        await asyncio.sleep(0.1)


async def test_looking_at_it_delays_no_poll(tmp_path: Path) -> None:
    async def trial(folder: Path) -> None:
        async with world_in(folder / "world") as world, Webhook() as hook:
            world.config["web"] = {"listen": "127.0.0.1:0"}
            world.config["polling"] = {"interval": "1s", "jitter": 0, "first_poll": "silent"}
            world.channel("phone", hook.url)
            await _measured(world)

    await with_a_second_chance(trial, tmp_path)


async def test_live_pages_delay_no_poll(tmp_path: Path) -> None:
    """Two hundred pages that follow every poll of fifty lines, some of them without reading what they are sent."""

    async def trial(folder: Path) -> None:
        async with world_in(folder / "world") as world, Webhook() as hook:
            world.config["web"] = {"listen": "127.0.0.1:0"}
            world.config["polling"] = {"interval": "2s", "jitter": 0, "first_poll": "silent"}
            world.channel("phone", hook.url)
            await _followed(world)

    await with_a_second_chance(trial, tmp_path)


async def _followed(world: World) -> None:
    for place in range(FOLLOWED):
        number = world.line(f"line{place}")
        world.operator.leave(number, caller="+4520305071", name="N" * 100)
    async with world.running() as daemon:
        for place in range(FOLLOWED):
            await until(world.state_is(f"line{place}", "ok"))
        port = int(re.findall(r"answering on http://\S+:(\d+)", daemon.said())[-1])
        alone = await _lateness("alone", world, FOLLOWED_EVERY)
        frames, statuses = [0] * OPEN, list[int]()
        tasks = [asyncio.create_task(_follows(port, place, frames)) for place in range(OPEN)]
        tasks += [asyncio.create_task(_asks(port, place, statuses, PAGES)) for place in range(A_SECOND // 10)]
        try:
            await asyncio.sleep(5)
            watched = await _lateness("followed", world, FOLLOWED_EVERY)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        memory = most_memory(daemon.process.pid)
        reading = frames[: OPEN - SLOW]
        text = f"{min(reading)} to {max(reading)} frames a page, {statuses.count(200)} of {len(statuses)} answers whole"
        print(alone, watched, text, f"{memory >> 20} MB", sep="; ")
        assert watched.p99 < alone.p99 + DELAY
        assert watched.share(0.5) < alone.share(0.5) + DELAY
        assert min(reading) >= 3
        assert statuses.count(200) > LASTS_S
        assert memory < MEMORY


async def _follows(port: int, place: int, frames: list[int]) -> None:
    """The last SLOW ones never read on."""
    while True:
        with contextlib.suppress(OSError, AssertionError, asyncio.IncompleteReadError, TimeoutError):
            async with live_page(port, f"/events?lang={('en', 'da')[place % 2]}") as page:
                while place < OPEN - SLOW:
                    await page.frame()
                    frames[place] += 1
                    del page.frames[:]
                await asyncio.sleep(30)
        await asyncio.sleep(1)


async def _measured(world: World) -> None:
    for place in range(LINES):
        number = world.line(f"line{place}")
        for _ in range(30):
            world.operator.leave(number, caller="+4520305071", name="N" * 100)
    async with world.running() as daemon:
        for place in range(LINES):
            await until(world.state_is(f"line{place}", "ok"))
        port = int(re.findall(r"answering on http://\S+:(\d+)", daemon.said())[-1])
        alone = await _lateness("alone", world)
        async with visited(port) as statuses:
            watched = await _lateness("watched", world)
            memory = most_memory(daemon.process.pid)
        print(
            alone, watched, f"{len(statuses)} answers, {statuses.count(200)} of them whole, {memory >> 20} MB", sep="; "
        )
        assert watched.p99 < alone.p99 + DELAY
        assert watched.share(0.5) < alone.share(0.5) + DELAY
        assert statuses.count(200) > LASTS_S
        assert memory < MEMORY


async def _lateness(what: str, world: World, interval: Duration = SECOND) -> Figures:
    """Also undisturbed a poll may be a second late, for that is how often the ledger is looked at."""
    since = wall()
    await asyncio.sleep(LASTS_S)
    return late_polls(what, world.operator, world.numbers.values(), interval, since, wall())
