"""The follow-ups' part of the ledger: which messages are looked at again, and when, until somebody hears them.

A message has one row as long as it is followed. Whoever does what is due takes the row away first, in the transaction
that writes the alerts: so a step is done once, by one process, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from vmwatch.decide import heard_of
from vmwatch.ledger.alerts import DROPPED, owe
from vmwatch.ledger.engine import Engine, Row, Transaction
from vmwatch.ledger.rows import VOICEMAIL, alert_from_json, cells, columns, listed, value
from vmwatch.ledger.shown import clear
from vmwatch.models import Alert, FollowedUp, FollowUp, Instant, Unheard, Voicemail

_FOLLOW_UP = columns(FollowUp)
MOST = 100
"""Messages of a line that are looked at in one transaction."""

# A line that is paused is not read: whether a message was heard is not known until it goes on.
_LINES_DUE = """
SELECT DISTINCT f.number FROM follow_up f JOIN line l ON l.number = f.number
WHERE f.at <= :now AND l.configured = 1 AND l.enabled = 1 AND (l.paused_until IS NULL OR l.paused_until <= :now)
"""
# A line's steps may be another process's; a snooze's end is anyone's.
_LINES_LEFT = "SELECT DISTINCT number FROM follow_up WHERE at <= :late OR (at <= :now AND due = 'snooze')"
# The messages first, as a poll and a person's `ack` do: what one of them changes, the other sees.
_LOCK = """
SELECT id FROM message
WHERE number = :number AND id IN (SELECT message FROM follow_up WHERE number = :number AND at <= :now)
ORDER BY id /*+ FOR UPDATE */
"""
_DUE = f"""
SELECT {listed(_FOLLOW_UP, "f.")}, {listed(VOICEMAIL, "m.")}, m.missed, l.last_success_at, m.alert_id
FROM follow_up f JOIN message m ON m.number = f.number AND m.id = f.message JOIN line l ON l.number = f.number
WHERE f.number = :number AND f.at <= :now AND m.left_new_at IS NULL AND m.acked_at IS NULL
ORDER BY COALESCE(m.received_at, m.first_seen_at), m.id LIMIT :most
"""
_TAKE = "DELETE FROM follow_up WHERE number = :number AND message = :message AND at = :at"
_OVER = """
DELETE FROM follow_up WHERE number = :number AND at <= :now AND message NOT IN (
    SELECT id FROM message WHERE number = :number AND left_new_at IS NULL AND acked_at IS NULL)
"""
_KEEP = f"INSERT INTO follow_up ({listed(_FOLLOW_UP)}) VALUES ({listed(_FOLLOW_UP, ':')})"
_FACTS = "SELECT facts FROM alert WHERE id = :alert"
# A delivery that a person dropped, or that still waits, tells nobody of the message. Where a reminder or a digest
# waits, or came since the step fell due, another reminder would tell the same twice; a clearing tells nothing.
_TOLD = f"""
SELECT d.channel FROM delivery d WHERE d.alert_id = :alert AND (
    d.state IN ('sent', 'dead') OR (d.state = 'withdrawn' AND COALESCE(d.last_error, '') <> '{DROPPED}'))
  AND NOT EXISTS (SELECT 1 FROM mention o JOIN delivery again ON again.alert_id = o.alert_id
    JOIN alert a ON a.id = o.alert_id AND a.kind <> 'voicemail.cleared'
    WHERE o.number = :number AND o.message = :id AND again.channel = d.channel
      AND (again.state = 'pending' OR again.sent_at BETWEEN :at AND :now))
ORDER BY d.id
"""

_BEGIN = """
INSERT INTO follow_up (number, message, alerted_at, done_until, at, due)
SELECT number, id, CAST(:now AS BIGINT), CAST(:now AS BIGINT), CAST(:now AS BIGINT), 'step'
FROM message WHERE number = :number AND id = :id AND alert_id IS NOT NULL AND acked_at IS NULL AND left_new_at IS NULL
ON CONFLICT (number, message) DO NOTHING
"""
_END = "DELETE FROM follow_up WHERE number = :number AND message = :id"

_RECKON = """
UPDATE follow_up SET done_until = :now, at = :now WHERE number = :number AND due = 'step' AND at > :now
"""
_BEGIN_LATE = """
INSERT INTO follow_up (number, message, alerted_at, done_until, at, due)
SELECT m.number, m.id, CASE WHEN m.snoozed_until > a.created_at THEN m.snoozed_until ELSE a.created_at END,
    CAST(:now AS BIGINT), CAST(:now AS BIGINT), 'step'
