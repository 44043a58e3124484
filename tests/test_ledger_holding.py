"""Held deliveries in the ledger: pending with a reason, and one digest of what is still new when the hold is over."""

from __future__ import annotations

import asyncio

import pytest
from ledgers import PENDING, Place, adopted, attempted, claimed, opened, outbox, owe, polled
from ledgers import REFUSED as LOST
from ledgers import SENT as ARRIVED
from values import NOW, alert

from vmwatch.ledger import Ledger
from vmwatch.models import DAY, HOUR, Held, Hold, Kind, Queue

MORNING = NOW + 7 * HOUR


async def due(ledger: Ledger, now: int = NOW) -> Queue:
    return await ledger.holding.queue("phone", now, HOUR)


async def held(ledger: Ledger, until: int = MORNING, why: Held = Held.QUIET) -> None:
    """Hold everything that is due on the phone."""
    queue = await due(ledger)
    await ledger.holding.sort_out("phone", [(one, Hold(until, why)) for one in queue.fresh], (), NOW)


async def released(ledger: Ledger, now: int = MORNING) -> None:
    await ledger.holding.sort_out("phone", [], (await due(ledger, now)).released, now)


async def on_phone(ledger: Ledger) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (owed.kind.value, owed.state.value, owed.waits, owed.last_error)
        for owed in await outbox(ledger)
        if owed.channel == "phone"
    ]


