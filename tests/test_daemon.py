"""`vmwatch run` as a process: how it ends, how it reads its configuration again, and what it tells its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from receivers import ACCEPT, DRIP, HANG, Webhook, closed_port, late, refuse
from world import WRONG_PIN, Running, World, by_name, until, world_in

from vmwatch.simulator import Odd

LINUX = sys.platform == "linux"
needs_proc = pytest.mark.skipif(not LINUX, reason="looks into the process by Linux's /proc")
NO_PATIENCE_S = 9.0
"""Where nothing is under way, stopping takes no time, and surely not the 10 s that what hangs is given."""
LONGEST_S = 12 + 4
"""What a daemon is to end in, and a little: other tests run beside this one, on two cores."""


def titles(hook: Webhook) -> list[str]:
    return [request.body["title"] for request in hook.record]


# ---- the end ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_daemon_ends_well_when_it_is_told_to(world: World, hook: Webhook, number: signal.Signals) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))
        assert await daemon.stop(number) < NO_PATIENCE_S
        assert "STOPPING=1" in daemon.notices.listen()


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_daemon_that_is_told_to_stop_while_it_starts_ends_well(
    world: World, hook: Webhook, number: signal.Signals
) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.started(cold=True) as daemon:
        await until(lambda: holds(daemon, number))
        assert await daemon.stop(number) < NO_PATIENCE_S


@needs_proc
async def test_a_daemon_that_is_told_to_reload_while_it_starts_reads_the_configuration_twice(
    world: World, hook: Webhook
) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.started(cold=True) as daemon:
        await until(lambda: holds(daemon, signal.SIGHUP))
        daemon.send(signal.SIGHUP)
        await until(daemon.has_said("the configuration was read again"))
        await daemon.stop()


def holds(daemon: Running, number: signal.Signals) -> bool:
    return bool(int(of_process(daemon, "SigBlk"), 16) >> (number - 1) & 1)


def of_process(daemon: Running, what: str) -> str:
    """What Linux knows of the process."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return next(line.split()[1] for line in status.splitlines() if line.startswith(what))


@contextlib.asynccontextmanager
async def in_the_middle_of(what: str, folder: Path) -> AsyncIterator[Running]:
    """A daemon that hangs in something which would take much longer than it has to end."""
    async with world_in(folder) as world, Webhook({"sends": HANG, "answers": DRIP}.get(what, ACCEPT)) as hook:
        world.config["operator"]["timeout"] = "60s"
        world.config["delivery"] = {"timeout": "60s"}
        home = world.line("home")
        world.operator.leave(home)
        world.channel("phone", hook.url)
        if what in ("polls", "drips"):
            world.operator.odd(home, Odd.HANG if what == "polls" else Odd.DRIP)
        async with world.running() as daemon:
            await until(lambda: bool(hook.record or (what in ("polls", "drips") and world.logins("home"))))
            yield daemon


async def test_nothing_that_hangs_keeps_the_daemon_from_ending(tmp_path: Path) -> None:
    """Polls, a dripping operator, sends and a dripping channel, for both signals, all at once to save time."""

    async def ended(what: str, number: signal.Signals) -> float:
        async with in_the_middle_of(what, tmp_path / f"{what}-{number.name}") as daemon:
            return await daemon.stop(number)

    whats = ("polls", "drips", "sends", "answers")
    took = await asyncio.gather(*(ended(what, n) for what in whats for n in (signal.SIGTERM, signal.SIGINT)))
    assert max(took) < LONGEST_S
    assert min(took) > 9, "what is under way is given ten seconds"


@contextlib.asynccontextmanager
async def a_locked_line(folder: Path) -> AsyncIterator[Running]:
    async with world_in(folder, lock_after=1) as world, Webhook() as hook:
        world.line("home", told=WRONG_PIN)
        world.channel("phone", hook.url)
        world.operator.login(world.numbers["home"], WRONG_PIN, "NEW")
        async with world.running() as daemon:
            await until(world.state_is("home", "locked"))
            yield daemon


