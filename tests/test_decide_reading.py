"""What a mailbox that was read means: what is new, what has gone, and who is to hear of it."""

from __future__ import annotations

import pytest
from values import NOW, PHONE, Story, judged, mailbox, remembered, rules, standing, trusted

from vmwatch.decide.reading import SHOWN_IN_SUMMARY
from vmwatch.models import Kind, LineState, Mailbox, Reason, Recipient

NEW, SUMMARY = Kind.VOICEMAIL_NEW, Kind.VOICEMAIL_SUMMARY


def box(count: int) -> Mailbox:
    return mailbox(*(f"{number:05}" for number in range(count)))


@pytest.mark.parametrize(
    ("first_poll", "waiting", "alerts"),
    [
        ("summary", 0, []),
        ("summary", 1, [NEW]),
        ("summary", 2, [SUMMARY]),
        ("summary", 5, [SUMMARY]),
        ("summary", 6, [SUMMARY]),
        ("summary", 10_000, [SUMMARY]),
        ("each", 0, []),
        ("each", 1, [NEW]),
        ("each", 2, [NEW] * 2),
        ("each", 5, [NEW] * 5),
        ("each", 6, [SUMMARY]),
        ("each", 10_000, [SUMMARY]),
        ("silent", 0, []),
        ("silent", 1, []),
        ("silent", 6, []),
        ("silent", 10_000, []),
    ],
)
def test_what_waits_when_a_line_is_first_read(first_poll: str, waiting: int, alerts: list[Kind]) -> None:
    decision = judged(standing(), box(waiting), by=rules(first_poll=first_poll))
    assert [owed.kind for owed in decision.alerts] == alerts
    assert decision.reason is Reason.FIRST_SIGHT
    assert len(decision.fresh) == waiting


@pytest.mark.parametrize("first_poll", ["summary", "each", "silent"])
@pytest.mark.parametrize(("count", "alerts"), [(0, []), (1, [NEW]), (5, [NEW] * 5), (6, [SUMMARY]), (99, [SUMMARY])])
def test_later_every_message_is_announced_and_a_storm_is_one_summary(
    first_poll: str, count: int, alerts: list[Kind]
) -> None:
    decision = judged(trusted(), box(count), by=rules(first_poll=first_poll))
    assert [owed.kind for owed in decision.alerts] == alerts
    assert decision.reason is (Reason.NEW_MESSAGES if count else Reason.NOTHING_NEW)


def test_a_silent_first_poll_stays_silent_about_those_messages_only() -> None:
    story = Story(standing(), by=rules(first_poll="silent")).play([mailbox("a", "b"), mailbox("a", "b", "c")])
    assert story.alerts == [NEW]


def test_a_message_is_announced_once() -> None:
    story = Story(trusted()).play([mailbox("a"), mailbox("a"), mailbox(), mailbox("a"), mailbox("b", "a")])
    assert story.alerts == [NEW, NEW]


def test_an_alert_of_one_message_has_all_of_it() -> None:
    (owed,) = judged(trusted(), mailbox("a")).alerts
    assert (owed.messages, owed.voicemails, owed.count) == (("a",), mailbox("a").messages, 1)
    assert (owed.subject, owed.number, owed.reason) == ("Home", "+4571919998", Reason.NEW_MESSAGES)
    assert owed.channels == ("phone", "mail")


def test_a_summary_announces_all_and_shows_the_newest_first() -> None:
    (owed,) = judged(trusted(), box(500)).alerts
    assert (owed.count, len(owed.messages)) == (500, 500)
    assert [message.id for message in owed.voicemails] == [
        f"{500 - place:05}" for place in range(1, SHOWN_IN_SUMMARY + 1)
    ]
    assert owed.reason is Reason.NEW_MESSAGES
    assert judged(standing(), box(3)).alerts[0].reason is Reason.FIRST_SIGHT


def test_a_message_that_no_channel_wants_is_still_recorded_as_announced() -> None:
    deaf = Recipient("deaf", ("line",))
    (owed,) = judged(trusted(), mailbox("a"), by=rules((deaf,))).alerts
    assert owed.channels == ()


