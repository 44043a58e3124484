"""Deliveries that are held: by a channel's quiet hours, its digest or its budget; and the digest at the end of a hold.

A held delivery is a pending one like any other, whose next attempt is the end of its hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vmwatch import decide
from vmwatch.ledger.alerts import IN_DIGEST, SEEN_TO, owe
from vmwatch.ledger.engine import Engine, Row, Transaction
from vmwatch.ledger.rows import VOICEMAIL, alert_from_json, listed, value
from vmwatch.models import Arrival, Duration, Held, Hold, Instant, Kind, Queue, Voicemail
from vmwatch.sequences import about

MOST = 500
"""Deliveries of a channel that are sorted out at once."""

_DUE = """
SELECT d.id, d.version, d.alert_id, a.kind, a.facts, d.waits FROM delivery d JOIN alert a ON a.id = d.alert_id
WHERE d.state = 'pending' AND d.channel = :channel AND d.next_attempt_at <= :now
  AND (d.claimed_until IS NULL OR d.claimed_until <= :now)
  AND (d.waits IS NULL OR d.waits <> 'asked')
ORDER BY d.next_attempt_at, d.id LIMIT :most
"""
_UNJUDGED = (None, Held.SNOOZED)
"""A snooze may end in the quiet hours of whoever else is told."""
_SENT_AT = """
SELECT sent_at FROM delivery WHERE state = 'sent' AND channel = :channel AND sent_at > :since
  AND NOT EXISTS (SELECT 1 FROM alert a WHERE a.id = alert_id AND a.kind = 'voicemail.cleared')
ORDER BY sent_at
"""
_UNTAKEN = "WHERE id = :id AND version = :version AND state = 'pending'"
_HOLD = f"""
UPDATE delivery SET waits = :why, next_attempt_at = :until, held_until = :until, version = version + 1 {_UNTAKEN}
"""
_GO_ON = f"UPDATE delivery SET waits = NULL, held_until = :now, version = version + 1 {_UNTAKEN}"
_TAKE = f"""
UPDATE delivery SET state = 'withdrawn', waits = NULL, next_attempt_at = NULL, version = version + 1 {_UNTAKEN}
"""
_SAY_WHY = "UPDATE delivery SET last_error = :why WHERE id = :id"
# Whoever marks one of them as heard waits until the digest is there to be withdrawn.
_STILL_NEW = f"""
SELECT l.label, m.number, {listed(VOICEMAIL, "m.")} FROM message m JOIN line l ON l.number = m.number
WHERE (m.alert_id = :alert
       OR EXISTS (SELECT 1 FROM mention o WHERE o.alert_id = :alert AND o.number = m.number AND o.message = m.id))
  AND m.left_new_at IS NULL AND m.acked_at IS NULL AND (m.snoozed_until IS NULL OR m.snoozed_until <= :now)
ORDER BY COALESCE(m.received_at, m.first_seen_at), m.id /*+ FOR UPDATE OF m */
"""
_MENTION = "INSERT INTO mention (alert_id, number, message) VALUES (:alert, :number, :id)"
_NUMBER_OF = "SELECT id FROM delivery WHERE alert_id = :alert"
_ANEW = """
UPDATE delivery SET waits = NULL, next_attempt_at = :now, version = version + 1
WHERE state = 'pending' AND waits IN ('quiet', 'digest', 'budget') AND next_attempt_at > :now
"""

StillNew = dict[tuple[str, str], tuple[str, Voicemail]]
"""By line and id: the line's label, and the message."""


class Holding:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def queue(self, channel: str, now: Instant, budget_span: Duration) -> Queue:
        """What is due on a channel, and when something was sent on it during `budget_span`."""
        rows = await self._engine.read(_DUE, channel=channel, now=now, most=MOST)
        sent_at = await self._engine.read(_SENT_AT, channel=channel, since=now - budget_span) if budget_span else []
        return Queue(
            fresh=tuple(_arrival(row) for row in rows if row[-1] in _UNJUDGED),
            released=tuple(_arrival(row) for row in rows if row[-1] not in _UNJUDGED),
            sent_at=tuple(instant for (instant,) in sent_at),
        )

    async def sort_out(
        self, channel: str, held: Sequence[tuple[Arrival, Hold]], released: Sequence[Arrival], now: Instant
    ) -> None:
        """Hold what is to be held, and put one digest of what is still new in the place of what was held until now."""

        async def work(transaction: Transaction) -> None:
            await transaction.many(_HOLD, [_held(arrival, hold) for arrival, hold in held])
            digested = [arrival for arrival in released if arrival.kind in decide.DIGESTED]
            others = [arrival for arrival in released if arrival.kind not in decide.DIGESTED]
            await transaction.many(_GO_ON, [{"id": one.id, "version": one.version, "now": now} for one in others])
            if digested:
                await _digest(transaction, channel, digested, now)

        await self._engine.write(work)

    async def judge_anew(self, now: Instant) -> None:
        """The clock was set: how long what is held waits is found out anew."""

        async def work(transaction: Transaction) -> None:
            await judge_anew(transaction, now)

        await self._engine.write(work)


async def judge_anew(transaction: Transaction, now: Instant) -> None:
    """Have what is held be judged as if it were new; what a digest is due for stays so."""
    await transaction.run(_ANEW, now=now)


async def _digest(transaction: Transaction, channel: str, released: Sequence[Arrival], now: Instant) -> None:
    still_new: StillNew = {}
    taken: dict[int, bool] = {}
    for arrival in released:
        rows = await transaction.all(_STILL_NEW, alert=arrival.alert_id, now=now)
        if await transaction.run(_TAKE, id=arrival.id, version=arrival.version):
            taken[arrival.id] = bool(rows)
            still_new |= {(row[1], row[2]): (row[0], value(Voicemail, row[2:])) for row in rows}
    why = await _owe_digest(transaction, channel, still_new, now) if still_new else SEEN_TO
    await transaction.many(_SAY_WHY, [{"id": id_, "why": why if told else SEEN_TO} for id_, told in taken.items()])


async def _owe_digest(transaction: Transaction, channel: str, still_new: StillNew, now: Instant) -> str:
    """Returns what is to be said of the deliveries that it stands for."""
    alert = replace(decide.digest(channel, list(still_new.values())), about=about(still_new))
    alert_id = await owe(transaction, alert, now)
    mentioned = [{"alert": alert_id, "number": number, "id": id_} for number, id_ in still_new]
    await transaction.many(_MENTION, mentioned)
    ((delivery_id,),) = await transaction.all(_NUMBER_OF, alert=alert_id)
    return f"{IN_DIGEST}{delivery_id}"


def _arrival(row: Row) -> Arrival:
    id_, version, alert_id, kind, facts, _ = row
    return Arrival(id_, version, alert_id, Kind(kind), alert_from_json(facts).urgent)


def _held(arrival: Arrival, hold: Hold) -> dict[str, object]:
    return {"id": arrival.id, "version": arrival.version, "until": hold.until, "why": hold.why.value}
