"""What groups of callers make of what a poll brings: who is told of whom, how urgently, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from receivers import Webhook
from values import EVERYONE, PHONE, judged, mailbox, rules, standing, trusted, voicemail
from world import Bench, bench_in, number_of, settings_of, turn

from vmwatch.book import EMPTY, Book
from vmwatch.models import DAY, HOUR, MINUTE, Alert, Box, Decision, Fate, Kind, Mailbox, Recipient, Voicemail
from vmwatch.settings import Callers, Reminder
from vmwatch.simulator import Simulator

NEW, SUMMARY = Kind.VOICEMAIL_NEW, Kind.VOICEMAIL_SUMMARY
BOSS, SALES, FRIEND, STRANGER = "+4520304050", "+4570123456", "+4520304060", "+4620304050"
BOOK = Book("DK", {FRIEND: "Freja"})

GROUPS: dict[str, dict[str, Any]] = {
    "boss": {"numbers": [BOSS], "urgent": True, "channels": ["mail"]},
    "sales": {"numbers": ["+4570*"], "mute": True},
    "friends": {"in_contacts": True, "channels": ["phone"]},
    "strangers": {"numbers": ["unknown"], "min_length": "3s"},
    "hidden": {"numbers": ["withheld"], "mute": True},
}
CALLERS = {name: Callers.model_validate(table) for name, table in GROUPS.items()}


def from_(caller: str | None, length: int | None = 30, id_: str = "a") -> Voicemail:
    return voicemail(id_, caller=caller, length=length)


def told(
    *voicemails: Voicemail, line: tuple[Recipient, ...] = EVERYONE, book: Book = BOOK, callers: Any = CALLERS
) -> Decision:
    box = Mailbox(messages=voicemails, new=len(voicemails), old=0, saved=0)
    return judged(trusted(), box, by=rules(line, callers=callers), book=book)


def shown(alerts: tuple[Alert, ...]) -> list[tuple[Kind, tuple[str, ...], bool]]:
    return [(owed.kind, owed.channels, owed.urgent) for owed in alerts]


@pytest.mark.parametrize(
    ("caller", "length", "alerts"),
    [
        (BOSS, 1, [(NEW, ("mail",), True)]),
        (SALES, 300, []),
        (FRIEND, 1, [(NEW, ("phone",), False)]),
        (STRANGER, 30, [(NEW, ("phone", "mail"), False)]),
        (STRANGER, 3, [(NEW, ("phone", "mail"), False)]),
        (STRANGER, 2, []),
        (STRANGER, None, [(NEW, ("phone", "mail"), False)]),
        (None, 30, []),
    ],
)
def test_who_is_told_of_whom(caller: str | None, length: int | None, alerts: list[Any]) -> None:
    decision = told(from_(caller, length))
    assert shown(decision.alerts) == alerts
    assert [message.id for message in decision.fresh] == ["a"], "it is noted, whatever becomes of it"


def test_without_groups_everybody_is_announced_on_the_line_s_channels() -> None:
    assert shown(told(from_(SALES), line=(PHONE,), callers={}).alerts) == [(NEW, ("phone",), False)]


def test_a_group_s_channels_stand_in_place_of_the_line_s() -> None:
    assert shown(told(from_(BOSS), line=(PHONE,)).alerts) == [(NEW, ("mail",), True)]


def test_a_channel_that_wants_no_voicemails_gets_none_from_a_group_either() -> None:
    by = replace(rules(callers=CALLERS), everyone=(PHONE, Recipient("mail", ("line",))))
    decision = judged(trusted(), Mailbox(messages=(from_(BOSS),), new=1, old=0, saved=0), by=by)
    assert shown(decision.alerts) == [(NEW, (), True)]


@pytest.mark.parametrize(
    ("book", "alerts"),
    [
        (EMPTY, []),
        (Book("DK", {}, is_whole=False), [(NEW, ("phone", "mail"), False)]),
        (Book("DK", {FRIEND: "Freja"}, is_whole=False), [(NEW, ("phone", "mail"), False)]),
    ],
)
def test_nobody_is_muted_as_unknown_before_the_whole_book_was_read(book: Book, alerts: list[Any]) -> None:
    strangers = {"strangers": Callers(numbers=("unknown",), mute=True)}
    assert shown(told(from_(STRANGER), book=book, callers=strangers).alerts) == alerts


def test_a_storm_is_one_summary_for_each_way_of_being_told() -> None:
    callers = (BOSS, STRANGER, FRIEND, STRANGER, SALES, FRIEND, STRANGER)
    decision = told(*(from_(caller, 30, str(place)) for place, caller in enumerate(callers)))
    assert [(owed.kind, owed.messages, owed.urgent) for owed in decision.alerts] == [
        (NEW, ("0",), True),
        (SUMMARY, ("1", "3", "6"), False),
        (SUMMARY, ("2", "5"), False),
    ]


def test_what_is_muted_does_not_make_a_storm() -> None:
    callers = (SALES, SALES, SALES, SALES, SALES, STRANGER, BOSS)
    decision = told(*(from_(caller, 30, str(place)) for place, caller in enumerate(callers)))
    assert [(owed.kind, owed.messages) for owed in decision.alerts] == [(NEW, ("5",)), (NEW, ("6",))]


def test_what_waits_at_the_first_poll_is_sorted_too() -> None:
    box = Mailbox(messages=(from_(SALES, 30, "0"), from_(BOSS, 30, "1")), new=2, old=0, saved=0)
    decision = judged(standing(), box, by=rules(callers=CALLERS), book=BOOK)
    assert [(owed.kind, owed.messages) for owed in decision.alerts] == [(NEW, ("1",))]
    assert judged(standing(), mailbox("a"), by=rules(callers=CALLERS, first_poll="silent"), book=BOOK).alerts == ()


@pytest.mark.parametrize(
    ("caller", "length", "silenced"),
    [
        (SALES, 300, [(Fate.MUTED, NEW, ("phone", "mail"))]),
        (None, 30, [(Fate.MUTED, NEW, ("phone", "mail"))]),
        (STRANGER, 2, [(Fate.TOO_SHORT, NEW, ("phone", "mail"))]),
        (STRANGER, 3, []),
        (BOSS, 1, []),
    ],
)
def test_what_is_not_announced_is_noted_with_the_reason(caller: str | None, length: int, silenced: list[Any]) -> None:
    found = told(from_(caller, length)).silenced
    assert [(each.why, each.alert.kind, each.alert.channels) for each in found] == silenced


@pytest.mark.parametrize("line", [(), (Recipient("mail", ("line",)),)])
def test_what_would_have_gone_to_no_channel_is_not_noted_either(line: tuple[Recipient, ...]) -> None:
    assert told(from_(SALES), line=line).silenced == ()


def test_many_that_are_not_announced_are_noted_together_for_each_reason() -> None:
    callers = (SALES, SALES, SALES, None, STRANGER, STRANGER)
    decision = told(*(from_(caller, 1, str(place)) for place, caller in enumerate(callers)))
    assert decision.alerts == ()
    assert [(each.why, each.alert.kind, each.alert.messages) for each in decision.silenced] == [
        (Fate.MUTED, SUMMARY, ("0", "1", "2", "3")),
        (Fate.TOO_SHORT, SUMMARY, ("4", "5")),
    ]


def test_what_waited_before_is_noted_like_that_too_unless_nobody_was_to_be_told_at_all() -> None:
    box = Mailbox(messages=(from_(SALES),), new=1, old=0, saved=0)
    (silenced,) = judged(standing(), box, by=rules(callers=CALLERS), book=BOOK).silenced
    assert (silenced.why, silenced.alert.messages) == (Fate.MUTED, ("a",))
    assert judged(standing(), box, by=rules(callers=CALLERS, first_poll="silent"), book=BOOK).silenced == ()


# ---- on a whole bench ----


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


def titles(hook: Webhook) -> list[str]:
    return [request.body["title"] for request in hook.record]


async def told_on(bench: Bench, hook: Webhook) -> list[str]:
    await bench.poll(60_000)
    await bench.deliver()
    return titles(hook)


async def test_the_book_of_the_moment_says_whose_messages_are_muted(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    callers = {"strangers": {"numbers": ["unknown"], "mute": True}}
    settings = settings_of(operator, {"phone": hook.url}, callers=callers)
    async with bench_in(tmp_path, settings, book=BOOK) as bench:
        await bench.poll()
        operator.leave(number_of(0), caller=FRIEND, name="somebody")
        operator.leave(number_of(0), caller=STRANGER, name="Telephone sales")
        assert await told_on(bench, hook) == ["Voicemail from Freja"]
        seen = await bench.ledger.messages.listing(None, new_only=True, most=9)
        assert {view.voicemail.caller: view.alert_id is not None for view in seen} == {FRIEND: True, STRANGER: False}


async def test_an_urgent_caller_is_heard_in_quiet_hours(operator: Simulator, tmp_path: Path, hook: Webhook) -> None:
    phone = {"url": hook.url, "quiet": ["00:00-12:00", "12:00-23:59"]}
    callers = {"boss": {"numbers": [BOSS], "urgent": True}}
    settings = settings_of(operator, {"phone": phone}, callers=callers)
    async with bench_in(tmp_path, settings) as bench:
        bench.clock.ahead += -bench.clock.now() % 86_400_000 + 3_600_000
        await bench.poll()
        operator.leave(number_of(0), caller=STRANGER, name="Bob")
        operator.leave(number_of(0), caller=BOSS, name="Boss")
        assert await told_on(bench, hook) == ["Voicemail from Boss"]


@asynccontextmanager
async def muting(operator: Simulator, folder: Path, hook: Webhook) -> AsyncIterator[Bench]:
    """One line that mutes a caller and reminds of others, and a phone that wants to know what was heard."""
    settings = settings_of(
        operator,
        {"phone": {"url": hook.url, "events": ["voicemail", "voicemail.heard"]}},
        callers={"sales": {"numbers": ["+4570*"], "mute": True}, "all": {"numbers": ["+4*"], "min_length": "3s"}},
    )
    reminding = settings.lines["line0"].model_copy(update={"remind": (Reminder(after=30 * MINUTE),)})
    async with bench_in(folder, settings.model_copy(update={"lines": {"line0": reminding}})) as bench:
        await bench.poll()
        yield bench


async def owed(bench: Bench) -> list[tuple[str, str, str | None, str | None]]:
    """Sorted, for messages of one second come in any order."""
    return sorted((one["state"], one["channel"], one["message"], one["waits"]) for one in await bench.outbox())


async def test_what_is_not_announced_is_in_the_outbox_with_the_reason_and_counted_nowhere(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with muting(operator, tmp_path, hook) as bench:
        muted = operator.leave(number_of(0), caller=SALES)
        short = operator.leave(number_of(0), caller=STRANGER, length=2)
        await turn(bench, 1)
        noted = sorted([("withdrawn", "phone", muted, "muted"), ("withdrawn", "phone", short, "too_short")])
        assert await owed(bench) == noted
        assert await bench.ledger.outbox.listing(everything=False, most=9) == ()
        assert [(view.pending, view.dead) for view in await bench.ledger.outbox.channels()] == [(0, 0)]
        assert await bench.ledger.outbox.oldest_pending() is None
        await bench.ledger.follow_ups.reckon([number_of(0)], bench.clock.now())
        await turn(bench, 40)
        assert await owed(bench) == noted, "nobody is reminded"
        for id_ in (muted, short):
            operator.hear(number_of(0), id_)
        await turn(bench, 3)
        operator._put(number_of(0), operator._take(number_of(0), muted), Box.NEW)
        await turn(bench, 40)
        assert (hook.record, await owed(bench)) == ([], noted), "nobody hears of it in any other way"


async def test_a_person_has_what_is_not_announced_sent_after_all(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with muting(operator, tmp_path, hook) as bench:
        id_ = operator.leave(number_of(0), caller=SALES, name="Sales")
        await turn(bench, 1)
        ((delivery,),) = await bench.ledger._engine.read("SELECT id FROM delivery")
        assert await bench.ledger.outbox.dead() == (), "it is not meant unless it is named"
        assert await bench.ledger.outbox.retry([delivery], bench.clock.now()) == (delivery,)
        await turn(bench, 1)
        assert await owed(bench) == [("sent", "phone", id_, None)]
        await turn(bench, 40)
        operator.hear(number_of(0), id_)
        await turn(bench, 2)
        assert titles(hook) == ["Voicemail from Sales", "No longer new: voicemail from Sales"]
        assert await bench.ledger.outbox.retry([delivery], bench.clock.now()) == ()


async def test_what_a_person_wants_sent_after_all_goes_when_it_is_heard_before(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with muting(operator, tmp_path, hook) as bench:
        id_ = operator.leave(number_of(0), caller=SALES)
        await turn(bench, 1)
        ((delivery,),) = await bench.ledger._engine.read("SELECT id FROM delivery")
        await bench.ledger.outbox.retry([delivery], bench.clock.now() + HOUR)
        operator.hear(number_of(0), id_)
        await turn(bench, 3)
        assert [state for state, *_ in await owed(bench)] == ["withdrawn"]


async def test_what_is_not_announced_is_not_in_a_digest_and_is_not_snoozed_into_one(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with muting(operator, tmp_path, hook) as bench:
        id_ = operator.leave(number_of(0), caller=SALES)
        await turn(bench, 1)
        await bench.ledger.messages.snooze([(number_of(0), id_)], bench.clock.now() + MINUTE, bench.clock.now())
        await turn(bench, 5)
        assert (hook.record, [waits for *_, waits in await owed(bench)]) == ([], ["muted"])


async def test_what_is_not_announced_is_forgotten_like_any_other_alert(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with muting(operator, tmp_path, hook) as bench:
        operator.leave(number_of(0), caller=SALES)
        await turn(bench, 1)
        await bench.ledger.messages.prune(bench.clock.now() + DAY)
        rows = [await bench.ledger._engine.read(f"SELECT 1 FROM {table}") for table in ("alert", "delivery", "mention")]
        assert rows == [[], [], []]
