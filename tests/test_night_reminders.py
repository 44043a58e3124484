"""Reminders and escalations that fall due while their channel is quiet: told once at its end, if still true."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from receivers import Webhook
from world import PIN, Bench, bench_in, number_of

from vmwatch.models import DAY, HOUR, MINUTE, Instant
from vmwatch.settings import Settings
from vmwatch.simulator import Simulator

LINE, ANN = number_of(0), "+4520304050"
NIGHT = ["22:00-07:00"]
NEW, AGAIN, OVERDUE = (
    "Voicemail from Ann",
    "Not heard yet: voicemail from Ann",
    "Nobody has heard the voicemail from Ann",
)
DIGEST, DIGEST_OF_TWO = "1 voicemail not heard yet on line0", "2 voicemails not heard yet on line0"


@dataclass
class Night:
    """A line, its phone, and a boss; it is 21:00 in UTC, which is everybody's zone here."""

    bench: Bench
    operator: Simulator
    hooks: dict[str, Webhook]
    left: list[str] = field(default_factory=list)

    async def until(self, time_of_day: str) -> None:
        """The last minutes before it and the one after pass as for a daemon; what was before, at one leap."""
        hour, minute = map(int, time_of_day.split(":"))
        self.bench.clock.ahead += until_time(self.bench.clock.now(), hour * HOUR + (minute - 3) * MINUTE)
        for _ in range(5):
            await self.minute()

    async def minute(self) -> None:
        await self.bench.poll(MINUTE)
        await self.bench.follow()
        await self.bench.deliver()

    def call(self, name: str = "Ann", caller: str = ANN) -> None:
        self.left.append(self.operator.leave(LINE, caller=caller, name=name))

    def hear(self) -> None:
        self.operator.hear(LINE, self.left[0])

    async def ack(self) -> None:
        await self.bench.ledger.messages.ack([(LINE, self.left[0])], self.bench.clock.now())

    async def snooze(self) -> None:
        now = self.bench.clock.now()
        await self.bench.ledger.messages.snooze([(LINE, self.left[0])], now + HOUR, now)

    def told(self, name: str) -> list[str]:
        return [request.body["title"] for request in self.hooks[name].record]


def until_time(now: Instant, time_of_day: int) -> int:
    return (time_of_day - now) % DAY


@asynccontextmanager
async def night(
    operator: Simulator, folder: Path, remind: list[str], escalate: list[Any], **more: Any
) -> AsyncIterator[Night]:
    operator.add_line(LINE, PIN)
    async with Webhook() as phone, Webhook() as boss:
        hooks = {"phone": phone, "boss": boss}
        line = {"number": LINE, "pin": PIN, "channels": ["phone"], "remind": remind, "escalate": escalate}
        settings = Settings.model_validate(
            {
                "operator": {"base_url": operator.base_url, "timeout": "5s"},
                "polling": {"jitter": 0, "first_poll": "each"},
                "channels": {name: {"url": hook.url, "quiet": NIGHT} for name, hook in hooks.items()},
                "lines": {"line0": line},
                **more,
            }
        )
        async with bench_in(folder, settings) as bench:
            bench.clock.ahead += until_time(bench.clock.now(), 21 * HOUR)
            await bench.poll()
            yield Night(bench, operator, hooks)


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@dataclass(frozen=True)
class Case:
    """Somebody calls at `called`; `does` is done at 02:00. Stops are when something falls due."""

    remind: list[str]
    phone: list[str]
    boss: list[str] = field(default_factory=list)
    escalate: list[Any] = field(default_factory=list)
    called: str = "21:30"
    does: Callable[[Night], Any] = lambda _: None
    stops: tuple[str, ...] = ("22:30", "23:30", "02:00", "03:02", "03:32", "04:02", "07:00", "07:10")
    callers: dict[str, Any] = field(default_factory=dict)


CASES = {
    "announced before, reminded in it, still new at its end": Case(["1h"], [NEW, DIGEST]),
    "reminded twice in it": Case(["1h", "2h"], [NEW, DIGEST]),
    "heard in it": Case(["1h"], [NEW], does=Night.hear),
    "acknowledged in it": Case(["1h"], [NEW], does=Night.ack),
    "snoozed in it": Case(["1h"], [NEW, DIGEST], does=Night.snooze),
    "two calls, of which one was announced before": Case(["1h"], [NEW, DIGEST_OF_TWO], does=Night.call),
    "announced in it and reminded in it": Case(["30m", "3h"], [DIGEST], called="22:30"),
    "announced in it and snoozed in it": Case(["30m", "9h"], [DIGEST], called="22:30", does=Night.snooze),
    "a reminder at the very end of it": Case(["1h", "next 07:00"], [NEW, DIGEST]),
    "only a reminder at the very end of it": Case(["next 07:00"], [NEW, AGAIN]),
    "a reminder after it": Case(["1h", "next 07:10"], [NEW, DIGEST, AGAIN]),
    "an urgent caller": Case(["1h"], [NEW, AGAIN], callers={"boss": {"numbers": [ANN], "urgent": True}}),
    "nobody is reminded, and the boss is told": Case([], [NEW], [DIGEST], [{"after": "1h", "channels": ["boss"]}]),
    "the boss is told twice": Case(
        [], [NEW], [DIGEST], [{"after": "1h", "channels": ["boss"]}, {"after": "2h", "channels": ["boss"]}]
    ),
    "the boss is told of what is heard by then": Case(
        [], [NEW], [], [{"after": "1h", "channels": ["boss"]}], does=Night.hear
    ),
    "an urgent caller's boss": Case(
        [],
        [NEW],
        [OVERDUE],
        [{"after": "1h", "channels": ["boss"]}],
        callers={"boss": {"numbers": [ANN], "urgent": True}},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_what_falls_due_in_quiet_hours_is_told_at_their_end_once_if_it_is_still_new(
    case: Case, operator: Simulator, tmp_path: Path
) -> None:
    async with night(operator, tmp_path, case.remind, case.escalate, callers=case.callers) as one:
        for stop in sorted({case.called, *case.stops}, key=lambda time: (time < "12:00", time)):
            await one.until(stop)
            if stop == case.called:
                one.call()
            if stop == "02:00" and (acting := case.does(one)) is not None:
                await acting
            await one.minute()
        assert (one.told("phone"), one.told("boss")) == (case.phone, case.boss)
        assert [each["waits"] for each in await one.bench.outbox() if each["state"] == "pending"] == []