async def test_what_is_held_is_pending_and_says_why_and_is_not_claimed(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await held(ledger)
    assert await on_phone(ledger) == [("voicemail.new", "pending", "quiet", None)]
    assert await ledger.outbox.claim("phone", MORNING, HOUR) is None  # not even when it is over: a digest comes
    assert await ledger.outbox.channels_due(MORNING - 1) == {"mail"}
    assert await ledger.outbox.channels_due(MORNING) == {"mail", "phone"}
    assert (await due(ledger, MORNING - 1)).released == ()


async def test_the_end_of_a_hold_is_one_digest_of_what_is_still_new(ledger: Ledger) -> None:
    await polled(ledger, "a", "b", "c")
    await held(ledger)
    for turn in (1, 2):
        await polled(ledger, "a", "c", now=NOW + turn)
    await released(ledger)
    digest = (await outbox(ledger))[-1]
    assert await on_phone(ledger) == [
        ("voicemail.new", "withdrawn", None, f"in digest {digest.id}"),
        ("voicemail.new", "withdrawn", None, None),
        ("voicemail.new", "withdrawn", None, f"in digest {digest.id}"),
        ("voicemail.digest", "pending", None, None),
    ]
    delivery = await claimed(ledger, now=MORNING)
    assert delivery.alert.kind is Kind.VOICEMAIL_DIGEST
    assert [one.id for one in delivery.alert.voicemails] == ["c", "a"]
    assert (delivery.alert.count, delivery.alert.subject) == (2, "Home")


async def test_where_nothing_is_still_new_nothing_is_sent(ledger: Ledger) -> None:
    await polled(ledger, "a", "b")
    await held(ledger)
    for turn in (1, 2):
        await polled(ledger, "a", now=NOW + turn)
    await ledger.messages.ack([("+4571919998", "a")], NOW + 3)
    await released(ledger)
    assert await on_phone(ledger) == [
        ("voicemail.new", "withdrawn", None, "seen to, or put off, by a person"),
        ("voicemail.new", "withdrawn", None, None),
    ]


async def test_a_digest_goes_when_what_it_tells_of_was_heard_before_it_got_through(ledger: Ledger) -> None:
    await polled(ledger, "a", "b")
    await held(ledger)
    await released(ledger)
    for turn in (1, 2):
        await polled(ledger, "b", now=MORNING + turn)
    assert (await on_phone(ledger))[-1][:2] == ("voicemail.digest", "pending")
    for turn in (3, 4):
        await polled(ledger, now=MORNING + turn)
    assert (await on_phone(ledger))[-1][:2] == ("voicemail.digest", "withdrawn")
    await polled(ledger, "b", now=MORNING + 5)  # it was not gone after all
    assert [state for _, state, _, _ in await on_phone(ledger)] == ["withdrawn", "withdrawn", "pending"]


async def test_a_digest_that_was_put_off_before_it_got_through_comes_again_after_the_snooze_only(
    ledger: Ledger,
) -> None:
    await polled(ledger, "a")
    await held(ledger)
    await released(ledger)
    await ledger.messages.snooze([("+4571919998", "a")], MORNING + HOUR, MORNING)
    await polled(ledger, "a", "b", now=MORNING + 1)
    assert (await on_phone(ledger))[1][:2] == ("voicemail.digest", "withdrawn")
    await polled(ledger, "a", now=MORNING + HOUR)
    assert (await on_phone(ledger))[1][:2] == ("voicemail.digest", "pending")


async def test_what_no_digest_stands_for_is_sent_by_itself_with_all_its_time(ledger: Ledger) -> None:
    await owe(ledger, alert(Kind.LINE_LOCKED))
    await held(ledger, MORNING + DAY)
    await released(ledger, MORNING + DAY)
    assert await on_phone(ledger) == [("line.locked", "pending", None, None)]
    assert (await claimed(ledger, now=MORNING + DAY)).created_at == MORNING + DAY


async def test_a_digest_that_waits_itself_goes_into_the_next_one(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await held(ledger)
    await released(ledger)
    queue = await due(ledger, MORNING)
    await ledger.holding.sort_out("phone", [(one, Hold(MORNING + DAY, Held.QUIET)) for one in queue.fresh], (), MORNING)
    await polled(ledger, "a", "b", now=MORNING + 1)
    await released(ledger, MORNING + DAY)
    delivery = await claimed(ledger, now=MORNING + DAY)  # b, which nothing held
    assert delivery.alert.kind is Kind.VOICEMAIL_NEW
    assert [state for _, state, _, _ in await on_phone(ledger)] == ["withdrawn", "withdrawn", "pending", "pending"]
    assert [one.id for one in (await claimed(ledger, now=MORNING + DAY)).alert.voicemails] == ["a"]


async def test_of_two_processes_one_makes_the_digest(place: Place) -> None:
    async with opened(place) as one, opened(place) as other:
        await adopted(one)
        await polled(one, "a", "b")
        await held(one)
        await asyncio.gather(released(one), released(other))
        assert [kind for kind, *_ in await on_phone(one)].count("voicemail.digest") == 1


async def test_another_configuration_or_clock_judges_anew_what_is_not_over(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await held(ledger)
    await ledger.holding.judge_anew(MORNING)  # over: the digest is due
    assert (await due(ledger, MORNING)).fresh == ()
    await ledger.configure(lambda stored, _: stored, ("phone", "mail"), NOW + HOUR)
    assert [one.kind for one in (await due(ledger, NOW + HOUR)).fresh] == [Kind.VOICEMAIL_NEW]


@pytest.mark.parametrize("why", ["quiet", "snoozed"])
async def test_a_channel_that_works_again_does_not_end_a_hold(ledger: Ledger, why: str) -> None:
    await polled(ledger, "a")
    if why == "quiet":
        await held(ledger)
    else:
        await ledger.messages.snooze([("+4571919998", "a")], MORNING, NOW)
    await owe(ledger, alert(Kind.LINE_LOCKED))
    await attempted(ledger, await claimed(ledger), LOST)
    await attempted(ledger, await claimed(ledger, now=NOW + HOUR), ARRIVED, NOW + HOUR)
    (first, *_) = [owed for owed in await outbox(ledger) if owed.channel == "phone"]
    assert (first.state, first.waits, first.next_attempt_at) == (PENDING, why, MORNING)


async def test_a_person_has_what_is_held_sent_at_once(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await held(ledger)
    (first, *_) = [owed for owed in await outbox(ledger) if owed.channel == "phone"]
    assert await ledger.outbox.retry([first.id], NOW + 1) == (first.id,)
    assert (await due(ledger, NOW + 1)) == Queue((), ())
    assert (await claimed(ledger, now=NOW + 1)).alert.messages == ()
    assert (await on_phone(ledger))[0][:3] == ("voicemail.new", "pending", None)


async def test_the_sends_of_the_budgets_time_are_counted(ledger: Ledger) -> None:
    for instant in (NOW - 2 * HOUR, NOW - HOUR, NOW - HOUR + 1, NOW):
        await owe(ledger, alert(channels=("phone",)), now=instant)
        await attempted(ledger, await claimed(ledger, now=instant), ARRIVED, instant)
    assert (await due(ledger)).sent_at == (NOW - HOUR + 1, NOW)


async def test_what_is_owed_after_it_was_said_what_is_held_is_not_claimed_before_it_is_judged_too(
    ledger: Ledger,
) -> None:
    await polled(ledger, "a")
    judged = [one.id for one in (await due(ledger)).fresh]
    await polled(ledger, "a", "b")
    first = await ledger.outbox.claim("phone", NOW, HOUR, judged=judged)
    assert first is not None
    assert first.id in judged
    await attempted(ledger, first, ARRIVED)
    assert await ledger.outbox.claim("phone", NOW, HOUR, judged=judged) is None
    later = (await due(ledger)).fresh[0].id
    assert await ledger.outbox.retry([later], NOW) == (later,)
    assert (await ledger.outbox.claim("phone", NOW, HOUR, judged=judged)) is not None, "a person asked for it"
