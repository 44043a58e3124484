"""What polls come to: the operator's error table [api:errors] on every standing, and the PIN's safety."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import (
    INTERVAL,
    NOW,
    PHONE,
    Story,
    failing,
    judged,
    locked,
    mailbox,
    rejected,
    remembered,
    rules,
    standing,
    trusted,
)

from vmwatch import decide
from vmwatch.decide.poll import HIDES_VERDICT
from vmwatch.errors import Trouble
from vmwatch.models import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Decision,
    Duration,
    Kind,
    LineState,
    Mailbox,
    Moment,
    OperatorStanding,
    Reason,
    Standing,
)
from vmwatch.settings import duration

# ---- the table ----

BEFORE = {
    "untrusted": standing(),
    "trusted": trusted(),
    "doubted": failing(
        reason=Reason.REFUSAL_UNCLEAR, doubts=1, failing_since=NOW - HOUR, alerted=Kind.LINE_UNREACHABLE
    ),
    "locked": locked(),
    "resumed": decide.resumed(rejected(), NOW),
    "29 minutes": failing(failures=3, failing_since=NOW - 29 * MINUTE),
    "31 minutes": failing(failures=3, failing_since=NOW - 31 * MINUTE),
}

ANSWERS = {
    "422 pin": Trouble(Reason.PIN_REJECTED),
    "403 pin": Trouble(Reason.PIN_LOCKED),
    "403 number": Trouble(Reason.NOT_ENABLED),
    "404 id": Trouble(Reason.UNKNOWN_NUMBER),
    "403 blacklisted": Trouble(Reason.BLACKLISTED),
    "another 4xx": Trouble(Reason.REFUSAL_UNCLEAR),
    "429 told 2h": Trouble(Reason.THROTTLED, wait=2 * HOUR),
    "429 told 9s": Trouble(Reason.THROTTLED, wait=9 * SECOND),
    "429": Trouble(Reason.THROTTLED),
    "500": Trouble(Reason.OPERATOR_ERROR),
    "502 504": Trouble(Reason.GATEWAY_ERROR),
    "timeout": Trouble(Reason.TIMEOUT),
    "reset": Trouble(Reason.CONNECTION_LOST),
    "crash": Trouble(Reason.ATTEMPT_LOST),
    "DNS TLS refused": Trouble(Reason.NO_CONNECTION),
    "captive portal": Trouble(Reason.NOT_THE_OPERATOR),
}

# Each cell: the state (and its reason, where it is not the trouble's own), the wait, the doubts, and the alert:
# `!` is the state's own.
TABLE = """
                | untrusted                | trusted                  | doubted
422 pin         | rejected - 0 !           | rejected - 0 !           | rejected - 1 !
403 pin         | locked 1h 0 !            | locked 1h 0 !            | locked 1h 1 !
403 number      | not_enabled 1d 0 !       | not_enabled 1d 0 !       | not_enabled 1d 1 !
404 id          | unknown_number 1d 0 !    | unknown_number 1d 0 !    | unknown_number 1d 1 !
403 blacklisted | failing 4h 0 unreachable | failing 4h 0 unreachable | failing 4h 1 unreachable
another 4xx     | failing 1h 1 unreachable | failing 1h 1 unreachable | rejected:refused_twice - 1 !
429 told 2h     | failing 2h 0 unreachable | failing 2h 0 unreachable | failing 2h 1
429 told 9s     | failing 9s 0             | failing 9s 0             | failing 9s 1
429             | failing 30s 0            | failing 30s 0            | failing 1m 1
500             | failing 30s 0            | failing 30s 0            | failing 1m 1
502 504         | failing 5m 1             | failing 30s 0            | rejected:verdict_lost_twice - 1 !
timeout         | failing 5m 1             | failing 30s 0            | rejected:verdict_lost_twice - 1 !
reset           | failing 5m 1             | failing 30s 0            | rejected:verdict_lost_twice - 1 !
crash           | failing 5m 1             | failing 0s 0             | rejected:verdict_lost_twice - 1 !
DNS TLS refused | failing 30s 0            | failing 30s 0            | failing 1m 1
captive portal  | failing 30s 0            | failing 30s 0            | failing 1m 1

                | locked                   | resumed                  | 29 minutes
