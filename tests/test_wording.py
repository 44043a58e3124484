from __future__ import annotations

from datetime import UTC, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.models import FOREVER, HOUR, Alert, Kind, Reason, Voicemail
from vmwatch.wording import LONGEST, REASONS, REPEAT, length, moment, number, one_line, text

COPENHAGEN = ZoneInfo("Europe/Copenhagen")
NEW_YEAR = 1_704_067_200_000
DUCK = Voicemail("1", caller="+4599778822", caller_name="Donald Duck", received_at=NEW_YEAR, length=37)


def new(voicemail: Voicemail) -> Alert:
    return Alert(Kind.VOICEMAIL_NEW, ("phone",), "Home", "+4571919998", (voicemail.id,), (voicemail,), 1)


def summary(count: int, *voicemails: Voicemail, reason: Reason | None = None) -> Alert:
    return Alert(Kind.VOICEMAIL_SUMMARY, (), "Home", "+4571919998", (), voicemails, count, reason)


def trouble(kind: Kind, reason: Reason | None, **facts: object) -> Alert:
    return Alert(kind, (), "Home", "+4571919998", reason=reason, since=NEW_YEAR, **facts)  # type: ignore[arg-type]


def test_a_voicemail_says_who_called_which_line_how_long_and_when() -> None:
    found = text(new(DUCK), COPENHAGEN)
    assert found.title == "Voicemail from Donald Duck"
    assert found.body.splitlines() == [
        "From: Donald Duck, +45 99 77 88 22",
        "Line: Home",
        "Length: 0:37",
        "Received: Mon 1 Jan 2024 01:00 CET",
        "Call back: +4599778822",
    ]


@pytest.mark.parametrize(
    ("voicemail", "title", "body"),
    [
        (Voicemail("1"), "a withheld number", "From: a withheld number\nLine: Home"),
        (
            Voicemail("1", caller="+4599778822"),
            "+45 99 77 88 22",
            "From: +45 99 77 88 22\nLine: Home\nCall back: +4599778822",
        ),
        (Voicemail("1", caller_name="Donald"), "Donald", "From: Donald, number withheld\nLine: Home"),
        (Voicemail("1", caller="12"), "12", "From: 12\nLine: Home"),
        (Voicemail("1", caller="+4599778822", caller_name="+4599778822"), "+45 99 77 88 22", None),
        (Voicemail("1", caller_name=" \n\t "), "a withheld number", None),
        (Voicemail("1", length=0, received_at=0), "a withheld number", None),
    ],
)
def test_what_is_not_known_of_a_voicemail_is_left_out(voicemail: Voicemail, title: str, body: str | None) -> None:
    found = text(new(voicemail), UTC)
    assert found.title == f"Voicemail from {title}"
    assert body is None or found.body == body


def test_an_empty_length_and_the_first_instant_are_known_facts() -> None:
    assert (
        "Length: 0:00\nReceived: Thu 1 Jan 1970 00:00 UTC"
        in text(new(Voicemail("1", length=0, received_at=0)), UTC).body
    )


def test_an_alert_without_its_voicemail_still_reads_well() -> None:
    found = text(Alert(Kind.VOICEMAIL_NEW, (), messages=("1",)), UTC)
    assert (found.title, found.body) == (
        "Voicemail from a withheld number",
        "From: a withheld number\nLine: your line",
    )


@pytest.mark.parametrize(
    ("count", "reason", "title"),
    [
        (12, None, "12 new voicemails on Home"),
        (12, Reason.FIRST_SIGHT, "12 voicemails waiting on Home"),
        (1, Reason.FIRST_SIGHT, "1 voicemail waiting on Home"),
        (1, Reason.NEW_MESSAGES, "1 new voicemail on Home"),
    ],
)
def test_a_summary_counts_and_says_whether_they_are_new(count: int, reason: Reason | None, title: str) -> None:
    assert text(summary(count, reason=reason), UTC).title == title


