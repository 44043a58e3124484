"""`vmwatch health`: whether a daemon runs on the store and does its rounds, read from the ledger alone."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from receivers import Webhook, closed_port
from world import WRONG_PIN, World, until, world_in

from vmwatch import __version__
from vmwatch.heartbeat import Clock
from vmwatch.models import MINUTE, SECOND

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
WELL = "healthy: the daemon runs, and its rounds come to their ends\n"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Webhook() as hook, world_in(tmp_path) as found:
        found.channel("phone", hook.url)
        yield found


def pass_by(world: World, minutes: float) -> None:
    """Have so much time passed, as far as the ledger can tell."""
    by = round(minutes * MINUTE)
    for table, columns in {
        "line": ("next_poll_at", "last_poll_at", "claimed_until"),
        "daemon": ("started_at",),
    }.items():
        for column in columns:
            world.sql(f"UPDATE {table} SET {column} = {column} - ?", by)


async def test_without_a_daemon_it_is_1_and_one_sentence(world: World) -> None:
    world.line("home")
    nothing = await world.vmwatch("health")
    assert (nothing.status, nothing.err) == (1, "")
    assert nothing.out == "no daemon runs on this store; start one: vmwatch run\n"
    assert not world.store.exists()
    async with world.running():
        await until(world.state_is("home", "ok"))
    files = sorted(world.folder.glob("vmwatch.db*"))
    assert (await world.vmwatch("health")).status == 1
    assert sorted(world.folder.glob("vmwatch.db*")) == files


async def test_a_running_daemon_is_healthy_and_json_says_more(world: World) -> None:
    world.line("home")
    async with world.running():
        await until(world.state_is("home", "ok"))
        text, shape = await world.vmwatch("health"), await world.vmwatch("health", "--json")
    assert (text.status, text.out, text.err) == (0, WELL, "")
    assert shape.status == 0
    daemon = shape.json["daemon"]
    assert (shape.json["healthy"], shape.json["sentence"], shape.json["late"]) == (True, WELL.rstrip(), [])
    assert (daemon["running"], daemon["version"]) == (True, __version__)


async def test_it_needs_no_secret(world: World) -> None:
    world.line("home")
    async with world.running():
        del world.config["lines.home"]["pin"]
        world.config["lines.home"]["pin_file"] = "/nowhere/home.pin"
        assert (await world.vmwatch("health")).status == 0


async def test_a_daemon_that_hangs_is_told_once_a_line_is_overdue_and_nothing_is_written(world: World) -> None:
    world.line("home")
    async with world.started() as daemon:
        await daemon.ready()
        await until(world.state_is("home", "ok"))
        daemon.send(signal.SIGSTOP)
        pass_by(world, 1)
        assert (await world.vmwatch("health")).status == 0
        pass_by(world, 3)
        before = (world.store.read_bytes(), (world.folder / "vmwatch.db-wal").read_bytes())
        ran = await world.vmwatch("health")
        assert ran.status == 1
        assert re.fullmatch(
            r"the daemon stands still: home is due, but nothing was polled for [34] min; restart it\n", ran.out
        )
        assert (await world.vmwatch("health", "--json")).json["late"] == ["home"]
        assert (world.store.read_bytes(), (world.folder / "vmwatch.db-wal").read_bytes()) == before
        daemon.send(signal.SIGCONT)
        await until(world.polled("home", 1))
        assert (await world.vmwatch("health")).status == 0
        await daemon.stop()


async def test_an_operator_s_outage_is_not_unhealthy(world: World) -> None:
    world.config["operator"]["base_url"] = f"http://127.0.0.1:{closed_port()}"
    world.line("home")
    async with world.running():
        await until(world.state_is("home", "failing"))
        assert (await world.vmwatch("health")).status == 0


async def test_lines_that_wait_their_turn_are_not_unhealthy_as_long_as_others_are_polled(world: World) -> None:
    """In an outage that swallows answers, hundreds of lines wait for room."""
    world.line("home")
    world.line("office")
    async with world.started() as daemon:
        await daemon.ready()
        await until(world.state_is("home", "ok"))
        await until(world.state_is("office", "ok"))
        daemon.send(signal.SIGSTOP)
        pass_by(world, 30)
        assert (await world.vmwatch("health")).status == 1
        world.sql("UPDATE line SET last_poll_at = ? WHERE name = 'home'", Clock().now() - 60 * SECOND)
        assert (await world.vmwatch("health")).status == 0


async def test_lines_that_nobody_is_to_poll_are_not_unhealthy(world: World) -> None:
    world.line("wrong", told=WRONG_PIN)
    world.line("resting")
    world.line("off", enabled=False)
    async with world.started() as daemon:
        await daemon.ready()
        await until(world.state_is("wrong", "rejected"))
        await until(world.state_is("resting", "ok"))
        assert (await world.vmwatch("pause", "resting")).status == 0
        daemon.send(signal.SIGSTOP)
        pass_by(world, 600)
        assert (await world.vmwatch("health")).status == 0


async def test_a_store_that_is_no_store_is_unhealthy_in_one_sentence(world: World) -> None:
    world.line("home")
    async with world.running():
        await until(world.state_is("home", "ok"))
        world.config["store"] = {"url": "sqlite:///other.db"}
        (world.folder / "other.db").write_text("something else, and long enough not to be taken for an empty file")
        (world.folder / "other.db.lock").hardlink_to(world.folder / "vmwatch.db.lock")
        ran = await world.vmwatch("health")
        del world.config["store"]
    assert ran.status == 1
    assert ran.out.startswith(f"{world.folder / 'other.db'}: is not a vmwatch store; it was left as it is")
