"""What the ledger does when the computer's clock was set."""

from __future__ import annotations

from vmwatch.ledger.engine import Transaction
from vmwatch.models import FOREVER, Duration, Instant

_LINES = """
UPDATE line SET
    next_poll_at = next_poll_at + :by, last_poll_at = last_poll_at + :by, claimed_until = claimed_until + :by,
    failing_since = failing_since + :by, locked_until = locked_until + :by,
    paused_until = CASE WHEN paused_until = :forever OR paused_at <= :after THEN paused_until
                        ELSE paused_until + :by END,
    version = version + 1
WHERE COALESCE(last_poll_at, since) > :after
"""
_OPERATOR = (
    "UPDATE operator SET blocked_until = blocked_until + :by, version = version + 1 WHERE blocked_since > :after"
)
_DELIVERIES = """
UPDATE delivery SET
    next_attempt_at = next_attempt_at + :by, attempt_at = attempt_at + :by, claimed_until = claimed_until + :by
WHERE state = 'pending'
"""
_ALERTS = """
UPDATE alert SET created_at = created_at + :by
WHERE id IN (SELECT alert_id FROM delivery WHERE state = 'pending')
"""
# What is shown beside the present keeps its distance to it.
_HISTORY = "UPDATE history SET at = at + :by WHERE at > :after"
_FOLLOW_UPS = "UPDATE follow_up SET alerted_at = alerted_at + :by, done_until = done_until + :by, at = at + :by"
_SNOOZES = """
UPDATE message SET snoozed_until = snoozed_until + :by
WHERE EXISTS (SELECT 1 FROM follow_up f WHERE f.number = message.number AND f.message = message.id AND f.due = 'snooze')
"""


async def shift(transaction: Transaction, by: Duration, after: Instant) -> None:
    """Move every instant that something waits for; what has happened keeps the time that it was given then, but for
    the history of the last day, which nobody reads apart from the present.

    Left alone are lines, pauses and blocks whose latest entry is not later than `after`: they go by the clock as
    it is now. Only `last_poll_at` moves too: it tells the next start how far the clock had come (`Ledger.latest`),
    and would otherwise have every start move the waits again.
    """
    await transaction.run(_LINES, by=by, after=after, forever=FOREVER)
    await transaction.run(_OPERATOR, by=by, after=after)
    await transaction.run(_DELIVERIES, by=by)
    await transaction.run(_ALERTS, by=by)
    await transaction.run(_HISTORY, by=by, after=after)
    await transaction.run(_FOLLOW_UPS, by=by)
    await transaction.run(_SNOOZES, by=by)