422 pin         | rejected - 0 !           | rejected - 0 !           | rejected - 0 !
403 pin         | locked:still_locked 2h 0 | locked 1h 0 !            | locked 1h 0 !
403 number      | not_enabled 1d 0 !       | not_enabled 1d 0 !       | not_enabled 1d 0 !
404 id          | unknown_number 1d 0 !    | unknown_number 1d 0 !    | unknown_number 1d 0 !
403 blacklisted | locked 4h 0 unreachable  | failing 4h 0 unreachable | failing 4h 0 unreachable
another 4xx     | locked 1h 1              | failing 1h 1 unreachable | failing 1h 1 unreachable
429 told 2h     | locked 2h 0              | failing 2h 0 unreachable | failing 2h 0 unreachable
429 told 9s     | locked 1h 0              | failing 9s 0             | failing 9s 0
429             | locked 1h 0              | failing 30s 0            | failing 4m 0
500             | locked 1h 0              | failing 30s 0            | failing 4m 0
502 504         | locked 1h 1              | failing 5m 1             | failing 4m 0
timeout         | locked 1h 1              | failing 5m 1             | failing 4m 0
reset           | locked 1h 1              | failing 5m 1             | failing 4m 0
crash           | locked 1h 1              | failing 5m 1             | failing 4m 0
DNS TLS refused | locked 30s 0             | failing 30s 0            | failing 4m 0
captive portal  | locked 1h 0              | failing 30s 0            | failing 4m 0

                | 31 minutes
