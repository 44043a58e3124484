"""The lines' part of the ledger: what is due, claims, and what polls and people decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vmwatch.decide import heard
from vmwatch.ledger import following, shown
from vmwatch.ledger.alerts import DROPPED, IN_DIGEST, SEEN_TO, keep_silenced, owe
from vmwatch.ledger.engine import Engine, Row, Transaction
from vmwatch.ledger.history import enter, enter_block
from vmwatch.ledger.processes import Carried, sign_along
from vmwatch.ledger.rows import LINE, OPERATOR, REMEMBERED, VOICEMAIL, assigned, cells, listed, value
from vmwatch.models import Claim, Decision, Instant, OperatorStanding, Remembered, Standing, Voicemail
from vmwatch.tasks import in_turns

_SELECT = f"SELECT {listed(LINE)} FROM line"
_BY_NUMBER = f"{_SELECT} WHERE number = :number"
_STORED = f"{_SELECT} /*+ ORDER BY number FOR UPDATE */"
_REJECTED = "SELECT number FROM line WHERE state = 'rejected' AND configured = 1"
_CONFIGURED = f"{_SELECT} WHERE configured = 1 ORDER BY name"
_IN_TROUBLE = f"{_SELECT} WHERE configured = 1 AND state NOT IN ('ok', 'waiting') ORDER BY name"
_UNREAD = f"""
{_SELECT}
WHERE state = 'ok' AND configured = 1 AND COALESCE(last_success_at, 0) NOT BETWEEN :since AND :until ORDER BY name
"""

_FREE = """
configured = 1 AND enabled = 1
  AND (paused_until IS NULL OR paused_until <= :now)
  AND (claimed_until IS NULL OR claimed_until <= :now OR claimed_by = :me)
"""
_UNSETTLED, _SETTLED = "(state = 'ok') = (:ok = 0)", "(state = 'ok') = (:ok = 1)"
# What this process is given no other one is, until it has claimed of it what it wants.
_LONGEST_DUE = f"""
SELECT * FROM ({_SELECT} WHERE next_poll_at <= :now AND {_FREE} AND {{settled}} ORDER BY next_poll_at LIMIT {{most}}
  /*+ FOR UPDATE SKIP LOCKED */) AS due