@contextlib.asynccontextmanager
async def no_network(folder: Path) -> AsyncIterator[Running]:
    """The operator's address and the channel's are nobody's, and both are tried again and again."""
    async with world_in(folder) as world:
        world.line("home")
        world.config["operator"]["base_url"] = "https://operator.invalid"
        world.config["polling"]["error_backoff"] = {"initial": "1s", "max": "1s"}
        world.config["delivery"] = {"retry": {"initial": "1s", "max": "1s"}}
        world.channel("phone", f"json://127.0.0.1:{closed_port()}/")
        async with world.running() as daemon:
            await until(world.state_is("home", "failing", "no_connection"))
            await world.vmwatch("test")
            yield daemon


@contextlib.asynccontextmanager
async def a_held_store(folder: Path) -> AsyncIterator[Running]:
    """What six polls came to waits to be noted; another process lets nobody write, and does not let go."""
    async with world_in(folder) as world, Webhook() as hook:
        names = [f"line{place}" for place in range(6)]
        for name in names:
            world.line(name)
        world.channel("phone", hook.url)
        async with world.running() as daemon:
            await until(world.state_is(names[-1], "ok"))
            world.operator.delay = 2500
            spent = len(names) + sum(len(world.logins(name)) for name in names)
            await until(lambda: sum(len(world.logins(name)) for name in names) >= spent)
            for name in names:
                world.operator.leave(world.numbers[name])
            with held(world):
                yield daemon


@contextlib.asynccontextmanager
async def a_migration(folder: Path) -> AsyncIterator[Running]:
    """The store is as good as empty; its schema can't be made before another process lets go."""
    async with world_in(folder) as world:
        world.line("home")
        world.channel("phone", "json://127.0.0.1:9/")
        with contextlib.closing(sqlite3.connect(world.store)) as old:
            old.execute("PRAGMA journal_mode=WAL")
            old.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        with held(world) as let_go:
            async with world.started() as daemon:
                await until(lambda: bool(int(of_process(daemon, "SigCgt"), 16) >> (signal.SIGTERM - 1) & 1))
                asyncio.get_running_loop().call_later(2, let_go)
                yield daemon


