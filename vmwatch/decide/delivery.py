"""What one attempt to deliver comes to, for the delivery and for the channel's own standing."""

from __future__ import annotations

from dataclasses import replace

from vmwatch.backoff import delay
from vmwatch.decide.rules import wanting
from vmwatch.models import (
    Alert,
    ChannelStanding,
    ChannelState,
    Delivery,
    DeliveryState,
    Kind,
    Moment,
    Outcome,
    Receipt,
    Recipient,
    Settlement,
)
from vmwatch.settings import DeliveryPolicy

FAILURES_TO_REPORT = 3
"""Failed attempts in a row before a channel's trouble is told to the others."""
RETRY_JITTER = 0.1


def after_delivery(
    delivery: Delivery,
    receipt: Receipt,
    channel: ChannelStanding,
    moment: Moment,
    policy: DeliveryPolicy,
    everyone: tuple[Recipient, ...],
) -> Settlement:
    """Sent and noted; or to be tried again later; or given up. `everyone` are all channels there are."""
    if receipt.outcome is Outcome.SENT:
        return _sent(delivery, receipt, channel, moment, everyone)
    return _unsent(delivery, receipt, channel, moment, policy, everyone)


def _sent(
    delivery: Delivery, receipt: Receipt, channel: ChannelStanding, moment: Moment, everyone: tuple[Recipient, ...]
) -> Settlement:
    after = _well(channel, moment) if receipt.proves else channel
    return Settlement(
        delivery=delivery,
        state=DeliveryState.SENT,
        next_attempt_at=None,
        sent_at=moment.now,
        last_error=None,
        maybe_repeat=delivery.maybe_repeat,
        channel_before=channel,
        channel_after=after,
        alerts=(_about(Kind.CHANNEL_RECOVERED, channel, everyone),) if channel.alerted and not after.alerted else (),
        # That messages were heard is news: it is not cleared as soon as it is there.
        shown_as=None if delivery.alert.kind is Kind.VOICEMAIL_HEARD else receipt.shown_as,
    )


def _unsent(
    delivery: Delivery,
    receipt: Receipt,
    channel: ChannelStanding,
    moment: Moment,
    policy: DeliveryPolicy,
    everyone: tuple[Recipient, ...],
) -> Settlement:
    after = _unwell(channel, receipt, moment)
    over = _is_over(delivery, moment, policy)
    wait = delay(policy.retry.initial, policy.retry.max, delivery.attempts, RETRY_JITTER, moment.spread)
    return Settlement(
        delivery=delivery,
        state=DeliveryState.DEAD if over else DeliveryState.PENDING,
        next_attempt_at=None if over else moment.now + wait,
        sent_at=None,
        last_error=receipt.detail,
        maybe_repeat=delivery.maybe_repeat or receipt.outcome is Outcome.UNKNOWN,
        channel_before=channel,
        channel_after=after,
        # Together, all that wait for the channel try it again no more often than one alone would at first.
        rest_until=moment.now + policy.retry.initial,
        alerts=(_about(Kind.CHANNEL_FAILING, after, everyone),) if after.alerted and not channel.alerted else (),
    )


def _is_over(delivery: Delivery, moment: Moment, policy: DeliveryPolicy) -> bool:
    """A test is for the person who waits for it now; anything else is tried until `give_up_after`."""
    return delivery.alert.kind is Kind.TEST or moment.now >= delivery.created_at + policy.retry.give_up_after


def _well(channel: ChannelStanding, moment: Moment) -> ChannelStanding:
    since = channel.since if channel.state is ChannelState.OK else moment.now
    return ChannelStanding(
        name=channel.name, since=since, last_sent_at=moment.now, version=channel.version, state=ChannelState.OK
    )


def _unwell(channel: ChannelStanding, receipt: Receipt, moment: Moment) -> ChannelStanding:
    failures = channel.failures + 1
    return replace(
        channel,
        state=ChannelState.FAILING,
        since=channel.since if channel.state is ChannelState.FAILING else moment.now,
        failures=failures,
        alerted=channel.alerted or failures >= FAILURES_TO_REPORT,
        last_error=receipt.detail,
    )


def _about(kind: Kind, channel: ChannelStanding, everyone: tuple[Recipient, ...]) -> Alert:
    """A channel's trouble is told through the others."""
    others = tuple(name for name in wanting(everyone, kind) if name != channel.name)
    return Alert(kind=kind, channels=others, subject=channel.name, detail=channel.last_error or "", since=channel.since)
