"""The ledger's lines: what is due, who claims it, and what polls and people decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ledgers import (
    LEASE,
    PENDING,
    WITHDRAWN,
    Place,
    adopted,
    attempted,
    begun,
    claim,
    claimed,
    decided,
    due_lines,
    line,
    opened,
    outbox,
    polled,
    states,
)
from ledgers import SENT as ARRIVED
from values import (
    INTERVAL,
    NOW,
    NUMBER,
    OTHER,
    failing,
    locked,
    mailbox,
    rejected,
    remembered,
    rules,
    standing,
    trusted,
)

from vmwatch import decide, pins
from vmwatch.adopt import adopt
from vmwatch.errors import Trouble
from vmwatch.ledger import Ledger, QuietNote
from vmwatch.models import (
    DAY,
    FOREVER,
    HOUR,
    DeliveryState,
    Kind,
    LineState,
    Moment,
    OperatorStanding,
    Reason,
    Standing,
)
from vmwatch.settings import Settings

ALL = 10**9


async def due(ledger: Ledger, *, settled: bool = False, most: int = ALL, now: int = NOW) -> list[str]:
    return [standing.name for standing in await due_lines(ledger, now, settled=settled, most=most)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([trusted(next_poll_at=NOW + 40_000)], NOW + 40_000),
        ([trusted(next_poll_at=NOW - 40_000)], NOW - 40_000),
        ([trusted(next_poll_at=NOW + 2), failing(number=OTHER, name="b", next_poll_at=NOW + 1)], NOW + 1),
        ([trusted(next_poll_at=NOW + 1), failing(number=OTHER, name="b", next_poll_at=NOW + 2)], NOW + 1),
        ([rejected(), trusted(number=OTHER, name="b", next_poll_at=NOW + 3)], NOW + 3),
        ([rejected()], None),
        ([trusted(enabled=False)], None),
        ([trusted(paused_until=FOREVER, paused_at=NOW)], None),
        ([trusted(paused_until=NOW, paused_at=NOW - HOUR)], NOW),
    ],
)
async def test_the_outlook_tells_when_the_next_line_falls_due(
    ledger: Ledger, lines: list[Standing], expected: int | None
) -> None:
    await adopted(ledger, *lines)
    assert await ledger.lines.outlook(NOW) == (OperatorStanding(), expected)


# ---- the configuration ----


async def test_only_configured_lines_are_listed_by_name_and_the_others_are_remembered(ledger: Ledger) -> None:
    await adopted(ledger, standing(name="b"), standing(number=OTHER, name="a"))
    assert [standing.name for standing in await ledger.lines.standings()] == ["a", "b"]
    await adopted(ledger, standing(number=OTHER, name="a"))
    assert [standing.name for standing in await ledger.lines.standings()] == ["a"]
    assert not (await line(ledger)).configured


async def test_lines_in_trouble_are_those_that_are_neither_well_nor_new(ledger: Ledger) -> None:
    lines = [standing(number=f"+457191999{n}", name=state.value, state=state) for n, state in enumerate(LineState)]
    await adopted(ledger, *lines)
    well = {LineState.OK, LineState.WAITING}
    assert [line.state for line in await ledger.lines.in_trouble()] == sorted(set(LineState) - well)
    await adopted(ledger, *(line for line in lines if line.state in well))
    assert await ledger.lines.in_trouble() == ()


async def test_a_number_nobody_ever_configured_is_unknown(ledger: Ledger) -> None:
    assert await ledger.lines.standing("+4500000000") is None


async def test_adopting_again_changes_no_row(ledger: Ledger) -> None:
    settings = configuration()
    await adopt(ledger, settings, NOW)
    before = await line(ledger)
    await adopt(ledger, settings, NOW + HOUR)
    assert await line(ledger) == before


async def test_a_line_that_comes_back_is_as_it_was_left(ledger: Ledger) -> None:
    await adopt(ledger, configuration(), NOW)
    await polled(ledger, "a")
    await ledger.lines.change(decide.paused(await line(ledger), FOREVER, NOW))
    await adopt(ledger, configuration(number=OTHER), NOW)
    assert await due(ledger) == ["home"]
    await adopt(ledger, configuration(), NOW)
    found = await line(ledger)
    assert (found.state, found.configured, found.paused_until) == (LineState.OK, True, FOREVER)
    assert await ledger.lines.known(NUMBER) == remembered("a")


async def test_a_refused_pin_that_comes_back_is_not_tried_and_that_is_told(ledger: Ledger) -> None:
    refused, other = "8352", unlike_pin(ledger, "8352")
    await adopt(ledger, configuration(pin=refused), NOW)
    await ledger.lines.record(await decided(ledger, Trouble(Reason.PIN_REJECTED)), NOW)
    await adopt(ledger, configuration(pin=other), NOW)
    await polled(ledger)
    assert (await line(ledger)).state is LineState.OK
    told = len(await outbox(ledger))
    await adopt(ledger, configuration(pin=refused), NOW)
    assert (await line(ledger)).state is LineState.REJECTED
    assert await due(ledger, now=NOW + DAY) == []
    assert {owed.kind for owed in (await outbox(ledger))[told:]} == {Kind.LINE_REJECTED}
    assert len({owed.alert_id for owed in (await outbox(ledger))[told:]}) == 1


def unlike_pin(ledger: Ledger, pin: str) -> str:
    def tag(one: str) -> int:
        return pins.tag(ledger.salt, configuration().operator.base_url, NUMBER, one)

    return next(str(other) for other in range(7000, 9999) if tag(str(other)) != tag(pin))


async def test_a_changed_pin_is_noticed_and_the_pin_itself_is_nowhere(ledger: Ledger, place: Place) -> None:
    await adopt(ledger, configuration(pin="83529461"), NOW)
    await polled(ledger)
    await adopt(ledger, configuration(pin="94618352"), NOW)
    assert not (await line(ledger)).trusted
    content = await place.content()
    assert b"83529461" not in content
    assert b"94618352" not in content
    assert b"+4571919998" in content


def configuration(number: str = NUMBER, pin: str = "0123") -> Settings:
    channels = {"phone": {"url": "json://127.0.0.1"}, "mail": {"url": "json://127.0.0.1"}}
    return Settings.model_validate({"channels": channels, "lines": {"home": {"number": number, "pin": pin}}})


# ---- what is due ----

DUE: list[tuple[str, Standing, bool]] = [
    ("now", standing(), True),
    ("in a moment", standing(next_poll_at=NOW + 1), False),
    ("when a person says so", rejected(), False),
    ("disabled", standing(enabled=False), False),
    ("not configured", standing(configured=False), False),
    ("paused", standing(paused_until=NOW + 1), False),
    ("paused for good", standing(paused_until=FOREVER), False),
    ("paused until now", standing(paused_until=NOW), True),
    ("failing", failing(), True),
    ("locked", locked(), True),
    ("under a claim that ended", standing(claimed_until=NOW, attempt_at=NOW - LEASE), True),
    ("under somebody's claim", standing(claimed_until=NOW + 1, attempt_at=NOW - 1), False),
]


@pytest.mark.parametrize(("before", "is_due"), [case[1:] for case in DUE], ids=[case[0] for case in DUE])
async def test_which_lines_are_due(ledger: Ledger, before: Standing, is_due: bool) -> None:
    await adopted(ledger, before)
    assert await due(ledger) == (["home"] if is_due else [])
    assert await due(ledger, settled=True) == []


async def test_lines_that_were_last_read_well_are_asked_for_apart(ledger: Ledger) -> None:
    await adopted(ledger, trusted(), standing(number=OTHER, name="work"))
    assert (await due(ledger, settled=True), await due(ledger)) == (["home"], ["work"])


async def test_the_longest_due_come_first_and_no_more_than_there_is_room_for(ledger: Ledger) -> None:
    names = [f"line{number}" for number in range(9)]
    lines = [standing(number=f"+457191999{n}", name=name, next_poll_at=NOW - n) for n, name in enumerate(names)]
    await adopted(ledger, *lines)
    assert await due(ledger) == names[::-1]
    assert await due(ledger, most=2) == ["line8", "line7"]
    assert await due(ledger, most=0) == []


# ---- claims ----


async def test_a_claim_is_written_down_and_names_the_attempt(ledger: Ledger) -> None:
    (won,) = await begun(ledger)
    assert won == await line(ledger)
    assert (won.attempt_at, won.claimed_until, won.last_poll_at, won.version) == (NOW, NOW + LEASE, NOW, 1)


async def test_a_process_sees_its_own_claims_and_others_do_not_until_they_end(place: Place) -> None:
    async with opened(place) as mine, opened(place) as other:
        await adopted(mine)
        await begun(mine)
        # Its own are due again by their time alone: the process knows itself what it has under way.
        assert await due(mine, now=NOW + LEASE - 1) == await due(other, now=NOW + LEASE - 1) == []
        await mine.lines.change(decide.asked(await line(mine), NOW))
        assert (await due(mine), await due(other)) == (["home"], [])
        assert await due(other, now=NOW + LEASE) == ["home"]


async def test_of_two_processes_one_wins_a_line(place: Place) -> None:
    async with opened(place) as one, opened(place) as two:
        await adopted(one, standing(), standing(number=OTHER, name="work"))
        both = [await due_lines(ledger, NOW, settled=False, most=ALL) for ledger in (one, two)]
        claims = [[decide.claimed(due, NOW, rules(), LEASE) for due in seen] for seen in both]
        first = await claim(one, claims[0])
        second = await claim(two, claims[1])
        assert {won.before.name for won in first} == {"home", "work"}
        assert list(second) == []


async def test_a_line_that_a_person_changed_meanwhile_is_not_claimed(ledger: Ledger) -> None:
    stale = decide.claimed(await line(ledger), NOW, rules(), LEASE)
    await ledger.lines.change(decide.paused(await line(ledger), FOREVER, NOW))
    assert list(await claim(ledger, [stale])) == []
    assert (await line(ledger)).attempt_at is None


async def test_claims_of_one_instant_are_told_apart(ledger: Ledger) -> None:
    await adopted(ledger, standing(), standing(number=OTHER, name="work"))
    assert [won.name for won in await begun(ledger)] == ["home"]
    assert [won.name for won in await begun(ledger, OTHER)] == ["work"]


async def test_quiet_notes_go_along_with_the_next_claims_in_one_commit(ledger: Ledger, place: Place) -> None:
    numbers = [f"+457191{n:04}" for n in range(50)]
    await adopted(ledger, *(trusted(number=number, name=f"l{number[1:]}") for number in numbers))
    for number in numbers[:25]:
        await begun(ledger, number)
    before = await place.commits()
    notes = [QuietNote(number, NOW, NOW + 7) for number in numbers[:25]]
    claims = [decide.claimed(await line(ledger, n), NOW + 9, rules(), LEASE) for n in numbers[25:]]
    won = await claim(ledger, claims, NOW + 9, notes)
    assert await place.commits() - before == 1
    assert len(won) == 25
    noted = await line(ledger, numbers[0])
    assert (noted.attempt_at, noted.last_success_at) == (None, NOW + 7)


async def test_a_line_may_be_noted_and_claimed_again_at_once(ledger: Ledger) -> None:
    await adopted(ledger, trusted())
    (first,) = await begun(ledger)
    noted = replace(first, attempt_at=None, last_success_at=NOW + 7)
    again = decide.claimed(noted, NOW + INTERVAL, rules(), LEASE)
    (won,) = await claim(ledger, [again], NOW + INTERVAL, [QuietNote(NUMBER, NOW, NOW + 7)])
    second = won.standing
    assert second == await line(ledger)
    assert (second.attempt_at, second.last_success_at) == (NOW + INTERVAL, NOW + 7)


async def test_a_note_of_another_attempt_says_nothing_of_this_one(ledger: Ledger) -> None:
    await begun(ledger)
    await claim(ledger, [], NOW, [QuietNote(NUMBER, NOW - 1, NOW)])
    assert (await line(ledger)).attempt_at == NOW


# ---- what polls come to ----


async def test_a_poll_is_recorded_whole_in_one_commit(ledger: Ledger, place: Place) -> None:
    before = await place.commits()
    decision = await polled(ledger, "a", "b")
    assert await place.commits() - before == 1
    assert await line(ledger) == replace(decision.after, version=1)
    assert await ledger.lines.known(NUMBER) == remembered("a", "b")
    assert [(owed.message, owed.channel, owed.state, owed.next_attempt_at) for owed in await outbox(ledger)] == [
        (message, channel, PENDING, NOW) for message in ("a", "b") for channel in ("phone", "mail")
    ]


async def pause(ledger: Ledger) -> None:
    await ledger.lines.change(decide.paused(await line(ledger), FOREVER, NOW))


async def resume(ledger: Ledger) -> None:
    await ledger.lines.change(decide.resumed(await line(ledger), NOW))


@pytest.mark.parametrize("act", [pause, resume])
@pytest.mark.parametrize("answer", [mailbox("a"), Trouble(Reason.PIN_REJECTED)], ids=["200", "422"])
async def test_a_persons_word_during_a_poll_is_not_written_over(ledger: Ledger, act: Any, answer: Any) -> None:
    await begun(ledger)
    decision = await decided(ledger, answer)
    await act(ledger)
    said = await line(ledger)
    assert not await ledger.lines.record(decision, NOW)
    assert await line(ledger) == said
    assert await outbox(ledger) == ()
    assert await ledger.lines.known(NUMBER) == {}
    assert await ledger.lines.record(await decided(ledger, answer), NOW)  # judged anew, it counts
    assert (await line(ledger)).paused_until == said.paused_until


async def test_of_two_changes_of_a_line_the_first_wins(ledger: Ledger) -> None:
    found = await line(ledger)
    assert await ledger.lines.change(replace(found, label="first"))
    assert not await ledger.lines.change(replace(found, label="second"))
    assert (await line(ledger)).label == "first"


async def test_nothing_is_known_of_the_operator_until_it_blocks(ledger: Ledger) -> None:
    assert await ledger.lines.operator() == OperatorStanding()
    assert await ledger.lines.record(await decided(ledger, Trouble(Reason.BLACKLISTED)), NOW)
    blocked = await ledger.lines.operator()
    assert (blocked.blocked_until, blocked.failures, blocked.version) == (NOW + 4 * HOUR, 1, 1)
    assert await ledger.lines.record(await decided(ledger, mailbox(), NOW + DAY), NOW + DAY)
    assert await ledger.lines.operator() == OperatorStanding(version=2)


# ---- messages that leave the box, and what was owed for them ----


async def test_messages_are_known_seen_missed_and_left(ledger: Ledger) -> None:
    await polled(ledger, "a", "b")
    await polled(ledger, "b")
    assert await ledger.lines.known(NUMBER) == remembered("a", missed=1) | remembered("b")
    await polled(ledger, "a", "b")
    assert await ledger.lines.known(NUMBER) == remembered("a", "b")
    await polled(ledger, "b", now=NOW + 1)
    await polled(ledger, "b", now=NOW + 2)
    assert await ledger.lines.known(NUMBER) == remembered("a", missed=2, left=NOW + 2) | remembered("b")
    await polled(ledger, "b", now=NOW + 3)
    assert (await ledger.lines.known(NUMBER))["a"].missed == 2


async def test_what_the_operator_says_of_a_known_message_is_kept_up_to_date(ledger: Ledger, place: Place) -> None:
    await polled(ledger, "a")
    answer = mailbox("a")
    played = replace(answer, messages=(replace(answer.messages[0], played=True, box="SAVED"),))
    assert await ledger.lines.record(await decided(ledger, played), NOW)
    assert await place.rows("SELECT played, box FROM message") == [(1, "SAVED")]


async def left(ledger: Ledger, *still: str, now: int = NOW + 1) -> None:
    """Two agreeing answers that list only these."""
    await polled(ledger, *still, now=now)
    await polled(ledger, *still, now=now + 1)


async def test_a_message_heard_before_it_could_be_told_is_withdrawn(ledger: Ledger) -> None:
    await polled(ledger, "a", "b")
    await polled(ledger, "b", now=NOW + 1)
    assert await states(ledger) == [PENDING, PENDING]
    await polled(ledger, "b", now=NOW + 2)
    assert await states(ledger) == [WITHDRAWN, PENDING]
    assert await states(ledger, "mail") == [WITHDRAWN, PENDING]
    assert (await outbox(ledger))[0].next_attempt_at is None
    assert (await claimed(ledger, now=NOW + 2)).alert.voicemails[0].id == "b"


async def test_a_summary_is_withdrawn_when_all_that_it_announces_have_left(ledger: Ledger) -> None:
    await polled(ledger, "a", "b", first_poll="summary")
    await left(ledger, "b")
    assert await states(ledger) == [PENDING]
    await left(ledger, now=NOW + 5)
    assert await states(ledger) == [WITHDRAWN]


async def test_a_summary_is_not_withdrawn_while_one_of_its_messages_was_missed_but_once(ledger: Ledger) -> None:
    await polled(ledger, "a", "b", first_poll="summary")
    await polled(ledger, "b", now=NOW + 1)
    await polled(ledger, now=NOW + 2)
    assert await ledger.lines.known(NUMBER) == remembered("a", missed=2, left=NOW + 2) | remembered("b", missed=1)
    assert await states(ledger) == [PENDING]


async def test_what_was_withdrawn_is_owed_again_if_its_message_is_back(ledger: Ledger) -> None:
    await polled(ledger, "a", "b")
    await left(ledger, "b")
    await polled(ledger, "a", "b", now=NOW + 9)
    assert await states(ledger) == [PENDING, PENDING]
    assert (await outbox(ledger))[0].next_attempt_at == NOW + 9


async def test_what_was_sent_is_neither_withdrawn_nor_owed_again(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await attempted(ledger, await claimed(ledger), ARRIVED)
    await left(ledger)
    assert (await states(ledger), await states(ledger, "mail")) == ([DeliveryState.SENT], [WITHDRAWN])
    await polled(ledger, "a", now=NOW + 9)
    assert (await states(ledger), await states(ledger, "mail")) == ([DeliveryState.SENT], [PENDING])


async def test_what_a_person_dropped_stays_dropped_though_its_message_is_in_the_box(ledger: Ledger) -> None:
    await polled(ledger, "a")
    ids = [owed.id for owed in await outbox(ledger)]
    assert await ledger.outbox.drop(ids, NOW) == tuple(ids)
    await polled(ledger, "a", now=NOW + 1)
    await left(ledger, now=NOW + 2)
    await polled(ledger, "a", now=NOW + 9)
    assert await states(ledger) == [WITHDRAWN]


async def test_what_is_left_of_one_line_withdraws_nothing_of_another(ledger: Ledger) -> None:
    await adopted(ledger, standing(), standing(number=OTHER, name="work"))
    await polled(ledger, "a")
    work = await line(ledger, OTHER)
    other = decide.after_poll(work, OperatorStanding(), mailbox("a"), {}, Moment(NOW), rules())
    assert await ledger.lines.record(other, NOW)
    await left(ledger)
    assert await states(ledger) == [WITHDRAWN, PENDING]


# ---- messages as people see them, and how long they are kept ----


async def test_messages_are_listed_the_latest_first(ledger: Ledger) -> None:
    answer = mailbox("a", "b", "c")
    aged = [replace(message, received_at=at) for message, at in zip(answer.messages, (3, None, 9), strict=True)]
    await ledger.lines.record(await decided(ledger, replace(answer, messages=tuple(aged))), NOW)
    views = await ledger.messages.listing(None, new_only=False, most=9)
    assert [view.voicemail for view in views] == [aged[1], aged[2], aged[0]]
    assert {(view.line, view.first_seen_at, view.left_new_at) for view in views} == {("home", NOW, None)}
    assert len(await ledger.messages.listing(None, new_only=False, most=1)) == 1


async def test_messages_are_listed_of_one_line_or_the_new_ones_only(ledger: Ledger) -> None:
    await polled(ledger, "a", "b")
    await left(ledger, "b")

    async def ids(number: str | None, *, new_only: bool) -> list[str]:
        return [view.voicemail.id for view in await ledger.messages.listing(number, new_only=new_only, most=9)]

    assert await ids(NUMBER, new_only=False) == ["b", "a"]
    assert await ids(None, new_only=True) == ["b"]
    assert await ids(OTHER, new_only=False) == []


async def test_what_is_in_the_box_and_what_is_owed_is_never_pruned(ledger: Ledger) -> None:
    await polled(ledger, "a")
    await attempted(ledger, await claimed(ledger), ARRIVED)
    assert await ledger.messages.prune(NOW + 9 * DAY) == 0
    assert await ledger.lines.known(NUMBER) == remembered("a")
    assert await states(ledger, "mail") == [PENDING]
    assert (await claimed(ledger, "mail")).alert.voicemails[0].id == "a"


async def test_what_left_the_box_long_ago_is_forgotten_with_its_alert(ledger: Ledger, place: Place) -> None:
    await polled(ledger, "a", "b")
    await left(ledger, "b", now=NOW + 1)
    assert await ledger.messages.prune(NOW + 1) == 0
    assert await ledger.messages.prune(NOW + 2) == 1
    assert await ledger.lines.known(NUMBER) == remembered("b")
    assert await place.rows("SELECT COUNT(*) FROM alert") == [(1,)]
    assert len(await outbox(ledger)) == 2


async def test_alerts_about_lines_are_pruned_when_they_are_old_and_nothing_of_them_is_owed(
    ledger: Ledger, place: Place
) -> None:
    await ledger.lines.record(await decided(ledger, Trouble(Reason.PIN_LOCKED)), NOW)
    await attempted(ledger, await claimed(ledger), ARRIVED)
    await ledger.messages.prune(NOW + DAY)
    assert [owed.channel for owed in await outbox(ledger)] == ["mail"]
    await attempted(ledger, await claimed(ledger, "mail"), ARRIVED)
    await ledger.messages.prune(NOW - 1)
    assert len(await outbox(ledger)) == 1
    await ledger.messages.prune(NOW)
    assert await place.rows("SELECT COUNT(*) FROM alert") == [(0,)]
