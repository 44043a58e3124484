"""The lines' part of the ledger: what is due, claims, and what polls and people decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vmwatch.decide import heard
from vmwatch.ledger import following
from vmwatch.ledger.alerts import DROPPED, SEEN_TO, owe
from vmwatch.ledger.engine import Engine, Row, Transaction
from vmwatch.ledger.rows import LINE, OPERATOR, REMEMBERED, VOICEMAIL, assigned, cells, listed, value
from vmwatch.models import Claim, Decision, Instant, OperatorStanding, Remembered, Standing, Voicemail

_SELECT = f"SELECT {listed(LINE)} FROM line"
_BY_NUMBER = f"{_SELECT} WHERE number = :number"
_STORED = f"{_SELECT} /*+ ORDER BY number FOR UPDATE */"
_CONFIGURED = f"{_SELECT} WHERE configured = 1 ORDER BY name"

_DUE = f"""
{_SELECT}
WHERE next_poll_at <= :now AND configured = 1 AND enabled = 1
  AND (paused_until IS NULL OR paused_until <= :now)
  AND (claimed_until IS NULL OR claimed_until <= :now OR claimed_by = :me)
  AND (state = 'ok') = (:settled = 1)
ORDER BY next_poll_at LIMIT :most
"""

_CHANGED = tuple(name for name in LINE if name not in ("number", "version"))
_CHANGE = f"""
UPDATE line SET {assigned(_CHANGED)}, version = version + 1 WHERE number = :number AND version = :version
"""
_INSERT = f"INSERT INTO line ({listed(LINE)}) VALUES ({listed(LINE, ':')})"
_DELETE = "DELETE FROM line WHERE number = :number"
_FORGET = "UPDATE line SET configured = 0, version = version + 1 WHERE number = :number"

_CLAIM = """
UPDATE line SET attempt_at = :attempt_at, last_poll_at = :attempt_at, next_poll_at = :next_poll_at,
                claimed_until = :claimed_until, claimed_by = :me, version = version + 1
WHERE number = :number AND version = :version
  /*+ AND number = (SELECT number FROM line WHERE number = :number AND version = :version FOR UPDATE SKIP LOCKED) */
"""
_MINE = "SELECT number, version FROM line WHERE claimed_by = :me AND attempt_at = :now"
_NOTE = """
UPDATE line SET attempt_at = NULL, last_success_at = :last_success_at
WHERE number = :number AND attempt_at = :attempt_at
"""
_DROP_CLAIMS = "UPDATE line SET claimed_until = NULL WHERE claimed_by LIKE 'daemon-%'"

_OPERATOR = f"SELECT {listed(OPERATOR)} FROM operator WHERE id = 'telecomx'"
_BLOCK = """
INSERT INTO operator (id, blocked_until, blocked_since, failures, version)
VALUES ('telecomx', :blocked_until, :blocked_since, :failures, 1)
ON CONFLICT (id) DO UPDATE SET blocked_until = :blocked_until, blocked_since = :blocked_since,
    failures = :failures, version = operator.version + 1
