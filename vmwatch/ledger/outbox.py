"""The deliveries' part of the ledger: what is due, claims, settlements, and what people see of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vmwatch.ledger import shown
from vmwatch.ledger.alerts import DROPPED, SILENCED, owe
from vmwatch.ledger.engine import Engine, Row, Transaction
from vmwatch.ledger.holding import judge_anew
from vmwatch.ledger.lines import Superseded
from vmwatch.ledger.rows import CHANNEL, alert_from_json, assigned, cells, listed, value
from vmwatch.models import (
    Alert,
    ChannelStanding,
    ChannelState,
    Delivery,
    DeliveryState,
    Duration,
    Instant,
    Kind,
    Settlement,
)

ASKED = "asked"
"""In place of a reason to wait: a person wants it sent whatever would hold it."""
_FREE = f"(waits IS NULL OR waits IN ('snoozed', '{ASKED}'))"
"""Not held by what its channel asks for; where that holds anything, the end of a snooze was judged by it before."""
_UNCLAIMED = "(claimed_until IS NULL OR claimed_until <= :now)"

# A channel has one delivery under way, whichever daemon sends it: so alerts keep their order, and none is flooded.
# One that died does not hold up the channel until its claim ends; what it was sending waits for that.
_ELSEWHERE = """
SELECT channel FROM delivery WHERE state = 'pending' AND next_attempt_at > :now AND claimed_until > :now
  AND claimed_by <> :me AND claimed_by IN (
      SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name IS NOT NULL
  )
"""
_CHANNELS_DUE = f"""
SELECT DISTINCT channel FROM delivery WHERE state = 'pending' AND next_attempt_at <= :now AND {_UNCLAIMED}
/*+ EXCEPT {_ELSEWHERE} */
"""
# Those who claim on a channel take turns: each sees what the one before it claimed.
_IN_TURN = "/*+ SELECT 1 FROM channel WHERE name = :channel FOR UPDATE */"

_CLAIM = f"""
UPDATE delivery SET
    attempts = attempts + 1, attempt_at = :now, next_attempt_at = :lease_end, claimed_until = :lease_end,
    claimed_by = :me, version = version + 1, waits = CASE WHEN waits = 'snoozed' THEN NULL ELSE waits END,
    maybe_repeat = CASE WHEN attempt_at IS NULL THEN maybe_repeat ELSE 1 END
WHERE id = (
    SELECT id FROM delivery
    WHERE state = 'pending' AND channel = :channel AND next_attempt_at <= :now AND {_UNCLAIMED} AND {_FREE}
      AND (CAST(:only AS BIGINT) IS NULL OR alert_id = :only)
      AND (CAST(:judged AS TEXT) IS NULL OR waits = '{ASKED}' OR :judged LIKE '%,' || CAST(id AS TEXT) || ',%')
      /*+ AND (:only IS NOT NULL OR channel NOT IN ({_ELSEWHERE})) */
    ORDER BY next_attempt_at, id LIMIT 1 /*+ FOR UPDATE SKIP LOCKED */
)
RETURNING id, channel, attempts, maybe_repeat, version, held_until,
    (SELECT facts FROM alert WHERE alert.id = alert_id), (SELECT created_at FROM alert WHERE alert.id = alert_id)
"""

_SETTLE = """
UPDATE delivery SET
    state = :state, next_attempt_at = :next_attempt_at, sent_at = :sent_at, last_error = :last_error,
    maybe_repeat = :maybe_repeat, shown_as = :shown_as, attempt_at = NULL, claimed_until = NULL, version = version + 1
WHERE id = :id AND version = :version
"""
_SENT_ANYWAY = """
UPDATE delivery SET state = 'sent', next_attempt_at = NULL, sent_at = :sent_at, last_error = NULL,
    shown_as = :shown_as, attempt_at = NULL, claimed_until = NULL, version = version + 1
