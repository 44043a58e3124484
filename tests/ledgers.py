"""What tests of the ledger do over and over: open it, adopt a line, record polls, look at the file from outside."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg
import postgres
import pytest
from values import EVERYONE, NOW, NUMBER, mailbox, rules, standing

from vmwatch import decide
from vmwatch.errors import Trouble
from vmwatch.ledger import Ledger, Owed, QuietNote
from vmwatch.models import (
    SECOND,
    Alert,
    ChannelState,
    Claim,
    Decision,
    Delivery,
    DeliveryState,
    Instant,
    Mailbox,
    Moment,
    Outcome,
    Receipt,
    Settlement,
    Standing,
)
from vmwatch.settings import DeliveryPolicy

LEASE = 30 * SECOND
POLICY = DeliveryPolicy()
SENT, REFUSED, UNKNOWN = Receipt(Outcome.SENT), Receipt(Outcome.REFUSED, "HTTP 404"), Receipt(Outcome.UNKNOWN, "late")
PENDING, DEAD, WITHDRAWN = DeliveryState.PENDING, DeliveryState.DEAD, DeliveryState.WITHDRAWN
FAILING = ChannelState.FAILING


class Place(Protocol):
    """Where a ledger is, as a stranger sees it."""

    @property
    def url(self) -> str: ...

    async def rows(self, sql: str) -> list[tuple[Any, ...]]: ...

    async def commits(self) -> int: ...

    async def content(self) -> bytes:
        """All that is kept there."""

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Another process has changed every line's label, and not committed yet; it never does."""