def test_a_summary_shows_the_newest_first_and_counts_the_rest() -> None:
    later = Voicemail("0", caller="+4520304050", received_at=NEW_YEAR + HOUR)
    undated = Voicemail("9", caller_name="Nobody")
    assert text(summary(5, DUCK, undated, later), COPENHAGEN).body.splitlines() == [
        "+45 20 30 40 50, Mon 1 Jan 2024 02:00 CET",
        "Donald Duck, +45 99 77 88 22, 0:37, Mon 1 Jan 2024 01:00 CET",
        "Nobody, number withheld",
        "and 2 more",
    ]


def test_a_summary_that_shows_all_counts_no_rest() -> None:
    assert "more" not in text(summary(1, DUCK), UTC).body


@pytest.mark.parametrize(
    ("kind", "reason", "happened", "cure"),
    [
        (Kind.LINE_REJECTED, Reason.PIN_REJECTED, "The operator rejected the PIN.", "Correct the PIN"),
        (Kind.LINE_REJECTED, Reason.REFUSED_TWICE, "The operator refused twice", "Check that the PIN"),
        (Kind.LINE_REJECTED, Reason.VERDICT_LOST_TWICE, "The operator's answer was lost twice.", "Check that the PIN"),
        (Kind.LINE_LOCKED, Reason.PIN_LOCKED, "The operator locked the login", "ask the operator to unlock"),
        (Kind.LINE_NOT_ENABLED, Reason.NOT_ENABLED, "Voicemail is not enabled", "Ask your reseller"),
        (Kind.LINE_UNKNOWN_NUMBER, Reason.UNKNOWN_NUMBER, "The operator does not know this", "Check the number"),
    ],
)
def test_a_line_s_trouble_says_what_happened_and_the_very_command(
    kind: Kind, reason: Reason, happened: str, cure: str
) -> None:
    found = text(trouble(kind, reason), COPENHAGEN)
    assert found.title.startswith("Home: ")
    assert happened in found.body
    assert "Since: Mon 1 Jan 2024 01:00 CET" in found.body
    assert cure in found.body
    assert found.body.endswith("vmwatch resume +4571919998")


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.OPERATOR_ERROR, Reason.NOT_THE_OPERATOR])
def test_an_unreachable_line_says_why_and_when_it_is_tried_again(reason: Reason) -> None:
    alert = trouble(Kind.LINE_UNREACHABLE, reason, detail="HTTP 502", next_poll_at=NEW_YEAR + HOUR)
    body = text(alert, COPENHAGEN).body
    assert f"{REASONS[reason][1:]} (HTTP 502)." in body
    assert "Next try: Mon 1 Jan 2024 02:00 CET." in body
    assert "vmwatch status" in body


def test_a_line_that_is_not_read_is_vmwatch_s_own_fault() -> None:
    alert = Alert(Kind.LINE_STALE, (), "Home", number="+4571919998", since=NEW_YEAR)
    found = text(alert, COPENHAGEN)
    assert found.title == "Home: vmwatch does not read voicemail, though nothing is wrong with the line"
    assert found.body.splitlines() == [
        "It was last read Mon 1 Jan 2024 01:00 CET. It should have been read three times since.",
        "Line: Home, +45 71 91 99 98",
        "This is vmwatch's own fault. Start it again, as with: systemctl restart vmwatch",
        "This shows how the lines stand: vmwatch status",
    ]


@pytest.mark.parametrize("kind", [Kind.LINE_LOCKED, Kind.LINE_UNREACHABLE])
def test_a_blocked_address_concerns_every_line(kind: Kind) -> None:
    found = text(Alert(kind, (), reason=Reason.BLACKLISTED, next_poll_at=NEW_YEAR), UTC)
    assert found.title == "Voicemail is not being watched: this machine's address is blocked"
    assert "every line" in found.body
    assert "resume" not in found.body


def test_a_recovery_says_since_when_there_was_trouble() -> None:
    found = text(trouble(Kind.LINE_RECOVERED, Reason.NOTHING_NEW), COPENHAGEN)
    assert found.title == "Home: voicemail is watched again"
    assert "since Mon 1 Jan 2024 01:00 CET" in found.body
    assert text(Alert(Kind.LINE_RECOVERED, ()), UTC).title == "Voicemail is being watched again"


