"""A line between polls: as configured, claimed, asked for, paused, resumed and shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from values import NOW, NUMBER, OTHER, failing, judged, locked, mailbox, rejected, rules, standing, trusted

from vmwatch import decide
from vmwatch.decide.rules import TOGETHER
from vmwatch.models import (
    DAY,
    FOREVER,
    HOUR,
    MINUTE,
    SECOND,
    Duration,
    Instant,
    Kind,
    LineState,
    OperatorStanding,
    Reason,
    Standing,
)
from vmwatch.settings import BRISK, Line, Settings

LATER = NOW + 10 * HOUR
OPEN = OperatorStanding()
BLOCKED = OperatorStanding(blocked_until=LATER, blocked_since=NOW - HOUR, failures=1)
NOT_ENABLED = standing(state=LineState.NOT_ENABLED, reason=Reason.NOT_ENABLED, next_poll_at=LATER)
DOUBTED = failing(reason=Reason.REFUSAL_UNCLEAR, doubts=1, next_poll_at=LATER)
THROTTLED = failing(reason=Reason.THROTTLED, next_poll_at=LATER)


def renewed(pin_tag: int = 8, **changes: object) -> Standing:
    return replace(standing(pin_tag=pin_tag), **changes)  # type: ignore[arg-type]


def configured(before: Standing | None, wanted: Standing, interval: int = MINUTE) -> Standing:
    return decide.configured(before, wanted, NOW, interval)


# ---- the configuration ----


def test_the_configured_lines_stand_as_never_read_and_due_now() -> None:
    settings = Settings.model_validate(
        {
            "lines": {
                "home": {"number": NUMBER, "pin": "0123", "label": "Home sweet home"},
                "work": {"number": OTHER, "pin": "0123", "enabled": False},
            },
            "channels": {"phone": {"url": "json://127.0.0.1"}},
        }
    )
    home, work = decide.wanted(settings, bytes(16), NOW)
    assert (home.number, home.name, home.label, home.enabled) == (NUMBER, "home", "Home sweet home", True)
    assert (home.state, home.reason, home.next_poll_at) == (LineState.WAITING, Reason.NOT_READ_YET, NOW)
    assert (work.label, work.enabled) == ("work", False)
    assert "0123" not in repr((home, work))


OF_ITS_OWN = {
    "number": OTHER,
    "pin": "4321",
    "label": "Office",
    "channels": ["mail"],
    "interval": "5m",
    "enabled": False,
    "remind": ["30m"],
    "escalate": [{"after": "1h", "channels": ["mail"]}],
}
"""Something else for every key that a line has."""


@pytest.mark.parametrize("key", Line.model_fields)
def test_a_line_shares_no_rules_with_one_that_has_others(key: str) -> None:
    urls = {"phone": "json://127.0.0.1/phone", "mail": "json://127.0.0.1/mail"}
    home: dict[str, object] = {"number": NUMBER, "pin": "0123"}
    lines = {"home": home, "twin": home, "other": home | {key: OF_ITS_OWN[key]}}
    settings = Settings.model_validate({"lines": lines, "channels": {name: {"url": url} for name, url in urls.items()}})
    found = decide.rules_by_line(settings)
    assert found == {name: decide.rules_of(settings, name) for name in lines}
    assert found["home"] is found["twin"]


def due(count: int, interval: Duration = MINUTE, first: int = 0) -> list[Instant]:
    """When each of so many lines is due again that were read at the same time."""
    lines = {f"line{place}": {"number": f"+457191{first + place:04}", "pin": "0123"} for place in range(count)}
    tables = {"channels": {"phone": {"url": "json://127.0.0.1"}}, "polling": {"interval": interval / SECOND}}
    settings = Settings.model_validate({"lines": lines, **tables})
    found = decide.rules_by_line(settings)
    return [found[name].grid.following(line.number, NOW) for name, line in settings.lines.items()]


@pytest.mark.parametrize(
    ("count", "places"), [(1, 1), (5, 1), (TOGETHER, 1), (TOGETHER + 1, 2), (2 * TOGETHER, 2), (2 * TOGETHER + 1, 3)]
)
def test_a_few_lines_are_polled_at_one_go(count: int, places: int) -> None:
    assert len(set(due(count))) == places


def test_lines_that_are_polled_often_have_places_of_their_own() -> None:
    assert len(set(due(5, BRISK))) == 1
    assert len(set(due(5, BRISK - 1))) == 5


def test_other_people_with_a_few_lines_poll_them_at_other_times() -> None:
    assert len({due(5, first=first)[0] for first in range(50)}) == 50


def test_many_lines_are_spread_over_their_interval_and_neighbours_come_together() -> None:
    found = due(1000)
    assert max(Counter(found).values()) == TOGETHER
    assert all(len(set(found[at : at + TOGETHER])) == 1 for at in range(0, 1000, TOGETHER))
    assert len({at // SECOND for at in found}) >= 50


def test_a_line_never_seen_is_as_it_is_wanted() -> None:
    assert configured(None, standing()) == standing()


@pytest.mark.parametrize("before", [standing(), trusted(), locked(), rejected(), DOUBTED, NOT_ENABLED], ids=str)
def test_the_same_configuration_changes_nothing(before: Standing) -> None:
    assert configured(before, standing()) == before


def test_a_renamed_line_keeps_all_that_is_known_of_its_number() -> None:
    after = configured(rejected(configured=False), standing(name="flat", label="Flat", enabled=False))
    assert after == rejected(name="flat", label="Flat", enabled=False)


def test_a_shortened_interval_takes_effect_at_once_and_a_longer_one_with_the_next_poll() -> None:
    assert configured(trusted(next_poll_at=LATER), standing(), MINUTE).next_poll_at == NOW + MINUTE
    assert configured(trusted(next_poll_at=NOW + MINUTE), standing(), HOUR).next_poll_at == NOW + MINUTE


@pytest.mark.parametrize("before", [locked(next_poll_at=LATER), NOT_ENABLED, DOUBTED, THROTTLED], ids=str)
def test_a_shortened_interval_shortens_no_back_off(before: Standing) -> None:
    assert configured(before, standing(), SECOND).next_poll_at == LATER


CHANGED_PIN = [
    # before, then the state, the reason, and when it is polled
    ("waiting", standing(next_poll_at=LATER), "waiting not_read_yet", LATER),
    ("trusted", trusted(next_poll_at=NOW + 1), "ok read", NOW + 1),
    ("failing", failing(next_poll_at=LATER), "failing timeout", LATER),
    ("doubted", DOUBTED, "failing refusal_unclear", NOW),
    ("throttled", THROTTLED, "failing throttled", LATER),
    ("locked", locked(next_poll_at=LATER), "locked pin_locked", LATER),
    ("locked and doubted", locked(next_poll_at=LATER, doubts=1), "locked pin_locked", LATER),
    ("not enabled", NOT_ENABLED, "not_enabled not_enabled", LATER),
    ("rejected", rejected(), "waiting pin_changed", NOW),
    ("refused twice", rejected(reason=Reason.REFUSED_TWICE, doubts=2), "waiting pin_changed", NOW),
    ("refused twice while locked", rejected(doubts=2, locked_until=LATER), "waiting pin_changed", LATER),
    ("refused twice, locked long ago", rejected(doubts=2, locked_until=NOW - HOUR), "waiting pin_changed", NOW),
]


@pytest.mark.parametrize(
    ("before", "end", "next_poll_at"), [case[1:] for case in CHANGED_PIN], ids=[case[0] for case in CHANGED_PIN]
)
def test_a_changed_pin_is_untrusted_and_has_one_try_of_its_own(before: Standing, end: str, next_poll_at: int) -> None:
    after = configured(before, renewed())
    assert (f"{after.state} {after.reason}", after.next_poll_at) == (end, next_poll_at)
    assert (after.pin_tag, after.trusted, after.doubts) == (8, False, 0)


@pytest.mark.parametrize(
    ("before", "spent"),
    [
        (rejected(), "7"),
        (rejected(spent_tags="3"), "3 7"),
        (DOUBTED, "7"),
        (standing(attempt_at=NOW), "7"),
        (trusted(attempt_at=NOW), ""),
        (standing(), ""),
        (locked(), ""),
        (trusted(), ""),
    ],
    ids=str,
)
def test_a_pin_that_had_its_tries_is_remembered_when_another_takes_its_place(before: Standing, spent: str) -> None:
    assert configured(before, renewed()).spent_tags == spent


@pytest.mark.parametrize("before", [rejected(), trusted(), standing(), failing(doubts=1), locked(next_poll_at=LATER)])
def test_a_pin_that_had_its_tries_and_comes_back_waits_for_a_person(before: Standing) -> None:
    after = configured(replace(before, spent_tags="3 8"), renewed())
    assert (after.state, after.reason, after.next_poll_at) == (LineState.REJECTED, Reason.PIN_REJECTED, None)
    assert (after.pin_tag, after.trusted) == (8, False)
    assert after.locked_until == (LATER if before.state is LineState.LOCKED else None)
    again = decide.resumed(after, NOW)
    assert (again.state, again.next_poll_at) == (LineState.WAITING, NOW)
    assert judged(again, mailbox()).after.spent_tags == (
        "3 7" if before.state is LineState.REJECTED or before.doubts else "3"
    )


def test_people_hear_of_a_line_that_is_no_longer_watched_for_its_pin_s_sake() -> None:
    before = trusted(spent_tags="8")
    after = configured(before, renewed())
    (alert,) = decide.stopped(before, after, rules())
    assert (alert.kind, alert.reason, alert.channels) == (Kind.LINE_REJECTED, Reason.PIN_REJECTED, ("phone", "mail"))
    assert after.alerted is Kind.LINE_REJECTED
    assert decide.stopped(after, configured(after, renewed(7)), rules()) == (), "that was told"
    assert decide.stopped(None, standing(), rules()) == decide.stopped(trusted(), trusted(), rules()) == ()


@pytest.mark.parametrize("before", [trusted(), standing(), DOUBTED, locked(next_poll_at=LATER)], ids=str)
def test_another_pin_waits_while_a_process_lives_that_has_the_known_one(before: Standing) -> None:
    after = decide.configured(before, renewed(label="New"), NOW, MINUTE, held=True)
    assert after == replace(before, label="New", next_poll_at=after.next_poll_at)


def test_a_process_that_has_a_refused_pin_holds_back_none() -> None:
    assert decide.configured(rejected(), renewed(), NOW, MINUTE, held=True) == configured(rejected(), renewed())


def test_a_pin_changed_under_an_attempt_does_not_answer_for_the_old_ones_verdict() -> None:
    claim = decide.claimed(trusted(), NOW, rules(), 30 * SECOND).standing
    after = configured(claim, renewed())
    assert after.attempt_at is None
    assert after.claimed_until == claim.claimed_until
    assert decide.released(after).claimed_until is None


def test_people_hear_that_a_changed_pin_works_and_that_it_does_not() -> None:
    changed = configured(rejected(), renewed())
    assert [owed.kind for owed in judged(changed, Reason.PIN_REJECTED).alerts] == [Kind.LINE_REJECTED]
    assert changed.alerted is Kind.LINE_REJECTED


# ---- claims ----


@pytest.mark.parametrize(
    "before",
    [standing(), failing(), locked(), DOUBTED, NOT_ENABLED, trusted(trusted=False), trusted(doubts=1)],
    ids=str,
)
def test_an_unsettled_lines_claim_is_due_again_when_it_ends(before: Standing) -> None:
    after = decide.claimed(before, NOW, rules(), 30 * SECOND).standing
    assert (after.attempt_at, after.last_poll_at) == (NOW, NOW)
    assert after.claimed_until == after.next_poll_at == NOW + 30 * SECOND
    assert (after.state, after.doubts, after.version) == (before.state, before.doubts, before.version + 1)


def test_a_settled_lines_claim_is_followed_by_its_next_place_in_the_interval() -> None:
    after = decide.claimed(trusted(), NOW, rules(interval=HOUR), 30 * SECOND).standing
    assert after.claimed_until == NOW + 30 * SECOND
    assert after.next_poll_at == decide.claimed(after, NOW, rules(interval=HOUR), 0).next_poll_at
    assert NOW + 30 * SECOND < (after.next_poll_at or 0) <= NOW + HOUR * 1.1


# ---- a person's words ----


@pytest.mark.parametrize(
    ("before", "operator", "reason"),
    [
        (standing(), OPEN, None),
        (trusted(next_poll_at=LATER), OPEN, None),
        (failing(next_poll_at=LATER), OPEN, None),
        (NOT_ENABLED, OPEN, None),
        (standing(enabled=False), OPEN, Reason.DISABLED),
        (standing(paused_until=LATER), OPEN, Reason.PAUSED),
        (standing(paused_until=NOW), OPEN, None),
        (rejected(), OPEN, Reason.PIN_REJECTED),
        (rejected(reason=Reason.VERDICT_LOST_TWICE), OPEN, Reason.VERDICT_LOST_TWICE),
        (locked(next_poll_at=LATER), OPEN, Reason.PIN_LOCKED),
        (locked(next_poll_at=NOW), OPEN, None),
        (DOUBTED, OPEN, Reason.REFUSAL_UNCLEAR),
        (replace(DOUBTED, next_poll_at=NOW), OPEN, None),
        (THROTTLED, OPEN, Reason.THROTTLED),
        (standing(reason=Reason.PIN_CHANGED, next_poll_at=LATER, locked_until=LATER), OPEN, Reason.PIN_CHANGED),
        (standing(next_poll_at=LATER, locked_until=NOW), OPEN, None),
        (trusted(), BLOCKED, Reason.BLACKLISTED),
        (trusted(), OperatorStanding(blocked_until=NOW, failures=1), None),
        (rejected(), BLOCKED, Reason.PIN_REJECTED),
    ],
)
def test_poll_now_is_followed_unless_it_could_do_harm(
    before: Standing, operator: OperatorStanding, reason: Reason | None
) -> None:
    assert decide.obstacle(before, operator, NOW) is reason


def test_poll_now_makes_a_line_due_and_is_remembered() -> None:
    after = decide.asked(trusted(next_poll_at=LATER), NOW)
    assert (after.next_poll_at, after.asked_at) == (NOW, NOW)


RESUMED = [
    ("waiting", standing(next_poll_at=LATER), "waiting not_read_yet", True),
    ("ok", trusted(next_poll_at=LATER), "ok read", True),
    ("failing", failing(next_poll_at=LATER), "failing timeout", True),
    ("doubted", DOUBTED, "failing refusal_unclear", True),
    ("locked", locked(next_poll_at=LATER), "locked pin_locked", True),
    ("not enabled", NOT_ENABLED, "not_enabled not_enabled", True),
    ("rejected", rejected(doubts=2), "waiting resumed", True),
    ("refused twice while locked", rejected(doubts=2, locked_until=LATER), "waiting resumed", True),
]


@pytest.mark.parametrize("pause", [None, LATER, FOREVER])
@pytest.mark.parametrize(("before", "end"), [case[1:3] for case in RESUMED], ids=[case[0] for case in RESUMED])
def test_resume_ends_a_pause_and_allows_one_try_now(before: Standing, end: str, pause: int | None) -> None:
    resting = before if pause is None else decide.paused(before, pause, NOW - 1)
    after = decide.resumed(resting, NOW)
    assert (f"{after.state} {after.reason}", after.next_poll_at, after.doubts) == (end, NOW, 0)
    assert (after.paused_until, after.paused_at) == (None, None)
    assert decide.obstacle(after, OPEN, NOW) is None


@pytest.mark.parametrize(
    ("claimed_until", "attempt_at"), [(NOW + 1, NOW - 1), (NOW, None), (None, None)], ids=["alive", "over", "dead"]
)
def test_resume_forgives_an_attempt_that_nobody_will_tell_the_end_of(
    claimed_until: int | None, attempt_at: int | None
) -> None:
    after = decide.resumed(standing(attempt_at=NOW - 1, claimed_until=claimed_until), NOW)
    assert after.attempt_at == attempt_at


def test_a_resumed_lock_out_goes_on_where_it_was() -> None:
    after = judged(decide.resumed(locked(failures=3, next_poll_at=LATER), NOW), Reason.PIN_LOCKED).after
    assert after.next_poll_at == NOW + 8 * HOUR


@pytest.mark.parametrize("before", [standing(), trusted(), locked(), rejected(), DOUBTED], ids=str)
def test_a_pause_lies_over_the_state_beneath(before: Standing) -> None:
    after = decide.paused(before, LATER, NOW)
    assert after == replace(before, paused_until=LATER, paused_at=NOW)


def test_a_pause_has_an_end() -> None:
    after = decide.shown(decide.paused(trusted(), LATER, NOW), OPEN, LATER)
    assert after.state is LineState.OK


# ---- as people see it ----

SHOWN = [
    ("as it is", trusted(next_poll_at=LATER), OPEN, "ok read", NOW - HOUR, LATER),
    ("paused", replace(trusted(), paused_until=LATER, paused_at=NOW), OPEN, "paused paused", NOW, LATER),
    ("paused for good", replace(locked(), paused_until=FOREVER, paused_at=NOW), OPEN, "paused paused", NOW, None),
    ("disabled", rejected(enabled=False), OPEN, "paused disabled", NOW - HOUR, None),
    ("blocked", trusted(since=NOW - DAY), BLOCKED, "failing blacklisted", NOW - HOUR, LATER),
    ("blocked, waiting", standing(since=NOW - DAY), BLOCKED, "failing blacklisted", NOW - HOUR, LATER),
    ("blocked, locked", locked(), BLOCKED, "locked pin_locked", NOW - HOUR, NOW),
    ("blocked, rejected", rejected(), BLOCKED, "rejected pin_rejected", NOW - HOUR, None),
    ("blocked and paused", replace(trusted(), paused_until=FOREVER, paused_at=7), BLOCKED, "paused paused", 7, None),
    ("blocked no more", trusted(), replace(BLOCKED, blocked_until=NOW), "ok read", NOW - HOUR, NOW),
]


@pytest.mark.parametrize(
    ("before", "operator", "end", "since", "next_poll_at"),
    [case[1:] for case in SHOWN],
    ids=[case[0] for case in SHOWN],
)
def test_what_lies_over_a_lines_own_state_is_shown(
    before: Standing, operator: OperatorStanding, end: str, since: int, next_poll_at: int | None
) -> None:
    seen = decide.shown(before, operator, NOW)
    assert (f"{seen.state} {seen.reason}", seen.since, seen.next_poll_at) == (end, since, next_poll_at)
