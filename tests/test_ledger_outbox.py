"""The ledger's outbox: what is owed, who sends it, what became of it, and what people do about it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ledgers import (
    DEAD,
    FAILING,
    LEASE,
    PENDING,
    REFUSED,
    UNKNOWN,
    WITHDRAWN,
    Place,
    adopted,
    attempted,
    claimed,
    opened,
    outbox,
    owe,
    polled,
    states,
)
from ledgers import SENT as ARRIVED
from values import EVERYONE, NOW, alert

from vmwatch import decide
from vmwatch.ledger import ChannelView, Ledger
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
    Receipt,
    Settlement,
)
from vmwatch.settings import DeliveryPolicy

TO_PHONE = alert(channels=("phone",))
SENT = DeliveryState.SENT


# ---- claims ----


async def test_an_alert_is_owed_once_on_each_of_its_channels(ledger: Ledger) -> None:
    (alert_id,) = await owe(ledger, alert())
    owed = await ledger.outbox.of_alert(alert_id)
    assert [(entry.channel, entry.state, entry.attempts, entry.next_attempt_at) for entry in owed] == [
        ("phone", PENDING, 0, NOW),
        ("mail", PENDING, 0, NOW),
    ]
    assert await ledger.outbox.channels_due(NOW) == {"phone", "mail"}
    assert await ledger.outbox.channels_due(NOW - 1) == frozenset()


async def test_an_alert_that_nobody_wants_is_written_down_all_the_same(ledger: Ledger) -> None:
    (alert_id,) = await owe(ledger, alert(channels=()))
    assert alert_id > 0
    assert await ledger.outbox.of_alert(alert_id) == ()
    assert await ledger.outbox.channels_due(NOW) == frozenset()


async def test_a_channels_deliveries_are_claimed_one_at_a_time_the_longest_due_first(ledger: Ledger) -> None:
    for instant in (NOW, NOW - 5, NOW - 5, NOW - 9):
        await owe(ledger, TO_PHONE, now=instant)
    assert [(await claimed(ledger)).id for _ in range(4)] == [4, 2, 3, 1]
    assert await ledger.outbox.claim("phone", NOW, LEASE) is None
    assert await ledger.outbox.claim("mail", NOW, LEASE) is None


async def test_a_claim_has_the_alert_and_counts_the_attempt(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    delivery = await claimed(ledger, now=NOW + 3)
    assert (delivery.channel, delivery.attempts, delivery.created_at) == ("phone", 1, NOW)
    assert delivery.alert == replace(TO_PHONE, channels=())
    assert not delivery.maybe_repeat


async def test_nothing_is_claimed_before_it_is_due(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE, now=NOW + 1)
    assert await ledger.outbox.claim("phone", NOW, LEASE) is None


async def test_one_alert_may_be_claimed_alone(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    (wanted,) = await owe(ledger, alert(Kind.TEST, ("phone",)), now=NOW + 1)
    delivery = await ledger.outbox.claim("phone", NOW + 1, LEASE, only_alert=wanted)
    assert delivery is not None
    assert delivery.alert.kind is Kind.TEST
    assert await ledger.outbox.claim("phone", NOW + 1, LEASE, only_alert=wanted) is None


async def test_of_two_processes_one_sends(place: Place) -> None:
    async with opened(place) as one, opened(place) as two:
        await adopted(one)
        await owe(one, TO_PHONE, 2)
        ids = {(await claimed(one)).id, (await claimed(two)).id}
        assert ids == {1, 2}
        assert await two.outbox.claim("phone", NOW, LEASE) is None


async def test_a_claim_that_ran_out_falls_due_again_as_a_possible_repeat(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    await claimed(ledger)
    assert await ledger.outbox.channels_due(NOW + LEASE - 1) == frozenset()
    assert await ledger.outbox.claim("phone", NOW + LEASE - 1, LEASE) is None
    again = await claimed(ledger, now=NOW + LEASE)
    assert (again.maybe_repeat, again.attempts) == (True, 2)


async def test_an_attempt_whose_outcome_was_noted_makes_no_repeat_of_the_next(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    await attempted(ledger, await claimed(ledger), REFUSED)
    assert not (await claimed(ledger, now=NOW + HOUR)).maybe_repeat


# ---- settlements ----


@pytest.mark.parametrize(
    ("receipt", "state", "next_attempt_at", "sent_at", "last_error"),
    [
        (ARRIVED, SENT, None, NOW + 1, None),
        (REFUSED, PENDING, NOW + 1 + 10 * SECOND, None, "HTTP 404"),
        (UNKNOWN, PENDING, NOW + 1 + 10 * SECOND, None, "late"),
    ],
)
async def test_what_became_of_an_attempt_is_noted_in_one_commit(
    ledger: Ledger,
    place: Place,
    receipt: Receipt,
    state: DeliveryState,
    next_attempt_at: int | None,
    sent_at: int | None,
    last_error: str | None,
) -> None:
    await owe(ledger, TO_PHONE)
    delivery = await claimed(ledger)
    before = await place.commits()
    await attempted(ledger, delivery, receipt, NOW + 1)
    assert await place.commits() - before == 1
    (owed,) = await outbox(ledger)
    assert (owed.state, owed.next_attempt_at, owed.sent_at, owed.last_error) == (
        state,
        next_attempt_at,
        sent_at,
        last_error,
    )


async def test_an_unknown_outcome_makes_the_next_attempt_a_possible_repeat(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    await attempted(ledger, await claimed(ledger), UNKNOWN)
    assert (await claimed(ledger, now=NOW + HOUR)).maybe_repeat


async def test_what_is_claimed_next_goes_along_with_a_settlement(ledger: Ledger, place: Place) -> None:
    ids = await owe(ledger, TO_PHONE, 2)
    first = await claimed(ledger)
    before = await place.commits()
    settled = await ledger.outbox.settle(await arrived(ledger, first), NOW + 1, LEASE)
    assert await place.commits() - before == 1
    assert settled is not None
    assert settled.following is not None
    assert (settled.following.id, settled.following.attempts) == (ids[1], 1)
    assert settled.channel == await ledger.outbox.channel("phone")
    assert await states(ledger) == [SENT, PENDING]
    assert await ledger.outbox.claim("phone", NOW + LEASE, LEASE) is None
    assert (await claimed(ledger, now=NOW + 1 + LEASE)).maybe_repeat, "the second one was under way"


async def test_with_nothing_due_a_settlement_claims_nothing(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    await owe(ledger, TO_PHONE, now=NOW + HOUR)
    settled = await ledger.outbox.settle(await arrived(ledger, await claimed(ledger)), NOW + 1, LEASE)
    assert settled is not None
    assert settled.following is None


async def test_a_settlement_that_is_refused_claims_nothing(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE, 3)
    first, second = await claimed(ledger), await claimed(ledger)
    stale = await arrived(ledger, second)
    await attempted(ledger, first, REFUSED)
    assert await ledger.outbox.settle(stale, NOW, LEASE) is None
    assert (await claimed(ledger)).id == 3


async def arrived(ledger: Ledger, delivery: Delivery) -> Settlement:
    """What a send that went well comes to, decided and not yet kept."""
    channel = await ledger.outbox.channel(delivery.channel)
    return decide.after_delivery(delivery, ARRIVED, channel, Moment(NOW), DeliveryPolicy(), EVERYONE)


async def test_a_settlement_decided_from_an_old_channel_is_refused_whole(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE, 2)
    first, second = await claimed(ledger), await claimed(ledger)
    channel = await ledger.outbox.channel("phone")
    await attempted(ledger, first, REFUSED)
    stale = decide.after_delivery(second, ARRIVED, channel, Moment(NOW), DeliveryPolicy(), EVERYONE)
    assert not await ledger.outbox.settle(stale, NOW)
    assert [owed.sent_at for owed in await outbox(ledger)] == [None, None]
    await attempted(ledger, second, ARRIVED)
    assert await states(ledger) == [PENDING, SENT]


async def withdraw(ledger: Ledger) -> None:
    await polled(ledger, now=NOW + 1)
    await polled(ledger, now=NOW + 2)


async def drop(ledger: Ledger) -> None:
    assert await ledger.outbox.drop([1], NOW) == (1,)


@pytest.mark.parametrize("act", [withdraw, drop])
@pytest.mark.parametrize(
    ("receipt", "state"), [(REFUSED, WITHDRAWN), (UNKNOWN, WITHDRAWN), (ARRIVED, SENT)], ids=["no", "unknown", "sent"]
)
async def test_what_was_withdrawn_under_way_stays_so_unless_it_was_sent(
    ledger: Ledger, act: object, receipt: Receipt, state: DeliveryState
) -> None:
    await polled(ledger, "a")
    delivery = await claimed(ledger)
    await act(ledger)  # type: ignore[operator]
    await attempted(ledger, delivery, receipt)
    assert await states(ledger) == [state]
    await polled(ledger, "a", now=NOW + 9)
    again = WITHDRAWN if act is drop else PENDING
    assert await states(ledger) == [SENT if state is SENT else again]


async def test_a_late_verdict_on_a_claim_that_somebody_took_over_counts_only_if_it_was_sent(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    late = await claimed(ledger)
    await claimed(ledger, now=NOW + LEASE)
    await attempted(ledger, late, REFUSED, NOW + LEASE)
    assert (await outbox(ledger))[0].last_error is None
    await attempted(ledger, late, ARRIVED, NOW + LEASE)
    assert await states(ledger) == [SENT]


# ---- channels ----


async def test_channels_are_listed_by_name_with_what_is_owed_on_them(ledger: Ledger) -> None:
    await owe(ledger, alert(), 2)
    await attempted(ledger, await claimed(ledger), ARRIVED)
    await owe(ledger, alert(Kind.TEST, ("mail",)), now=NOW - 1)
    await attempted(ledger, await claimed(ledger, "mail"), REFUSED)
    mail, phone = await ledger.outbox.channels()
    assert phone == ChannelView(ChannelStanding("phone", since=NOW, last_sent_at=NOW, version=1), pending=1, dead=0)
    assert (mail.standing.state, mail.standing.last_error, mail.pending, mail.dead) == (FAILING, "HTTP 404", 2, 1)


async def test_what_is_owed_on_a_channel_that_is_gone_waits_for_it(ledger: Ledger) -> None:
    await owe(ledger, alert())
    await adopted(ledger, channels=["mail"])
    assert [view.standing.name for view in await ledger.outbox.channels()] == ["mail"]
    assert await states(ledger) == [PENDING]
    await adopted(ledger, channels=["mail", "phone"])
    assert [view.pending for view in await ledger.outbox.channels()] == [1, 1]


async def test_a_channel_keeps_its_standing_when_the_configuration_is_read_again(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    await attempted(ledger, await claimed(ledger), REFUSED)
    before = await ledger.outbox.channel("phone")
    await adopted(ledger)
    assert await ledger.outbox.channel("phone") == before


async def test_a_channel_nobody_configured_can_still_be_settled(ledger: Ledger) -> None:
    await owe(ledger, alert(channels=("gone",)))
    await attempted(ledger, await claimed(ledger, "gone"), REFUSED)
    assert (await ledger.outbox.channel("gone")).state is FAILING
    assert "gone" not in [view.standing.name for view in await ledger.outbox.channels()]


async def test_a_channel_that_is_back_gets_all_that_waits_for_it_at_once(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE, 4)
    for _ in range(3):
        await attempted(ledger, await claimed(ledger), REFUSED)
    under_way = await claimed(ledger)
    assert await ledger.outbox.claim("phone", NOW + 1, LEASE) is None
    await owe(ledger, alert(Kind.TEST, ("phone",)), now=NOW + 1)
    await attempted(ledger, await claimed(ledger, now=NOW + 1), ARRIVED, NOW + 1)
    assert [(await claimed(ledger, now=NOW + 1)).id for _ in range(3)] == [1, 2, 3]
    assert await ledger.outbox.claim("phone", NOW + 1, LEASE) is None  # the fourth is under way
    await attempted(ledger, under_way, REFUSED, NOW + 1)
    assert (await outbox(ledger))[3].last_error == "HTTP 404"


async def test_a_channel_that_fails_is_left_alone_for_a_while_by_what_was_tried_before(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE, 2)
    await attempted(ledger, await claimed(ledger), REFUSED)  # due again at NOW + 10 s
    late = NOW + 10 * SECOND
    await attempted(ledger, await claimed(ledger, now=late - 1), REFUSED, late - 1)
    waits = [(owed.next_attempt_at or 0) - late + 1 for owed in await outbox(ledger)]
    assert waits == [10 * SECOND, 10 * SECOND]


async def test_a_channels_trouble_is_told_once_through_the_others_in_the_same_transaction(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE, 5)
    for _ in range(5):
        await attempted(ledger, await claimed(ledger), REFUSED)
    assert [(owed.kind, owed.channel) for owed in (await outbox(ledger))[5:]] == [(Kind.CHANNEL_FAILING, "mail")]
    await attempted(ledger, await claimed(ledger, now=NOW + HOUR), ARRIVED, NOW + HOUR)
    assert [owed.kind for owed in (await outbox(ledger))[6:]] == [Kind.CHANNEL_RECOVERED]
    assert (await ledger.outbox.channel("phone")).state is ChannelState.OK


# ---- what people see and do ----


async def test_the_listing_has_the_latest_first_and_leaves_out_what_is_done(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await attempted(ledger, await claimed(ledger), ARRIVED)
    await owe(ledger, alert(Kind.TEST, ("phone",), number=None))
    everything = await ledger.outbox.listing(everything=True, most=9)
    assert [(owed.id, owed.kind, owed.line, owed.message, owed.channel) for owed in everything] == [
        (3, Kind.TEST, None, None, "phone"),
        (2, Kind.VOICEMAIL_NEW, "home", "a", "mail"),
        (1, Kind.VOICEMAIL_NEW, "home", "a", "phone"),
    ]
    assert [owed.id for owed in await ledger.outbox.listing(everything=False, most=9)] == [3, 2]
    assert [owed.id for owed in await ledger.outbox.listing(everything=True, most=1)] == [3]


async def test_a_summarys_delivery_is_listed_once_however_many_messages_it_announces(ledger: Ledger) -> None:
    await polled(ledger, "a", "b", "c", first_poll="summary")
    assert [(owed.kind, owed.message) for owed in await outbox(ledger)] == [(Kind.VOICEMAIL_SUMMARY, None)] * 2


async def dead_ones(ledger: Ledger, count: int) -> None:
    for _ in range(count):
        await owe(ledger, alert(Kind.TEST, ("phone",)))
        await attempted(ledger, await claimed(ledger), REFUSED)


async def test_dead_deliveries_can_be_tried_again(ledger: Ledger) -> None:
    await dead_ones(ledger, 2)
    assert (await ledger.outbox.dead(), await states(ledger)) == ((1, 2), [DEAD, DEAD])
    assert await ledger.outbox.retry([2, 99], NOW + HOUR) == (2,)
    assert (await ledger.outbox.dead(), await states(ledger)) == ((1,), [DEAD, PENDING])
    delivery = await claimed(ledger, now=NOW + HOUR)
    assert (delivery.id, delivery.attempts, delivery.maybe_repeat) == (2, 2, False)


async def test_a_delivery_that_waits_can_be_tried_now(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    await attempted(ledger, await claimed(ledger), REFUSED)
    assert await ledger.outbox.claim("phone", NOW + 1, LEASE) is None
    assert await ledger.outbox.retry([1], NOW + 1) == (1,)
    assert (await claimed(ledger, now=NOW + 1)).id == 1


async def test_what_is_under_way_or_done_is_not_tried_again(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE, 3)
    await attempted(ledger, await claimed(ledger), ARRIVED)
    await ledger.outbox.drop([2], NOW)
    await claimed(ledger)
    assert await ledger.outbox.retry([1, 2, 3], NOW + 1) == ()
    assert await ledger.outbox.retry([3], NOW + LEASE) == (3,)  # whoever had it under way has died


async def test_what_is_pending_or_dead_can_be_dropped_and_says_who_did_it(ledger: Ledger) -> None:
    await dead_ones(ledger, 1)
    await owe(ledger, TO_PHONE, 2)
    await attempted(ledger, await claimed(ledger), ARRIVED)
    assert await ledger.outbox.drop([1, 2, 3, 4], NOW) == (1, 3)
    assert await states(ledger) == [WITHDRAWN, SENT, WITHDRAWN]
    assert (await outbox(ledger))[2].last_error == "dropped by a person"
    assert await ledger.outbox.channels_due(NOW + DAY) == frozenset()


async def test_what_waits_for_a_channel_that_is_gone_is_given_up_in_time(ledger: Ledger) -> None:
    await owe(ledger, alert())
    await adopted(ledger, channels=["mail"])
    assert await ledger.outbox.expire(NOW + 7 * DAY - 1, 7 * DAY) == 0
    assert await ledger.outbox.expire(NOW + 7 * DAY, 7 * DAY) == 1
    phone, mail = await outbox(ledger)
    assert (phone.state, phone.last_error) == (DEAD, "never attempted: the channel is not configured")
    assert mail.state is PENDING


async def test_what_a_daemon_that_was_down_for_long_left_behind_is_still_sent(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    assert await ledger.outbox.expire(NOW + 30 * DAY, 7 * DAY) == 0
    await attempted(ledger, await claimed(ledger, now=NOW + 30 * DAY), ARRIVED, NOW + 30 * DAY)
    assert await states(ledger) == [SENT]


async def test_the_last_word_of_a_given_up_delivery_is_kept(ledger: Ledger) -> None:
    await owe(ledger, TO_PHONE)
    await attempted(ledger, await claimed(ledger), REFUSED)
    await adopted(ledger, channels=["mail"])
    await ledger.outbox.expire(NOW + 7 * DAY, 7 * DAY)
    assert (await outbox(ledger))[0].last_error == "HTTP 404"
