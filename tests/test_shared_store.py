"""Several vmwatch on one PostgreSQL: each line is polled by one, each alert sent by one, and no password is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from ledgers import PostgresPlace, over_tcp
from postgres import PASSWORD, Server
from receivers import Webhook
from world import World, bench_in, number_of, settings_of, until, world_in

from vmwatch.models import MINUTE, SECOND
from vmwatch.simulator import Simulator

LINES = 6
HOME = number_of(0)
CHANNELS = {"phone": "json://127.0.0.1:9/phone"}

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
async def hook() -> AsyncIterator[Webhook]:
    async with Webhook() as webhook:
        yield webhook


@pytest.fixture
async def world(tmp_path: Path, shared: PostgresPlace, server: Server, hook: Webhook) -> AsyncIterator[World]:
    async with world_in(tmp_path) as found:
        found.config["store"] = {"url": over_tcp(shared, server)}
        found.config["operator"]["timeout"] = "1s"
        for place in range(LINES):
            found.line(f"line{place}")
        found.channel("hook", hook.url)
        yield found


def leave(world: World, name: str) -> None:
    world.operator.leave(world.numbers[name], caller="+4599778822", name=name)


def told(hook: Webhook, names: list[str]) -> Callable[[], bool]:
    return lambda: {f"Voicemail from {name}" for name in names} <= set(titles(hook))


def titles(hook: Webhook) -> Counter[str]:
    return Counter(str(request.body["title"]) for request in hook.record)


def polled_in_turn(world: World) -> bool:
    """Whether each line was asked once an interval (1 s), whoever asked: a round may be late, so the next is sooner."""
    logins = [[login.at for login in world.logins(name)] for name in world.numbers]
    return all(len(line) <= (line[-1] - line[0]) / SECOND + 2.5 for line in logins)


async def test_three_daemons_share_the_work_and_one_that_is_killed_is_replaced(world: World, hook: Webhook) -> None:
    async with world.running() as one, world.running() as two, world.running() as three:
        names = list(world.numbers)
        await asyncio.gather(*(until(world.polled(name, 2)) for name in names))
        for name in names:
            leave(world, name)
        await until(told(hook, names))
        assert polled_in_turn(world)
        await one.kill()
        again = await world.vmwatch("health")
        assert (again.status, "healthy" in again.out) == (0, True)
        await asyncio.gather(*(until(world.polled(name, 2), 40) for name in names))
        for name in names:
            leave(world, name)
        await until(lambda: min(titles(hook)[f"Voicemail from {name}"] for name in names) >= 2)
        assert set(titles(hook).values()) == {2}
        assert {line["state"] for line in (await world.look())["lines"]} == {"ok"}
        said = "".join(daemon.said() for daemon in (one, two, three))
    assert PASSWORD not in said


async def test_a_daemon_whose_sessions_are_cut_goes_on_by_itself(world: World, shared: PostgresPlace) -> None:
    async with world.running() as daemon:
        await until(world.polled("line0", 2))
        await shared.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND (application_name = 'vmwatch' OR application_name LIKE 'daemon-%')"
        )
        await until(world.polled("line0", 3), 40)
        assert PASSWORD not in daemon.said()


async def test_no_verb_tells_the_password(world: World) -> None:
    async with world.running() as daemon:
        await until(world.polled("line0", 1))
        for verb, status in {"check": 0, "check --json": 0, "status --json": 0, "health": 0, "backup b.db": 75}.items():
            ran = await world.vmwatch(*verb.split())
            assert (verb, ran.status) == (verb, status), ran.err
            assert PASSWORD not in ran.out + ran.err
            if verb.startswith("check"):
                assert '"url": "<secret>"' in ran.out
        assert PASSWORD not in daemon.said()
    world.config["store"]["url"] = world.store_url.replace(PASSWORD, "83529461")
    for verb in ("run", "status", "health"):
        ran = await world.vmwatch(verb)
        assert ran.status in (1, 75)
        assert "refuses the login" in ran.out + ran.err
        assert "83529461" not in ran.out + ran.err


def settings(operator: Simulator) -> Any:
    return settings_of(operator, CHANNELS)


async def test_a_quiet_polls_note_is_written_before_another_process_could_take_the_attempt_for_lost(
    shared: PostgresPlace, tmp_path: Path
) -> None:
    async with Simulator() as operator:
        wanted = settings(operator)
        async with (
            bench_in(tmp_path, wanted, store_url=shared.url) as one,
            bench_in(tmp_path, wanted, store_url=shared.url) as two,
        ):
            assert await one.poll() == 1
            assert await one.poll(MINUTE) == 1  # quiet
            assert await one.poll(5 * SECOND) == 0
            assert (await two.ledger.lines.standings())[0].attempt_at is None
            assert await two.poll(2 * MINUTE + 10 * SECOND) == 1
            assert (await two.line("line0"))["state"] == "ok"
            assert len(operator.logins(HOME)) == 3


async def test_a_process_that_lost_its_claims_looks_again_at_once(shared: PostgresPlace, tmp_path: Path) -> None:
    async with Simulator() as operator:
        rung: list[bool] = []
        async with bench_in(tmp_path, settings(operator), lambda: rung.append(True), shared.url) as bench:
            async with shared.connection.transaction():
                await shared.rows("SELECT 1 FROM line FOR UPDATE")
                await bench.poll()
            assert rung
            assert operator.logins(HOME) == []
            assert await bench.poll() == 1
