"""Alerts that are owed: written in the transaction of the fact they tell, one delivery a channel."""

from __future__ import annotations

from dataclasses import replace

from vmwatch.ledger.engine import Transaction
from vmwatch.ledger.rows import alert_to_json
from vmwatch.models import Alert, DeliveryState, Fate, Instant, Kind, Silenced
from vmwatch.sequences import about

DROPPED = "dropped by a person"
"""A delivery's last word that keeps it withdrawn, even if its message is in the box again."""
SEEN_TO = "seen to, or put off, by a person"
"""The last word of one that was held meanwhile: it stays withdrawn, too."""
IN_DIGEST = "in digest "
"""How the last word begins of one that a digest was sent in the place of; the digest's number follows."""

_INSERT = "INSERT INTO alert (kind, number, facts, created_at) VALUES (:kind, :number, :facts, :now) RETURNING id"

_OWE = """
INSERT INTO delivery (alert_id, channel, state, attempts, next_attempt_at, maybe_repeat, version)
VALUES (:alert, :channel, :state, 0, :now, 0, 0)
"""
_SILENCE = """
INSERT INTO delivery (alert_id, channel, state, waits, attempts, maybe_repeat, version)
VALUES (:alert, :channel, 'withdrawn', :why, 0, 0, 0)
"""
SILENCED = f"('{Fate.MUTED}', '{Fate.TOO_SHORT}')"
"""What stands in place of a reason to wait where nobody is to be told because of who called."""

ANNOUNCES = frozenset({Kind.VOICEMAIL_NEW, Kind.VOICEMAIL_SUMMARY})
"""Alerts by which people hear of a message first; others tell again of it."""
_ANNOUNCED = "UPDATE message SET alert_id = :alert WHERE number = :number AND id = :id"
_MENTIONED = "INSERT INTO mention (alert_id, number, message) VALUES (:alert, :number, :id)"


async def owe(transaction: Transaction, alert: Alert, now: Instant) -> int:
    """Write an alert, its deliveries, and which messages it announces or tells again of. Returns the alert's id."""
    alert_id = await _written(transaction, alert, now)
    pending = DeliveryState.PENDING.value
    owed = [{"alert": alert_id, "channel": name, "state": pending, "now": now} for name in alert.channels]
    await transaction.many(_OWE, owed)
    await _name_messages(transaction, _ANNOUNCED if alert.kind in ANNOUNCES else _MENTIONED, alert_id, alert)
    return alert_id


async def keep_silenced(transaction: Transaction, silenced: Silenced, now: Instant) -> None:
    """Write what nobody is told because of who called: deliveries that are over, with the reason.

    It mentions its messages and does not announce them: so they are never followed, and nobody hears that they were
    heard.
    """
    alert, why = silenced.alert, silenced.why.value
    alert_id = await _written(transaction, alert, now)
    await transaction.many(_SILENCE, [{"alert": alert_id, "channel": name, "why": why} for name in alert.channels])
    await _name_messages(transaction, _MENTIONED, alert_id, alert)


async def _written(transaction: Transaction, alert: Alert, now: Instant) -> int:
    if alert.messages and alert.number is not None:
        alert = replace(alert, about=about((alert.number, message) for message in alert.messages))
    rows = await transaction.all(
        _INSERT, kind=alert.kind.value, number=alert.number, facts=alert_to_json(alert), now=now
    )
    alert_id: int = rows[0][0]
    return alert_id


async def _name_messages(transaction: Transaction, statement: str, alert_id: int, alert: Alert) -> None:
    named = [{"alert": alert_id, "number": alert.number, "id": message} for message in alert.messages]
    await transaction.many(statement, named)
