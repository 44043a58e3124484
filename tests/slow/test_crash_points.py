"""vmwatch killed at every point between two outside effects, and started again: nothing lost, no PIN burnt."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from crash_world import KILLED, Callers, Ear, alive_until, half_written, note_kill, rows
from crash_wrapper import points
from receivers import Webhook
from world import WRONG_PIN, Running, World, until, world_in

from vmwatch.heartbeat import Clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CALL_EVERY_S = 0.3
MOST_UNHEARD = 8
DIES_WITHIN_S = 30.0
AT_ONCE = 16
"""Worlds that are tried side by side: they mostly wait."""

FETCHING, SENDING = ("fetch", "fetched"), ("send", "sent")
ONCE_A_START = (
    *("prepare", "Ledger.become_daemon", "Ledger.note_page", "Ledger.configure"),
    *("Outbox.expire", "Messages.prune", "History.prune"),
)
OFTEN = ("Lines.take", "Lines.record", "Outbox.claim", "Outbox.settle")
SENT_UNNOTED = ("sent", "begin Outbox.settle", "commit Outbox.settle")


def around(transaction: str) -> tuple[str, ...]:
    return tuple(f"{when} {transaction}" for when in ("begin", "commit", "committed"))


CASES = {
    "start": [("made", 1), *((point, 1) for name in ONCE_A_START for point in around(name))],
    "fetch": [(point, nth) for point in FETCHING for nth in (1, 2, 3, 4)],
    "send": [(point, nth) for point in SENDING for nth in (1, 2, 3, 4)],
    **{name: [(point, nth) for point in around(name) for nth in (1, 2, 3)] for name in OFTEN},
}


@pytest.mark.parametrize("effect", CASES)
async def test_killed_before_or_after_any_effect_nothing_is_lost(effect: str, tmp_path: Path) -> None:
    room = asyncio.Semaphore(AT_ONCE)
    repeats: dict[str, int] = {}

    async def one(point: str, nth: int) -> None:
        folder = tmp_path / f"{point} {nth}"
        folder.mkdir()
        async with room:
            repeats[folder.name] = await _killed_and_started_again(folder, point, nth)

    async with asyncio.TaskGroup() as tasks:
        for point, nth in CASES[effect]:
            tasks.create_task(one(point, nth), name=f"{point} {nth}")
    print(f"sent twice: {({case: count for case, count in repeats.items() if count}) or 'nothing'}")


async def _killed_and_started_again(folder: Path, point: str, nth: int) -> int:
    """How many alerts arrived twice, all of them explained."""
    async with world_in(folder) as world, Webhook() as phone, Webhook() as desk:
        ears = [Ear(phone), Ear(desk)]
        _two_lines(world, phone, desk)
        callers = Callers(world)
        await _killed(world, callers, ears, point, nth)
        await note_kill(ears)
        lost = _verdict_was_lost(world)
        async with world.running() as daemon:
            callers.call("home")
            await alive_until(daemon, lambda: _all_is_told(world, ears, callers), within=45)
        assert len(world.operator.failed_logins(world.numbers["wrong"])) == 1 + lost
        assert world.operator.most_at_once(world.numbers["home"]) == 1
        assert half_written(world.store, channels=2) == []
        assert [ear.told_differently() for ear in ears] == [[], []]
        repeats = [len(ear.repeats()) for ear in ears]
        assert sum(repeats) or point not in SENT_UNNOTED, "what was sent and not noted must come again"
        return sum(repeats)


def _two_lines(world: World, *hooks: Webhook) -> None:
    world.config["polling"]["first_poll"] = "each"
    world.line("home")
    world.line("wrong", told=WRONG_PIN)
    for place, hook in enumerate(hooks):
        world.channel(f"hook{place}", hook.url)


async def _killed(world: World, callers: Callers, ears: list[Ear], point: str, nth: int) -> None:
    """Let people call until it dies at the point, but no more than one summary names, however slow the machine is."""
    async with _dying_at(world, f"{point} {nth}") as daemon:
        async with asyncio.timeout(DIES_WITHIN_S):
            while daemon.process.returncode is None:
                if len(callers.names) < min(len(ear.callers()) for ear in ears) + MOST_UNHEARD:
                    callers.call("home")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(daemon.process.wait(), CALL_EVERY_S)
        assert daemon.process.returncode == KILLED, f"it never came to {point} {nth}: {daemon.said()}"


def _dying_at(world: World, passage: str) -> contextlib.AbstractAsyncContextManager[Running]:
    return world.started(VMWATCH_TEST_WRAPPER="crash_wrapper", VMWATCH_TEST_KILL_AT=passage)


def _verdict_was_lost(world: World) -> bool:
    """Whether the operator counted the wrong PIN and the ledger does not know."""
    if not world.operator.failed_logins(world.numbers["wrong"]):
        return False
    return rows(world.store, "SELECT state FROM line WHERE name = 'wrong'") != [("rejected",)]


def _all_is_told(world: World, ears: list[Ear], callers: Callers) -> bool:
    """Every message and the wrong PIN, on every channel."""
    heard = all(ear.callers() == set(callers.names) for ear in ears)
    told = all("wrong: voicemail is no longer watched" in ear.titles() for ear in ears)
    return _waits_are_over(world) and heard and told


def _waits_are_over(world: World) -> bool:
    """Always: a wait that is longer than polls are apart is let pass."""
    for (name,) in rows(world.store, f"SELECT name FROM line WHERE next_poll_at > {Clock().now() + 3_000}"):
        world.let_time_pass(str(name))
    return True


async def test_no_point_that_an_ordinary_life_passes_is_left_out(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world, Webhook() as phone, Webhook() as desk:
        _two_lines(world, phone, desk)
        callers, ears = Callers(world), [Ear(phone), Ear(desk)]
        async with _dying_at(world, "nowhere") as daemon:
            await daemon.ready()
            callers.call("home")
            await until(lambda: _all_is_told(world, ears, callers))
            await daemon.stop()
            passed = points(daemon.said())
    assert passed == {point for case in CASES.values() for point, _ in case}


async def test_a_crash_loop_never_spends_a_third_login(tmp_path: Path) -> None:
    """A restart asks no earlier than the lost verdict allows; with all waits over, two verdicts lost are the last."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_loop(tmp_path / "a", "fetched", patient=False, logins=1))
        tasks.create_task(_loop(tmp_path / "b", "begin Lines.record", patient=False, logins=1))
        tasks.create_task(_loop(tmp_path / "c", "commit Lines.record", patient=False, logins=1))
        tasks.create_task(_loop(tmp_path / "d", "fetched", patient=True, logins=2))


