"""The messages' part of the ledger, as people see it, and how long it is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vmwatch.ledger import following
from vmwatch.ledger.alerts import IN_DIGEST
from vmwatch.ledger.engine import Engine, Row, Transaction
from vmwatch.ledger.rows import VOICEMAIL, listed, value
from vmwatch.models import DeliveryState, Instant, Voicemail

_SEEN = f"""
SELECT {listed(VOICEMAIL, "m.")}, l.name, m.first_seen_at, m.left_new_at, m.alert_id, m.acked_at, m.snoozed_until,
       m.number
FROM message m JOIN line l ON l.number = m.number
"""
_LISTING = f"""
{_SEEN}
WHERE (CAST(:number AS TEXT) IS NULL OR m.number = :number) AND (:new_only = 0 OR m.left_new_at IS NULL)
ORDER BY COALESCE(m.received_at, m.first_seen_at) DESC, m.id DESC LIMIT :most
"""

_TOLD = """
SELECT alert_id, channel, state, sent_at, last_error, waits FROM delivery WHERE alert_id IN (
    SELECT alert_id FROM message ORDER BY COALESCE(received_at, first_seen_at) DESC, id DESC LIMIT :most
) ORDER BY channel
"""

_BEGINNING = f"{_SEEN} WHERE SUBSTR(m.id, 1, LENGTH(CAST(:beginning AS TEXT))) = :beginning ORDER BY m.id LIMIT 100"

# By each line's own number, or the whole table would be looked through.
_WITH_ID = f"{_SEEN} WHERE m.id = :id ORDER BY m.number"

# What is still in the box is never forgotten: it would be announced again.
_PRUNE_MESSAGES = "DELETE FROM message WHERE left_new_at IS NOT NULL AND left_new_at <= :before"
_PRUNE_DELIVERIES = """
DELETE FROM delivery WHERE state <> 'pending' AND alert_id IN (
    SELECT a.id FROM alert a WHERE a.created_at <= :before
    AND NOT EXISTS (SELECT 1 FROM message m WHERE m.alert_id = a.id)
)
"""
_PRUNE_ALERTS = """
DELETE FROM alert WHERE created_at <= :before
AND NOT EXISTS (SELECT 1 FROM message m WHERE m.alert_id = alert.id)
AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.alert_id = alert.id)
"""
_PRUNE_MENTIONS = "DELETE FROM mention WHERE NOT EXISTS (SELECT 1 FROM alert a WHERE a.id = mention.alert_id)"


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message as people see it; `line` is a name. `left_new_at`: None while it is still new."""

    voicemail: Voicemail
    line: str
    first_seen_at: Instant
    left_new_at: Instant | None
    alert_id: int | None = None
    """The alert that announces it."""
    acked_at: Instant | None = None
    """When a person said that it is seen to."""
    snoozed_until: Instant | None = None
    number: str = ""
    """The line's."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.number, self.voicemail.id


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a message's alert on one channel."""

    channel: str
    state: DeliveryState
    sent_at: Instant | None
    last_error: str | None
    waits: str | None = None
    """Why it is held until its next attempt."""

    @property
    def in_digest(self) -> bool:
        return self.state is DeliveryState.WITHDRAWN and (self.last_error or "").startswith(IN_DIGEST)


class Messages:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def listing(self, number: str | None, *, new_only: bool, most: int) -> tuple[MessageView, ...]:
        """Messages seen, the latest first."""
        rows = await self._engine.read(_LISTING, number=number, new_only=int(new_only), most=most)
        return tuple(map(_view, rows))

    async def told(self, most: int) -> dict[int, tuple[Told, ...]]:
        """Which channels got the alerts of the latest messages, by alert."""
        found: dict[int, list[Told]] = {}
        for alert, channel, state, sent_at, error, waits in await self._engine.read(_TOLD, most=most):
            found.setdefault(alert, []).append(Told(channel, DeliveryState(state), sent_at, error, waits))
        return {alert: tuple(told) for alert, told in found.items()}

    async def beginning_with(self, beginning: str) -> tuple[MessageView, ...]:
        """The messages whose ids begin so."""
        return tuple(map(_view, await self._engine.read(_BEGINNING, beginning=beginning)))

    async def with_id(self, id_: str) -> tuple[MessageView, ...]:
        """The messages of exactly this id: ids are the operator's, and nothing says that two lines can't share one."""
        return tuple(map(_view, await self._engine.read(_WITH_ID, id=id_)))

    async def ack(self, keys: Iterable[tuple[str, str]], now: Instant) -> None:
        """Nobody is to be reminded of these messages any more; what waits to remind of them is withdrawn."""

        async def work(transaction: Transaction) -> None:
            for number, id_ in keys:
                await following.acknowledge(transaction, number, id_, now)

        await self._engine.write(work)

    async def snooze(
        self, keys: Iterable[tuple[str, str]], until: Instant, now: Instant, *, over_ack: bool = True
    ) -> None:
        """Nothing is to be told of these messages until then; then one reminder, if they are still new.

        `over_ack`: those that are acknowledged, too.
        """

        async def work(transaction: Transaction) -> None:
            for number, id_ in keys:
                await following.snooze(transaction, number, id_, until, now, over_ack=over_ack)

        await self._engine.write(work)

    async def prune(self, before: Instant) -> int:
        """Forget what left the box, and alerts that were made, before an instant; returns how many messages."""

        async def work(transaction: Transaction) -> int:
            await transaction.alone()
            pruned = await transaction.run(_PRUNE_MESSAGES, before=before)
            await transaction.run(_PRUNE_DELIVERIES, before=before)
            await transaction.run(_PRUNE_ALERTS, before=before)
            await transaction.run(_PRUNE_MENTIONS)
            return pruned

        return await self._engine.write(work)


def _view(row: Row) -> MessageView:
    return MessageView(value(Voicemail, row[: len(VOICEMAIL)]), *row[len(VOICEMAIL) :])