422 pin         | rejected - 0 !
403 pin         | locked 1h 0 !
403 number      | not_enabled 1d 0 !
404 id          | unknown_number 1d 0 !
403 blacklisted | failing 4h 0 unreachable
another 4xx     | failing 1h 1 unreachable
429 told 2h     | failing 2h 0 unreachable
429 told 9s     | failing 9s 0 unreachable
429             | failing 4m 0 unreachable
500             | failing 4m 0 unreachable
502 504         | failing 4m 0 unreachable
timeout         | failing 4m 0 unreachable
reset           | failing 4m 0 unreachable
crash           | failing 4m 0 unreachable
DNS TLS refused | failing 4m 0 unreachable
captive portal  | failing 4m 0 unreachable
"""


class Expected(NamedTuple):
    state: LineState
    reason: Reason
    wait: Duration | None
    doubts: int
    alerts: list[Kind]


def expected(cell: str, own_reason: Reason) -> Expected:
    named, wait, doubts, *alerts = cell.split()
    state, _, reason = named.partition(":")
    return Expected(
        LineState(state),
        Reason(reason) if reason else own_reason,
        None if wait == "-" else duration(wait),
        int(doubts),
        [Kind(f"line.{state if alert == '!' else alert}") for alert in alerts],
    )


def cases() -> Iterator[object]:
    for block in TABLE.strip("\n").split("\n\n"):
        header, *rows = [[cell.strip() for cell in row.split("|")] for row in block.split("\n")]
        for answer, *cells in rows:
            for before, cell in zip(header[1:], cells, strict=True):
                yield pytest.param(answer, before, cell, id=f"{answer}, {before}")


@pytest.mark.parametrize(("answer", "before", "cell"), list(cases()))
def test_what_the_operators_errors_mean(answer: str, before: str, cell: str) -> None:
    decision = judged(BEFORE[before], ANSWERS[answer])
    after, wanted = decision.after, expected(cell, ANSWERS[answer].reason)
    wait = None if after.next_poll_at is None else after.next_poll_at - NOW
    found = Expected(after.state, after.reason, wait, after.doubts, [owed.kind for owed in decision.alerts])
    assert found == wanted
    assert decision.reason is after.reason


def test_the_table_is_whole() -> None:
    seen = {(case.values[0], case.values[1]) for case in cases()}  # type: ignore[attr-defined]
    assert seen == {(answer, before) for answer in ANSWERS for before in BEFORE}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("trouble", ANSWERS.values(), ids=ANSWERS)
def test_no_trouble_touches_what_is_known_of_the_mailbox(trouble: Trouble, before: Standing) -> None:
    decision = judged(before, trouble, remembered("a"))
    assert (decision.fresh, decision.seen, decision.missed, decision.left) == ((), (), (), ())
    kept = ("new", "old", "saved", "first_read_at", "last_success_at", "version", "pin_tag")
    assert [getattr(decision.after, name) for name in kept] == [getattr(before, name) for name in kept]


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("answer", [*ANSWERS.values(), mailbox("a")], ids=[*ANSWERS, "200"])
def test_every_verdict_ends_the_attempt_and_its_claim(answer: Mailbox | Trouble, before: Standing) -> None:
    asked = decide.asked(before, NOW)
    claim = decide.claimed(asked, NOW, rules(), 30 * SECOND)
    after = judged(claim.standing, answer).after
    assert (after.attempt_at, after.claimed_until, after.asked_at) == (None, None, None)


def test_a_refused_poll_is_told_apart_from_the_line_it_leaves() -> None:
    decision = judged(trusted(), Reason.TIMEOUT)
    assert decision.before == trusted()
    assert not decision.repeatable


def test_the_state_keeps_its_beginning_while_it_lasts() -> None:
    assert judged(locked(since=NOW - DAY), Reason.PIN_LOCKED).after.since == NOW - DAY
    assert judged(locked(since=NOW - DAY), mailbox()).after.since == NOW


# ---- the PIN's safety ----

T, U, L = Reason.TIMEOUT, Reason.REFUSAL_UNCLEAR, Reason.PIN_LOCKED
R, N, OK = Reason.PIN_REJECTED, Reason.NO_CONNECTION, mailbox()

SEQUENCES = [
    # start, answers that the operator has ready, attempts made, what the line comes to
    ("untrusted", [T, T, T], 2, "rejected verdict_lost_twice"),
    ("untrusted", [Reason.ATTEMPT_LOST] * 3, 2, "rejected verdict_lost_twice"),
    ("untrusted", [Reason.ATTEMPT_LOST, Reason.CONNECTION_LOST, OK], 2, "rejected verdict_lost_twice"),
    ("untrusted", [U, U, U], 2, "rejected refused_twice"),
    ("untrusted", [U, T, OK], 2, "rejected verdict_lost_twice"),
    ("untrusted", [T, U, OK], 2, "rejected refused_twice"),
    ("untrusted", [T, R, OK], 2, "rejected pin_rejected"),
    ("untrusted", [R, OK], 1, "rejected pin_rejected"),
    ("untrusted", [T, N, N, N, T, OK], 5, "rejected verdict_lost_twice"),
    ("untrusted", [N] * 50, 50, "failing no_connection"),
    ("untrusted", [T, OK, T, T, T], 5, "failing timeout"),
    ("untrusted", [U, OK, U, OK], 4, "ok read"),
    ("untrusted", [OK, R, OK], 2, "rejected pin_rejected"),
    ("trusted", [T] * 50, 50, "failing timeout"),
    ("trusted", [T] * 50 + [R, OK], 51, "rejected pin_rejected"),
    ("trusted", [U, U, OK], 2, "rejected refused_twice"),
    ("trusted", [U, N, U, OK], 3, "rejected refused_twice"),
    ("trusted", [L, T, T, OK], 3, "rejected verdict_lost_twice"),
    ("trusted", [L, L, L, L], 4, "locked still_locked"),
    ("locked", [T, OK, T, T], 4, "failing timeout"),
    ("resumed", [T, T, OK], 2, "rejected verdict_lost_twice"),
    ("resumed", [R, OK], 1, "rejected pin_rejected"),
]


@pytest.mark.parametrize(("start", "answers", "attempts", "end"), SEQUENCES)
def test_a_pin_is_never_spent(start: str, answers: list[Mailbox | Reason], attempts: int, end: str) -> None:
    story = Story(BEFORE[start]).play(answers)
    assert (story.attempts, f"{story.line.state} {story.line.reason}") == (attempts, end)


UNREAD = sorted(HIDES_VERDICT | {Reason.REFUSAL_UNCLEAR, Reason.PIN_REJECTED})
HARMLESS = [N, Reason.THROTTLED, Reason.OPERATOR_ERROR, Reason.NOT_THE_OPERATOR, Reason.BLACKLISTED]


@given(answers=st.lists(st.sampled_from(UNREAD + HARMLESS), max_size=60))
def test_a_wrong_pin_costs_two_logins_at_most_whatever_befalls_them(answers: list[Reason]) -> None:
    story = Story(standing()).play(answers)
    assert sum(answer in UNREAD for answer in answers[: story.attempts]) <= 2


@given(answers=st.lists(st.sampled_from([*HIDES_VERDICT, *HARMLESS]), max_size=60))
def test_a_trusted_pin_is_not_affected_by_lost_verdicts(answers: list[Reason]) -> None:
    story = Story(trusted()).play(answers)
    assert story.attempts == len(answers)
    assert story.line.trusted


def test_between_two_doubtful_logins_there_are_minutes() -> None:
    assert Story(standing()).play([T, T]).waits == [5 * MINUTE]
    assert Story(standing()).play([U, U]).waits == [HOUR]


@pytest.mark.parametrize("reason", [Reason.PIN_REJECTED, Reason.PIN_LOCKED])
def test_trust_ends_with_a_read_rejection(reason: Reason) -> None:
    assert not judged(trusted(), reason).after.trusted


def test_success_makes_a_pin_trusted_and_clears_every_doubt() -> None:
    after = judged(BEFORE["doubted"], mailbox("a")).after
    assert (after.trusted, after.doubts, after.failures, after.failing_since) == (True, 0, 0, None)


# ---- how long a line waits ----


def test_a_locked_line_waits_twice_as_long_each_time_up_to_a_day() -> None:
    story = Story(trusted()).play([L] * 7)
    assert [wait // HOUR for wait in story.waits] == [1, 2, 4, 8, 16, 24, 24]


@pytest.mark.parametrize(
    "reason", [T, Reason.OPERATOR_ERROR, Reason.THROTTLED, Reason.BLACKLISTED, Reason.NOT_THE_OPERATOR]
)
def test_other_trouble_never_shortens_a_lock_outs_wait(reason: Reason) -> None:
    story = Story(locked(failures=5)).play([reason])
    assert story.waits == [16 * HOUR]
    assert story.play([L]).waits[-1] == DAY


@pytest.mark.parametrize(("before", "until"), [(locked(failures=3), NOW + 4 * HOUR), (standing(failures=3), None)])
def test_a_lock_out_lasts_though_its_line_waits_for_a_person(before: Standing, until: int | None) -> None:
    line = judged(replace(before, doubts=1), T).after
    assert (line.state, line.locked_until) == (LineState.REJECTED, until)


def test_a_locked_line_that_could_not_reach_the_operator_may_ask_soon_and_keeps_its_place() -> None:
    story = Story(locked(failures=3)).play([N, N, L])
    assert story.waits == [30 * SECOND, 30 * SECOND, 8 * HOUR]


def test_trouble_backs_off_to_its_cap() -> None:
    story = Story(trusted()).play([T] * 8)
    assert [wait // SECOND for wait in story.waits] == [30, 60, 120, 240, 480, 900, 900, 900]


def test_a_crash_alone_is_no_reason_for_a_trusted_line_to_wait_but_a_crash_loop_is() -> None:
    story = Story(trusted()).play([Reason.ATTEMPT_LOST] * 4)
    assert story.waits == [0, 60 * SECOND, 120 * SECOND, 240 * SECOND]


@pytest.mark.parametrize(
    ("told", "wait"), [(0, 15 * MINUTE), (SECOND, SECOND), (3 * HOUR, 3 * HOUR), (DAY, DAY), (30 * DAY, DAY)]
)
def test_a_retry_after_is_obeyed_within_a_day(told: int, wait: int) -> None:
    trouble = Trouble(Reason.THROTTLED, wait=told)
    assert Story(failing(failures=9)).play([trouble]).waits == [wait]


def test_after_a_good_read_a_line_is_due_on_its_own_place_in_the_interval() -> None:
    story = Story(trusted()).play([OK, OK, OK])
    assert story.waits[1:] == [INTERVAL, INTERVAL]


def test_jitter_lengthens_every_back_off() -> None:
    for before, trouble in ((trusted(), T), (standing(), T), (standing(), U), (standing(), L)):
        plain = decide.after_poll(before, OperatorStanding(), Trouble(trouble), {}, Moment(NOW), rules()).after
        spread = decide.after_poll(before, OperatorStanding(), Trouble(trouble), {}, Moment(NOW, -1.0), rules()).after
        assert (spread.next_poll_at or 0) - NOW == pytest.approx(((plain.next_poll_at or 0) - NOW) * 1.1, abs=1)


def test_the_configured_back_offs_are_used() -> None:
    own = rules(error_backoff={"initial": "1s", "max": "2s"}, lockout_backoff={"initial": "3s", "max": "5s"})
    assert Story(trusted(), by=own).play([T] * 3).waits == [1000, 2000, 2000]
    assert Story(trusted(), by=own).play([L] * 3).waits == [3000, 5000, 5000]


# ---- alerts: once when it begins, once when it is over ----

GONE, BACK = Kind.LINE_UNREACHABLE, Kind.LINE_RECOVERED

EPISODES = [
    ("trusted", [T] * 3 + [OK], []),
    ("trusted", [T] * 40 + [OK] * 3, [GONE, BACK]),
    ("trusted", ([T] * 40 + [OK]) * 2, [GONE, BACK] * 2),
    ("trusted", [L] * 5 + [OK] * 2, [Kind.LINE_LOCKED, BACK]),
    ("trusted", [L, T, L, N, L, OK], [Kind.LINE_LOCKED, BACK]),
    ("trusted", [Reason.NOT_ENABLED] * 5 + [OK], [Kind.LINE_NOT_ENABLED, BACK]),
    ("trusted", [Reason.NOT_ENABLED, N, Reason.NOT_ENABLED, OK], [Kind.LINE_NOT_ENABLED, BACK]),
    ("trusted", [Reason.UNKNOWN_NUMBER] * 5 + [OK], [Kind.LINE_UNKNOWN_NUMBER, BACK]),
    ("trusted", [L, Reason.NOT_ENABLED, L, OK], [Kind.LINE_LOCKED, Kind.LINE_NOT_ENABLED, Kind.LINE_LOCKED, BACK]),
    ("trusted", [T] * 40 + [R], [GONE, Kind.LINE_REJECTED]),
    ("trusted", [U, U], [GONE, Kind.LINE_REJECTED]),
    ("trusted", [U, OK], [GONE, BACK]),
    ("resumed", [OK, OK], [BACK]),
    ("resumed", [R], [Kind.LINE_REJECTED]),
    ("resumed", [N, R], [Kind.LINE_REJECTED]),
    ("resumed", [T, T], [Kind.LINE_REJECTED]),
    ("resumed", [Reason.ATTEMPT_LOST, R], [Kind.LINE_REJECTED]),
    ("resumed", [N] * 40 + [OK], [GONE, BACK]),
]


@pytest.mark.parametrize(("start", "answers", "alerts"), EPISODES)
def test_an_episode_is_told_once_and_its_end_once(
    start: str, answers: list[Mailbox | Reason], alerts: list[Kind]
) -> None:
    assert Story(BEFORE[start]).play(answers).alerts == alerts


def test_a_person_is_told_after_every_resume_that_fails() -> None:
    story = Story(standing()).play([R])
    for _ in range(3):
        story.line = decide.resumed(story.line, story.now)
        story.play([R, R])
    assert story.alerts == [Kind.LINE_REJECTED] * 4


def test_transient_trouble_is_told_when_it_has_lasted_as_configured() -> None:
    assert Story(trusted(), by=rules(unreachable_after="0s")).play([T, T, OK]).alerts == [GONE, BACK]
    assert Story(trusted(), by=rules(unreachable_after="2d")).play([T] * 40 + [OK]).alerts == []


def test_an_alert_about_a_line_has_its_facts() -> None:
    (owed,) = judged(failing(failing_since=NOW - HOUR), Trouble(T, "no whole answer in time")).alerts
    assert (owed.subject, owed.number, owed.reason) == ("Home", "+4571919998", T)
    assert (owed.since, owed.detail) == (NOW - HOUR, "no whole answer in time")
    assert owed.next_poll_at == NOW + MINUTE


def test_a_recovery_tells_what_it_was_and_since_when() -> None:
    lost_on_the_way = locked(since=NOW - DAY, reason=T, failing_since=NOW - HOUR)
    (owed,) = judged(lost_on_the_way, mailbox()).alerts
    assert (owed.kind, owed.reason, owed.since) == (BACK, T, NOW - DAY)
    (owed,) = judged(failing(failing_since=NOW - HOUR, alerted=GONE), mailbox()).alerts
    assert owed.since == NOW - HOUR


def test_an_alert_goes_to_the_lines_channels_that_want_its_kind() -> None:
    picky = PHONE.__class__("picky", ("line.locked",))
    mute = PHONE.__class__("mute", ("voicemail", "channel"))
    for_three = rules((PHONE, picky, mute))
    assert judged(trusted(), L, by=for_three).alerts[0].channels == ("phone", "picky")
    assert judged(trusted(), R, by=for_three).alerts[0].channels == ("phone",)
    assert judged(trusted(), R, by=rules(())).alerts[0].channels == ()


# ---- the operator blocks this machine's address ----

BLOCKED = OperatorStanding(blocked_until=NOW + HOUR, blocked_since=NOW - HOUR, failures=1)
HALF_OPEN = OperatorStanding(blocked_until=NOW, blocked_since=NOW - 4 * HOUR, failures=1, version=3)


def kinds(decision: Decision) -> list[Kind]:
    return [owed.kind for owed in decision.alerts]


def test_however_many_lines_meet_a_block_it_is_told_once() -> None:
    first = judged(trusted(), Reason.BLACKLISTED)
    assert first.operator is not None
    second = judged(trusted(number="+4571919997"), Reason.BLACKLISTED, operator=first.operator)
    assert (kinds(first), kinds(second)) == ([GONE], [])
    assert second.operator is None
    assert second.after.next_poll_at == first.operator.blocked_until == NOW + 4 * HOUR


def test_a_block_that_goes_on_is_waited_for_longer_and_not_told_again() -> None:
    story = Story(trusted()).play([Reason.BLACKLISTED] * 5)
    assert [wait // HOUR for wait in story.waits] == [4, 8, 16, 24, 24]
    assert story.alerts == [GONE]
    assert story.operator.blocked_since == NOW


def test_the_blocks_alert_goes_to_every_channel_for_it_concerns_every_line() -> None:
    (owed,) = judged(trusted(), Reason.BLACKLISTED, by=rules(())).alerts
    assert owed.channels == ("phone", "mail")
    assert (owed.subject, owed.number, owed.reason) == ("", None, Reason.BLACKLISTED)


@pytest.mark.parametrize("answer", [OK, R, L, Reason.NOT_ENABLED, Reason.UNKNOWN_NUMBER], ids=str)
def test_the_first_answer_about_a_line_lifts_the_block(answer: Mailbox | Reason) -> None:
    decision = judged(trusted(), answer, operator=HALF_OPEN)
    assert decision.operator == OperatorStanding(version=3)
    lifted = decision.alerts[-1]
    assert (lifted.kind, lifted.reason, lifted.since) == (BACK, Reason.BLACKLISTED, NOW - 4 * HOUR)


@pytest.mark.parametrize("reason", [T, N, U, Reason.GATEWAY_ERROR, Reason.OPERATOR_ERROR, Reason.NOT_THE_OPERATOR])
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_trouble_lifts_no_block(before: Standing, reason: Reason) -> None:
    decision = judged(before, reason, operator=HALF_OPEN)
    assert decision.operator is None
    assert BACK not in kinds(decision)


def test_an_answer_that_was_under_way_when_the_block_came_does_not_lift_it() -> None:
    assert judged(trusted(), mailbox(), operator=BLOCKED).operator is None


def test_a_block_is_lifted_once() -> None:
    story = Story(trusted()).play([Reason.BLACKLISTED, OK, OK])
    assert story.alerts == [GONE, BACK]
