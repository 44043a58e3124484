"""Promises 1 and 2 across processes: three `vmwatch run` on one PostgreSQL, one of which dies or is cut off.

The operator notes which process asked, and how many asked for one line at once. The database is a server of the test's
own, which is stopped, frozen, killed and replaced. `operator.timeout` is the default one, and with it the lease
(30 s); lines are polled every 2 s instead of every minute, so that every process has some under way all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import postgres
import pytest
from failover import AttentiveOperator, Load, Wire
from receivers import Webhook
from world import WRONG_PIN, Running, World, until, world_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

LINES = 200
INTERVAL_S = 2
ANSWER_MS = 150
"""The operator takes its time, so that a process that dies has polls under way."""
FAILOVER_S = 60
UNDER_WAY_S = 1.0
"""What was claimed before the cut may still go out."""


@dataclass
class Scene:
    world: World
    server: postgres.Own
    hook: Webhook
    load: Load

    @property
    def operator(self) -> AttentiveOperator:
        assert isinstance(self.world.operator, AttentiveOperator)
        return self.world.operator

    @contextlib.asynccontextmanager
    async def daemons(self, *urls: str) -> AsyncIterator[list[Running]]:
        """One for each URL of the database, all of which poll."""
        async with AsyncExitStack() as stack:
            running = [await stack.enter_async_context(self.world.running(VMWATCH_STORE__URL=url)) for url in urls]
            self.operator.pids |= {daemon.process.pid for daemon in running}
            self.operator.forget_owners()
            yield running

    async def all_share(self, daemons: list[Running]) -> None:
        """Every line was read, and each process has its part of them."""
        await until(lambda: len(self.operator.first_after(0)) == len(self.world.numbers), 60)
        began = time.monotonic()
        await until(lambda: all(len(self.operator.by(daemon, began)) >= 20 for daemon in daemons), 60)

    async def sql(self, statement: str, *parameters: Any) -> list[Any]:
        connection = await asyncpg.connect(self.server.url)
        try:
            return list(await connection.fetch(statement, *parameters))
        finally:
            await connection.close()

    async def failover_s(self, since: float) -> float:
        """How long it took until every line was asked for again."""
        numbers = set(self.world.numbers.values())
        await until(lambda: self.operator.first_after(since).keys() >= numbers, FAILOVER_S)
        return max(self.operator.first_after(since).values()) - since

    async def all_go_on(self, daemons: list[Running], since: float) -> None:
        try:
            await until(lambda: all(self.operator.by(daemon, since) for daemon in daemons), 30)
        except AssertionError:
            for daemon in daemons:
                print(
                    daemon.process.pid,
                    daemon.process.returncode,
                    len(self.operator.by(daemon, since)),
                    daemon.said()[-1500:],
                )
            raise

    async def nothing_is_wrong(self) -> list[str]:
        """All was told, each line asked for by one at a time; returns the alerts that came twice, and said so."""
        await until(self.load.all_told, 90)
        assert {self.operator.most_at_once(number) for number in self.world.numbers.values()} == {1}
        assert not any(self.operator.failed_logins(number) for number in self.world.numbers.values())
        return self.load.repeats()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    with postgres.own() as server:
        async with Webhook() as hook, world_in(tmp_path, AttentiveOperator, delay=ANSWER_MS) as world:
            world.config["operator"] |= {"timeout": "20s", "concurrency": 40}
            world.config["polling"] |= {"interval": f"{INTERVAL_S}s", "first_poll": "each"}
            world.config["store"] = {"url": server.url}
            world.channel("hook", hook.url)
            yield Scene(world, server, hook, Load(world, hook))


def with_lines(scene: Scene, count: int = LINES) -> None:
    for place in range(count):
        scene.world.line(f"line{place}")
    scene.load = Load(scene.world, scene.hook)


# ---- a process dies ----


async def test_the_lines_of_a_killed_process_are_polled_by_the_others_within_a_minute(scene: Scene) -> None:
    with_lines(scene)
    async with scene.daemons(*[scene.server.url] * 3) as (one, two, three):
        await scene.all_share([one, two, three])
        async with scene.load.coming(0.1):
            await asyncio.sleep(5)
            await one.kill()
            killed = time.monotonic()
            took = await scene.failover_s(killed)
            held = [at - killed for at in scene.operator.first_after(killed).values() if at - killed > 2 * INTERVAL_S]
            await asyncio.sleep(2)
        repeats = await scene.nothing_is_wrong()
        assert len(repeats) <= 1
        assert {line["state"] for line in (await scene.world.look())["lines"]} == {"ok"}
        assert held, "it held no claim when it was killed: this shows nothing"
        print(
            f"\nkilled: all {LINES} lines polled again after {took:.1f} s, {len(held)} of them late: the dead one's;"
            f" {len(scene.load.callers.names)} calls, none lost, {len(repeats)} told twice"
        )


async def test_a_killed_process_that_held_lines_with_an_untrusted_pin_costs_two_failed_logins_at_most(
    scene: Scene,
) -> None:
    """The verdicts of its logins are lost: the lines wait five minutes and get one more try, and never a third."""
    for place in range(9):
        scene.world.line(f"wrong{place}", told=WRONG_PIN)
    scene.world.operator.delay = 3000
    numbers = list(scene.world.numbers.values())
    async with scene.daemons(*[scene.server.url] * 3) as daemons:
        await until(lambda: all(len(scene.operator.failed_logins(number)) == 1 for number in numbers), 30)
        claimed = await scene.sql("SELECT claimed_by, COUNT(*) FROM line WHERE attempt_at IS NOT NULL GROUP BY 1")
        holder = max(claimed, key=lambda row: row[1])[0]
        await next(daemon for daemon in daemons if f"-{daemon.process.pid}-" in holder).kill()
        lost = max(row[1] for row in claimed)
        doubted = "SELECT number FROM line WHERE doubts = 1 AND state = 'failing' AND claimed_until IS NULL"
        await until(lambda: _counts(scene, doubted, lost), FAILOVER_S)
        assert all(len(scene.operator.failed_logins(number)) == 1 for number in numbers)
        assert await scene.sql("SELECT 1 FROM line WHERE next_poll_at - last_poll_at < 300000 AND doubts = 1") == []
        await scene.sql("UPDATE line SET next_poll_at = 0, version = version + 1 WHERE doubts = 1")
        await until(lambda: _counts(scene, "SELECT 1 FROM line WHERE state = 'rejected'", len(numbers)), 30)
        await asyncio.sleep(5)
        logins = sorted(len(scene.operator.failed_logins(number)) for number in numbers)
        assert logins == [1] * (len(numbers) - lost) + [2] * lost
        print(f"\nkilled while it held {lost} wrong PINs: {lost} lines cost two failed logins, the others one")


async def _counts(scene: Scene, statement: str, count: int) -> bool:
    return len(await scene.sql(statement)) == count


async def test_a_wrong_pin_costs_one_failed_login_however_many_processes_there_are(scene: Scene) -> None:
    scene.world.line("right")
    wrong = [scene.world.line(f"wrong{place}", told=WRONG_PIN) for place in range(5)]
    scene.world.operator.delay = 0
    for _ in range(2):  # and again when all are started anew
        async with scene.daemons(*[scene.server.url] * 5):
            await until(scene.world.polled("right", 5), 60)
            assert [len(scene.operator.failed_logins(number)) for number in wrong] == [1] * 5
    assert {scene.operator.most_at_once(number) for number in wrong} == {1}


# ---- a process is cut off ----


async def test_a_process_that_is_cut_off_stops_polling_at_once_and_resumes_by_itself(scene: Scene) -> None:
    with_lines(scene)
    async with (
        Wire(scene.server.port) as wire,
        scene.daemons(wire.url(scene.server.url), scene.server.url, scene.server.url) as daemons,
    ):
        far, *_ = daemons
        await scene.all_share(daemons)
        async with scene.load.coming(0.1):
            await asyncio.sleep(3)
            wire.cut()
            cut = time.monotonic()
            took = await scene.failover_s(cut)
            mended = time.monotonic()
            assert scene.operator.by(far, cut + UNDER_WAY_S, mended) == []
            late = len(scene.operator.by(far, cut, mended))
            wire.mend()
            await until(lambda: len(scene.operator.by(far, mended)) >= 20, FAILOVER_S)
            resumed = scene.operator.by(far, mended)[0].at - mended
        repeats = await scene.nothing_is_wrong()
        print(
            f"\ncut off for {mended - cut:.1f} s: {late} requests that were under way, then none; all lines polled"
            f" after {took:.1f} s; it polled again {resumed:.1f} s after it was mended; {len(repeats)} told twice"
        )


# ---- the database goes away ----


async def _fast(scene: Scene) -> None:
    await _restarted(scene, signal.SIGINT)


async def _immediate(scene: Scene) -> None:
    await _restarted(scene, signal.SIGQUIT)


async def _killed(scene: Scene) -> None:
    await _restarted(scene, signal.SIGKILL)


async def _restarted(scene: Scene, how: signal.Signals) -> None:
    await asyncio.to_thread(scene.server.end, how)
    await _nothing_is_polled(scene)
    await asyncio.to_thread(scene.server.start)


async def _frozen(scene: Scene) -> None:
    scene.server.tell(signal.SIGSTOP)
    await _nothing_is_polled(scene)
    scene.server.tell(signal.SIGCONT)


async def _nothing_is_polled(scene: Scene) -> None:
    stopped = time.monotonic()
    await asyncio.sleep(10)
    late = [one for one in scene.operator.asked if one.at > stopped + UNDER_WAY_S]
    assert late == [], f"{len(late)} polls could not be noted, and were made"


@pytest.mark.parametrize("fate", [_fast, _immediate, _killed, _frozen])
async def test_a_database_that_goes_away_stops_all_polling_until_it_is_back(scene: Scene, fate: Any) -> None:
    with_lines(scene, 60)
    async with scene.daemons(*[scene.server.url] * 3) as daemons:
        await scene.all_share(daemons)
        async with scene.load.coming(0.1):
            await asyncio.sleep(3)
            await fate(scene)
            back = time.monotonic()
            took = await scene.failover_s(back)
            await scene.all_go_on(daemons, back)
        repeats = await scene.nothing_is_wrong()
        print(f"\n{fate.__name__[1:]}: all lines polled {took:.1f} s after it was back; {len(repeats)} told twice")


async def test_another_server_that_took_the_data_over_is_found_by_its_address(scene: Scene) -> None:
    """A URL may name two servers; the one that answers and takes writes is used."""
    with_lines(scene, 60)
    other = scene.server.beside()
    both = scene.server.url.replace("/postgres", f",127.0.0.1:{other.port}/postgres")
    scene.world.config["store"] = {"url": both}
    try:
        async with scene.daemons(*[both] * 3) as daemons:
            await scene.all_share(daemons)
            async with scene.load.coming(0.1):
                await asyncio.sleep(3)
                await asyncio.to_thread(scene.server.end, signal.SIGKILL)
                await _nothing_is_polled(scene)
                await asyncio.to_thread(other.take_over, scene.server)
                back = time.monotonic()
                took = await scene.failover_s(back)
                await scene.all_go_on(daemons, back)
            repeats = await scene.nothing_is_wrong()
            print(f"\nfailed over: all lines polled {took:.1f} s after the other was up; {len(repeats)} told twice")
    finally:
        await asyncio.to_thread(other.end, signal.SIGKILL)