WHERE id = :id
"""

_CHANNEL = f"SELECT {listed(CHANNEL)} FROM channel WHERE name = :name"
_CHANNEL_CHANGED = tuple(name for name in CHANNEL if name not in ("name", "version"))
_CHANGE_CHANNEL = f"""
INSERT INTO channel (name, configured, {listed(_CHANNEL_CHANGED)}, version)
VALUES (:name, 0, {listed(_CHANNEL_CHANGED, ":")}, 1)
ON CONFLICT (name) DO UPDATE SET {assigned(_CHANNEL_CHANGED)}, version = channel.version + 1
WHERE channel.version = :version
"""
_CONFIGURE = """
INSERT INTO channel (name, configured, state, since, failures, alerted, version)
VALUES (:name, 1, 'ok', :now, 0, 0, 0) ON CONFLICT (name) DO UPDATE SET configured = 1
"""
_FORGET_ALL = "UPDATE channel SET configured = 0"
# The version stays: an attempt under way is settled as if nothing had been renamed. Who was told of a message that is
# followed is to be reminded of it, so what was sent goes along, too.
_RENAME = """
UPDATE delivery SET channel = :new WHERE channel = :old
  AND (state = 'pending' OR shown_as IS NOT NULL OR alert_id IN (SELECT m.alert_id FROM message m WHERE EXISTS (
       SELECT 1 FROM follow_up f WHERE f.number = m.number AND f.message = m.id)))
  AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.alert_id = delivery.alert_id AND d.channel = :new)
"""

_ALL_DUE = """
UPDATE delivery SET next_attempt_at = :now, version = version + 1
WHERE state = 'pending' AND channel = :channel AND next_attempt_at > :now AND claimed_until IS NULL
  AND waits IS NULL
"""

# What was never tried on the channel is not held back: it is how a channel that works again is soon noticed.
_REST = """
UPDATE delivery SET next_attempt_at = :until, version = version + 1
WHERE state = 'pending' AND channel = :channel AND next_attempt_at < :until AND attempts > 0 AND claimed_until IS NULL
  AND waits IS NULL
"""

_LISTING = f"""
SELECT d.id, d.alert_id, a.kind, l.name,
       COALESCE(m.id, (SELECT MIN(o.message) FROM mention o WHERE o.alert_id = a.id HAVING COUNT(*) = 1)),
       d.channel, d.state, d.attempts, d.next_attempt_at, d.sent_at,
       d.last_error, a.created_at,
       CASE WHEN d.state = 'pending' AND d.waits <> 'asked' OR d.waits IN {SILENCED} THEN d.waits END
FROM delivery d JOIN alert a ON a.id = d.alert_id LEFT JOIN line l ON l.number = a.number
LEFT JOIN message m ON m.alert_id = a.id AND a.kind = 'voicemail.new'
"""
_OUTBOX = f"{_LISTING} WHERE (:all = 1 OR d.state IN ('pending', 'dead')) ORDER BY d.id DESC LIMIT :most"
_OF_ALERT = f"{_LISTING} WHERE d.alert_id = :alert ORDER BY d.id"

_RETRY = f"""
UPDATE delivery SET state = 'pending', next_attempt_at = :now, waits = '{ASKED}', version = version + 1
WHERE id = :id AND (state = 'dead' OR waits IN {SILENCED} OR (state = 'pending' AND {_UNCLAIMED}))
"""
_DROP = f"""
UPDATE delivery SET state = 'withdrawn', next_attempt_at = NULL, last_error = '{DROPPED}', version = version + 1
WHERE id = :id AND state IN ('pending', 'dead')
"""
_DEAD = "SELECT id FROM delivery WHERE state = 'dead' ORDER BY id"

_SHOWS = f"""
SELECT 1 FROM delivery WHERE channel = :channel AND state = 'sent' AND shown_as = :name
UNION ALL SELECT 1 FROM delivery WHERE channel = :channel AND {shown.CLEARING} LIMIT 1
"""

_DROP_CLAIMS = """
UPDATE delivery SET next_attempt_at = attempt_at, claimed_until = NULL
WHERE state = 'pending' AND claimed_until IS NOT NULL AND claimed_by LIKE 'daemon-%'
"""

_EXPIRE = f"""
UPDATE delivery SET state = 'dead', next_attempt_at = NULL, version = version + 1,
    last_error = COALESCE(last_error, 'never attempted: the channel is not configured')
WHERE state = 'pending' AND {_UNCLAIMED}
  AND channel NOT IN (SELECT name FROM channel WHERE configured = 1)
  AND alert_id IN (SELECT id FROM alert WHERE created_at <= :created_before)
"""

_OLDEST_PENDING = """
SELECT MIN(created_at) FROM alert WHERE id IN (SELECT alert_id FROM delivery WHERE state = 'pending')
"""

_CHANNEL_LISTING = f"""
SELECT {listed(CHANNEL, "c.")},
    (SELECT COUNT(*) FROM delivery d WHERE d.channel = c.name AND d.state = 'pending'),
    (SELECT COUNT(*) FROM delivery d WHERE d.channel = c.name AND d.state = 'dead')
