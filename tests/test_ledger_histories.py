"""Random histories of calls, nights, dead channels and crashes: every message is told on every channel, or was seen to.

Held or not, reminded or not: what is still new when all is over was told on every channel of its line, alone or in a
digest; and nothing was told twice unless a crash lay between sending and noting it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ledgers import LEASE, REFUSED, adopted, decided, opened
from ledgers import SENT as ARRIVED
from values import NOW, NUMBER, mailbox, voicemail

from vmwatch import decide
from vmwatch.hours import clock, window
from vmwatch.ledger import Ledger
from vmwatch.models import DAY, HOUR, MINUTE, Kind, Mailbox, Moment, Recipient
from vmwatch.settings import Budget, DeliveryPolicy, Settings

UTC = ZoneInfo("UTC")
PATIENCE = {
    "phone": decide.Patience(UTC, quiet=(window("22:00-07:00"),), budget=Budget(3, HOUR)),
    "mail": decide.Patience(UTC, digest=clock("08:00"), quiet=(window("00:00-09:00"),)),
}
EVERYONE = tuple(Recipient(name, ("voicemail",)) for name in PATIENCE)
POLICY = DeliveryPolicy()
STEPS = replace(
    decide.steps_of(
        Settings.model_validate(
            {
                "channels": {name: {"url": "json://127.0.0.1:9/"} for name in PATIENCE},
                "lines": {
                    "home": {
                        "number": NUMBER,
                        "pin": "8352",
                        "remind": ["30m", "next 08:00"],
                        "escalate": [{"after": "2h", "channels": ["mail"]}],
                    }
                },
            }
        ),
        "home",
    ),
    everyone=EVERYONE,
)


class CrashError(Exception):
    """The process died here."""


@dataclass
class History:
    """What happened so far: a whole vmwatch in turns, whose process may die between any two commits."""

    store: Path
    chance: random.Random
    steps: decide.Steps = STEPS
    crashes: float = 0.03
    now: int = NOW
    box: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    acked: set[str] = field(default_factory=set)
    arrived: dict[str, Counter[tuple[int, Kind]]] = field(
        default_factory=lambda: {name: Counter() for name in PATIENCE}
    )
    told: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in PATIENCE})
    lost: int = 0
    """Crashes between sending and noting it."""

    def may_die(self) -> None:
        if self.chance.random() < self.crashes:
            raise CrashError

    async def live(self, turns: int) -> None:
        done = 0
        while done < turns:
            try:
                async with opened(self.store, role="daemon") as ledger:
                    await ledger.become_daemon("0", self.now)
                    await ledger.follow_ups.reckon([NUMBER], self.now)
                    while done < turns:
                        done += 1
                        await self.turn(ledger)
            except CrashError:
                self.now += MINUTE

    async def turn(self, ledger: Ledger) -> None:
        self.now += self.chance.choice([MINUTE, 10 * MINUTE, HOUR, 5 * HOUR])
        self.people()
        await self.poll(ledger)
        await self.act(ledger)
        await self.follow(ledger)
        for name in PATIENCE:
            await self.drain(ledger, name)

    async def follow(self, ledger: Ledger) -> None:
        await ledger.follow_ups.follow(
            NUMBER, self.now, lambda each: decide.followed_up(each, self.steps, self.now, UTC)
        )
        self.may_die()

    def people(self) -> None:
        """Callers call, and somebody listens."""
        for _ in range(self.chance.choice([0, 0, 1, 2])):
            self.box.append(f"m{len(self.seen) + len(self.box)}-{self.chance.randrange(10**9)}")
        if self.box and self.chance.random() < 0.2:
            self.box.remove(self.chance.choice(self.box))

    async def poll(self, ledger: Ledger) -> None:
        answer: Mailbox = mailbox() if not self.box else Mailbox(tuple(map(voicemail, self.box)), new=len(self.box))
        found = await decided(ledger, answer, self.now, first_poll="each")
        fresh = tuple(message.id for message in found.fresh)
        alerts = tuple(replace(alert, channels=tuple(PATIENCE)) for alert in found.alerts)
        assert await ledger.lines.record(replace(found, alerts=alerts, followed=fresh), self.now)
        self.seen |= set(fresh)
        self.may_die()

    async def act(self, ledger: Ledger) -> None:
        """Now and then a person says something of a message."""
        if not self.box or self.chance.random() > 0.15:
            return
        key = (NUMBER, self.chance.choice(self.box))
        if self.chance.random() < 0.5:
            await ledger.messages.ack([key], self.now)
            self.acked.add(key[1])
        else:
            await ledger.messages.snooze([key], self.now + HOUR, self.now)
            self.acked.discard(key[1])

    async def drain(self, ledger: Ledger, name: str, *, works: bool | None = None) -> None:
        while True:
            await self.sort_out(ledger, name)
            delivery = await ledger.outbox.claim(name, self.now, LEASE)
            self.may_die()
            if delivery is None:
                return
            arrives = self.chance.random() < 0.8 if works is None else works
            if arrives:
                await self.arrive(ledger, name, delivery)
            settlement = decide.after_delivery(
                delivery,
                ARRIVED if arrives else REFUSED,
                await ledger.outbox.channel(name),
                Moment(self.now),
                POLICY,
                EVERYONE,
            )
            assert await ledger.outbox.settle(settlement, self.now)
            self.may_die()
            if not arrives:
                return

    async def arrive(self, ledger: Ledger, name: str, delivery: Any) -> None:
        self.arrived[name][(delivery.id, delivery.alert.kind)] += 1
        rows = await ledger._engine.read(
            "SELECT id FROM message WHERE alert_id = (SELECT alert_id FROM delivery WHERE id = :id) UNION "
            "SELECT message FROM mention WHERE alert_id = (SELECT alert_id FROM delivery WHERE id = :id)",
            id=delivery.id,
        )
        self.told[name] |= {id_ for (id_,) in rows}
        if self.chance.random() < self.crashes:
            self.lost += 1
            raise CrashError

    async def sort_out(self, ledger: Ledger, name: str) -> None:
        while True:
            queue = await ledger.holding.queue(name, self.now, HOUR)
            held = decide.holds(PATIENCE[name], queue, self.now)
            if not held and not queue.released:
                return
            await ledger.holding.sort_out(name, held, queue.released, self.now)
            self.may_die()

    async def end(self) -> None:
        """Nobody calls or listens any more, and everything works: days later all is told."""
        self.crashes = 0
        async with opened(self.store, role="daemon") as ledger:
            await ledger.become_daemon("0", self.now)
            for _ in range(4 * 24):
                self.now += HOUR
                await self.poll(ledger)
                await self.follow(ledger)
                for name in PATIENCE:
                    await self.drain(ledger, name, works=True)


@pytest.mark.parametrize("steps", [STEPS, replace(STEPS, remind=(), escalate=())], ids=["reminded", "told_once"])
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_every_message_is_told_on_every_channel_or_was_seen_to(
    store: Path, seed: int, steps: decide.Steps
) -> None:
    async with opened(store) as ledger:
        await adopted(ledger, channels=tuple(PATIENCE))
    history = History(store, random.Random(seed), steps)
    await history.live(60)
    await history.end()
    owed = set(history.box) - history.acked
    assert owed, "an empty history proves nothing"
    for name, told in history.told.items():
        assert owed <= told, f"not told on {name}: {sorted(owed - told)}"
    again = sum(count - 1 for arrived in history.arrived.values() for count in arrived.values())
    assert again <= history.lost
    assert any(kind is Kind.VOICEMAIL_DIGEST for arrived in history.arrived.values() for _, kind in arrived)


def test_the_history_is_long_enough_to_see_two_nights() -> None:
    assert 60 * (MINUTE + 10 * MINUTE + HOUR + 5 * HOUR) / 4 > 2 * DAY
