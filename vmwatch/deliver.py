"""Delivering: claim, send, judge, settle; one delivery at a time on each channel, channels side by side.

A channel that hangs holds up nothing but itself. What was sent is marked after the send, never before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import tzinfo

from vmwatch import decide, wording
from vmwatch.book import EMPTY, Book, named
from vmwatch.channels import Channel
from vmwatch.errors import LedgerError
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import SECOND, ChannelStanding, ChannelState, Delivery, Duration, Receipt, Settlement
from vmwatch.settings import Settings
from vmwatch.tally import Tally

log = logging.getLogger(__name__)

LEASE_MARGIN: Duration = 10 * SECOND
"""How much longer than an attempt may take a claim is good for."""
SETTLE_AGAIN_S = 1.0


class Deliverer:
    """Sends what the outbox owes. Every channel's work is a task of `tasks`, whose owner ends them."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        zone: tzinfo,
        ring: Callable[[], None] = lambda: None,
        observe: Callable[[ChannelStanding], None] = lambda _: None,
        tally: Tally | None = None,
        book: Callable[[], Book] = lambda: EMPTY,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._tasks = tasks
        self._zone = zone
        self._ring = ring
        self._observe = observe
        self._book = book
        self._tally = tally or Tally()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self._said: dict[str, str] = {}

    def use(self, settings: Settings, channels: Mapping[str, Channel]) -> None:
        """Send through these channels from the next delivery on."""
        self._channels = channels
        self._policy = settings.delivery
        self._everyone = settings.recipients()
        self._patience = {name: decide.patience_of(one, self._zone) for name, one in settings.channels.items()}

    async def round(self) -> None:
        """Set every idle channel to work that has something due. Raises LedgerError."""
        if self._stopping:
            return
        for name in await self._ledger.outbox.channels_due(self._clock.now()):
            if name in self._channels and name not in self._busy:
                self._busy[name] = self._tasks.create_task(self._drain(name), name=f"deliver {name}")

    async def idle(self) -> None:
        """Wait until no channel is at work."""
        while self._busy:
            await asyncio.wait(self._busy.values())

    async def stop(self, patience_s: float) -> None:
        """Begin nothing more; let sends under way end, then cut off what still hangs."""
        self._stopping = True
        if self._busy:
            await asyncio.wait(self._busy.values(), timeout=patience_s)
        for task in self._busy.values():
            task.cancel()
        await self.idle()

    async def _drain(self, name: str) -> None:
        """Send what is due on a channel, until one attempt fails: the rest waits for the next heartbeat at least."""
        try:
            await self._sort_out(name)
            sent = False
            while not self._stopping and (channel := self._channels.get(name)) and await self._next(channel):
                sent = True
                await self._sort_out(name)
            if not sent and await self._sort_out(name, always=True):
                self._ring()
        except LedgerError as error:
            self._say_once(name, error)
        finally:
            del self._busy[name]

    async def _sort_out(self, name: str, *, always: bool = False) -> bool:
        """Hold what the channel is not to be sent now, and make one digest of what was held until now.

        `always`: also for a channel that waits for nothing; something may be held that it waited for before.
        Returns whether there was anything to do.
        """
        patience, done = self._patience.get(name), False
        while patience is not None and (always or not patience.is_endless):
            now = self._clock.now()
            queue = await self._ledger.holding.queue(name, now, patience.budget.span if patience.budget else 0)
            held = decide.holds(patience, queue, now)
            if not held and not queue.released:
                break
            await self._ledger.holding.sort_out(name, held, queue.released, now)
            done = True
        return done

    async def _next(self, channel: Channel, only_alert: int | None = None) -> bool:
        """Whether something was due, and was sent."""
        lease = self._policy.timeout + LEASE_MARGIN
        delivery = await self._ledger.outbox.claim(channel.name, self._clock.now(), lease, only_alert)
        if delivery is None:
            return False
        self._tally.claimed_delivery()
        return await self._deliver(delivery, channel)

    async def send_alert(self, alert_id: int, name: str) -> None:
        """Send one alert on one channel now, if it is due there."""
        await self._next(self._channels[name], alert_id)

    async def _deliver(self, delivery: Delivery, channel: Channel) -> bool:
        followed = self._clock.followed
        alert = named(delivery.alert, self._book()) if delivery.alert.voicemails else delivery.alert
        text = wording.text(alert, self._zone, delivery.maybe_repeat)
        receipt = await channel.send(text, self._policy.timeout)
        self._tally.delivered(channel.name, receipt.outcome)
        settlement = await self._settle(delivery, receipt, followed)
        _tell(settlement)
        self._observe(settlement.channel_after)
        if settlement.alerts:
            self._ring()
        return settlement.sent_at is not None

    async def _settle(self, claimed: Delivery, receipt: Receipt, followed: Duration) -> Settlement:
        """Note what became of an attempt; it is kept until the ledger takes it, for it can't be asked again."""
        while True:
            # A clock that was set meanwhile has not made the alert older.
            delivery = replace(claimed, created_at=claimed.created_at + self._clock.followed - followed)
            try:
                channel = await self._ledger.outbox.channel(delivery.channel)
                settlement = decide.after_delivery(
                    delivery, receipt, channel, self._clock.moment(), self._policy, self._everyone
                )
                if await self._ledger.outbox.settle(settlement, self._clock.now()):
                    return settlement
            except LedgerError as error:
                self._say_once(delivery.channel, error)
                await asyncio.sleep(SETTLE_AGAIN_S)

    def _say_once(self, name: str, error: LedgerError) -> None:
        """What keeps a channel's deliveries from being noted is met again at every try, maybe for hours."""
        level = logging.DEBUG if self._said.get(name) == str(error) else logging.ERROR
        self._said[name] = str(error)
        log.log(level, "channel %s: %s", name, error, extra={"channel": name})


def _tell(settlement: Settlement) -> None:
    """Say once that a channel fails and once that it is back; an unchanged failure is whispered."""
    delivery, before, after = settlement.delivery, settlement.channel_before, settlement.channel_after
    changed = before.state is not after.state or before.last_error != after.last_error
    level = logging.DEBUG
    if settlement.sent_at is not None:
        level = logging.INFO
    elif changed:
        level = logging.WARNING
    detail = f" ({settlement.last_error})" if settlement.last_error else ""
    back = ", channel is back" if before.state is ChannelState.FAILING and after.state is ChannelState.OK else ""
    log.log(
        level,
        "channel %s: %s %s, attempt %d%s%s",
        after.name,
        delivery.alert.kind,
        settlement.state,
        delivery.attempts,
        detail,
        back,
        extra={"channel": after.name, "reason": settlement.state.value},
    )
