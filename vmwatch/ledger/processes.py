"""The daemons' part of the ledger: which live, what each carried, and what each is configured to do.

A process that became a daemon calls its sessions by its id, and a session ends with its process: so PostgreSQL knows
which of several live. Of SQLite's one daemon the lock tells.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from vmwatch.decide.setup import Setup, disagreements, setup_from
from vmwatch.ledger.engine import Engine, Transaction
from vmwatch.ledger.notes import KEEP_NOTE, NOTE, STALE
from vmwatch.models import MINUTE, SECOND, Duration, Instant

EVERY: Duration = 15 * SECOND
"""How often a process writes what it carries."""
EVERY_ALONG: Duration = MINUTE
"""The same for SQLite's one daemon, with claims: each time costs a page more, and SD cards wear out."""
SILENT: Duration = MINUTE
"""A process that wrote nothing for so long is not shown, though its session may still be there."""

_LIVING = """
/*+ id {} (SELECT application_name FROM pg_stat_activity
           WHERE datname = current_database() AND application_name IS NOT NULL) */
"""
_IN = _LIVING.format("IN")
_DAEMON = f"SELECT id, version, started_at, page FROM daemon /*+ WHERE */ {_IN} ORDER BY started_at DESC"
_PROCESSES = f"""
SELECT id, digest, COALESCE(name, id), version, started_at, seen_at, COALESCE(polls, 0), COALESCE(deliveries, 0)
FROM daemon /*+ WHERE */ {_IN} ORDER BY started_at, id
"""
_SETUPS = f"""
SELECT id, COALESCE(name, id), setup FROM daemon WHERE setup IS NOT NULL /*+ AND */ {_IN} ORDER BY started_at, id
"""
_FIRST = f"SELECT id FROM daemon /*+ WHERE */ {_IN} ORDER BY started_at, id LIMIT 1"
_NO_DAEMON = f"DELETE FROM daemon /*+ WHERE */ {_LIVING.format('NOT IN')}"
_LEAVE = "DELETE FROM daemon WHERE id = :me"
_OTHERS = f"SELECT id FROM daemon WHERE id <> :me /*+ AND */ {_IN}"
_OTHER_SETUPS = f"""
SELECT COALESCE(name, id), setup FROM daemon
WHERE id <> :me AND setup IS NOT NULL AND digest <> :digest /*+ AND */ {_IN} ORDER BY started_at, id
"""
_ROSTER = f"""
SELECT id, digest FROM daemon
WHERE id <> :me AND digest <> (SELECT digest FROM daemon WHERE id = :me) /*+ AND */ {_IN}
"""
_KEEP_DAEMON = """
INSERT INTO daemon (id, name, version, started_at, seen_at, polls, deliveries)
VALUES (:me, :name, :version, :started_at, :now, :polls, :deliveries)
ON CONFLICT (id) DO UPDATE SET seen_at = :now, polls = :polls, deliveries = :deliveries
"""
_KEEP_PAGE = "UPDATE daemon SET page = :page WHERE id = :me"
_KEEP_SETUP = "UPDATE daemon SET digest = :digest, setup = :setup WHERE id = :me"
_MINE = "SELECT id, '' FROM daemon WHERE id = :me AND digest IS NULL"