def test_a_failing_channel_is_named_with_its_last_error_and_the_commands() -> None:
    found = text(Alert(Kind.CHANNEL_FAILING, (), "phone", detail="HTTP 404", since=NEW_YEAR), COPENHAGEN)
    assert found.title == "Channel phone: alerts do not get through"
    assert "Since Mon 1 Jan 2024 01:00 CET no alert" in found.body
    assert "Last error: HTTP 404." in found.body
    assert found.body.endswith("vmwatch test phone")


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("reason", [None, *Reason])
def test_every_kind_has_words_however_little_is_known(kind: Kind, reason: Reason | None) -> None:
    found = text(Alert(kind, (), reason=reason), UTC)
    assert found.title
    assert "\n" not in found.title
    assert found.body
    assert "None" not in found.title + found.body


def test_every_reason_has_plain_words_that_fit_into_a_sentence() -> None:
    assert set(REASONS) == set(Reason)
    assert all(words and not words.endswith(".") and "_" not in words for words in REASONS.values())


def test_a_possible_repeat_says_so_on_its_last_line() -> None:
    assert text(new(DUCK), UTC, maybe_repeat=True).body.splitlines()[-1] == REPEAT
    assert REPEAT not in text(new(DUCK), UTC).body


@pytest.mark.parametrize(
    ("given_", "shown"),
    [
        ("+4599778822", "+45 99 77 88 22"),
        ("+12025550143", "+1 202-555-0143"),
        ("+9999", "+9999"),
        ("+99999999999", "+99999999999"),
        ("anonymous", "anonymous"),
        ("204", "204"),
        ("+45\n99", "+45 99"),
    ],
)
def test_a_number_reads_as_people_write_it_or_as_it_is(given_: str, shown: str) -> None:
    assert number(given_) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (37, "0:37"), (600, "10:00"), (3599, "59:59"), (3723, "1:02:03"), (-1, "0:00")]
)
def test_a_length_reads_as_minutes_and_seconds(seconds: int, shown: str) -> None:
    assert length(seconds) == shown


def test_a_moment_reads_in_the_zone_of_that_day() -> None:
    assert moment(NEW_YEAR, COPENHAGEN) == "Mon 1 Jan 2024 01:00 CET"
    assert moment(1_720_000_000_000, COPENHAGEN) == "Wed 3 Jul 2024 11:46 CEST"
    assert moment(NEW_YEAR, timezone(timedelta(hours=3))) == "Mon 1 Jan 2024 03:00 UTC+03:00"


@pytest.mark.parametrize("instant", [FOREVER, FOREVER * 1000, -FOREVER * 1000])
def test_a_moment_at_the_edge_of_the_calendar_is_still_shown(instant: int) -> None:
    assert moment(instant, timezone(timedelta(hours=3)))
    assert moment(instant, timezone(timedelta(hours=-3)))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Eve\r\nLine: Bank", "Eve Line: Bank"),
        ("Eve\x00\x1b[31m", "Eve [31m"),
        ("Eve\u2028Line: Bank", "Eve Line: Bank"),
        ("Eve\u202eknaB", "EveknaB"),
        ("E\ud800ve", "Eve"),
        ("x" * 101, "x" * (LONGEST - 1) + "…"),
        ("x" * 100, "x" * LONGEST),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
    ],
)
def test_a_hostile_name_becomes_one_short_line(name: str, shown: str) -> None:
    found = text(new(Voicemail("1", caller_name=name)), UTC)
    assert found.title == f"Voicemail from {shown}"
    assert len(found.body.splitlines()) == 2


@given(st.text(), st.text(), st.text(max_size=20))
def test_no_foreign_text_forges_a_line(name: str, caller: str, label: str) -> None:
    voicemail = Voicemail("1", caller=caller, caller_name=name)
    found = text(Alert(Kind.VOICEMAIL_NEW, (), label, None, ("1",), (voicemail,), 1), UTC)
    assert len(found.title.splitlines()) == 1
    assert [line.partition(":")[0] for line in found.body.splitlines()][:2] == ["From", "Line"]
    assert len(found.body.splitlines()) <= 3
    assert len(one_line(name)) <= LONGEST
    found.body.encode()