async def _loop(folder: Path, point: str, *, patient: bool, logins: int) -> None:
    os.mkdir(folder)
    async with world_in(folder) as world, Webhook() as phone:
        number = world.line("wrong", told=WRONG_PIN)
        world.channel("phone", phone.url)
        for life in range(6):
            if patient and life:
                world.let_time_pass("wrong")
            await _lives(world, point)
        assert len(world.operator.failed_logins(number)) == logins


async def _lives(world: World, point: str) -> None:
    """One life of a daemon that dies at the point if it comes there, else after a few rounds."""
    async with _dying_at(world, f"{point} 1") as daemon:
        rounds = daemon.has_noticed("WATCHDOG=1", times=3)
        await until(lambda: daemon.process.returncode is not None or rounds())


async def test_a_pin_that_worked_survives_a_crash_loop(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world, Webhook() as phone:
        number = world.line("home")
        world.channel("phone", phone.url)
        async with world.running():
            await until(lambda: _is_watched(world))
        for _ in range(6):
            world.let_time_pass("home")
            await _lives(world, "fetched")
        world.let_time_pass("home")
        assert len(world.operator.logins(number)) > 3  # every other life finds the verdict lost, and asks later
        callers, ear = Callers(world), Ear(phone)
        callers.call("home")
        async with world.running():
            await until(lambda: _waits_are_over(world) and ear.callers() == set(callers.names))


def _is_watched(world: World) -> bool:
    return rows(world.store, "SELECT state FROM line") == [("ok",)]