@dataclass(frozen=True, slots=True)
class DaemonView:
    """The daemon that began last, if any runs."""

    running: bool
    version: str | None = None
    since: Instant | None = None
    page: str | None = None
    """Its address, if it has one."""
    stale: frozenset[str] = frozenset()
    """The numbers of lines that no daemon reads, though nothing is wrong with them."""


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One daemon; `polls` and `deliveries` are those that it began within the minute before `seen_at`."""

    name: str
    version: str
    since: Instant
    seen_at: Instant | None
    polls: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class Carried:
    """What a process writes of itself: since when it runs, and what it began within the last minute."""

    version: str
    since: Instant
    polls: int = 0
    deliveries: int = 0


class Processes:
    def __init__(self, engine: Engine, me: str) -> None:
        self._engine = engine
        self._me = me
        self.name = _name()
        """What people know this process by."""

    async def latest(self) -> DaemonView:
        if not await self._engine.daemon_runs():
            return DaemonView(running=False)
        rows = await self._engine.read(_DAEMON)
        if not rows:
            return DaemonView(running=True)
        _, version, since, page = rows[0]
        return DaemonView(True, version, since, page, await self._stale([row[0] for row in rows]))

    async def _stale(self, living: Collection[str]) -> frozenset[str]:
        """What a daemon that is gone found to be stale says nothing of those that live."""
        rows = await self._engine.read(NOTE, key=STALE)
        noted = json.loads(rows[0][0]) if rows else {"daemon": ""}
        return frozenset(noted["lines"]) if noted["daemon"] in living else frozenset()

    async def note_stale(self, numbers: Iterable[str]) -> None:
        """Write down which lines this daemon does not read, though nothing is wrong with them."""
        value = json.dumps({"daemon": self._me, "lines": sorted(numbers)})

        async def work(transaction: Transaction) -> None:
            await transaction.run(KEEP_NOTE, key=STALE, value=value)

        await self._engine.write(work)

    async def living(self, now: Instant) -> tuple[ProcessView, ...]:
        """Every daemon that lives, the longest running first."""
        return tuple(view for _, _, view in await self._living(now))

    async def _living(self, now: Instant) -> list[tuple[str, str | None, ProcessView]]:
        """With each one's id and its setup's digest."""
        if not await self._engine.daemon_runs():
            return []
        found = [(id_, digest, ProcessView(*rest)) for id_, digest, *rest in await self._engine.read(_PROCESSES)]
        if self._engine.shared:
            return [one for one in found if now - (one[2].seen_at or one[2].since) <= SILENT]
        return [(id_, digest, _as_of(view, now)) for id_, digest, view in found]

    async def disagreements(self, now: Instant) -> tuple[str, ...]:
        """In what the configurations of those that live differ, as sentences."""
        living = await self._living(now)
        if len({digest for _, digest, _ in living if digest}) <= 1:
            return ()
        ids = {id_ for id_, _, _ in living}
        setups = await self._engine.read(_SETUPS)
        return disagreements((name, setup_from(text)) for id_, name, text in setups if id_ in ids)

    async def is_first(self) -> bool:
        """Whether no other living daemon has run for longer: what only one is to do, that one does."""
        rows = await self._engine.read(_FIRST)
        return not rows or rows[0][0] == self._me

    async def sign(self, carried: Carried, now: Instant) -> frozenset[tuple[str, str]]:
        """Write what this process carried; returns those that live and are configured otherwise, by id and digest.

        This one is among them where others took it for dead: then its setup is to be written again
        (`Ledger.configure`).
        """

        async def work(transaction: Transaction) -> frozenset[tuple[str, str]]:
            await transaction.run(_KEEP_DAEMON, **signature(self._me, carried, now))
            rows = await transaction.all(_MINE, me=self._me) + await transaction.all(_ROSTER, me=self._me)
            return frozenset((str(id_), str(digest)) for id_, digest in rows)

        return await self._engine.write(work)

    async def leave(self) -> None:
        """This process is about to end."""

        async def work(transaction: Transaction) -> None:
            await transaction.run(_LEAVE, me=self._me)

        await self._engine.write(work)


def _name() -> str:
    return f"{os.uname().nodename}/{os.getpid()}"


def _as_of(view: ProcessView, now: Instant) -> ProcessView:
    """SQLite's daemon writes only when it begins polls: one that wrote nothing for long carried nothing."""
    idle = view.seen_at is None or now - view.seen_at > MINUTE + EVERY_ALONG
    return ProcessView(view.name, view.version, view.since, view.seen_at, 0, 0) if idle else view


def signature(me: str, carried: Carried, now: Instant) -> Mapping[str, object]:
    return {
        "me": me,
        "name": _name(),
        "version": carried.version,
        "started_at": carried.since,
        "now": now,
        "polls": carried.polls,
        "deliveries": carried.deliveries,
    }


async def arrive(transaction: Transaction, me: str, version: str, now: Instant) -> None:
    """Be written down as a daemon, and have those forgotten that ended."""
    await transaction.run(_NO_DAEMON)
    await transaction.run(_KEEP_DAEMON, **signature(me, Carried(version, now), now))


async def place_page(transaction: Transaction, me: str, address: str | None) -> None:
    await transaction.run(_KEEP_PAGE, page=address, me=me)


async def sign_along(transaction: Transaction, me: str, carried: Carried, now: Instant) -> None:
    await transaction.run(_KEEP_DAEMON, **signature(me, carried, now))


async def is_alone(transaction: Transaction, me: str) -> bool:
    return not await transaction.all(_OTHERS, me=me)


async def exchange(transaction: Transaction, me: str, setup: Setup) -> tuple[tuple[str, Setup], ...]:
    """Write down what this process is configured to do; returns by name what the others are that live and differ."""
    await transaction.run(_KEEP_SETUP, me=me, digest=setup.digest, setup=setup.text)
    rows = await transaction.all(_OTHER_SETUPS, me=me, digest=setup.digest)
    return tuple((name, setup_from(text)) for name, text in rows)
