"""How each line stood over the last day: an entry where its state changed, and none for a poll that changed nothing.

An entry holds until the line's next one. Entries without a number are of all lines at once: the daemon did not run, or
the operator blocked this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vmwatch import decide
from vmwatch.ledger.engine import Engine, Transaction
from vmwatch.models import FOREVER, MINUTE, Duration, Instant, LineState, OperatorStanding, Standing

SHORTEST: Duration = MINUTE
"""A standstill shorter than this is not worth an entry."""
MOST = 20_000
"""Entries that are read at once; who has more sees the latest."""

_ENTER = """
INSERT INTO history (number, at, state)
SELECT CAST(:number AS TEXT), CAST(:at AS BIGINT), CAST(:state AS TEXT)
WHERE CAST(:state AS TEXT) <>
    COALESCE((SELECT state FROM history WHERE number = :number ORDER BY at DESC, id DESC LIMIT 1), '')
"""
# A pause is entered with its end; what happens before that end comes instead of it.
_NO_FUTURE = "DELETE FROM history WHERE number = :number AND at > :at"
_MISSED_SINCE = """
SELECT MIN(next_poll_at) FROM line
WHERE configured = 1 AND enabled = 1 AND next_poll_at <= :now AND (paused_until IS NULL OR paused_until <= :now)
"""
_LAST_POLL = "SELECT MAX(last_poll_at) FROM line"
_ENTRIES = "SELECT number, at, state FROM history WHERE at <= :now ORDER BY at DESC, id DESC LIMIT :most"
_ARRIVED = """
SELECT number, first_seen_at FROM message WHERE first_seen_at > :after ORDER BY first_seen_at DESC LIMIT :most
"""
# The last entry before the end of what is kept says how the line stood then.
_PRUNE = """
DELETE FROM history WHERE at <= :before
  AND EXISTS (SELECT 1 FROM history h WHERE h.number = history.number AND h.at > history.at AND h.at <= :before)
"""

EVERYONE = ""
"""In a number's place: of all lines."""


class Overall(StrEnum):
    """What holds for all lines, whatever each one's own state is."""

    RUNNING = "running"
    STOPPED = "stopped"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Entry:
    at: Instant
    state: str
    """A LineState, or an Overall where it is of all lines."""


@dataclass(frozen=True, slots=True)
class Past:
    """By number, the earliest first."""

    entries: dict[str, tuple[Entry, ...]]
    arrivals: dict[str, tuple[Instant, ...]]
    """When messages were seen for the first time."""


class History:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def since(self, after: Instant, now: Instant) -> Past:
        """All that is needed to tell how the lines stood since `after`."""
        entries: dict[str, list[Entry]] = {}
        for number, at, state in reversed(await self._engine.read(_ENTRIES, now=now, most=MOST)):
            entries.setdefault(number, []).append(Entry(at, state))
        arrivals: dict[str, list[Instant]] = {}
        for number, at in reversed(await self._engine.read(_ARRIVED, after=after, most=MOST)):
            arrivals.setdefault(number, []).append(at)
        return Past(
            {number: tuple(found) for number, found in entries.items()},
            {number: tuple(found) for number, found in arrivals.items()},
        )

    async def prune(self, before: Instant) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.run(_PRUNE, before=before)

        await self._engine.write(work)


async def enter(transaction: Transaction, standing: Standing, now: Instant) -> None:
    """Note how a line stands from now on, if that is not how it stood."""
    is_paused = decide.is_paused(standing, now) or not standing.enabled
    await _enter(transaction, standing.number, now, (LineState.PAUSED if is_paused else standing.state).value)
    until = standing.paused_until
    if until is not None and now < until < FOREVER:
        await _add(transaction, standing.number, until, standing.state.value)


async def enter_block(transaction: Transaction, operator: OperatorStanding, now: Instant) -> None:
    blocked = decide.is_blocked(operator, now)
    await _enter(transaction, EVERYONE, now, Overall.BLOCKED if blocked else Overall.RUNNING)


async def enter_standstill(transaction: Transaction, now: Instant) -> None:
    """Called by a daemon that begins: from the first poll that was missed until now, none ran."""
    (missed_since,), *_ = await transaction.all(_MISSED_SINCE, now=now)
    (last_poll_at,), *_ = await transaction.all(_LAST_POLL)
    if missed_since is None:
        return
    since = max(missed_since, last_poll_at or 0)
    if now - since >= SHORTEST:
        await _enter(transaction, EVERYONE, since, Overall.STOPPED)
        await _enter(transaction, EVERYONE, now, Overall.RUNNING)


async def _enter(transaction: Transaction, number: str, at: Instant, state: str) -> None:
    await transaction.run(_NO_FUTURE, number=number, at=at)
    await _add(transaction, number, at, state)


async def _add(transaction: Transaction, number: str, at: Instant, state: str) -> None:
    await transaction.run(_ENTER, number=number, at=at, state=state)
