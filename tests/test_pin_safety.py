"""PIN safety, counted in the operator's own log: one wrong PIN costs one failed login, whatever dies when."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from receivers import Webhook
from world import PATIENCE_S, PIN, WRONG_PIN, Running, World, bench_in, instant, number_of, settings_of, until, world_in

from vmwatch.heartbeat import Clock
from vmwatch.models import DAY, HOUR, MINUTE, SECOND
from vmwatch.simulator import Odd, Simulator

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Webhook() as hook, world_in(tmp_path) as found:
        found.channel("phone", hook.url)
        yield found


async def wait_of(world: World, name: str) -> float:
    """How many minutes from now a line is polled."""
    return (instant((await world.line_seen(name))["next_poll_at"]) - Clock().now()) / MINUTE


async def beats(daemon: Running, times: int) -> None:
    """So many rounds have passed."""
    enough = daemon.notices.listen().count("WATCHDOG=1") + times
    await until(daemon.has_noticed("WATCHDOG=1", enough))


async def reloaded(world: World, daemon: Running) -> None:
    world.write()
    times = daemon.said().count("was read again")
    daemon.send(signal.SIGHUP)
    await until(lambda: daemon.said().count("was read again") > times)


# ---- a PIN that the operator rejects ----


async def test_a_wrong_pin_costs_one_login_however_often_vmwatch_starts(world: World) -> None:
    world.line("home", told=WRONG_PIN)
    world.line("office")
    # Killed again and again before it could note what it heard, even a PIN that works is tried more seldom.
    world.config["polling"]["error_backoff"] = {"initial": "1s", "max": "1s"}
    async with world.running():
        await until(world.state_is("home", "rejected", "pin_rejected"))
        await until(world.state_is("office", "ok"))
    for number in [signal.SIGKILL] * 8 + [signal.SIGTERM] * 2:
        async with world.started() as daemon:
            # Where the last two were killed before they could, it is asked again when the claim ends: after 15 s.
            await until(lambda: bool(world.logins("office")), 2 * PATIENCE_S)
            world.operator.log[world.numbers["office"]].clear()
            daemon.send(number)
            await daemon.process.wait()
    assert len(world.logins("home")) == 1
    assert (await world.line_seen("home"))["next_poll_at"] is None


async def test_only_a_person_or_a_changed_pin_allows_one_more_try(world: World) -> None:
    world.line("home", told=WRONG_PIN)
    async with world.running() as daemon:
        await until(world.state_is("home", "rejected"))
        assert len(world.logins("home")) == 1

        beside = await asyncio.gather(
            world.vmwatch("poll"),
            world.vmwatch("poll", "home"),
            world.vmwatch("poll", world.numbers["home"], "--json"),
            world.vmwatch("check", "--online"),
            world.vmwatch("run"),
        )
        assert [ran.status for ran in beside] == [1, 1, 1, 1, 75]
        await reloaded(world, daemon)
        await beats(daemon, 2)
        assert len(world.logins("home")) == 1

        assert (await world.vmwatch("resume", "home")).status == 0
        await until(lambda: len(world.logins("home")) == 2)
        await until(world.state_is("home", "rejected"))

        world.config["lines.home"]["pin"] = world.new_pin("home")
        await reloaded(world, daemon)
        await until(lambda: len(world.logins("home")) == 3)
        await until(world.state_is("home", "rejected"))
        await reloaded(world, daemon)
        await beats(daemon, 2)
        assert len(world.logins("home")) == 3

        world.operator.unlock(world.numbers["home"])
        world.config["lines.home"]["pin"] = world.new_pin("home")
        world.operator.set_pin(world.numbers["home"], world.config["lines.home"]["pin"])
        await reloaded(world, daemon)
        await until(world.state_is("home", "ok"))


async def test_verbs_without_a_daemon_are_as_careful(world: World) -> None:
    world.line("home", told=WRONG_PIN)
    for verb in (["check", "--online"], ["poll"], ["poll", "home"]):
        assert (await world.vmwatch(*verb)).status == 1
    assert len(world.logins("home")) == 1
    await world.vmwatch("resume", "home")
    for _ in range(2):
        await world.vmwatch("poll")
    assert len(world.logins("home")) == 2


async def test_polls_at_the_same_moment_make_one_login(world: World) -> None:
    world.line("home", told=WRONG_PIN)
    world.operator.delay = 300
    await asyncio.gather(*(world.vmwatch("poll") for _ in range(4)))
    assert len(world.logins("home")) == 1


# ---- a verdict that was lost on the way ----


LOST = (Odd.HANG, Odd.DRIP, Odd.DROP, Odd.RESET, Odd.BAD_GATEWAY, Odd.GATEWAY_TIMEOUT)
UNREADABLE = (Odd.EMPTY_403, Odd.EMPTY_404, Odd.EMPTY_422, Odd.UNKNOWN_4XX)


async def test_a_verdict_that_was_not_read_allows_one_slow_try_and_then_waits_for_a_person(tmp_path: Path) -> None:
    odds = {f"line{place}": odd for place, odd in enumerate((*LOST, *UNREADABLE))}
    async with Simulator() as operator:
        settings = settings_of(operator, {"phone": "json://127.0.0.1:9/"}, len(odds), operator={"timeout": "1s"})
        for number, odd in zip(operator.lines, odds.values(), strict=True):
            operator.set_pin(number, WRONG_PIN)
            operator.odd(number, odd)
        async with bench_in(tmp_path, settings) as bench:
            assert await bench.poll() == 10
            assert {(await bench.line(name))["state"] for name in odds} == {"failing"}
            assert await bench.poll(5 * MINUTE) == len(LOST)
            assert await bench.poll(50 * MINUTE) == 0
            assert await bench.poll(6 * MINUTE) == len(UNREADABLE)
            reasons = {odds[name]: (await bench.line(name))["reason"] for name in odds}
            assert reasons == dict.fromkeys(LOST, "verdict_lost_twice") | dict.fromkeys(UNREADABLE, "refused_twice")
            assert {(await bench.line(name))["state"] for name in odds} == {"rejected"}
            assert await bench.poll(DAY) == 0
            assert await bench.told() == ["line.unreachable"] * len(UNREADABLE) + ["line.rejected"] * len(odds)
        assert {len(operator.logins(number)) for number in operator.lines} == {2}


async def test_a_trusted_pin_is_not_affected_by_lost_verdicts(tmp_path: Path) -> None:
    async with Simulator() as operator:
        settings = settings_of(operator, {"phone": "json://127.0.0.1:9/"})
        async with bench_in(tmp_path, settings) as bench:
            await bench.poll()
            operator.odd(number_of(0), Odd.DROP, 5)
            for _ in range(6):
                assert await bench.poll(20 * MINUTE) == 1
            assert (await bench.line("line0"))["state"] == "ok"


async def test_a_crash_right_after_the_request_went_out_spends_one_of_two_tries(world: World) -> None:
    world.config["operator"]["timeout"] = "60s"
    number = world.line("home", told=WRONG_PIN)
    world.operator.odd(number, Odd.HANG)
    await die_when_asking(world, 1)
    async with world.running() as daemon:
        await beats(daemon, 1)
        assert await wait_of(world, "home") > 0.5, "the claim of the dead holds"
        world.let_time_pass("home")
        await until(world.state_is("home", "failing", "attempt_lost"))
        assert 4.9 < await wait_of(world, "home") < 6
        await daemon.kill()
    world.let_time_pass("home")
    await die_when_asking(world, 2)
    world.let_time_pass("home")
    async with world.running() as daemon:
        await until(world.state_is("home", "rejected", "verdict_lost_twice"))
        await beats(daemon, 2)
    assert len(world.logins("home")) == 2


async def die_when_asking(world: World, login: int) -> None:
    async with world.running() as daemon:
        await until(lambda: len(world.logins("home")) == login)
        await daemon.kill()


async def test_what_never_reached_the_operator_was_no_attempt(world: World) -> None:
    world.line("home", told=WRONG_PIN)
    address, world.config["operator"]["base_url"] = world.config["operator"]["base_url"], "http://127.0.0.1:9"
    for _ in range(2):
        await world.vmwatch("poll", "home")
    assert (await world.line_seen("home"))["reason"] == "no_connection"
    assert (await world.line_seen("home"))["failures"] == 2
    world.config["operator"]["base_url"] = address
    await world.vmwatch("poll", "home")
    assert (await world.line_seen("home"))["reason"] == "pin_rejected"
    assert len(world.logins("home")) == 1


# ---- a locked line ----


async def test_the_back_off_of_a_locked_line_survives_restarts_reloads_and_another_pin(world: World) -> None:
    number = world.line("home")
    world.operator.lines[number].locked_at = Clock().now()
    async with world.running() as daemon:
        await until(world.state_is("home", "locked", "pin_locked"))
        await daemon.kill()
    line = await world.line_seen("home")
    waits = line["next_poll_at"]
    assert HOUR <= instant(waits) - instant(line["last_poll_at"]) <= HOUR + 10 * SECOND
    async with world.running() as daemon:
        world.config["lines.home"]["pin"] = world.new_pin("home")
        await reloaded(world, daemon)
        world.config["lines.home"]["pin"] = PIN
        await reloaded(world, daemon)
        assert (await world.vmwatch("poll", "home")).status == 1
        await beats(daemon, 1)
        assert (await world.line_seen("home"))["next_poll_at"] == waits
        assert len(world.logins("home")) == 1

        world.let_time_pass("home")
        await until(world.state_is("home", "locked", "still_locked"))
        assert 119 < await wait_of(world, "home") < 133
        world.operator.unlock(number)
        assert (await world.vmwatch("resume", "home")).status == 0
        await until(world.state_is("home", "ok"))
    assert [one["kind"] for one in await world.outbox()] == ["line.locked", "line.recovered"]


# ---- a blocked address ----


async def test_a_blocked_address_stops_every_line_across_restarts_and_is_told_once(world: World) -> None:
    names = [f"line{place}" for place in range(6)]
    for name in names:
        world.line(name)
    world.operator.blacklist()
    async with world.running():
        for name in names:
            await until(world.state_is(name, "failing", "blacklisted"))
    spent = [len(world.logins(name)) for name in names]
    async with world.running() as daemon:
        assert (await world.vmwatch("poll")).status == 1
        await beats(daemon, 2)
    assert [len(world.logins(name)) for name in names] == spent
    assert max(spent) == 1
    assert [one["kind"] for one in await world.outbox()] == ["line.unreachable"]
    assert await wait_of(world, "line0") > 230
