"""Delivering: claim, send, judge, settle; one delivery at a time on each channel, channels side by side.

A channel that hangs holds up nothing but itself. What was sent is marked after the send, never before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo

from vmwatch import decide, languages, sequences
from vmwatch.book import EMPTY, Book, named
from vmwatch.channels import Channel
from vmwatch.errors import LedgerError
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.links import Signing
from vmwatch.models import (
    SECOND,
    ChannelStanding,
    ChannelState,
    Delivery,
    Duration,
    Kind,
    Outcome,
    Receipt,
    Settlement,
)
from vmwatch.settings import Settings
from vmwatch.tally import Tally
from vmwatch.voice import Voice
from vmwatch.wording import Text

log = logging.getLogger(__name__)

LEASE_MARGIN: Duration = 10 * SECOND
"""How much longer than an attempt may take a claim is good for."""
SETTLE_AGAIN_S = 1.0
TOLD_AGAIN = frozenset({Kind.VOICEMAIL_REMINDER, Kind.VOICEMAIL_ESCALATED, Kind.VOICEMAIL_DIGEST})
"""What nobody hears of unless it makes a sound, though a channel may show the message already."""


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A delivery to be made, by the channel that had its name when it was claimed."""

    delivery: Delivery
    channel: Channel
    standing: ChannelStanding
    """The channel's, as it was when the delivery was claimed."""