def test_a_channel_may_want_single_messages_and_no_summaries() -> None:
    single = Recipient("single", ("voicemail.new",))
    by = rules((PHONE, single))
    assert judged(trusted(), box(1), by=by).alerts[0].channels == ("phone", "single")
    assert judged(trusted(), box(6), by=by).alerts[0].channels == ("phone",)


# ---- leaving the NEW box ----


def test_a_message_has_left_after_two_agreeing_answers() -> None:
    first = judged(trusted(), mailbox(), remembered("a"))
    assert (first.missed, first.left) == (("a",), ())
    second = judged(first.after, mailbox(), remembered("a", missed=1))
    assert (second.missed, second.left) == ((), ("a",))
    third = judged(second.after, mailbox(), remembered("a", missed=2, left=NOW))
    assert (third.missed, third.left) == ((), ())


def test_a_glitch_makes_no_old_message_new_again() -> None:
    decision = judged(trusted(), mailbox("a"), remembered("a", missed=1))
    assert [message.id for message in decision.seen] == ["a"]
    assert (decision.fresh, decision.missed, decision.left, decision.alerts) == ((), (), (), ())


def test_a_message_that_comes_back_is_seen_and_not_new() -> None:
    decision = judged(trusted(), mailbox("a", "b"), remembered("a", missed=2, left=NOW - 1))
    assert [message.id for message in decision.seen] == ["a"]
    assert [message.id for message in decision.fresh] == ["b"]


def test_two_glitches_that_are_not_in_a_row_are_no_leaving() -> None:
    story = Story(trusted()).play([mailbox("a"), mailbox(), mailbox("a"), mailbox(), mailbox("a")])
    assert story.known == remembered("a")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (mailbox("b", new=2), "the operator counts 2 new messages and lists 1"),
        (mailbox("b", new=0), "the operator counts 0 new messages and lists 1"),
        (mailbox(new=1), "the operator counts 1 new messages and lists 0"),
        (mailbox("b", unreadable=1), "1 of the listed messages could not be read"),
        (mailbox("b", new=3, unreadable=2), "2 of the listed messages could not be read"),
    ],
)
def test_an_answer_that_disagrees_with_itself_says_nothing_of_what_it_does_not_list(
    answer: Mailbox, words: str
) -> None:
    decision = judged(trusted(), answer, remembered("a", missed=1))
    assert (decision.missed, decision.left) == ((), ())
    assert decision.after.detail == words
    assert decision.after.state is LineState.OK
    assert [owed.kind for owed in decision.alerts] == [NEW] * len(answer.messages)


def test_a_list_without_a_count_is_taken_at_its_word() -> None:
    assert judged(trusted(), mailbox(new=None), remembered("a", missed=1)).left == ("a",)


def test_the_detail_goes_with_the_disagreement() -> None:
    assert judged(trusted(detail="odd"), mailbox("a"), remembered("a")).after.detail == ""


# ---- the line that was read ----


def test_a_read_line_has_the_operators_counts_and_the_time() -> None:
    after = judged(standing(), mailbox("a", old=3, saved=10)).after
    assert (after.state, after.reason) == (LineState.OK, Reason.READ)
    assert (after.new, after.old, after.saved) == (1, 3, 10)
    assert (after.first_read_at, after.last_success_at, after.trusted) == (NOW, NOW, True)


def test_a_line_is_first_read_once() -> None:
    after = judged(trusted(first_read_at=7), mailbox()).after
    assert (after.first_read_at, after.last_success_at) == (7, NOW)


@pytest.mark.parametrize(
    ("answer", "missed", "repeatable"),
    [(mailbox(), 0, False), (mailbox(), 1, True), (mailbox("a"), 0, True), (mailbox("a", "b"), 0, True)],
    ids=["a first miss", "a second miss", "the same", "a new one"],
)
def test_the_same_answer_again_changes_nothing_unless_it_would_be_the_second_miss(
    answer: Mailbox, missed: int, repeatable: bool
) -> None:
    assert judged(trusted(), answer, remembered("a", missed=missed)).repeatable is repeatable
