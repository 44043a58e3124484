"""What channels show of messages, in the ledger: cleared once, when nothing of it is to be heard any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from ledgers import SENT as ARRIVED
from ledgers import UNKNOWN, Place, adopted, attempted, claimed, decided, opened, outbox, owe, polled
from values import NOW, NUMBER, alert, mailbox

from vmwatch import sequences
from vmwatch.ledger import Ledger, Owed
from vmwatch.ledger.engine import Transaction
from vmwatch.ledger.following import acknowledge
from vmwatch.ledger.shown import clear
from vmwatch.models import DAY, MINUTE, Arrival, Held, Hold, Kind, Outcome, Receipt

CLEARED = Kind.VOICEMAIL_CLEARED


def shown(name: str) -> Receipt:
    return Receipt(Outcome.SENT, shown_as=name)


async def told(ledger: Ledger, *names: str, channel: str = "phone") -> None:
    """A delivery for each name arrives at the channel, and is shown there by it."""
    for name in names:
        await attempted(ledger, await claimed(ledger, channel), shown(name))


async def heard(ledger: Ledger, *still_new: str, since: int = 1) -> None:
    """Two polls that list no others."""
    for turn in (since, since + 1):
        await polled(ledger, *still_new, now=NOW + turn)


async def configured(ledger: Ledger, *channels: str) -> None:
    """Have these channels, and every line as it stands."""
    await ledger.configure(lambda stored, _: stored, channels, NOW)


async def clearings(ledger: Ledger) -> Sequence[Owed]:
    return [owed for owed in await outbox(ledger) if owed.kind is CLEARED]


async def what_is_cleared(ledger: Ledger, channel: str = "phone") -> list[str]:
    """By what names, the earliest first; it is done then."""
    found = []
    while (delivery := await ledger.outbox.claim(channel, NOW + DAY, MINUTE)) is not None:
        if delivery.alert.kind is CLEARED:
            found.append(delivery.alert.clears)
        await attempted(ledger, delivery, ARRIVED, NOW + DAY)
    return found


async def test_what_was_heard_is_cleared_on_the_channel_that_shows_it(ledger: Ledger) -> None:
    await polled(ledger, "a", "b")
    await told(ledger, "name of a", "name of b")
    await attempted(ledger, await claimed(ledger, "mail"), ARRIVED)
    await heard(ledger, "b")
    (owed,) = await clearings(ledger)
    assert (owed.channel, owed.message, owed.line, owed.state.value) == ("phone", "a", "home", "pending")
    assert await what_is_cleared(ledger) == ["name of a"]


async def test_it_is_cleared_once(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await told(ledger, "name of a")
    await ledger.messages.ack([(NUMBER, "a")], NOW)
    await heard(ledger)
    await ledger.messages.ack([(NUMBER, "a")], NOW + 9)
    assert await what_is_cleared(ledger) == ["name of a"]


async def test_a_clearing_that_waits_is_not_withdrawn_when_its_message_is_heard(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await told(ledger, "name of a")
    await ledger.messages.ack([(NUMBER, "a")], NOW)
    assert len(await clearings(ledger)) == 1
    await heard(ledger)
    assert [owed.state.value for owed in await clearings(ledger)] == ["pending"]


@pytest.mark.parametrize("given_up", [False, True])
async def test_what_is_shown_anew_is_not_cleared_by_what_waited_before(ledger: Ledger, given_up: bool) -> None:
    await polled(ledger, "a", "b")
    await told(ledger, "name of a", "name of b")
    await ledger.messages.ack([(NUMBER, "a"), (NUMBER, "b")], NOW)
    if given_up:
        await attempted(ledger, await claimed(ledger), UNKNOWN, NOW + 30 * DAY)
        assert [owed.state.value for owed in await clearings(ledger)] == ["dead", "pending"]
    assert [await ledger.outbox.shows("phone", f"name of {one}") for one in ("a", "b", "c")] == [True, True, False]
    await ledger.messages.snooze([(NUMBER, "a")], NOW, NOW)
    (again,) = await owe(ledger, alert(Kind.VOICEMAIL_REMINDER, ("phone",), messages=("a",), count=1))
    delivery = await ledger.outbox.claim("phone", NOW, MINUTE, again)
    assert delivery is not None
    await attempted(ledger, delivery, shown("name of a"))
    assert [(owed.message, owed.state.value) for owed in await clearings(ledger)] == [
        ("a", "withdrawn"),
        ("b", "pending"),
    ]


async def test_what_a_person_saw_to_while_a_reminder_was_sent_is_cleared_all_the_same(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await told(ledger, "name of a")
    await owe(ledger, alert(Kind.VOICEMAIL_REMINDER, ("phone",), messages=("a",), count=1))
    reminder = await claimed(ledger)
    await ledger.messages.ack([(NUMBER, "a")], NOW)
    await attempted(ledger, reminder, shown("name of a"))
    assert await what_is_cleared(ledger) == ["name of a"]


async def test_announcement_and_reminder_with_one_name_are_cleared_together(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await owe(ledger, alert(Kind.VOICEMAIL_REMINDER, ("phone",), messages=("a",), count=1))
    await told(ledger, "name of a", "name of a")
    await heard(ledger)
    assert await what_is_cleared(ledger) == ["name of a"]


async def test_what_tells_of_several_is_cleared_with_the_last_of_them(ledger: Ledger) -> None:
    await polled(ledger, "a", "b")
    await owe(ledger, alert(Kind.VOICEMAIL_REMINDER, ("phone",), messages=("a", "b"), count=2))
    await told(ledger, "a", "b", "both")
    await heard(ledger, "b")
    assert await what_is_cleared(ledger) == ["a"]
    await heard(ledger, since=3)
    assert await what_is_cleared(ledger) == ["b", "both"]


async def test_a_summary_is_cleared_with_the_last_of_its_messages(ledger: Ledger) -> None:
    ids = [f"m{number}" for number in range(7)]
    await polled(ledger, *ids)
    await told(ledger, "summary")
    await heard(ledger, "m3")
    assert await what_is_cleared(ledger) == []
    await ledger.messages.ack([(NUMBER, "m3")], NOW + 9)
    assert await what_is_cleared(ledger) == ["summary"]


async def test_a_snooze_clears_nothing(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await told(ledger, "name of a")
    await ledger.messages.snooze([(NUMBER, "a")], NOW + MINUTE, NOW)
    assert await clearings(ledger) == []


@pytest.mark.parametrize("receipt", [ARRIVED, UNKNOWN, Receipt(Outcome.REFUSED, shown_as="a name")])
async def test_what_a_channel_can_t_clear_or_did_not_get_is_not_cleared(ledger: Ledger, receipt: Receipt) -> None:
    await polled(ledger, "a")
    await attempted(ledger, await claimed(ledger), receipt)
    await heard(ledger)
    assert await clearings(ledger) == []


async def test_what_was_heard_while_it_was_sent_is_cleared_as_soon_as_that_is_noted(ledger: Ledger) -> None:
    await polled(ledger, "a")
    delivery = await claimed(ledger)
    await heard(ledger)
    assert await clearings(ledger) == []
    await attempted(ledger, delivery, shown("name of a"), NOW + 3)
    assert await what_is_cleared(ledger) == ["name of a"]


async def test_what_a_person_saw_to_before_is_told_to_a_channel_that_was_away_and_stays_there(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await ledger.messages.ack([(NUMBER, "a")], NOW)
    await told(ledger, "name of a")
    assert await clearings(ledger) == []
    await heard(ledger)
    assert await what_is_cleared(ledger) == ["name of a"]


async def heard_and_told(ledger: Ledger, *still_new: str) -> None:
    await polled(ledger, *still_new, now=NOW + 1)
    found = await decided(ledger, mailbox(*still_new), NOW + 2)
    assert await ledger.lines.record(replace(found, hear_of_left=("phone",)), NOW + 2)


async def test_that_it_was_heard_is_told_in_its_place(ledger: Ledger) -> None:
    """The alert about the same message has the same name; nothing is to clear it then."""
    await polled(ledger, "a", "b")
    announced = await claimed(ledger)
    name_of_a = sequences.name(ledger.salt, "phone", announced.alert.about)
    await attempted(ledger, announced, shown(name_of_a))
    await heard_and_told(ledger, "b")
    assert await clearings(ledger) == []
    await attempted(ledger, await claimed(ledger, now=NOW + 3), ARRIVED, NOW + 3)  # b
    news = await claimed(ledger, now=NOW + 3)
    assert news.alert.kind is Kind.VOICEMAIL_HEARD
    assert news.alert.about == announced.alert.about != ""
    await attempted(ledger, news, shown(name_of_a), NOW + 3)
    assert await clearings(ledger) == []


async def test_several_that_were_heard_at_once_are_cleared_and_told_beside_that(ledger: Ledger) -> None:
    await polled(ledger, "a", "b")
    await told(ledger, "name of a", "name of b")
    await heard_and_told(ledger)
    assert await what_is_cleared(ledger) == ["name of a", "name of b"]


async def test_a_channel_that_is_gone_is_not_waited_for(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await told(ledger, "name of a")
    await configured(ledger, "mail")
    await heard(ledger)
    assert await clearings(ledger) == []


async def test_a_renamed_channel_still_shows_what_it_showed(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await told(ledger, "name of a")
    await ledger.outbox.rename({"phone": "mobile"})
    await configured(ledger, "mobile", "mail")
    await heard(ledger)
    assert await what_is_cleared(ledger, "mobile") == ["name of a"]


async def test_that_it_was_heard_takes_no_place_on_a_channel_whose_names_are_others_now(ledger: Ledger) -> None:
    """The news would stand beside what the channel showed when it was called otherwise, so that is cleared."""
    await polled(ledger, "a")
    await told(ledger, sequences.name(ledger.salt, "phone", sequences.about([(NUMBER, "a")])))
    await ledger.outbox.rename({"phone": "mobile"})
    await configured(ledger, "mobile", "mail")
    await polled(ledger, now=NOW + 1)
    found = await decided(ledger, mailbox(), NOW + 2)
    assert await ledger.lines.record(replace(found, hear_of_left=("mobile",)), NOW + 2)
    assert len(await what_is_cleared(ledger, "mobile")) == 1


async def test_a_clearing_counts_against_no_budget(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await told(ledger, "name of a")
    await heard(ledger)
    assert await what_is_cleared(ledger) == ["name of a"]
    queue = await ledger.holding.queue("phone", NOW + DAY, 2 * DAY)
    assert queue.sent_at == (NOW,)


async def test_a_digest_is_cleared_with_the_last_that_it_tells_of(ledger: Ledger) -> None:
    await polled(ledger, "a", "b")
    queue = await ledger.holding.queue("phone", NOW, 0)
    held = [(one, Hold(NOW + 1, Held.QUIET)) for one in queue.fresh]
    await ledger.holding.sort_out("phone", held, (), NOW)
    released: Sequence[Arrival] = (await ledger.holding.queue("phone", NOW + 1, 0)).released
    await ledger.holding.sort_out("phone", (), released, NOW + 1)
    delivery = await claimed(ledger, now=NOW + 1)
    assert delivery.alert.about == sequences.about([(NUMBER, "b"), (NUMBER, "a")])
    await attempted(ledger, delivery, shown("digest"), NOW + 1)
    await heard(ledger, "a", since=2)
    assert await clearings(ledger) == []
    await heard(ledger, since=4)
    assert await what_is_cleared(ledger) == ["digest"]


async def test_of_two_processes_that_mark_it_as_heard_one_owes_the_clearing(place: Place) -> None:
    async with opened(place) as one, opened(place) as other:
        await adopted(one)
        await polled(one, "a")
        await told(one, "name of a")
        for ledger in (one, other, one):
            await ledger.messages.ack([(NUMBER, "a")], NOW)
        await heard(other)
        assert len(await clearings(one)) == 1


async def test_who_notes_that_it_was_sent_waits_for_who_is_about_to_mark_it_as_heard(place: Place) -> None:
    """Else each would miss what the other did, and nobody would clear it."""
    async with opened(place) as one, opened(place) as other:
        await adopted(one)
        await polled(one, "a")
        delivery = await claimed(one)
        looked, go_on = asyncio.Event(), asyncio.Event()

        async def heard_slowly(transaction: Transaction) -> None:
            await transaction.run("UPDATE message SET left_new_at = :now", now=NOW + 1)
            await clear(transaction, NUMBER, ["a"], NOW + 1)
            looked.set()
            await go_on.wait()

        marking = asyncio.create_task(other._engine.hold(heard_slowly))
        await looked.wait()
        noting = asyncio.create_task(attempted(one, delivery, shown("name of a"), NOW + 2))
        await asyncio.wait([noting], timeout=0.3)
        go_on.set()
        await asyncio.gather(marking, noting)
        assert await what_is_cleared(one) == ["name of a"]


async def test_of_two_who_see_to_the_last_two_messages_at_once_the_second_clears_what_tells_of_both(
    place: Place,
) -> None:
    """Else each would take the other's message for unheard."""
    async with opened(place) as one, opened(place) as other:
        await adopted(one)
        await polled(one, "a", "b")
        await owe(one, alert(Kind.VOICEMAIL_REMINDER, ("phone",), messages=("a", "b"), count=2))
        await told(one, "a", "b", "both")
        looked, go_on = asyncio.Event(), asyncio.Event()

        async def acknowledged_slowly(transaction: Transaction) -> None:
            await acknowledge(transaction, NUMBER, "a", NOW + 1)
            looked.set()
            await go_on.wait()

        slow = asyncio.create_task(other._engine.hold(acknowledged_slowly))
        await looked.wait()
        quick = asyncio.create_task(one.messages.ack([(NUMBER, "b")], NOW + 1))
        await asyncio.wait([quick], timeout=0.3)
        go_on.set()
        await asyncio.gather(slow, quick)
        assert sorted(await what_is_cleared(one)) == ["a", "b", "both"]


def test_a_name_is_the_same_everywhere_and_tells_nothing() -> None:
    salt = bytes(16)
    about = sequences.about([("+4571919998", "a")])
    name = sequences.name(salt, "phone", about)
    assert name == sequences.name(salt, "phone", about)
    assert len(name) == 24
    others = [
        (salt, "desk", about),
        (b"x" * 16, "phone", about),
        (salt, "phone", sequences.about([("+4571919998", "b")])),
    ]
    assert len({name, *(sequences.name(*one) for one in others)}) == 4
    pairs = [("1", "2"), ("3", "4")]
    assert sequences.about(pairs) == sequences.about(reversed(pairs)) != sequences.about([("1", "24"), ("3", "")])