FROM message m JOIN alert a ON a.id = m.alert_id
WHERE m.number = :number AND m.acked_at IS NULL AND m.left_new_at IS NULL
ON CONFLICT (number, message) DO NOTHING
"""

# Alerts that tell again of a message go once none of theirs is left to be heard.
_STILL_UNHEARD = """
EXISTS (SELECT 1 FROM mention o JOIN message m ON m.number = o.number AND m.id = o.message
        WHERE o.alert_id = delivery.alert_id AND m.left_new_at IS NULL AND m.acked_at IS NULL AND m.id <> :id)
"""
_WITHDRAW_MENTIONS = f"""
UPDATE delivery SET state = 'withdrawn', next_attempt_at = NULL, version = version + 1
WHERE state = 'pending' AND alert_id IN (SELECT alert_id FROM mention WHERE number = :number AND message = :id)
  AND NOT {_STILL_UNHEARD}
  AND NOT EXISTS (SELECT 1 FROM alert a WHERE a.id = delivery.alert_id AND a.kind = 'voicemail.cleared')
"""

_ACK = """
UPDATE message SET acked_at = :now, snoozed_until = NULL
WHERE number = :number AND id = :id AND left_new_at IS NULL AND acked_at IS NULL
"""
_SNOOZE = """
UPDATE message SET snoozed_until = :until, acked_at = NULL
WHERE number = :number AND id = :id AND left_new_at IS NULL AND (acked_at IS NULL OR :over_ack = 1)
"""
# Nobody was told of one that was not announced, and so nobody is told of it again.
_PUT_OFF = """
INSERT INTO follow_up (number, message, alerted_at, done_until, at, due)
SELECT number, id, CAST(:now AS BIGINT), CAST(:now AS BIGINT), CAST(:until AS BIGINT), 'snooze'
FROM message WHERE number = :number AND id = :id AND alert_id IS NOT NULL
"""
# The announcement waits too, where it is of nothing else.
_HOLD_SNOOZED = """
UPDATE delivery SET waits = 'snoozed', next_attempt_at = :until, held_until = :until, version = version + 1
WHERE state = 'pending' AND claimed_until IS NULL
  AND alert_id IN (SELECT alert_id FROM message WHERE number = :number AND id = :id)
  AND NOT EXISTS (SELECT 1 FROM message m WHERE m.alert_id = delivery.alert_id AND m.left_new_at IS NULL
                  AND m.id <> :id)
"""

# One that was muted was told, if at all, because a person wanted it sent. CROSS JOIN: without it, SQLite would rather
# go through all that was ever sent.
_HEARD = f"""
SELECT {listed(VOICEMAIL)} FROM message WHERE number = :number AND id = :id AND (alert_id IS NOT NULL OR EXISTS (
    SELECT 1 FROM mention o CROSS JOIN delivery d
    WHERE d.alert_id = o.alert_id AND o.number = :number AND o.message = :id AND d.state = 'sent'))
"""
_WHO_GOT_IT = """
SELECT d.channel FROM (
    SELECT alert_id FROM message WHERE number = :number AND id = :id
    UNION SELECT alert_id FROM mention WHERE number = :number AND message = :id) told