FROM channel c WHERE c.configured = 1 ORDER BY c.name
"""


@dataclass(frozen=True, slots=True)
class Owed:
    """A delivery as people see it; `line` is a name, `message` an id where the alert is about one message."""

    id: int
    alert_id: int
    kind: Kind
    line: str | None
    message: str | None
    channel: str
    state: DeliveryState
    attempts: int
    next_attempt_at: Instant | None
    sent_at: Instant | None
    last_error: str | None
    created_at: Instant
    waits: str | None = None
    """Why it is held until its next attempt, or why there is none: muted, too_short."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A settlement that was kept."""

    channel: ChannelStanding
    """As it stands now."""
    following: Delivery | None
    """The channel's next delivery, if one was to be claimed and is due."""


@dataclass(frozen=True, slots=True)
class ChannelView:
    standing: ChannelStanding
    pending: int
    dead: int


class Outbox:
    def __init__(self, engine: Engine, me: str) -> None:
        self._engine = engine
        self._me = me

    async def channels_due(self, now: Instant) -> frozenset[str]:
        """The channels that a delivery is due on, those aside on which another process sends one."""
        return frozenset(row[0] for row in await self._engine.read(_CHANNELS_DUE, now=now, me=self._me))

    async def claim(
        self,
        channel: str,
        now: Instant,
        lease: Duration,
        only_alert: int | None = None,
        judged: Iterable[int] | None = None,
    ) -> Delivery | None:
        """The channel's longest due delivery, its attempt written down; None if there is none.

        None too while another process sends something on the channel, unless it is for `only_alert`. `judged`: of
        these alone, and of what a person asked for: what was owed since may have to be held.
        """

        async def work(transaction: Transaction) -> Delivery | None:
            return await self._claim(transaction, channel, now, lease, only_alert, judged)

        return await self._engine.write(work)

    async def settle(self, settlement: Settlement, now: Instant, lease: Duration | None = None) -> Settled | None:
        """Keep what an attempt came to; None if the channel's row was changed since it was read.

        With a lease, the channel's next delivery is claimed by the same commit. Where the delivery itself was
        changed meanwhile (withdrawn, retried, dropped), that stands, unless the alert was sent: what was sent is
        never sent again.
        """

        async def work(transaction: Transaction) -> Settled:
            if settlement.shown_as is not None:
                await shown.lock(transaction, settlement.delivery.id)
            await _settle_channel(transaction, settlement, now)
            await _settle_delivery(transaction, settlement)
            if settlement.shown_as is not None:
                delivery = settlement.delivery
                await shown.overtake(transaction, delivery.id, delivery.channel, settlement.shown_as)
                await shown.clear_if_over(transaction, settlement.delivery.id, now)
            for alert in settlement.alerts:
                await owe(transaction, alert, now)
            name, after = settlement.delivery.channel, settlement.channel_after
            following = None if lease is None else await self._claim(transaction, name, now, lease)
            return Settled(replace(after, version=after.version + 1), following)

        try:
            return await self._engine.write(work)
        except Superseded:
            return None

    async def _claim(
        self,
        transaction: Transaction,
        channel: str,
        now: Instant,
        lease: Duration,
        only_alert: int | None = None,
        judged: Iterable[int] | None = None,
    ) -> Delivery | None:
        await transaction.all(_IN_TURN, channel=channel)
        ids = None if judged is None else f",{','.join(map(str, judged))},"
        rows = await transaction.all(
            _CLAIM, channel=channel, now=now, lease_end=now + lease, me=self._me, only=only_alert, judged=ids
        )
        return _delivery(rows[0]) if rows else None

    async def owe(self, alert: Alert, now: Instant) -> int:
        """Write down an alert that a person asked for; returns its id."""

        async def work(transaction: Transaction) -> int:
            return await owe(transaction, alert, now)

        return await self._engine.write(work)

    async def channel(self, name: str) -> ChannelStanding:
        rows = await self._engine.read(_CHANNEL, name=name)
        return value(ChannelStanding, rows[0]) if rows else ChannelStanding(name)

    async def channels(self) -> tuple[ChannelView, ...]:
        """Every configured channel, by name, with what is pending and dead on it."""
        rows = await self._engine.read(_CHANNEL_LISTING)
        return tuple(ChannelView(value(ChannelStanding, row[:-2]), row[-2], row[-1]) for row in rows)

    async def listing(self, *, everything: bool, most: int) -> tuple[Owed, ...]:
        """Deliveries, the latest first: pending and dead ones, or everything."""
        return _owed(await self._engine.read(_OUTBOX, all=int(everything), most=most))

    async def oldest_pending(self) -> Instant | None:
        """When the oldest alert was made that is pending on some channel."""
        oldest: Instant | None = (await self._engine.read(_OLDEST_PENDING))[0][0]
        return oldest

    async def of_alert(self, alert_id: int) -> tuple[Owed, ...]:
        return _owed(await self._engine.read(_OF_ALERT, alert=alert_id))

    async def shows(self, channel: str, name: str) -> bool:
        """Whether a channel was sent something by this name that was not cleared yet."""
        return bool(await self._engine.read(_SHOWS, channel=channel, name=name))

    async def dead(self) -> tuple[int, ...]:
        return tuple(row[0] for row in await self._engine.read(_DEAD))

    async def retry(self, ids: Sequence[int], now: Instant) -> tuple[int, ...]:
        """Make deliveries due now; returns the ids of those that could be.

        That are pending and dead ones, not under way, and what was kept from being sent because of who called.
        """
        return await self._each(_RETRY, ids, now)

    async def drop(self, ids: Sequence[int], now: Instant) -> tuple[int, ...]:
        """Withdraw deliveries; returns the ids of those that could be (pending or dead)."""
        return await self._each(_DROP, ids, now)

    async def _each(self, sql: str, ids: Sequence[int], now: Instant) -> tuple[int, ...]:
        async def work(transaction: Transaction) -> tuple[int, ...]:
            return tuple([id_ for id_ in ids if await transaction.run(sql, id=id_, now=now)])

        return await self._engine.write(work)

    async def rename(self, channels: Mapping[str, str]) -> None:
        """Move what is pending on channels to those that have their URL now, from the old name to the new one."""

        async def work(transaction: Transaction) -> None:
            await _rename(transaction, channels)

        await self._engine.write(work)

    async def expire(self, now: Instant, give_up_after: Duration) -> int:
        """Call dead what nobody could attempt in time (its channel is gone); returns how many."""

        async def work(transaction: Transaction) -> int:
            return await transaction.run(_EXPIRE, now=now, created_before=now - give_up_after)

        return await self._engine.write(work)