WHERE operator.version = :version
"""

_KNOWN = f"SELECT {listed(REMEMBERED)} FROM message WHERE number = :number"
_FRESH = f"""
INSERT INTO message (number, {listed(VOICEMAIL)}, first_seen_at, missed)
VALUES (:number, {listed(VOICEMAIL, ":")}, :now, 0)
"""
_SEEN = """
UPDATE message SET box = :box, played = :played, missed = 0, left_new_at = NULL WHERE number = :number AND id = :id
"""
_MISSED = "UPDATE message SET missed = missed + 1 WHERE number = :number AND id = :id"
_LEFT = "UPDATE message SET missed = missed + 1, left_new_at = :now WHERE number = :number AND id = :id"

_WITHDRAW = """
UPDATE delivery SET state = 'withdrawn', next_attempt_at = NULL, version = version + 1
WHERE state = 'pending' AND alert_id IN (
    SELECT alert_id FROM message WHERE number = :number AND left_new_at = :now AND alert_id IS NOT NULL
) AND NOT EXISTS (SELECT 1 FROM message m WHERE m.alert_id = delivery.alert_id AND m.left_new_at IS NULL)
"""
_OWE_AGAIN = f"""
UPDATE delivery SET state = 'pending', next_attempt_at = :now, waits = NULL, version = version + 1
WHERE state = 'withdrawn' AND COALESCE(last_error, '') NOT IN ('{DROPPED}', '{SEEN_TO}')
  AND COALESCE(last_error, '') NOT LIKE 'in digest %' AND (alert_id IN (
    SELECT alert_id FROM message
    WHERE number = :number AND left_new_at IS NULL AND acked_at IS NULL AND alert_id IS NOT NULL
) OR alert_id IN (
    SELECT o.alert_id FROM mention o JOIN message m ON m.number = o.number AND m.id = o.message
    JOIN alert a ON a.id = o.alert_id
    WHERE a.kind = 'voicemail.digest' AND m.number = :number AND m.left_new_at IS NULL AND m.acked_at IS NULL
))
"""


class Superseded(Exception):  # noqa: N818 - not an error: somebody else was first, decide again
    """The row was changed by somebody else since it was read; nothing of this transaction was kept."""


@dataclass(frozen=True, slots=True)
class QuietNote:
    """A quiet poll, kept in memory until the next commit takes it along."""

    number: str
    attempt_at: Instant
    last_success_at: Instant


class Lines:
    def __init__(self, engine: Engine, me: str) -> None:
        self._engine = engine
        self._me = me

    async def standings(self) -> tuple[Standing, ...]:
        """Every configured line, by name."""
        return tuple(value(Standing, row) for row in await self._engine.read(_CONFIGURED))

    async def standing(self, number: str) -> Standing | None:
        return _first(await self._engine.read(_BY_NUMBER, number=number))

    async def operator(self) -> OperatorStanding:
        rows = await self._engine.read(_OPERATOR)
        return value(OperatorStanding, rows[0]) if rows else OperatorStanding()

    async def known(self, number: str) -> dict[str, Remembered]:
        """Every message of the line that was ever seen and is still remembered, by id."""
        rows = await self._engine.read(_KNOWN, number=number)
        return {entry.id: entry for entry in (value(Remembered, row) for row in rows)}

    async def due(self, now: Instant, *, settled: bool, most: int) -> tuple[Standing, ...]:
        """Lines to poll, the longest due first: those that were last read well (`settled`), or the others.

        Lines that this process claimed are among them: it knows itself what it has under way.
        """
        rows = await self._engine.read(_DUE, now=now, me=self._me, settled=int(settled), most=most)
        return tuple(value(Standing, row) for row in rows)

    async def claim(self, claims: Sequence[Claim], notes: Iterable[QuietNote], now: Instant) -> Sequence[Claim]:
        """Write down attempts before they are made, and what quiet polls left to note, in one commit.

        Returns the claims won: a row that somebody changed since it was read is not claimed.
        """
        noted = [cells(note) for note in notes]
        wanted = [self._wanted(claim) for claim in claims]

        async def work(transaction: Transaction) -> Sequence[Claim]:
            await transaction.many(_NOTE, noted)
            if await transaction.many(_CLAIM, wanted) == len(wanted):
                return claims
            mine = set(await transaction.all(_MINE, me=self._me, now=now))
            return [claim for claim in claims if (claim.number, claim.before.version + 1) in mine]

        return await self._engine.write(work)

    def _wanted(self, claim: Claim) -> dict[str, object]:
        return {
            "number": claim.number,
            "version": claim.before.version,
            "attempt_at": claim.attempt_at,
            "next_poll_at": claim.next_poll_at,
            "claimed_until": claim.claimed_until,
            "me": self._me,
        }

    async def record(self, decision: Decision, now: Instant) -> bool:
        """Keep all that a poll came to, or nothing: False if the row was changed since it was read."""

        async def work(transaction: Transaction) -> None:
            await _change(transaction, decision.after)
            if decision.operator is not None:
                await _block(transaction, decision.operator)
            await _keep_messages(transaction, decision, now)
            for alert in decision.alerts:
                await owe(transaction, alert, now)
            await following.begin(transaction, decision.after.number, decision.followed, now)

        return await self._unless_superseded(work)

    async def change(self, after: Standing) -> bool:
        """Keep a line's new standing; False if the row was changed since `after` was derived from it."""

        async def work(transaction: Transaction) -> None:
            await _change(transaction, after)

        return await self._unless_superseded(work)

    async def _unless_superseded(self, work: object) -> bool:
        try:
            await self._engine.write(work)  # type: ignore[arg-type]
        except Superseded:
            return False
        return True


async def configure(transaction: Transaction, standings: Mapping[str, Standing]) -> None:
    """Keep the lines as configured now, by number; every other line is kept but no longer polled."""
    known = {standing.number: standing for standing in await stored(transaction)}
    for number, standing in standings.items():
        before = known.get(number)
        if before is None:
            await transaction.run(_INSERT, **cells(standing))
        elif before != standing:
            await _change(transaction, standing)
    gone = [{"number": number} for number, line in known.items() if line.configured and number not in standings]
    await transaction.many(_FORGET, gone)


async def stored(transaction: Transaction) -> tuple[Standing, ...]:
    """Every line there is, configured or not; none is changed by others until this transaction ends."""
    return tuple(value(Standing, row) for row in await transaction.all(_STORED))


async def replace_line(transaction: Transaction, standing: Standing) -> None:
    """Have a line stand so, whatever was known of its number."""
    await transaction.run(_DELETE, number=standing.number)
    await transaction.run(_INSERT, **cells(standing))


async def drop_dead_claims(transaction: Transaction) -> None:
    """End the claims of earlier daemons; only the store's one daemon may say that they are dead.

    Their attempts stay written down: whoever finds one knows that its verdict was lost.
    """
    await transaction.run(_DROP_CLAIMS)


async def _change(transaction: Transaction, after: Standing) -> None:
    if await transaction.run(_CHANGE, **cells(after)) != 1:
        raise Superseded


async def _block(transaction: Transaction, operator: OperatorStanding) -> None:
    if await transaction.run(_BLOCK, **cells(operator)) != 1:
        raise Superseded


async def _keep_messages(transaction: Transaction, decision: Decision, now: Instant) -> None:
    number = decision.after.number
    await transaction.many(_FRESH, [_message(number, message, now) for message in decision.fresh])
    await transaction.many(_SEEN, [_message(number, message, now) for message in decision.seen])
    await transaction.many(_MISSED, [{"number": number, "id": id_} for id_ in decision.missed])
    await transaction.many(_LEFT, [{"number": number, "id": id_, "now": now} for id_ in decision.left])
    if decision.left:
        await transaction.run(_WITHDRAW, number=number, now=now)
        await following.end(transaction, number, decision.left)
        if decision.hear_of_left:
            await following.tell_heard(transaction, heard(decision), decision.left, now)
    if decision.seen:
        await transaction.run(_OWE_AGAIN, number=number, now=now)


def _message(number: str, message: Voicemail, now: Instant) -> dict[str, object]:
    return {**cells(message), "number": number, "now": now}


def _first(rows: list[Row]) -> Standing | None:
    return value(Standing, rows[0]) if rows else None
