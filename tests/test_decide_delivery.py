"""What attempts to deliver come to, for the delivery and for the channel."""

from __future__ import annotations

from typing import Any

import pytest
from values import EVERYONE, NOW, alert

from vmwatch.decide import after_delivery
from vmwatch.models import (
    DAY,
    HOUR,
    SECOND,
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

POLICY = DeliveryPolicy()
SENT, REFUSED, UNKNOWN = Receipt(Outcome.SENT), Receipt(Outcome.REFUSED, "HTTP 404"), Receipt(Outcome.UNKNOWN, "late")
WELL = ChannelStanding("phone", since=NOW - DAY)


def delivery(**changes: Any) -> Delivery:
    defaults: dict[str, Any] = {"channel": "phone", "alert": alert(), "created_at": NOW, "attempts": 1}
    return Delivery(1, **(defaults | changes))


def settled(
    receipt: Receipt,
    channel: ChannelStanding = WELL,
    now: int = NOW,
    everyone: tuple[Recipient, ...] = EVERYONE,
    spread: float = 0.0,
    **changes: Any,
) -> Settlement:
    return after_delivery(delivery(**changes), receipt, channel, Moment(now, spread), POLICY, everyone)


def unwell(failures: int, **changes: Any) -> ChannelStanding:
    alerted = failures >= 3
    defaults: dict[str, Any] = {"state": ChannelState.FAILING, "since": NOW - HOUR, "last_error": "HTTP 500"}
    return ChannelStanding("phone", failures=failures, alerted=alerted, **(defaults | changes))


def test_what_was_sent_is_done() -> None:
    settlement = settled(SENT)
    assert (settlement.state, settlement.next_attempt_at, settlement.sent_at) == (DeliveryState.SENT, None, NOW)
    assert settlement.last_error is None
    assert settlement.alerts == ()


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 80), (12, 20_480), (13, 21_600), (400, 21_600)]
)
@pytest.mark.parametrize("receipt", [REFUSED, UNKNOWN])
def test_what_was_not_sent_is_tried_again_ever_more_slowly(receipt: Receipt, attempts: int, seconds: int) -> None:
    settlement = settled(receipt, attempts=attempts)
    assert (settlement.state, settlement.next_attempt_at) == (DeliveryState.PENDING, NOW + seconds * SECOND)
    assert (settlement.sent_at, settlement.last_error) == (None, receipt.detail)


@pytest.mark.parametrize(
    ("receipt", "before", "after"),
    [(UNKNOWN, False, True), (UNKNOWN, True, True), (REFUSED, False, False), (REFUSED, True, True), (SENT, True, True)],
)
def test_an_attempt_that_may_have_arrived_marks_the_next_as_a_repeat(
    receipt: Receipt, before: bool, after: bool
) -> None:
    assert settled(receipt, maybe_repeat=before).maybe_repeat is after


@pytest.mark.parametrize(
    ("age", "state"),
    [(7 * DAY - 1, DeliveryState.PENDING), (7 * DAY, DeliveryState.DEAD), (70 * DAY, DeliveryState.DEAD)],
)
def test_a_delivery_is_given_up_after_a_week(age: int, state: DeliveryState) -> None:
    settlement = settled(REFUSED, created_at=NOW - age)
    assert settlement.state is state
    assert (settlement.next_attempt_at is None) == (state is DeliveryState.DEAD)
    assert settlement.last_error == "HTTP 404"


def test_however_late_what_was_sent_is_sent() -> None:
    assert settled(SENT, created_at=NOW - 70 * DAY).state is DeliveryState.SENT


@pytest.mark.parametrize("receipt", [REFUSED, UNKNOWN])
def test_a_test_alert_is_tried_once(receipt: Receipt) -> None:
    settlement = settled(receipt, alert=alert(Kind.TEST))
    assert (settlement.state, settlement.next_attempt_at) == (DeliveryState.DEAD, None)


def test_retries_are_spread_and_never_earlier() -> None:
    waits = {(settled(REFUSED, spread=spread).next_attempt_at or 0) - NOW for spread in (-1.0, -0.5, 0.0, 0.5, 1.0)}
    assert waits == {10_000, 10_500, 11_000}


# ---- the channel's own standing ----


def test_a_failure_makes_a_channel_failing_and_says_since_when() -> None:
    after = settled(REFUSED).channel_after
    assert (after.state, after.since, after.failures, after.last_error) == (ChannelState.FAILING, NOW, 1, "HTTP 404")
    later = settled(UNKNOWN, after, now=NOW + HOUR).channel_after
    assert (later.state, later.since, later.failures, later.last_error) == (ChannelState.FAILING, NOW, 2, "late")


def test_a_channel_in_trouble_is_reported_once_after_three_failures_in_a_row() -> None:
    channel, told = WELL, []
    for _ in range(10):
        settlement = settled(REFUSED, channel)
        channel = settlement.channel_after
        told.append([owed.kind for owed in settlement.alerts])
    assert told == [[], [], [Kind.CHANNEL_FAILING], *[[]] * 7]


def test_a_success_between_failures_starts_the_count_again() -> None:
    channel, told = WELL, 0
    for receipt in [REFUSED, REFUSED, SENT] * 5:
        settlement = settled(receipt, channel)
        channel, told = settlement.channel_after, told + len(settlement.alerts)
    assert told == 0


def test_a_channels_trouble_is_told_through_the_others_that_want_it() -> None:
    everyone = (*EVERYONE, Recipient("pager", ("channel.failing",)), Recipient("deaf", ("voicemail", "line")))
    (owed,) = settled(REFUSED, unwell(2), everyone=everyone).alerts
    assert owed.channels == ("mail", "pager")
    assert (owed.subject, owed.detail, owed.since, owed.number) == ("phone", "HTTP 404", NOW - HOUR, None)


def test_the_only_channels_trouble_is_told_to_nobody() -> None:
    (owed,) = settled(REFUSED, unwell(2), everyone=EVERYONE[:1]).alerts
    assert owed.channels == ()


def test_a_channel_that_is_back_is_told_where_its_failing_was() -> None:
    (owed,) = settled(SENT, unwell(7)).alerts
    assert (owed.kind, owed.channels, owed.since) == (Kind.CHANNEL_RECOVERED, ("mail",), NOW - HOUR)
    assert settled(SENT, unwell(2)).alerts == ()


def test_a_channel_that_is_back_is_as_good_as_new() -> None:
    after = settled(SENT, unwell(7, version=4)).channel_after
    assert after == ChannelStanding("phone", since=NOW, last_sent_at=NOW, version=4)


def test_a_channel_that_was_well_keeps_its_beginning() -> None:
    assert settled(SENT).channel_after == ChannelStanding("phone", since=NOW - DAY, last_sent_at=NOW)