@dataclass(frozen=True, slots=True)
class _Sorted:
    """What came of looking through what is due on a channel."""

    done: bool
    """Whether anything was held, or a digest made."""
    judged: Sequence[int] | None
    """The deliveries that may be sent now; None: any, for the channel holds nothing."""


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
        self._failed: dict[tuple[str, str], str] = {}
        self._voices: dict[str, Voice] = {}
        self._signing = Signing()

    def use(self, settings: Settings, channels: Mapping[str, Channel]) -> None:
        """Send through these channels from the next delivery on."""
        self._channels = channels
        # A channel that is gone may have a delivery under way, which is to be no less discreet than it was.
        self._voices |= languages.voices(settings, self._zone)
        self._policy = settings.delivery
        self._signing = replace(self._signing, base=settings.web.public_url)
        self._everyone = settings.recipients()
        self._in_place = frozenset(name for name, channel in settings.channels.items() if channel.update_in_place)
        self._patience = {
            name: decide.patience_of(one, self._voices[name].zone) for name, one in settings.channels.items()
        }

    async def round(self) -> None:
        """Set every idle channel to work that has something due. Raises LedgerError."""
        if self._stopping:
            return
        if self._signing.base and not self._signing.key:
            self._signing = replace(self._signing, key=await self._ledger.keys.made())
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
            claimed = await self._next(name)
            if claimed is None and (await self._sort_out(name, always=True)).done:
                self._ring()
            while claimed is not None:
                claimed = await self._deliver(claimed, go_on=True)
        except LedgerError as error:
            self._say_once(name, error)
        finally:
            del self._busy[name]

    async def _next(self, name: str) -> _Claimed | None:
        """What the channel is to be sent now, once it is said what of it has to wait."""
        return await self._first(name, judged=(await self._sort_out(name)).judged)

    async def _sort_out(self, name: str, *, always: bool = False) -> _Sorted:
        """Hold what the channel is not to be sent now, and make one digest of what was held until now.

        `always`: also for a channel that waits for nothing; something may be held that it waited for before.
        """
        patience, done, judged = self._patience.get(name), False, None
        while patience is not None and (always or not patience.is_endless):
            now = self._clock.now()
            queue = await self._ledger.holding.queue(name, now, patience.budget.span if patience.budget else 0)
            held = decide.holds(patience, queue, now)
            if not held and not queue.released:
                judged = [arrival.id for arrival in queue.fresh]
                break
            await self._ledger.holding.sort_out(name, held, queue.released, now)
            done = True
        return _Sorted(done, judged)

    async def send_alert(self, alert_id: int, name: str) -> None:
        """Send one alert on one channel now, if it is due there."""
        claimed = await self._first(name, alert_id)
        if claimed is not None:
            await self._deliver(claimed, go_on=False)

    async def _first(
        self, name: str, only_alert: int | None = None, judged: Sequence[int] | None = None
    ) -> _Claimed | None:
        channel = self._open(name)
        if channel is None:
            return None
        delivery = await self._ledger.outbox.claim(name, self._clock.now(), self._lease, only_alert, judged)
        return self._claimed(delivery, channel, await self._ledger.outbox.channel(name)) if delivery else None

    def _open(self, name: str) -> Channel | None:
        """The channel, if anything more is to be sent on it."""
        return None if self._stopping else self._channels.get(name)

    def _claimed(self, delivery: Delivery, channel: Channel, standing: ChannelStanding) -> _Claimed:
        self._tally.claimed_delivery()
        return _Claimed(delivery, channel, standing)

    @property
    def _lease(self) -> Duration:
        return self._policy.timeout + LEASE_MARGIN

    async def _deliver(self, claimed: _Claimed, *, go_on: bool) -> _Claimed | None:
        """The channel's next delivery, if this one was sent and it is to go on."""
        delivery, channel, followed = claimed.delivery, claimed.channel, self._clock.followed
        receipt = await self._attempt(delivery, channel)
        self._tally.delivered(channel.name, receipt.outcome)
        settlement, following = await self._settle(claimed, receipt, followed, go_on=go_on)
        _tell(settlement)
        self._observe(settlement.channel_after)
        if settlement.alerts:
            self._ring()
        if go_on and receipt.outcome is Outcome.SENT and self._holds(channel):
            return await self._next(channel.name)
        return following

    async def _attempt(self, delivery: Delivery, channel: Channel) -> Receipt:
        if delivery.alert.kind is Kind.VOICEMAIL_CLEARED:
            return await channel.clear(delivery.alert.clears, self._policy.timeout)
        sequence = self._sequence(delivery)
        anew = await self._rings_again(delivery, sequence)
        return await channel.send(self._words(delivery), self._policy.timeout, sequence, anew=anew)

    def _sequence(self, delivery: Delivery) -> str:
        """What the alert is to be known by on its channel; nothing: it is to stand beside others."""
        if delivery.channel not in self._in_place or not delivery.alert.about:
            return ""
        return sequences.name(self._ledger.salt, delivery.channel, delivery.alert.about)

    async def _rings_again(self, delivery: Delivery, sequence: str) -> bool:
        """Whether something is shown by this name that is to be replaced with a sound."""
        if not sequence or delivery.alert.kind not in TOLD_AGAIN:
            return False
        try:
            return await self._ledger.outbox.shows(delivery.channel, sequence)
        except LedgerError:
            return False  # rather without a sound than not at all

    def _holds(self, channel: Channel) -> bool:
        """Whether what is sent next on it has to be decided first, rather than claimed with a settlement."""
        patience = self._patience.get(channel.name)
        return patience is not None and not patience.is_endless

    def _words(self, delivery: Delivery) -> Text:
        links = self._signing.links(delivery.alert, self._clock.now())
        said = self._voices[delivery.channel].says(named(delivery.alert, self._book()), delivery.maybe_repeat, links)
        about = (delivery.channel, delivery.alert.kind)
        if said.failed:
            level = logging.DEBUG if self._failed.get(about) == said.failed else logging.WARNING
            text = "channel %s: the template for %s failed, so the built-in words are sent: it %s"
            log.log(level, text, *about, said.failed, extra={"channel": delivery.channel})
        self._failed[about] = said.failed
        return said.text

    async def _settle(
        self, claimed: _Claimed, receipt: Receipt, followed: Duration, *, go_on: bool
    ) -> tuple[Settlement, _Claimed | None]:
        """Note what became of an attempt; it is kept until the ledger takes it, for it can't be asked again.

        What is claimed next goes along with that: a commit a delivery instead of two.
        """
        name, made_at = claimed.delivery.channel, claimed.delivery.created_at
        standing: ChannelStanding | None = claimed.standing
        while True:
            holds = self._holds(claimed.channel)
            # A clock that was set meanwhile has not made the alert older.
            delivery = replace(claimed.delivery, created_at=made_at + self._clock.followed - followed)
            channel = self._open(name) if go_on and receipt.outcome is Outcome.SENT and not holds else None
            try:
                standing = standing or await self._ledger.outbox.channel(name)
                settlement = decide.after_delivery(
                    delivery, receipt, standing, self._clock.moment(), self._policy, self._everyone
                )
                lease = self._lease if channel is not None else None
                settled = await self._ledger.outbox.settle(settlement, self._clock.now(), lease)
            except LedgerError as error:
                self._say_once(name, error)
                await asyncio.sleep(SETTLE_AGAIN_S)
                continue
            if settled is None:
                standing = None  # Somebody changed it since it was read.
            elif settled.following is None or channel is None:
                return settlement, None
            else:
                return settlement, self._claimed(settled.following, channel, settled.channel)

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