async def configure(transaction: Transaction, names: Iterable[str], now: Instant, renamed: Mapping[str, str]) -> None:
    """Keep which channels there are, and move what is pending on those that were `renamed` (old to new name).

    What is pending on one that has gone stays until it is back, or given up.
    """
    await judge_anew(transaction, now)
    await transaction.run(_FORGET_ALL)
    await transaction.many(_CONFIGURE, [{"name": name, "now": now} for name in names])
    await _rename(transaction, renamed)


async def _rename(transaction: Transaction, channels: Mapping[str, str]) -> None:
    await transaction.many(_RENAME, [{"old": old, "new": new} for old, new in channels.items()])


def _delivery(row: Row) -> Delivery:
    id_, channel, attempts, maybe_repeat, version, held_until, facts, made_at = row
    # While it was held nobody tried: that is no time in which the channel failed it.
    created_at = max(made_at, held_until or 0)
    return Delivery(id_, channel, alert_from_json(facts), created_at, attempts, bool(maybe_repeat), version)


async def _settle_channel(transaction: Transaction, settlement: Settlement, now: Instant) -> None:
    after = settlement.channel_after
    if await transaction.run(_CHANGE_CHANNEL, **cells(after)) != 1:
        raise Superseded
    if settlement.channel_before.state is ChannelState.FAILING and after.state is ChannelState.OK:
        await transaction.run(_ALL_DUE, channel=after.name, now=now)
    if settlement.rest_until is not None:
        await transaction.run(_REST, channel=after.name, until=settlement.rest_until)


async def _settle_delivery(transaction: Transaction, settlement: Settlement) -> None:
    delivery = settlement.delivery
    settled = await transaction.run(
        _SETTLE,
        id=delivery.id,
        version=delivery.version,
        state=settlement.state.value,
        next_attempt_at=settlement.next_attempt_at,
        sent_at=settlement.sent_at,
        last_error=settlement.last_error,
        maybe_repeat=int(settlement.maybe_repeat),
        shown_as=settlement.shown_as,
    )
    if not settled and settlement.state is DeliveryState.SENT:
        await transaction.run(_SENT_ANYWAY, id=delivery.id, sent_at=settlement.sent_at, shown_as=settlement.shown_as)


def _owed(rows: Iterable[Row]) -> tuple[Owed, ...]:
    return tuple(replace(Owed(*row), kind=Kind(row[2]), state=DeliveryState(row[6])) for row in rows)


async def drop_dead_claims(transaction: Transaction) -> None:
    """End the claims of earlier daemons: their attempts may have arrived, so what is due now may be a repeat."""
    await transaction.run(_DROP_CLAIMS)