@contextlib.contextmanager
def held(world: World) -> Iterator[Callable[[], None]]:
    """Another process writes in the store; what is yielded lets go of it."""
    with contextlib.closing(sqlite3.connect(world.store, isolation_level=None, timeout=5)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection.rollback


@needs_proc
async def test_no_trouble_keeps_the_daemon_from_ending_in_time(tmp_path: Path) -> None:
    """Side by side, to save time."""

    async def ended(state: Callable[[Path], AbstractAsyncContextManager[Running]]) -> float:
        async with state(tmp_path / state.__name__) as daemon:
            return await daemon.stop()

    took = await asyncio.gather(*map(ended, (a_locked_line, no_network, a_held_store, a_migration)))
    assert max(took) < LONGEST_S


async def test_a_delivery_under_way_is_waited_for_and_noted(world: World, hook: Webhook) -> None:
    hook.manner = late(1)
    world.operator.leave(world.line("home"))
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await hook.heard(1)
        await daemon.stop()
    assert [one["state"] for one in await world.outbox()] == ["sent"]


async def test_a_second_word_to_stop_changes_nothing(world: World, hook: Webhook) -> None:
    hook.manner = late(1)
    world.operator.leave(world.line("home"))
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await hook.heard(1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            daemon.send(number)
        await until(daemon.has_said("stopping"))
        for number in (signal.SIGHUP, signal.SIGINT):
            daemon.send(number)
        await daemon.stop()
    assert [one["state"] for one in await world.outbox()] == ["sent"]


async def test_a_daemon_that_reloads_when_it_is_told_to_stop_ends_well(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        for _ in range(5):
            daemon.send(signal.SIGHUP)
        assert await daemon.stop() < NO_PATIENCE_S


# ---- one store, one daemon ----


async def test_a_second_daemon_on_the_same_store_is_sent_away(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))
        second = await world.vmwatch("run")
        assert second.status == 75
        assert second.err.endswith("the store is in use by another vmwatch daemon; stop that one first\n")
        assert (await world.vmwatch("status")).status == 0
        await daemon.stop()
    async with world.running():
        pass


# ---- a configuration read again ----


async def test_lines_and_channels_are_added_and_removed_without_a_restart(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with Webhook() as mail, world.running() as daemon:
        await until(world.state_is("home", "ok"))
        office = world.line("office")
        world.channel("mail", mail.url)
        await reloaded(world, daemon)
        world.operator.leave(office)
        await asyncio.gather(hook.heard(1), mail.heard(1))

        del world.config["lines.home"], world.config["channels.phone"]
        await reloaded(world, daemon)
        seen = await world.look()
        assert [line["name"] for line in seen["lines"]] == ["office"]
        assert [channel["name"] for channel in seen["channels"]] == ["mail"]
        spent = len(world.logins("home"))
        world.operator.leave(office)
        await mail.heard(2)
        await until(world.polled("office", 1))
        assert len(world.logins("home")) <= spent + 1, "but for one that was under way"
        assert len(hook.record) == 1
        assert not world.operator.failed_logins(world.numbers["office"])


async def reloaded(world: World, daemon: Running) -> None:
    world.write()
    times = daemon.notices.listen().count("READY=1")
    daemon.send(signal.SIGHUP)
    await until(daemon.has_noticed("READY=1", times + 1))


async def test_a_renamed_line_keeps_all_that_is_known_of_its_number(world: World, hook: Webhook) -> None:
    home = world.line("home")
    world.operator.leave(home)
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await hook.heard(1)
        world.config["lines.summerhouse"] = world.config.pop("lines.home") | {"label": "Ærø"}
        world.numbers["summerhouse"] = home
        await reloaded(world, daemon)
        world.operator.leave(home)
        await hook.heard(2)
    assert titles(hook) == ["Voicemail from Donald Duck"] * 2
    assert "Line: Ærø" in hook.record[1].body["message"]


async def test_a_reload_loses_no_back_off(world: World, hook: Webhook) -> None:
    home, office = world.line("home"), world.line("office", told=WRONG_PIN)
    world.operator.odd(home, Odd.INTERNAL_ERROR)
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(world.state_is("home", "failing"))
        await until(world.state_is("office", "rejected"))
        waits = (await world.line_seen("home"))["next_poll_at"]
        for _ in range(3):
            await reloaded(world, daemon)
        assert (await world.line_seen("home"))["next_poll_at"] == waits
        assert (await world.line_seen("office"))["next_poll_at"] is None
        await daemon.stop()
    assert [len(world.operator.logins(number)) for number in (home, office)] == [1, 1]


async def test_an_alert_under_way_survives_a_reload(world: World, hook: Webhook) -> None:
    hook.manner = late(0.5)
    world.operator.leave(world.line("home"))
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await hook.heard(1)
        del world.config["channels.phone"]
        world.channel("other", hook.url)
        await reloaded(world, daemon)
        await until(lambda: all_sent(world))
    assert len(hook.record) == 1


async def all_sent(world: World) -> bool:
    owed = await world.outbox()
    return bool(owed) and all(one["state"] == "sent" for one in owed)


async def test_a_bad_configuration_leaves_the_old_one_running_and_says_why(world: World, hook: Webhook) -> None:
    home = world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))
        world.config["lines.home"]["pin"] = "12"
        await reloaded(world, daemon)
        await until(daemon.has_said("refused, the old one stays: config.toml:"))
        assert "lines.home.pin: must be 4 to 10 digits, in quotes" in daemon.said()
        world.operator.leave(home)
        await hook.heard(1)
        world.file.unlink()
        daemon.send(signal.SIGHUP)
        await until(daemon.has_said("the old one stays: no configuration"))
        world.operator.leave(home)
        await hook.heard(2)
    assert not world.operator.failed_logins(home)


@pytest.mark.parametrize("form", ["text", "json"])
async def test_the_log_is_as_it_was_after_a_reload(world: World, hook: Webhook, form: str) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running("run", "--log-format", form, "--log-level", "debug") as daemon:
        await reloaded(world, daemon)
        await until(daemon.has_said("was read again"))
        begun = len(daemon.said())
        await until(lambda: "home: nothing_new" in daemon.said()[begun:])
        entries = [line for line in daemon.said().splitlines() if not line.startswith("warning: ")]
        assert all(json.loads(entry)["level"] for entry in entries) if form == "json" else entries


async def test_another_store_takes_a_restart_and_that_is_said(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        world.config["store"] = {"url": "sqlite:///other.db"}
        await reloaded(world, daemon)
        await until(daemon.has_said("store.url was changed: that takes effect when vmwatch is started again"))
    assert not (world.folder / "other.db").exists()


async def test_a_change_of_the_operator_s_address_takes_effect(world: World, hook: Webhook, tmp_path: Path) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world_in(tmp_path / "other") as elsewhere, world.running() as daemon:
        await until(world.state_is("home", "ok"))
        elsewhere.line("home")
        world.config["operator"]["base_url"] = elsewhere.operator.base_url
        await reloaded(world, daemon)
        await until(elsewhere.polled("home", 2))
        spent = len(world.logins("home"))
        await until(elsewhere.polled("home", 1))
        assert len(world.logins("home")) == spent


# ---- what the supervisor hears ----


async def test_the_supervisor_hears_that_it_is_ready_how_it_is_and_that_it_lives(world: World, hook: Webhook) -> None:
    world.line("home")
    world.line("office", told=WRONG_PIN)
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(daemon.has_noticed("STATUS=1 of 2 lines ok; office: the operator rejected the PIN"))
        await until(daemon.has_noticed("WATCHDOG=1", 3))
        world.config["lines.office"]["pin"] = world.new_pin("office")
        world.operator.set_pin(world.numbers["office"], world.config["lines.office"]["pin"])
        await reloaded(world, daemon)
        await until(daemon.has_noticed("STATUS=2 of 2 lines ok"))
        (reloading,) = [one for one in daemon.notices.datagrams if one.startswith("RELOADING=1")]
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=[0-9]+", reloading)


async def test_ready_comes_soon(world: World, hook: Webhook) -> None:
    for place in range(10):
        world.line(f"line{place}")
    world.channel("phone", hook.url)
    began = time.monotonic()
    async with world.running() as daemon:
        took = time.monotonic() - began
        await until(world.state_is("line9", "ok"))
        if LINUX:
            assert int(of_process(daemon, "VmRSS")) < 110_000, "the budget is 90 MB"
    assert took < 6, "the budget is 1.5 s on a machine that does nothing else"


# ---- a store that goes away ----


async def test_a_damaged_store_is_left_as_it_is(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    world.store.write_bytes(b"This is not a database, but it may be somebody's only copy.\n" * 100)
    before = world.store.read_bytes()
    ran = await world.vmwatch("run")
    assert ran.status == 75
    assert "is not a vmwatch store" in ran.err
    assert world.store.read_bytes() == before
    assert not world.logins("home")


async def test_a_channel_that_was_mended_by_a_reload_gets_what_it_missed(world: World, hook: Webhook) -> None:
    hook.manner = refuse(500)
    world.config["delivery"] = {"retry": {"initial": "1s", "max": "2s"}}
    world.operator.leave(world.line("home"))
    world.channel("phone", hook.url)
    async with Webhook() as mended, world.running() as daemon:
        await hook.heard(1)
        world.channel("phone", mended.url)
        await reloaded(world, daemon)
        await mended.heard(1)
        await until(lambda: all_sent(world))
        assert by_name((await world.look())["channels"])["phone"]["state"] == "ok"