"""
_DUE = f"""
{_LONGEST_DUE.format(settled=_UNSETTLED, most=":unsettled")} UNION ALL
{_LONGEST_DUE.format(settled=_SETTLED, most=":settled")}
"""
# What waits for nothing but a person has NULL, which SQLite sorts first.
_FIRST_DUE = (
    f"(SELECT next_poll_at FROM line WHERE next_poll_at >= 0 AND {_FREE} AND {{settled}} ORDER BY next_poll_at LIMIT 1)"
)
_OUTLOOK = f"""
SELECT {listed(OPERATOR, "o.")}, {_FIRST_DUE.format(settled=_UNSETTLED)}, {_FIRST_DUE.format(settled=_SETTLED)}
FROM (SELECT 1) AS one LEFT JOIN operator o ON o.id = 'telecomx'
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
/*+ FROM given (number TEXT, version BIGINT, attempt_at BIGINT, next_poll_at BIGINT, claimed_until BIGINT, me TEXT) */
WHERE number = :number AND version = :version
"""
_MINE = "SELECT number, version FROM line WHERE claimed_by = :me"
_NOTE = """
UPDATE line SET attempt_at = NULL, last_success_at = :last_success_at
/*+ FROM given (number TEXT, attempt_at BIGINT, last_success_at BIGINT) */
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
  AND COALESCE(last_error, '') NOT LIKE '{IN_DIGEST}%' AND (alert_id IN (
    SELECT alert_id FROM message
    WHERE number = :number AND left_new_at IS NULL AND acked_at IS NULL AND alert_id IS NOT NULL
) OR alert_id IN (
    SELECT o.alert_id FROM mention o JOIN message m ON m.number = o.number AND m.id = o.message
    JOIN alert a ON a.id = o.alert_id
    WHERE a.kind = 'voicemail.digest' AND m.number = :number AND m.left_new_at IS NULL AND m.acked_at IS NULL
      AND (m.snoozed_until IS NULL OR m.snoozed_until <= :now)
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


Choose = Callable[[Sequence[Standing]], Sequence[Claim]]


class Lines:
    def __init__(self, engine: Engine, me: str) -> None:
        self._engine = engine
        self._me = me
        self.carried: Callable[[], Carried | None] = lambda: None
        """What is to be written of this process with the next claims, if anything is."""

    async def standings(self) -> tuple[Standing, ...]:
        """Every configured line, by name."""
        return tuple(await in_turns(map(_standing, await self._engine.read(_CONFIGURED))))

    async def in_trouble(self) -> tuple[Standing, ...]:
        """Lines that are neither well nor waiting for their first poll."""
        return tuple(map(_standing, await self._engine.read(_IN_TROUBLE)))

    async def unread(self, since: Instant, until: Instant) -> tuple[Standing, ...]:
        """Lines that are well but, as far as was noted, were not read in that time."""
        return tuple(map(_standing, await self._engine.read(_UNREAD, since=since, until=until)))

    async def standing(self, number: str) -> Standing | None:
        return _first(await self._engine.read(_BY_NUMBER, number=number))

    async def rejected(self) -> frozenset[str]:
        """The numbers of the lines that wait for a person."""
        return frozenset(row[0] for row in await self._engine.read(_REJECTED))

    async def operator(self) -> OperatorStanding:
        return _operator(await self._engine.read(_OPERATOR))

    async def known(self, number: str) -> dict[str, Remembered]:
        """Every message of the line that was ever seen and is still remembered, by id."""
        rows = await self._engine.read(_KNOWN, number=number)
        return {entry.id: entry for entry in (value(Remembered, row) for row in rows)}

    async def outlook(self, now: Instant) -> tuple[OperatorStanding, Instant | None]:
        """How the operator stands, and when the next line falls due, if any does: all that a quiet heartbeat asks."""
        (row,) = await self._engine.read(_OUTLOOK, now=now, me=self._me, ok=1)
        standing, times = row[: len(OPERATOR)], row[len(OPERATOR) :]
        known = standing[OPERATOR.index("version")] is not None
        operator = value(OperatorStanding, standing) if known else OperatorStanding()
        return operator, min((at for at in times if at is not None), default=None)

    async def take(
        self, choose: Choose, notes: Iterable[QuietNote], now: Instant, *, unsettled: int, settled: int
    ) -> Sequence[Claim]:
        """Write down attempts before they are made, and what quiet polls left to note, in one commit.

        `choose`, which does no I/O, is given lines that are due, the longest due first: `settled` of those that were
        last read well, at most, and `unsettled` of the others. Lines that this process claimed are among them: it
        knows itself what it has under way. Returns the claims won: a row that is not as it was chosen is not claimed.
        """
        noted = [cells(note) for note in notes]
        carried = self.carried()

        async def work(transaction: Transaction) -> Sequence[Claim]:
            if carried is not None:
                await sign_along(transaction, self._me, carried, now)
            # First, or two processes could each wait for a row of the other's.
            await transaction.many(_NOTE, noted)
            rows = await transaction.all(_DUE, now=now, me=self._me, ok=1, unsettled=unsettled, settled=settled)
            claims = choose(list(map(_standing, rows)))
            if await transaction.many(_CLAIM, map(self._wanted, claims)) == len(claims):
                return claims
            mine = set(await transaction.all(_MINE, me=self._me))
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
            if decision.before.state is not decision.after.state:
                await enter(transaction, decision.after, now)
            if decision.operator is not None:
                await _block(transaction, decision.operator)
                await enter_block(transaction, decision.operator, now)
            await _keep_messages(transaction, decision, now)
            for alert in decision.alerts:
                await owe(transaction, alert, now)
            for silenced in decision.silenced:
                await keep_silenced(transaction, silenced, now)
            await following.begin(transaction, decision.after.number, decision.followed, now)

        return await self._unless_superseded(work)

    async def change(self, after: Standing, now: Instant | None = None) -> bool:
        """Keep a line's new standing; False if the row was changed since `after` was derived from it.

        `now` is given where it may be shown in another state from then on.
        """

        async def work(transaction: Transaction) -> None:
            await _change(transaction, after)
            if now is not None:
                await enter(transaction, after, now)

        return await self._unless_superseded(work)

    async def _unless_superseded(self, work: object) -> bool:
        try:
            await self._engine.write(work)  # type: ignore[arg-type]
        except Superseded:
            return False
        return True


async def configure(
    transaction: Transaction,
    known: Mapping[str, Standing],
    standings: Mapping[str, Standing],
    now: Instant,
    theirs: frozenset[str] = frozenset(),
) -> None:
    """Keep the lines as configured now, by number; every other line that is known is kept but no longer polled.

    `theirs` are lines that another process polls.
    """
    # By number, for neighbours are polled together: what a commit changes is then on few pages.
    await transaction.many(_INSERT, (cells(new) for number, new in sorted(standings.items()) if number not in known))
    for number, standing in standings.items():
        before = known.get(number)
        if before is not None and before != standing:
            await _change(transaction, standing)
        if before != standing:
            await enter(transaction, standing, now)
    kept = standings.keys() | theirs
    gone = [{"number": number} for number, line in known.items() if line.configured and number not in kept]
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
        tells = bool(decision.hear_of_left)
        told = await following.tell_heard(transaction, heard(decision), decision.left, now) if tells else None
        await shown.clear(transaction, number, decision.left, now, told)
    if decision.seen:
        await transaction.run(_OWE_AGAIN, number=number, now=now)


def _message(number: str, message: Voicemail, now: Instant) -> dict[str, object]:
    return {**cells(message), "number": number, "now": now}


def _operator(rows: list[Row]) -> OperatorStanding:
    return value(OperatorStanding, rows[0]) if rows else OperatorStanding()


def _standing(row: Row) -> Standing:
    return value(Standing, row)


def _first(rows: list[Row]) -> Standing | None:
    return _standing(rows[0]) if rows else None