CROSS JOIN delivery d WHERE d.alert_id = told.alert_id AND d.state = 'sent'
"""

Judge: TypeAlias = Callable[[Sequence[Unheard]], FollowedUp]


class FollowUps:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def lines_due(self, now: Instant) -> tuple[str, ...]:
        """The numbers of the lines that a message's follow-up is due on."""
        return tuple(row[0] for row in await self._engine.read(_LINES_DUE, now=now))

    async def lines_left(self, now: Instant, late: Instant) -> frozenset[str]:
        """The numbers of the lines on which something is due since `late`, or a snooze is over."""
        return frozenset(row[0] for row in await self._engine.read(_LINES_LEFT, now=now, late=late))

    async def follow(self, number: str, now: Instant, judge: Judge) -> FollowedUp:
        """Do what is due on a line, as `judge`, which is pure, has it: alerts and next follow-ups in one commit."""

        async def work(transaction: Transaction) -> FollowedUp:
            await transaction.all(_LOCK, number=number, now=now)
            await transaction.run(_OVER, number=number, now=now)
            rows = await transaction.all(_DUE, number=number, now=now, most=MOST)
            mine = [row for row in rows if await _taken(transaction, number, row)]
            found = judge([await _unheard(transaction, row, now) for row in mine]) if mine else FollowedUp()
            for alert in found.alerts:
                await owe(transaction, alert, now)
            await transaction.many(_KEEP, [cells(each) for each in found.next])
            return found

        return await self._engine.write(work)

    async def reckon(self, numbers: Iterable[str], now: Instant) -> None:
        """The steps of these lines may be others now, or the clock: the next round finds out what is next.

        Lines that have no steps are not named: theirs end by themselves, if no other process has some. What is due
        stays due. Messages that wait already are followed too; what of their steps has passed, has passed.
        """
        wanted = [{"number": number, "now": now} for number in numbers]
        if not wanted:
            return

        async def work(transaction: Transaction) -> None:
            await transaction.alone()
            await transaction.many(_RECKON, wanted)
            await transaction.many(_BEGIN_LATE, wanted)

        await self._engine.write(work)


async def _taken(transaction: Transaction, number: str, row: Row) -> bool:
    follow_up = value(FollowUp, row[: len(_FOLLOW_UP)])
    return await transaction.run(_TAKE, number=number, message=follow_up.message, at=follow_up.at) == 1


async def _unheard(transaction: Transaction, row: Row, now: Instant) -> Unheard:
    *rest, missed, read_at, alert_id = row
    follow_up = value(FollowUp, tuple(rest[: len(_FOLLOW_UP)]))
    facts = await transaction.all(_FACTS, alert=alert_id)
    about = {"number": follow_up.number, "id": follow_up.message, "at": follow_up.at, "now": now}
    told = await transaction.all(_TOLD, alert=alert_id, **about)
    return Unheard(
        follow_up=follow_up,
        voicemail=value(Voicemail, tuple(rest[len(_FOLLOW_UP) :])),
        is_missed=missed > 0,
        read_at=read_at,
        told=tuple(channel for (channel,) in told),
        urgent=bool(facts) and alert_from_json(facts[0][0]).urgent,
    )


async def begin(transaction: Transaction, number: str, ids: Iterable[str], now: Instant) -> None:
    """Follow messages from now on, of those that are announced."""
    await transaction.many(_BEGIN, [{"number": number, "id": id_, "now": now} for id_ in ids])


async def end(transaction: Transaction, number: str, ids: Sequence[str]) -> None:
    """Messages need no following any more: nothing more is owed about them alone."""
    named = [{"number": number, "id": id_} for id_ in ids]
    await transaction.many(_END, named)
    await transaction.many(_WITHDRAW_MENTIONS, named)


async def acknowledge(transaction: Transaction, number: str, id_: str, now: Instant) -> None:
    """A person sees to a message."""
    if await transaction.run(_ACK, number=number, id=id_, now=now):
        await end(transaction, number, [id_])
        await clear(transaction, number, [id_], now)


async def snooze(
    transaction: Transaction, number: str, id_: str, until: Instant, now: Instant, *, over_ack: bool
) -> None:
    """A person wants to hear of a message later; `over_ack`: though it is acknowledged."""
    if not await transaction.run(_SNOOZE, number=number, id=id_, until=until, over_ack=int(over_ack)):
        return
    await end(transaction, number, [id_])
    await transaction.run(_PUT_OFF, number=number, id=id_, until=until, now=now)
    await transaction.run(_HOLD_SNOOZED, number=number, id=id_, until=until)


async def tell_heard(transaction: Transaction, alert: Alert, ids: Sequence[str], now: Instant) -> Alert | None:
    """Owe an alert that messages were heard to those of its channels that got word of them; to none, none."""
    voicemails: list[Voicemail] = []
    got: set[str] = set()
    for id_ in ids:
        rows = await transaction.all(_HEARD, number=alert.number, id=id_)
        voicemails += [value(Voicemail, row) for row in rows]
        got |= {channel for (channel,) in await transaction.all(_WHO_GOT_IT, number=alert.number, id=id_)}
    channels = tuple(name for name in alert.channels if name in got)
    if not channels:
        return None
    facts = heard_of(alert, voicemails, channels)
    await owe(transaction, facts, now)
    return facts
