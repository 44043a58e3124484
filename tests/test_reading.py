"""Bytes that operators, proxies and strangers send, and what is read from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.errors import Trouble
from vmwatch.models import DAY, SECOND, Mailbox, Reason, Voicemail
from vmwatch.reading import LONGEST_ID, LONGEST_TEXT, mailbox, refusal

NOW = 1_704_067_200_000  # 2024-01-01T00:00:00Z
DOCUMENTED = b"""{ "newCount": 2, "oldCount": 0, "savedCount": 10, "voicemails": [ {
  "_id": "12345678901234567890BBBB", "voiceAccount": "123457890123457890AAAA", "customer": "12345678901234567890ABCD",
  "from": "+4599778822", "fromName": "Donald Duck", "to": "+4571919998",
  "callId": "cu3848vi34jf03hf9ejhfnihw3ihfnnefu93h9r9tg", "date": "2024-01-01T00:00:00.000Z",
  "length": 37, "box": "INBOX", "played": false } ] }"""


def box_of(*entries: Any, **fields: Any) -> Mailbox:
    return mailbox(json.dumps({"newCount": len(entries), "voicemails": list(entries), **fields}).encode())


def field_of(name: str, value: Any) -> Voicemail:
    return box_of({"_id": "a", name: value}).messages[0]


def why_not(body: bytes) -> Reason:
    with pytest.raises(Trouble) as caught:
        mailbox(body)
    assert caught.value.__context__ is None
    return caught.value.reason


def test_the_documented_answer_is_read_whole() -> None:
    assert mailbox(DOCUMENTED) == Mailbox(
        messages=(
            Voicemail(
                id="12345678901234567890BBBB",
                caller="+4599778822",
                caller_name="Donald Duck",
                called="+4571919998",
                call_id="cu3848vi34jf03hf9ejhfnihw3ihfnnefu93h9r9tg",
                received_at=NOW,
                length=37,
                box="INBOX",
                played=False,
                voice_account="123457890123457890AAAA",
                customer="12345678901234567890ABCD",
            ),
        ),
        new=2,
        old=0,
        saved=10,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"OK",
        b"<html></html>",
        b"null",
        b"[]",
        b'"pin"',
        b"7",
        b"true",
        b"{}",
        b'{"success": true}',
        b'{"newCount": 0',
        b'{"newCount": 1}',
        b'{"newCount": false}',
        b'{"newCount": null, "voicemails": null}',
        b'{"newCount": "0"}',
        b'{"newCount": 0, "voicemails": {}}',
        b'{"newCount": 0, "voicemails": "none"}',
        b'{"newCount": 0, "voicemails": false}',
        b'{"newCount": 0, "voicemails": []} trailing',
        b'{"newCount": ' + b"9" * 5000 + b', "voicemails": []}',
        b"[" * 200_000,
        b'{"voicemails":' * 100_000,
        b"\xff\xfe" + '{"newCount": 0, "voicemails": []}'.encode("utf-16-le"),
        '{"newCount": 0, "voicemails": []}'.encode("utf-16-le"),
        '{"newCount": 0, "voicemails": []}'.encode("utf-32"),
        b'{"newCount": 0, "voicemails": [], "x": "\xe6"}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_no_mailbox_is_not_the_operator(body: bytes) -> None:
    assert why_not(body) is Reason.NOT_THE_OPERATOR


@pytest.mark.parametrize(
    "body",
    [
        b'{"newCount": 0, "voicemails": []}',
        b'{"newCount": 0, "voicemails": null}',
        b'{"newCount": 0}',
        b'{"newCount": 0.0}',
        b'\xef\xbb\xbf{"newCount": 0, "voicemails": []}',
    ],
)
def test_an_empty_mailbox_may_leave_its_list_out(body: bytes) -> None:
    assert mailbox(body) == Mailbox(new=0)


def test_messages_without_a_count_are_a_mailbox() -> None:
    assert mailbox(b'{"voicemails": [{"_id": "a"}]}') == Mailbox(messages=(Voicemail("a"),))


@pytest.mark.parametrize("identifier", ["a", " a ", "not hex", "å", "x" * LONGEST_ID, "\u200b", "a\tb"])
def test_an_id_is_kept_character_for_character(identifier: str) -> None:
    assert field_of("callId", identifier).call_id == identifier
    assert box_of({"_id": identifier}).messages == (Voicemail(identifier),)


@pytest.mark.parametrize("number", [0, 7, -7, 10**30])
def test_a_whole_number_is_an_id_too(number: int) -> None:
    assert box_of({"_id": number}).messages == (Voicemail(str(number)),)


UNUSABLE_IDS: list[Any] = [None, "", "  ", 1.5, True, [], {}, "\ud800", "a\0b", "x" * (LONGEST_ID + 1)]


@pytest.mark.parametrize("entry", [None, 7, "a", [], {}, *({"_id": value} for value in UNUSABLE_IDS)], ids=repr)
def test_an_entry_without_a_usable_id_is_counted_and_hides_nobody(entry: Any) -> None:
    found = box_of({"_id": "good"}, entry)
    assert (found.messages, found.unreadable) == ((Voicemail("good"),), 1)


def test_one_id_twice_is_one_message() -> None:
    found = box_of({"_id": "a"}, {"_id": "a"}, {"_id": "b"})
    assert ([message.id for message in found.messages], found.unreadable) == (["a", "b"], 0)


def test_messages_are_sorted_by_date_then_id() -> None:
    found = box_of(
        {"_id": "d", "date": "2024-01-02T00:00:00.000Z"},
        {"_id": "c", "date": "2024-01-01T00:00:00.000Z"},
        {"_id": "b", "date": "2024-01-01T00:00:00.000Z"},
        {"_id": "e"},
    )
    assert [message.id for message in found.messages] == ["e", "b", "c", "d"]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (0, 0),
        (37, 37),
        (37.0, 37),
        (37.6, 37),
        (2**53 - 1, 2**53 - 1),
        (2**53, None),
        (10**30, None),
        (-1, None),
        (-0.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (False, None),
        ("37", None),
        (None, None),
        ([37], None),
    ],
    ids=repr,
)
def test_counts_and_lengths_are_whole_finite_and_not_negative(value: Any, read: int | None) -> None:
    assert field_of("length", value).length == read
    found = box_of({"_id": "a"}, newCount=value, oldCount=value, savedCount=value)
    assert (found.new, found.old, found.saved) == (read, read, read)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2024-01-01T00:00:00.000Z", NOW),
        ("2024-01-01T00:00:00Z", NOW),
        ("2024-01-01T01:00:00.000+01:00", NOW),
        ("2024-01-01T01:00:00+0100", NOW),
        ("2024-01-01T00:00:00", NOW),
        ("2024-01-01 00:00:00", NOW),
        (" 2024-01-01T00:00:00.000Z ", NOW),
        ("2024-01-01", NOW),
        ("2024-01-01T00:00:00.037Z", NOW + 37),
        ("2024-01-01T00:00:00.037999Z", NOW + 37),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59Z", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("2024-13-01T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (1_704_067_200_000, None),
        (None, None),
    ],
    ids=repr,
)
def test_dates_are_read_to_the_millisecond(value: Any, read: int | None) -> None:
    assert field_of("date", value).received_at == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("Donald Duck", "Donald Duck"),
        ("  Donald \t\r\n Duck  ", "Donald Duck"),
        ("Donald\0Duck\x1b[31m\x85\x9b\x7f", "Donald Duck [31m"),
        ("Donald\u2028Duck\u2029", "Donald Duck"),
        ("a\u202eb\u2066c\u2069d\u200e\u200f\u061ce", "abcde"),
        ("a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg", "abcdefg"),
        ("❤\ufe0f\U000e0041\U000e0100", "❤"),
        ("Do\ud800nald", "Donald"),
        ("a\uffffb\ufffec", "abc"),
        ("\u3164\u115f\uffa0", None),
        ("A\u030ase", "Åse"),
        ("Søren 🦆", "Søren 🦆"),
        ("", None),
        (" \u200b\n", None),
        ("x" * LONGEST_TEXT, "x" * LONGEST_TEXT),
        ("x" * (LONGEST_TEXT + 1), "x" * (LONGEST_TEXT - 1) + "…"),
        ("x" * (LONGEST_TEXT - 2) + " yyy", "x" * (LONGEST_TEXT - 2) + "…"),
        (None, None),
        (7, None),
        (["Donald"], None),
        ({"name": "Donald"}, None),
    ],
    ids=repr,
)
def test_a_strangers_text_is_fit_for_one_line(sent: Any, read: str | None) -> None:
    assert field_of("fromName", sent).caller_name == read


def test_a_megabyte_of_marks_is_read_at_once() -> None:
    name = field_of("fromName", "a" + "\u0301\u0323" * 500_000).caller_name
    assert name is not None
    assert len(name) == LONGEST_TEXT


@pytest.mark.parametrize("caller", ["+4599778822", "201", "anonymous", "sip:201@pbx.example.com"])
def test_a_caller_may_be_a_number_an_extension_or_anything(caller: str) -> None:
    assert field_of("from", caller).caller == caller


@pytest.mark.parametrize(("value", "read"), [(True, True), (False, False), (None, None), ("false", None), (0, None)])
def test_played_is_true_false_or_not_known(value: Any, read: bool | None) -> None:
    assert field_of("played", value).played is read


def error(status: int, code: str, message: str = "Whatever") -> bytes:
    return json.dumps({"error": {"message": message, "code": code, "status": status}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        # The documented six.
        (422, error(422, "pin", "Pin code is invalid"), Reason.PIN_REJECTED),
        (404, error(404, "pin", "Not found"), Reason.PIN_REJECTED),
        (403, error(403, "pin", "Login via pin disabled due to multiple failed logins"), Reason.PIN_LOCKED),
        (403, error(403, "number", "Voicemail not enabled for this number"), Reason.NOT_ENABLED),
        (404, error(404, "id", "Not found"), Reason.UNKNOWN_NUMBER),
        (403, error(403, "blacklisted", "IP address is blacklisted"), Reason.BLACKLISTED),
        # The code as it may be written.
        (422, error(422, " PIN "), Reason.PIN_REJECTED),
        (403, error(403, "Number."), Reason.NOT_ENABLED),
        (422, b"\xef\xbb\xbf" + error(422, "pin"), Reason.PIN_REJECTED),
        # The status decides, not the body's.
        (422, error(403, "pin"), Reason.PIN_REJECTED),
        (403, error(422, "pin"), Reason.PIN_LOCKED),
        # Other forms of one or more errors.
        (422, b'{"error": [{"code": "pin"}]}', Reason.PIN_REJECTED),
        (422, b'{"error": "pin"}', Reason.PIN_REJECTED),
        (422, b'{"errors": ["pin"]}', Reason.PIN_REJECTED),
        (422, b'{"errors": {"code": "pin"}}', Reason.PIN_REJECTED),
        (422, b'{"error": {"message": [{"code": "pin"}]}}', Reason.PIN_REJECTED),
        (422, b'{"code": "pin"}', Reason.PIN_REJECTED),
        (422, b'"pin"', Reason.PIN_REJECTED),
        (422, b"pin", Reason.PIN_REJECTED),
        (422, b'[{"code": "pin"}]', Reason.PIN_REJECTED),
        # The operator's own sentences, each with its own status only.
        (422, b'{"error": "Pin code is invalid."}', Reason.PIN_REJECTED),
        (422, b'{"error": {"message": "pin code is INVALID "}}', Reason.PIN_REJECTED),
        (403, b'"Login via pin disabled due to multiple failed logins"', Reason.PIN_LOCKED),
        (403, b'{"message": "Voicemail not enabled for this number"}', Reason.NOT_ENABLED),
        (403, b"IP address is blacklisted", Reason.BLACKLISTED),
        (403, b'"Pin code is invalid"', Reason.REFUSAL_UNCLEAR),
        (404, b'"Pin code is invalid"', Reason.REFUSAL_UNCLEAR),
        (422, b'"IP address is blacklisted"', Reason.REFUSAL_UNCLEAR),
        (404, b'{"error": "Not found"}', Reason.REFUSAL_UNCLEAR),
        (403, b'"Your IP address is blacklisted, call us"', Reason.REFUSAL_UNCLEAR),
        # Several: the most dangerous wins.
        (403, b'{"errors": [{"code": "number"}, {"code": "blacklisted"}, {"code": "pin"}]}', Reason.PIN_LOCKED),
        (403, b'{"errors": [{"code": "number"}, {"code": "blacklisted"}]}', Reason.BLACKLISTED),
        (404, b'{"error": [{"code": "id"}, {"code": "pin"}]}', Reason.PIN_REJECTED),
        (403, error(403, "number", "Login via pin disabled due to multiple failed logins"), Reason.PIN_LOCKED),
        # Nothing readable, or a code that this status does not go with.
        (403, b"", Reason.REFUSAL_UNCLEAR),
        (404, b"<html>Not Found</html>", Reason.REFUSAL_UNCLEAR),
        (422, b"null", Reason.REFUSAL_UNCLEAR),
        (422, b"\xff", Reason.REFUSAL_UNCLEAR),
        (422, b'{"error": ' * 100_000, Reason.REFUSAL_UNCLEAR),
        *((422, b"[" * depth + b'"pin"' + b"]" * depth, Reason.REFUSAL_UNCLEAR) for depth in (50, 500, 900, 960)),
        (422, b'{"error": {"path": "pin"}}', Reason.REFUSAL_UNCLEAR),
        (422, b'{"error": {"code": 403}}', Reason.REFUSAL_UNCLEAR),
        (422, error(422, "id"), Reason.REFUSAL_UNCLEAR),
        (422, error(422, "blacklisted"), Reason.REFUSAL_UNCLEAR),
        (403, error(403, "id"), Reason.REFUSAL_UNCLEAR),
        (404, error(404, "number"), Reason.REFUSAL_UNCLEAR),
        (400, error(400, "pin"), Reason.REFUSAL_UNCLEAR),
        (401, error(401, "pin"), Reason.REFUSAL_UNCLEAR),
        (407, b"", Reason.REFUSAL_UNCLEAR),
        (418, b"", Reason.REFUSAL_UNCLEAR),
        (499, b"", Reason.REFUSAL_UNCLEAR),
        # Not a refusal.
        (429, error(429, "pin"), Reason.THROTTLED),
        (500, error(500, "internal_error"), Reason.OPERATOR_ERROR),
        (500, error(500, "pin"), Reason.OPERATOR_ERROR),
        (501, b"", Reason.OPERATOR_ERROR),
        (502, b"", Reason.GATEWAY_ERROR),
        (503, b"", Reason.OPERATOR_ERROR),
        (504, b"", Reason.GATEWAY_ERROR),
        (599, b"", Reason.OPERATOR_ERROR),
        (101, b"", Reason.NOT_THE_OPERATOR),
        (200, b"", Reason.NOT_THE_OPERATOR),
        (204, b"", Reason.NOT_THE_OPERATOR),
        (302, error(302, "pin"), Reason.NOT_THE_OPERATOR),
        (304, b"", Reason.NOT_THE_OPERATOR),
        (600, b"", Reason.NOT_THE_OPERATOR),
        (999, b"", Reason.NOT_THE_OPERATOR),
    ],
)
def test_a_refusal_is_read_from_status_and_code_together(status: int, body: bytes, reason: Reason) -> None:
    trouble = refusal(status, body, None, NOW)
    assert (trouble.reason, trouble.wait) == (reason, None)
    assert trouble.detail.startswith(f"HTTP {status}")


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", 120 * SECOND),
        (" 120 ", 120 * SECOND),
        ("0", 0),
        ("-5", 0),
        ("86400", DAY),
        ("86401", DAY),
        ("9" * 5000, DAY),
        ("Mon, 01 Jan 2024 00:02:00 GMT", 120 * SECOND),
        ("Monday, 01-Jan-24 00:02:00 GMT", 120 * SECOND),
        ("Mon, 01 Jan 2024 01:02:00 +0100", 120 * SECOND),
        ("Sun, 31 Dec 2023 23:00:00 GMT", 0),
        ("Mon, 01 Jan 2034 00:00:00 GMT", DAY),
        ("soon", None),
        ("", None),
        ("1.5", None),
        ("2 minutes", None),
        ("٣", None),
        ("Mon, 99 Jan 2024 00:02:00 GMT", None),
        ("Mon, 01 Jan 99999 00:02:00 GMT", None),
        ("99999999999999999999 Jan 0:0 99999999999999999999 2024", None),
        (None, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_retry_after_is_read_in_both_forms_up_to_a_day(header: str | None, wait: int | None) -> None:
    assert refusal(429, b"", header, NOW).wait == wait
    unavailable = refusal(503, b"", header, NOW)
    assert unavailable.wait == wait
    assert unavailable.reason is (Reason.OPERATOR_ERROR if wait is None else Reason.THROTTLED)


@pytest.mark.parametrize("status", [302, 403, 404, 418, 422, 429, 500, 502, 503])
def test_no_word_of_the_operator_is_repeated(status: int) -> None:
    body = error(status, "1234", "https://example.com/+4571919998/1234")
    trouble = refusal(status, body, "+4571919998", NOW)
    assert "1234" not in f"{trouble!s}{trouble!r}{trouble.detail}"
    assert "4571919998" not in f"{trouble!s}{trouble!r}{trouble.detail}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("_id", "from", "fromName", "to", "callId", "date", "length", "box", "played", "voiceAccount", "customer")
ENTRIES = st.lists(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)), max_size=4)
ANSWERS = st.fixed_dictionaries(
    {"voicemails": ENTRIES | JSON}, optional={"newCount": JSON, "oldCount": JSON, "savedCount": JSON}
)
ERRORS = st.fixed_dictionaries({}, optional=dict.fromkeys(("error", "errors", "code", "message"), JSON)) | JSON
DATES = st.datetimes().map(lambda date: f"{date:%a, %d %b %Y %H:%M:%S} GMT")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    body = bytearray(DOCUMENTED)
    for at in draw(st.lists(st.integers(0, len(body) - 1), max_size=5)):
        body[at] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))])


@given(st.binary() | mutated() | ANSWERS.map(lambda answer: json.dumps(answer).encode()))
def test_reading_a_mailbox_raises_nothing_but_trouble(body: bytes) -> None:
    try:
        found = mailbox(body)
    except Trouble:
        return
    ages = [(message.received_at or 0, message.id) for message in found.messages]
    assert ages == sorted(set(ages))
    for message in found.messages:
        for text in (message.caller, message.caller_name, message.called, message.box):
            assert text is None or (text == text.strip() and 0 < len(text) <= LONGEST_TEXT and text.encode())


@given(
    st.integers(-1, 1000),
    st.binary() | mutated() | ERRORS.map(lambda answer: json.dumps(answer).encode()),
    st.none() | st.text() | st.integers().map(str) | DATES | mutated().map(lambda raw: raw.decode("latin-1")),
)
def test_reading_a_refusal_raises_nothing(status: int, body: bytes, retry_after: str | None) -> None:
    trouble = refusal(status, body, retry_after, NOW)
    assert trouble.wait is None or 0 <= trouble.wait <= DAY
