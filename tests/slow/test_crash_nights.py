"""vmwatch killed while it holds, reminds, escalates, and is told to wait: nothing lost, nobody told of what was heard.

One line, and three channels: the phone is told at once and reminded, the paper gets one digest a day, the boss is told
when nobody listens. Time passes from outside: what waits for it in the store is made due.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from crash_world import KILLED, Callers, Ear, note_kill, rows
from crash_wrapper import points
from receivers import Webhook
from world import Running, World, world_in

from vmwatch.heartbeat import Clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

AT_ONCE = 8
DIES_WITHIN_S = 45.0
LOOK_S = 0.2
LEFT, HEARD, ACKED, SNOOZED = (f"Caller {place}" for place in range(4))
"""Nobody listens to the first one; the others are heard, acknowledged and snoozed once they were announced."""

NEW, AGAIN, NOBODY = "Voicemail from ", "Not heard yet: voicemail from ", "Nobody has heard the voicemail from "
DIGEST = "1 voicemail not heard yet on home"
ON_PHONE = {*(NEW + name for name in (LEFT, HEARD, ACKED, SNOOZED)), AGAIN + LEFT, AGAIN + SNOOZED}


def around(transaction: str) -> tuple[str, ...]:
    return tuple(f"{when} {transaction}" for when in ("begin", "commit", "committed"))


EVENING = [
    *((point, 1) for point in around("FollowUps.reckon")),
    *((point, nth) for name in ("FollowUps.follow", "Holding.sort_out") for point in around(name) for nth in (1, 2)),
]
"""While messages come, are announced or held, and are followed."""
MORNING = [
    *((point, nth) for point in around("FollowUps.follow") for nth in (1, 2)),
    *((point, 1) for point in around("Holding.sort_out")),
    *((point, nth) for point in ("send", "sent", *around("Outbox.settle")) for nth in (1, 2, 3)),
]
"""When reminders, an escalation, the end of a snooze and a digest are due."""
VERBS = [(verb, point) for verb in ("ack", "snooze") for point in around(f"Messages.{verb}")]


@dataclass
class Night:
    world: World
    callers: Callers
    phone: Ear
    paper: Ear
    boss: Ear
    verb_dies_at: str | None = None
    done: set[str] = field(default_factory=set)
    """What people have done."""

    def __str__(self) -> str:
        """How it stands, for who wonders why it does not go on."""
        titles = [ear.titles() for ear in self.ears]
        return f"done {self.done}, told {titles}, followed {self._followed()}, pending {self._pending()}"

    @property
    def ears(self) -> list[Ear]:
        return [self.phone, self.paper, self.boss]

    async def evening(self) -> bool:
        """What people do next, one after the other; whether all that is to be seen of it was seen."""
        names = self.callers.names
        if len(names) < len((LEFT, HEARD, ACKED, SNOOZED)) and all(map(self._is_announced, names)):
            self.callers.call("home")
        if self._is_announced(HEARD) and HEARD not in self.done:
            self.world.operator.hear(self.world.numbers["home"], self._id(HEARD))
            self.done.add(HEARD)
        for verb, name, *more in (("ack", ACKED), ("snooze", SNOOZED, "1h")):
            if self._is_announced(name) and name not in self.done:
                await self._say(verb, self._id(name), *more)
                self.done.add(name)
        return self._is_evening_over()

    async def morning(self) -> bool:
        """Time passes; whether all was told."""
        told = self.phone.titles()
        self._is_due("step", LEFT)
        if AGAIN + LEFT in told:  # together they would be one alert
            self._is_due("snooze", SNOOZED)
        with self._store() as store:
            store.execute(
                "UPDATE delivery SET next_attempt_at = ? WHERE state = 'pending' AND waits = 'digest'", (Clock().now(),)
            )
        if AGAIN + SNOOZED in told and "heard" not in self.done:
            self.world.operator.hear(self.world.numbers["home"], self._id(SNOOZED))
            self.done.add("heard")
        everything = set(told) >= ON_PHONE and self.paper.titles() != [] and self.boss.titles() != []
        return everything and self._followed() == {} and self._pending() == []

    def assert_all_is_well(self) -> None:
        repeats = [len(ear.repeats()) for ear in self.ears]
        assert [set(ear.titles()) for ear in self.ears] == [ON_PHONE, {DIGEST}, {NOBODY + LEFT}]
        assert [len(ear.titles()) - again for ear, again in zip(self.ears, repeats, strict=True)] == [
            len(ON_PHONE),
            1,
            1,
        ]
        assert [ear.callers() for ear in self.ears[1:]] == [{LEFT}, {LEFT}]
        assert rows(self.world.store, "PRAGMA integrity_check") == [("ok",)]
        held = rows(self.world.store, "SELECT last_error FROM delivery WHERE channel = 'paper' AND state = 'withdrawn'")
        assert len(held) == len(self.callers.names), "each was held, and it is known what became of it"

    async def _say(self, verb: str, *arguments: str) -> None:
        """As a person does: once more, if the first time ended strangely."""
        if self.verb_dies_at is not None and self.verb_dies_at.endswith(verb):
            dying = {"VMWATCH_TEST_WRAPPER": "crash_wrapper", "VMWATCH_TEST_KILL_AT": f"{self.verb_dies_at} 1"}
            ran = await self.world.vmwatch(verb, *arguments, config=False, **dying)
            assert ran.status == KILLED
        ran = await self.world.vmwatch(verb, *arguments, config=False)
        assert ran.status == 0, ran.err

    def _is_announced(self, name: str) -> bool:
        return NEW + name in self.phone.titles()

    def _is_evening_over(self) -> bool:
        """All of it is noted, and what follows is known to lie ahead."""
        soon = Clock().now() + 10_000
        ahead = {name: due for name, (due, at) in self._followed().items() if at > soon}
        held = rows(self.world.store, "SELECT 1 FROM delivery WHERE state = 'pending' AND waits = 'digest'")
        left = rows(self.world.store, "SELECT 1 FROM message WHERE left_new_at IS NOT NULL")
        waits = {LEFT: "step", SNOOZED: "snooze"}
        return ahead == waits and len(held) == 2 and len(left) == 1 and len(self._pending()) == 3

    def _followed(self) -> dict[str, tuple[str, int]]:
        found = rows(
            self.world.store,
            "SELECT m.caller_name, f.due, f.at FROM follow_up f JOIN message m ON m.id = f.message",
        )
        return {str(name): (str(due), int(str(at))) for name, due, at in found}

    def _pending(self) -> list[tuple[object, ...]]:
        return rows(self.world.store, "SELECT id, waits FROM delivery WHERE state = 'pending'")

    def _id(self, name: str) -> str:
        ((id_,),) = rows(self.world.store, f"SELECT id FROM message WHERE caller_name = '{name}'")
        return str(id_)

    def _is_due(self, due: str, name: str) -> None:
        """What comes next for a message is due now, as if it had come so much earlier."""
        now = Clock().now()
        with self._store() as store:
            found = store.execute(
                "SELECT f.at, f.message, m.alert_id FROM follow_up f JOIN message m ON m.id = f.message "
                "WHERE m.caller_name = ? AND f.due = ? AND f.at > ?",
                (name, due, now),
            ).fetchall()
            for at, id_, alert in found:
                early = at - now
                store.execute("UPDATE alert SET created_at = created_at - ? WHERE id = ?", (early, alert))
                store.execute("UPDATE message SET snoozed_until = snoozed_until - ? WHERE id = ?", (early, id_))
                store.execute(
                    "UPDATE follow_up SET alerted_at = alerted_at - ?, done_until = done_until - ?, at = at - ? "
                    "WHERE message = ?",
                    (early, early, early, id_),
                )

    @contextlib.contextmanager
    def _store(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.world.store, timeout=5, isolation_level=None)) as store:
            store.execute("BEGIN IMMEDIATE")
            yield store
            store.execute("COMMIT")


@contextlib.asynccontextmanager
async def night_in(folder: Path, verb_dies_at: str | None = None) -> AsyncIterator[Night]:
    async with world_in(folder) as world, Webhook() as phone, Webhook() as paper, Webhook() as boss:
        world.config["polling"]["first_poll"] = "each"
        later = datetime.now(UTC) + timedelta(hours=12)
        voicemails = ["voicemail.new", "voicemail.summary"]
        world.line("home", channels=["phone", "paper"], remind=["1m"], escalate=[{"after": "2m", "channels": ["boss"]}])
        world.channel("phone", phone.url)
        world.channel("paper", paper.url, digest=f"{later:%H:%M}", events=voicemails)
        world.channel("boss", boss.url, events=["line"])
        yield Night(world, Callers(world), Ear(phone), Ear(paper), Ear(boss), verb_dies_at)


async def dies(night: Night, passage: str, life: str) -> None:
    """People go on, and time does, until it dies at the point."""
    over = asyncio.get_running_loop().time() + DIES_WITHIN_S
    async with night.world.started(VMWATCH_TEST_WRAPPER="crash_wrapper", VMWATCH_TEST_KILL_AT=passage) as daemon:
        while daemon.process.returncode is None:
            with contextlib.suppress(sqlite3.OperationalError):  # it has not made the store yet
                await getattr(night, life)()
            assert asyncio.get_running_loop().time() < over, f"it never came to {passage}: {night}"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(daemon.process.wait(), LOOK_S)
        assert daemon.process.returncode == KILLED, daemon.said()
    await note_kill(night.ears)


async def lived(night: Night, daemon: Running, life: str) -> None:
    over = asyncio.get_running_loop().time() + DIES_WITHIN_S
    while not await getattr(night, life)():
        assert daemon.process.returncode is None, daemon.said()
        assert asyncio.get_running_loop().time() < over, f"{life}: {night}"
        await asyncio.sleep(LOOK_S)


async def killed_in_the_evening(folder: Path, passage: str) -> None:
    async with night_in(folder) as night:
        await dies(night, passage, "evening")
        async with night.world.running() as daemon:
            await lived(night, daemon, "evening")
            await lived(night, daemon, "morning")
        night.assert_all_is_well()


async def killed_in_the_morning(folder: Path, passage: str) -> None:
    async with night_in(folder) as night:
        async with night.world.running() as daemon:
            await lived(night, daemon, "evening")
        await dies(night, passage, "morning")
        async with night.world.running() as daemon:
            await lived(night, daemon, "morning")
        night.assert_all_is_well()


async def verb_killed(folder: Path, point: str) -> None:
    async with night_in(folder, verb_dies_at=point) as night:
        async with night.world.running() as daemon:
            await lived(night, daemon, "evening")
            await lived(night, daemon, "morning")
        night.assert_all_is_well()


Case = Callable[[Path, str], Awaitable[None]]

CASES: dict[str, list[tuple[Case, str]]] = {
    "evening": [(killed_in_the_evening, f"{point} {nth}") for point, nth in EVENING],
    "morning": [(killed_in_the_morning, f"{point} {nth}") for point, nth in MORNING],
    "verbs": [(verb_killed, point) for _, point in VERBS],
}


@pytest.mark.parametrize("when", CASES)
async def test_killed_while_alerts_are_held_or_due_again_nothing_is_lost_and_nobody_is_told_of_what_was_seen_to(
    when: str, tmp_path: Path
) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case, passage: str) -> None:
        async with room:
            await case(tmp_path / passage, passage)

    async with asyncio.TaskGroup() as tasks:
        for case, passage in CASES[when]:
            tasks.create_task(one(case, passage), name=passage)


async def test_no_point_that_such_a_night_passes_is_left_out(tmp_path: Path) -> None:
    """Those of an ordinary life are in test_crash_points."""
    async with night_in(tmp_path) as night:
        nowhere = {"VMWATCH_TEST_WRAPPER": "crash_wrapper", "VMWATCH_TEST_KILL_AT": "nowhere"}
        async with night.world.started(**nowhere) as daemon:
            await daemon.ready()
            await lived(night, daemon, "evening")
            await lived(night, daemon, "morning")
            await daemon.stop()
            passed = points(daemon.said())
        night.assert_all_is_well()
    ours = {point for point in passed if "FollowUps" in point or "Holding" in point}
    assert ours == {point for point, _ in EVENING}
