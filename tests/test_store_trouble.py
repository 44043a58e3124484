from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import pytest
from receivers import HANG, Webhook
from world import TurnedClock, until

from vmwatch.channels import Channel, prepare
from vmwatch.errors import LedgerError
from vmwatch.ledger import Ledger
from vmwatch.models import MINUTE, SECOND, Alert, DeliveryState, Kind, Recipient
from vmwatch.store_trouble import CALM, HELD, StoreTrouble
from vmwatch.voice import Voice

FULL = "the disk is full: make room, nothing is lost"


def full() -> LedgerError:
    return LedgerError(FULL)


def held() -> LedgerError:
    return LedgerError("the store is held by another process; it is tried again", passing=True)


@dataclass
class Bench:
    trouble: StoreTrouble
    ledger: Ledger
    clock: TurnedClock
    hooks: list[Webhook]

    async def rounds(self, *ends: LedgerError | None, apart: int = SECOND) -> None:
        for end in ends:
            await self.trouble.after_round(end)
            self.clock.ahead += apart

    async def told(self) -> list[int]:
        """How many alerts each channel got without the ledger, once nothing more is under way."""
        await self.trouble.stop(patience_s=10)
        return [len(hook.record) for hook in self.hooks]

    async def owed(self) -> list[tuple[Kind, str]]:
        listing = await self.ledger.outbox.listing(everything=True, most=99)
        assert {owed.state for owed in listing} <= {DeliveryState.PENDING}
        return sorted((owed.kind, owed.channel) for owed in listing)


@contextlib.asynccontextmanager
async def bench_in(folder: Path) -> AsyncIterator[Bench]:
    prepare()
    clock = TurnedClock()
    ledger = await Ledger.open(f"sqlite:///{folder / 'vmwatch.db'}", create=True)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(ledger.close)
        hooks = [await stack.enter_async_context(Webhook()) for _ in range(2)]
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        trouble = StoreTrouble(ledger, clock, tasks)
        channels = {f"hook{place}": Channel(f"hook{place}", hook.url) for place, hook in enumerate(hooks)}
        trouble.use(channels, dict.fromkeys(channels, Voice(UTC)), MINUTE)
        yield Bench(trouble, ledger, clock, hooks)


async def test_lasting_trouble_is_told_at_once_and_once_through_every_channel(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.rounds(*(full() for _ in range(90)))
        assert await bench.told() == [1, 1]
        assert FULL in bench.hooks[0].record[0].body["message"]
        assert await bench.owed() == []


@pytest.mark.parametrize(
    ("seconds", "alerts"), [pytest.param(59, 0, id="a minute is waited"), pytest.param(90, 1, id="then told once")]
)
async def test_trouble_that_may_pass_is_told_when_it_lasts(seconds: int, alerts: int, tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.rounds(*(held() for _ in range(seconds)))
        assert await bench.told() == [alerts, alerts]


async def test_one_failure_that_nothing_was_written_after_does_not_last(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.rounds(*[held()] * 90)
        assert await bench.told() == [0, 0]


async def test_what_fails_between_rounds_is_told_too(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        with pytest.raises(LedgerError):
            await bench.ledger.outbox.owe(Alert(Kind.TEST, ("twice", "twice")), 0)
        await bench.rounds(None)
        assert await bench.told() == [1, 1]
        await bench.ledger.outbox.owe(Alert(Kind.TEST, ("once",)), 0)
        assert bench.ledger.trouble is None


async def test_when_it_is_over_that_is_owed_through_the_ledger(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.rounds(full(), *[None] * (CALM // SECOND - 1))
        assert await bench.owed() == []
        await bench.rounds(None, None, None)
        assert await bench.owed() == [(Kind.STORE_RECOVERED, "hook0"), (Kind.STORE_RECOVERED, "hook1")]
        assert await bench.told() == [1, 1]


async def test_a_disk_that_takes_a_little_now_and_then_is_one_trouble(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.rounds(*(None if place % 5 else full() for place in range(60)))
        assert await bench.told() == [1, 1]
        assert await bench.owed() == []


async def test_the_next_trouble_is_told_again(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.rounds(full(), None, apart=CALM)
        await bench.rounds(full())
        assert await bench.told() == [2, 2]


async def test_trouble_that_was_not_told_ends_without_a_word(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.rounds(held(), None, None, apart=HELD // 2)
        assert await bench.told() == [0, 0]
        assert await bench.owed() == []


async def test_a_channel_that_hangs_delays_neither_rounds_nor_the_end(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        bench.hooks[0].manner = HANG
        async with asyncio.timeout(10):
            await bench.rounds(full())
            await until(lambda: bool(bench.hooks[1].record))
            await bench.trouble.stop(patience_s=0.1)


@pytest.mark.parametrize("kind", [Kind.STORE_FAILING, Kind.STORE_RECOVERED, Kind.TEST])
def test_a_channel_wants_these_whatever_it_is_set_to(kind: Kind) -> None:
    assert Recipient("phone", events=()).wants(kind)
