"""What groups of callers make of what a poll brings: who is told of whom, how urgently, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from receivers import Webhook
from values import EVERYONE, PHONE, judged, mailbox, rules, standing, trusted, voicemail
from world import Bench, bench_in, number_of, settings_of

from vmwatch.book import EMPTY, Book
from vmwatch.models import Alert, Decision, Kind, Mailbox, Recipient, Voicemail
from vmwatch.settings import Callers
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


# ---- on a whole bench ----


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


async def told_on(bench: Bench, hook: Webhook) -> list[str]:
    await bench.poll(60_000)
    await bench.deliver()
    return [request.body["title"] for request in hook.record]


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