@dataclass(frozen=True, slots=True)
class FilePlace:
    path: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return rows(self.path, sql)

    async def commits(self) -> int:
        return commits(self.path)

    async def content(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.path.parent.iterdir())

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("UPDATE line SET label = 'Elsewhere'")
            yield
            other.execute("ROLLBACK")


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    url: str
    connection: asyncpg.Connection[Any]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(sql)]

    async def commits(self) -> int:
        """Transactions that wrote, of the whole server: nobody else uses it."""
        ((count,),) = await self.rows("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        return int(count)

    async def content(self) -> bytes:
        tables = await self.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema")
        return repr([await self.rows(f"SELECT * FROM {table}") for (table,) in tables]).encode()

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        await self.connection.execute("BEGIN")
        await self.connection.execute("UPDATE line SET label = 'Elsewhere'")
        yield
        await self.connection.execute("ROLLBACK")


def over_tcp(shared: PostgresPlace, server: postgres.Server, place: str | None = None, password: str = "") -> str:
    """The same schema, with a password; by default the right one."""
    if server.tcp is None:
        pytest.skip("the server of $VMWATCH_TEST_POSTGRES is not ours to ask for a password")
    query = next(part for part in urlsplit(shared.url).query.split("&") if part.startswith("search_path"))
    return f"postgresql://vmwatch:{password or postgres.PASSWORD}@{place or server.tcp}/postgres?{query}"


_SCHEMAS = (f"t{os.getpid()}_{number}" for number in itertools.count())


@asynccontextmanager
async def postgres_place(server: postgres.Server) -> AsyncIterator[PostgresPlace]:
    schema = next(_SCHEMAS)
    url = server.schema(schema)
    connection = await asyncpg.connect(url)
    try:
        if server.tcp is None:  # one that is not ours serves all of pytest's processes: they take turns
            await connection.execute("SELECT pg_advisory_lock(1986884981)")
        await connection.execute(f"CREATE SCHEMA {schema}")
        yield PostgresPlace(url, connection)
    finally:
        await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        await connection.close()


@asynccontextmanager
async def opened(store: Path | Place, *, create: bool = True, role: str = "verb") -> AsyncIterator[Ledger]:
    url = f"sqlite:///{store}" if isinstance(store, Path) else store.url
    ledger = await Ledger.open(url, create=create, role=role)
    try:
        yield ledger
    finally:
        await ledger.close()


async def adopted(ledger: Ledger, *lines: Standing, channels: Iterable[str] = ("phone", "mail")) -> None:
    """Have exactly these lines and channels in the configuration."""
    wanted = {line.number: line for line in lines or (standing(),)}
    await ledger.configure(lambda *_: wanted, channels, NOW)


async def line(ledger: Ledger, number: str = NUMBER) -> Standing:
    found = await ledger.lines.standing(number)
    assert found is not None
    return found


async def decided(ledger: Ledger, answer: Mailbox | Trouble, now: Instant = NOW, **polling: Any) -> Decision:
    """What an answer comes to, from what the ledger knows."""
    known = await ledger.lines.known(NUMBER)
    operator = await ledger.lines.operator()
    return decide.after_poll(await line(ledger), operator, answer, known, Moment(now), rules(**polling))


async def polled(ledger: Ledger, *ids: str, now: Instant = NOW, first_poll: str = "each") -> Decision:
    """Record a poll that lists these messages."""
    decision = await decided(ledger, mailbox(*ids), now, first_poll=first_poll)
    assert await ledger.lines.record(decision, now)
    return decision


async def due_lines(ledger: Ledger, now: Instant, *, settled: bool, most: int) -> list[Standing]:
    """The lines that a process would be offered."""
    offered: list[Standing] = []

    def choose(due: Sequence[Standing]) -> list[Claim]:
        offered.extend(due)
        return []

    rooms = {"settled": most, "unsettled": 0} if settled else {"settled": 0, "unsettled": most}
    await ledger.lines.take(choose, [], now, **rooms)
    return offered


async def claim(
    ledger: Ledger, claims: Sequence[Claim], now: Instant = NOW, notes: Iterable[QuietNote] = ()
) -> Sequence[Claim]:
    """Claims of lines as they were once seen; those that are won."""
    return await ledger.lines.take(lambda _: claims, notes, now, unsettled=0, settled=0)


async def begun(ledger: Ledger, number: str = NUMBER, now: Instant = NOW) -> tuple[Standing, ...]:
    """Claim a line; the lines won."""
    wanted = decide.claimed(await line(ledger, number), now, rules(), LEASE)
    return tuple(won.standing for won in await claim(ledger, [wanted], now))


async def claimed(ledger: Ledger, channel: str = "phone", now: Instant = NOW) -> Delivery:
    delivery = await ledger.outbox.claim(channel, now, LEASE)
    assert delivery is not None
    return delivery


async def attempted(ledger: Ledger, delivery: Delivery, receipt: Receipt, now: Instant = NOW) -> Settlement:
    """Settle a claimed delivery by what its channel said."""
    channel = await ledger.outbox.channel(delivery.channel)
    settlement = decide.after_delivery(delivery, receipt, channel, Moment(now), POLICY, EVERYONE)
    assert await ledger.outbox.settle(settlement, now)
    return settlement


async def outbox(ledger: Ledger) -> tuple[Owed, ...]:
    """Every delivery, the oldest first."""
    return (await ledger.outbox.listing(everything=True, most=1000))[::-1]


async def states(ledger: Ledger, channel: str = "phone") -> list[DeliveryState]:
    """Of a channel's deliveries, the oldest first."""
    return [owed.state for owed in await outbox(ledger) if owed.channel == channel]


async def owe(ledger: Ledger, alert: Alert, count: int = 1, now: Instant = NOW) -> list[int]:
    return [await ledger.outbox.owe(alert, now) for _ in range(count)]


def rows(store: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What a stranger who opens the file sees."""
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        return connection.execute(sql, parameters).fetchall()


def commits(store: Path) -> int:
    """How many commits the write-ahead log holds: in a frame's header, only a commit's last has the size set."""
    log = store.with_name(store.name + "-wal").read_bytes()
    frame = 24 + int.from_bytes(log[8:12], "big")
    sizes = (log[start + 4 : start + 8] for start in range(32, len(log), frame))
    return sum(any(size) for size in sizes)
