"""vmwatch killed anywhere in the life of one message on ntfy's screen: it is announced, and in the end it is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from crash_world import KILLED, rows
from ntfy_server import NtfyServer
from world import Running, World, until, world_in

from vmwatch.heartbeat import Clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NEW, AGAIN = "Voicemail from Donald Duck", "Not heard yet: voicemail from Donald Duck"


def around(transaction: str) -> tuple[str, ...]:
    return tuple(f"{when} {transaction}" for when in ("begin", "commit", "committed"))


TELLING = ("send", "sent", *around("Outbox.settle"))
KILLS = {
    "announcing": [f"{point} 1" for point in TELLING],
    "reminding": [f"{point} {nth}" for nth in (1, 2) for point in around("FollowUps.follow")]
    + [f"{point} 2" for point in TELLING],
    "clearing": [f"{point} 1" for point in ("clear", "cleared")] + [f"{point} 3" for point in around("Outbox.settle")],
}


@pytest.mark.parametrize("when", KILLS)
async def test_killed_anywhere_what_was_heard_is_gone_from_the_screen(when: str, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        for place, point in enumerate(KILLS[when]):
            tasks.create_task(_lived(tmp_path / str(place), point), name=point)


async def _lived(folder: Path, point: str) -> None:
    async with world_in(folder) as world, NtfyServer() as ntfy:
        world.config["polling"]["first_poll"] = "each"
        world.line("home", remind=["1m"])
        world.channel("phone", ntfy.url)
        id_ = world.operator.leave(world.numbers["home"], name="Donald Duck")
        heard = asyncio.create_task(_heard_once_it_was_told_again(world, ntfy, id_))
        async with world.started(VMWATCH_TEST_WRAPPER="crash_wrapper", VMWATCH_TEST_KILL_AT=point) as daemon:
            await _killed(daemon, point)
        async with world.running():
            await heard
            await until(lambda: ntfy.screen() == [] and _all_is_done(world), within=45)
        assert {each.title for each in ntfy.published()} == {NEW, AGAIN}
        assert len({each.sequence for each in ntfy.events}) == 1, "all of it is one thing on the screen"
        assert ntfy.events[-1].event == "message_clear"
        assert len(rows(world.store, "SELECT id FROM alert WHERE kind = 'voicemail.cleared'")) == 1


async def _killed(daemon: Running, point: str) -> None:
    await asyncio.wait_for(daemon.process.wait(), 40)
    assert daemon.process.returncode == KILLED, f"it never came to {point}: {daemon.said()}"


async def _heard_once_it_was_told_again(world: World, ntfy: NtfyServer, id_: str) -> None:
    await until(lambda: NEW in ntfy.screen() and _all_is_done(world), within=60)  # or nobody is reminded of it
    await until(lambda: _is_late(world) and AGAIN in ntfy.screen(), within=60)
    world.operator.hear(world.numbers["home"], id_)


def _is_late(world: World) -> bool:
    """Always: the wait for a reminder is let pass."""
    now = Clock().now()
    passing = "alerted_at = alerted_at - (at - ?), done_until = done_until - (at - ?), at = ?"
    world.sql(f"UPDATE follow_up SET {passing} WHERE at > ? + 1000", now, now, now, now)
    return True


def _all_is_done(world: World) -> bool:
    return {state for (state,) in rows(world.store, "SELECT state FROM delivery")} == {"sent"}
