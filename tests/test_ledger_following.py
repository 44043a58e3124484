"""Follow-ups in the ledger: begun with the announcement, done once, ended when the message is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from ledgers import SENT as ARRIVED
from ledgers import Place, adopted, attempted, claimed, decided, opened, outbox, owe, polled
from values import EVERYONE, NOW, NUMBER, alert, mailbox

from vmwatch.errors import LedgerError
from vmwatch.ledger import Ledger
from vmwatch.models import DAY, HOUR, MINUTE, Decision, Due, FollowedUp, FollowUp, Kind, Outcome, Receipt, Unheard


async def announced(ledger: Ledger, *ids: str, now: int = NOW) -> Decision:
    """A poll that finds messages, which are to be followed."""
    found = await decided(ledger, mailbox(*ids), now, first_poll="each")
    decision = replace(found, followed=tuple(message.id for message in found.fresh))
    assert await ledger.lines.record(decision, now)
    return decision


async def followed(ledger: Ledger) -> list[FollowUp]:
    rows = await ledger._engine.read("SELECT * FROM follow_up ORDER BY message")
    return [FollowUp(*row[:-1], Due(row[-1])) for row in rows]


def first_look(id_: str, now: int = NOW) -> FollowUp:
    return FollowUp(NUMBER, id_, alerted_at=now, done_until=now, at=now)


def reminding(unheard: Sequence[Unheard]) -> FollowedUp:
    """A reminder now, and a look in an hour."""
    ids = tuple(each.voicemail.id for each in unheard)
    following = tuple(replace(each.follow_up, at=each.follow_up.at + HOUR) for each in unheard)
    return FollowedUp((alert(Kind.VOICEMAIL_REMINDER, ("phone",), messages=ids, count=len(ids)),), following)


async def told(ledger: Ledger) -> list[Kind]:
    return [owed.kind for owed in await outbox(ledger) if owed.channel == "phone"]


async def test_what_is_announced_is_followed_from_the_same_commit_on(ledger: Ledger) -> None:
    await announced(ledger, "a", "b")
    assert await followed(ledger) == [first_look("a"), first_look("b")]
    assert await ledger.follow_ups.lines_due(NOW) == (NUMBER,)
    assert await ledger.follow_ups.lines_due(NOW - 1) == ()


async def test_what_is_not_announced_is_not_followed(ledger: Ledger) -> None:
    found = await decided(ledger, mailbox("a"), NOW, first_poll="silent")
    assert await ledger.lines.record(replace(found, followed=("a",)), NOW)
    assert await followed(ledger) == []


async def test_what_is_due_is_judged_with_all_that_is_known_of_it(ledger: Ledger) -> None:
    await announced(ledger, "a", "b")
    await attempted(ledger, await claimed(ledger), ARRIVED)
    seen: list[Unheard] = []

    def look(unheard: Sequence[Unheard]) -> FollowedUp:
        seen.extend(unheard)
        return FollowedUp()

    await ledger.follow_ups.follow(NUMBER, NOW, look)
    assert [(each.voicemail.id, each.told, each.is_missed, each.read_at) for each in seen] == [
        ("a", ("phone",), False, NOW),
        ("b", (), False, NOW),
    ]
    assert [each.follow_up for each in seen] == [first_look("a"), first_look("b")]
    assert await followed(ledger) == []


async def test_who_was_told_by_a_channel_that_is_renamed_since_is_reminded_by_its_new_name(ledger: Ledger) -> None:
    await announced(ledger, "a")
    await attempted(ledger, await claimed(ledger), ARRIVED)
    await ledger.outbox.rename({"phone": "mobile"})
    seen: list[Unheard] = []

    def look(unheard: Sequence[Unheard]) -> FollowedUp:
        seen.extend(unheard)
        return FollowedUp()

    await ledger.follow_ups.follow(NUMBER, NOW, look)
    assert [each.told for each in seen] == [("mobile",)]


async def test_what_was_sent_of_a_message_that_nobody_follows_stays_under_the_channels_old_name(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await attempted(ledger, await claimed(ledger), ARRIVED)
    await ledger.outbox.rename({"phone": "mobile"})
    assert [owed.channel for owed in await outbox(ledger) if owed.sent_at is not None] == ["phone"]


@pytest.mark.parametrize(
    ("kind", "arrived_at", "told"),
    [
        (Kind.VOICEMAIL_REMINDER, None, ()),
        (Kind.VOICEMAIL_DIGEST, None, ()),
        (Kind.VOICEMAIL_REMINDER, NOW + HOUR, ()),
        (Kind.VOICEMAIL_DIGEST, NOW + HOUR, ()),
        (Kind.VOICEMAIL_REMINDER, NOW + HOUR - 1, ("phone",)),
    ],
)
async def test_where_a_message_is_about_to_be_told_again_or_just_was_a_step_tells_it_nobody(
    ledger: Ledger, kind: Kind, arrived_at: int | None, told: tuple[str, ...]
) -> None:
    await announced(ledger, "a")
    await attempted(ledger, await claimed(ledger), ARRIVED)
    await ledger.follow_ups.follow(
        NUMBER, NOW, lambda each: FollowedUp((), (replace(each[0].follow_up, at=NOW + HOUR),))
    )
    await owe(ledger, alert(kind, ("phone",), messages=("a",)))
    if arrived_at is not None:
        await attempted(ledger, await claimed(ledger), ARRIVED, arrived_at)
    seen: list[Unheard] = []
    await ledger.follow_ups.follow(NUMBER, NOW + HOUR, lambda each: (seen.extend(each), FollowedUp())[1])
    assert [each.told for each in seen] == [told]


async def test_a_clearing_that_waits_tells_nobody_of_the_message_and_puts_no_reminder_off(ledger: Ledger) -> None:
    """Somebody said that it was seen to while the channel was away, and then asked to be reminded after all."""
    await announced(ledger, "a")
    await attempted(ledger, await claimed(ledger), Receipt(Outcome.SENT, shown_as="name of a"))
    await ledger.messages.ack([(NUMBER, "a")], NOW + 1)
    assert (await outbox(ledger))[-1].kind is Kind.VOICEMAIL_CLEARED
    await ledger.messages.snooze([(NUMBER, "a")], NOW + HOUR, NOW + 2)
    seen: list[Unheard] = []
    await ledger.follow_ups.follow(NUMBER, NOW + HOUR, lambda each: (seen.extend(each), FollowedUp())[1])
    assert [each.told for each in seen] == [("phone",)]


async def test_a_step_is_an_alert_and_the_next_step_in_one_commit(ledger: Ledger) -> None:
    await announced(ledger, "a", "b")
    await ledger.follow_ups.follow(NUMBER, NOW, reminding)
    assert await told(ledger) == [Kind.VOICEMAIL_NEW, Kind.VOICEMAIL_NEW, Kind.VOICEMAIL_REMINDER]
    assert [each.at for each in await followed(ledger)] == [NOW + HOUR, NOW + HOUR]
    assert await ledger.follow_ups.follow(NUMBER, NOW, reminding) == FollowedUp()


async def test_a_step_that_fails_is_there_as_it_was(ledger: Ledger) -> None:
    await announced(ledger, "a")

    def fail(unheard: Sequence[Unheard]) -> FollowedUp:
        raise LedgerError("no")

    with pytest.raises(LedgerError):
        await ledger.follow_ups.follow(NUMBER, NOW, fail)
    assert await followed(ledger) == [first_look("a")]


async def test_of_two_processes_that_find_a_step_due_one_does_it(place: Place) -> None:
    async with opened(place) as one, opened(place) as other:
        await adopted(one)
        await announced(one, "a", "b")
        for _ in range(3):
            assert await one.follow_ups.lines_due(NOW + DAY) == (NUMBER,)
            both = (ledger.follow_ups.follow(NUMBER, NOW, reminding) for ledger in (one, other))
            done = [found for found in await asyncio.gather(*both) if found.alerts]
            assert len(done) <= 1
        assert (await told(one)).count(Kind.VOICEMAIL_REMINDER) == 1


async def test_what_was_heard_is_followed_no_more_and_what_waits_of_it_is_withdrawn(ledger: Ledger) -> None:
    await announced(ledger, "a", "b")
    await owe(ledger, alert(Kind.VOICEMAIL_REMINDER, ("phone",), messages=("a",)))
    await owe(ledger, alert(Kind.VOICEMAIL_REMINDER, ("phone",), messages=("a", "b")))
    for turn in (1, 2):
        await polled(ledger, "b", now=NOW + turn)
    assert await followed(ledger) == [first_look("b")]
    states = {(owed.kind, owed.message): owed.state.value for owed in await outbox(ledger) if owed.channel == "phone"}
    assert states == {
        (Kind.VOICEMAIL_NEW, "a"): "withdrawn",
        (Kind.VOICEMAIL_NEW, "b"): "pending",
        (Kind.VOICEMAIL_REMINDER, "a"): "withdrawn",
        (Kind.VOICEMAIL_REMINDER, None): "pending",  # it tells of another one too
    }


async def test_that_it_was_heard_is_told_to_those_who_got_word_of_it(ledger: Ledger) -> None:
    await announced(ledger, "a", "b")
    await attempted(ledger, await claimed(ledger, "phone"), ARRIVED)
    await polled(ledger, now=NOW + 1)
    found = await decided(ledger, mailbox(), NOW + 2)
    assert await ledger.lines.record(replace(found, hear_of_left=("phone", "mail")), NOW + 2)
    (heard,) = [owed for owed in await outbox(ledger) if owed.kind is Kind.VOICEMAIL_HEARD]
    assert (heard.channel, heard.message, heard.state.value) == ("phone", None, "pending")


async def test_a_mailbox_that_was_emptied_is_told_with_the_newest_few(ledger: Ledger) -> None:
    ids = [f"m{place:02}" for place in range(30)]
    await announced(ledger, *ids)
    await attempted(ledger, await claimed(ledger, "phone"), ARRIVED)
    await polled(ledger, now=NOW + 1)
    found = await decided(ledger, mailbox(), NOW + 2)
    assert await ledger.lines.record(replace(found, hear_of_left=("phone",)), NOW + 2)
    heard = (await claimed(ledger, "phone", now=NOW + 2)).alert
    assert heard.count == 30
    assert [one.id for one in heard.voicemails] == ids[:-11:-1]


async def test_where_nobody_got_word_of_it_nobody_is_told_that_it_was_heard(ledger: Ledger) -> None:
    await announced(ledger, "a")
    await polled(ledger, now=NOW + 1)
    found = await decided(ledger, mailbox(), NOW + 2)
    assert await ledger.lines.record(replace(found, hear_of_left=("phone", "mail")), NOW + 2)
    assert Kind.VOICEMAIL_HEARD not in {owed.kind for owed in await outbox(ledger)}


async def test_new_steps_are_found_out_anew_and_count_for_what_waits_already(ledger: Ledger) -> None:
    await announced(ledger, "a")
    await polled(ledger, "a", "b", now=NOW + MINUTE)
    await ledger.follow_ups.reckon([NUMBER], NOW + HOUR)
    due, late = await followed(ledger)
    assert due == first_look("a")  # it was due, and stays so
    assert late == replace(first_look("b", NOW + MINUTE), done_until=NOW + HOUR, at=NOW + HOUR)


@pytest.mark.parametrize("due", list(Due))
async def test_only_what_the_steps_decide_is_found_out_anew(ledger: Ledger, due: Due) -> None:
    await announced(ledger, "a")

    def later(unheard: Sequence[Unheard]) -> FollowedUp:
        return FollowedUp(next=tuple(replace(each.follow_up, at=NOW + DAY, due=due) for each in unheard))

    await ledger.follow_ups.follow(NUMBER, NOW, later)
    await ledger.follow_ups.reckon([NUMBER], NOW + HOUR)
    (found,) = await followed(ledger)
    assert found.at == (NOW + HOUR if due is Due.STEP else NOW + DAY)


async def test_follow_ups_keep_their_distance_when_the_clock_is_set(place: Place) -> None:
    async with opened(place, role="daemon") as ledger:
        await adopted(ledger)
        await announced(ledger, "a")
        await ledger.shift(HOUR)
        assert await followed(ledger) == [first_look("a", NOW + HOUR)]


async def test_what_was_announced_long_ago_is_forgotten_with_its_mentions(ledger: Ledger) -> None:
    await announced(ledger, "a")
    await owe(ledger, alert(Kind.VOICEMAIL_REMINDER, (), messages=("a",)))
    for turn in (1, 2):
        await polled(ledger, now=NOW + turn)
    await ledger.messages.prune(NOW + DAY)
    assert await ledger._engine.read("SELECT * FROM mention") == []


def test_the_recipients_of_a_heard_alert_asked_for_it_by_name() -> None:
    assert [one.wants(Kind.VOICEMAIL_HEARD) for one in EVERYONE] == [False, False]
    assert replace(EVERYONE[0], events=("voicemail.heard",)).wants(Kind.VOICEMAIL_HEARD)
