"""Links in alerts: each permits one thing about one message, to whoever has it whole, until its time is over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import NOW, NUMBER, voicemail

from vmwatch import samples
from vmwatch.links import LASTS, LONGEST, MOST_ID, Permit, Refused, Signing, act_of, path, read, tag
from vmwatch.links import samples as samples_of
from vmwatch.models import NO_LINKS, SECOND, Act, Alert, Kind, Links

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
ID = "65a1b2c3d4e5f60718293a4b"
BASE = "https://vm.example.com"
UNTIL = NOW + LASTS
LINK = path(Act.ACK, NUMBER, ID, UNTIL, KEY)
CONTENT, SIGNATURE = LINK.removeprefix("/ack/").split(".")
ALERT = Alert(Kind.VOICEMAIL_NEW, (), "Home", NUMBER, (), (voicemail(ID),), 1)


def test_a_link_permits_what_it_was_made_for() -> None:
    for act in Act:
        assert read(path(act, NUMBER, ID, UNTIL, KEY), KEY, NOW) == Permit(act, ID, tag(NUMBER, KEY))


@pytest.mark.parametrize(
    ("later", "found"),
    [
        (0, Permit),
        (LASTS - SECOND, Permit),
        (LASTS - 1, Permit),
        (LASTS, Refused.EXPIRED),
        (LASTS + SECOND, Refused.EXPIRED),
        (100 * LASTS, Refused.EXPIRED),
    ],
)
def test_a_link_is_good_until_its_time_is_over(later: int, found: object) -> None:
    read_ = read(LINK, KEY, NOW - NOW % SECOND + later)
    assert read_ == found if isinstance(found, Refused) else isinstance(read_, Permit)


def tampered(text: str) -> list[str]:
    """The text with each of its characters in turn another one of the same alphabet."""
    return [
        text[:place] + ("b" if character != "b" else "c") + text[place + 1 :] for place, character in enumerate(text)
    ]


OF_ANOTHER = {
    "another act": LINK.replace("/ack/", "/snooze/"),
    "another message": f"{path(Act.ACK, NUMBER, 'other', UNTIL, KEY).partition('.')[0]}.{SIGNATURE}",
    "another line": f"{path(Act.ACK, '+4571919990', ID, UNTIL, KEY).partition('.')[0]}.{SIGNATURE}",
    "another time": f"{path(Act.ACK, NUMBER, ID, UNTIL + LASTS, KEY).partition('.')[0]}.{SIGNATURE}",
    "another key": path(Act.ACK, NUMBER, ID, UNTIL, OTHER_KEY),
    "no key": path(Act.ACK, NUMBER, ID, UNTIL, b""),
    "no signature": f"/ack/{CONTENT}",
    "an empty signature": f"/ack/{CONTENT}.",
    "no content": f"/ack/.{SIGNATURE}",
    "nothing": "/ack/",
    "no path": "",
    "the page": "/",
    "a sample": "/ack/sample",
    "capitals": f"/ack/{CONTENT.upper()}.{SIGNATURE.upper()}",
    "a longer signature": f"{LINK}a",
    "a part behind it": f"{LINK}.{SIGNATURE}",
    "another path": f"/ack{LINK}",
    "a query": f"{LINK}?x",
    "unicode": f"/ack/{CONTENT}.é\udcff\ud800{SIGNATURE}",
    "unicode content": f"/ack/ö\ud800.{SIGNATURE}",
    "NUL": f"/ack/\0.{SIGNATURE}",
    "100 kB": f"/ack/{'a' * 100_000}.{SIGNATURE}",
    "100 kB of signature": f"/ack/{CONTENT}.{'a' * 100_000}",
    **{f"{size} characters of it": LINK[:size] for size in range(len(LINK))},
    **{f"content {place} changed": f"/ack/{one}.{SIGNATURE}" for place, one in enumerate(tampered(CONTENT))},
    **{f"signature {place} changed": f"/ack/{CONTENT}.{one}" for place, one in enumerate(tampered(SIGNATURE))},
}


@pytest.mark.parametrize("forged", OF_ANOTHER.values(), ids=OF_ANOTHER)
def test_whatever_was_not_signed_for_this_is_refused(forged: str) -> None:
    assert read(forged, KEY, NOW) is Refused.FORGED
    assert read(forged, KEY, NOW + 100 * LASTS) is Refused.FORGED, "nothing is told of what is not ours"


@given(st.text())
def test_garbage_is_refused_whatever_it_is(garbage: str) -> None:
    for made in (garbage, f"/ack/{garbage}", f"/snooze/{CONTENT}.{garbage}", f"/ack/{garbage}.{SIGNATURE}"):
        assert read(made, KEY, NOW) is Refused.FORGED


@pytest.mark.parametrize("link", [LINK, path(Act.ACK, NUMBER, ID, UNTIL, b"")], ids=["ours", "made without"])
def test_without_a_key_nothing_is_permitted(link: str) -> None:
    assert read(link, b"", NOW) is Refused.FORGED


@given(st.text(max_size=MOST_ID // 4), st.from_regex(r"\+[1-9][0-9]{4,14}", fullmatch=True), st.binary(min_size=1))
def test_every_id_comes_back_as_it_was_and_the_path_is_plain(id_: str, number: str, key: bytes) -> None:
    link = path(Act.SNOOZE, number, id_, UNTIL, key)
    assert read(link, key, NOW) == Permit(Act.SNOOZE, id_, tag(number, key))
    assert set(link) <= set("/abcdefghijklmnopqrstuvwxyz234567.")


def test_the_lines_of_one_id_are_told_apart_and_not_named() -> None:
    one, other = tag("+4571919998", KEY), tag("+4571919999", KEY)
    assert one != other != tag("+4571919999", OTHER_KEY)
    assert NUMBER.removeprefix("+") not in LINK
    assert ID not in LINK


def test_an_alert_s_links_are_short_and_there_is_one_for_each_act() -> None:
    links = Signing(BASE, KEY).links(ALERT, NOW)
    assert links == Links(BASE + LINK, BASE + path(Act.SNOOZE, NUMBER, ID, UNTIL, KEY))
    assert len(links.snooze) < 140
    longest = Signing("x" * 80, KEY).links(replace(ALERT, voicemails=(voicemail("x" * MOST_ID),)), NOW)
    assert 0 < len(longest.snooze) < 200
    assert isinstance(read(longest.ack.removeprefix("x" * 80), KEY, NOW), Permit)
    assert len(longest.snooze) - 80 < LONGEST


def test_neither_key_nor_link_is_shown_by_accident() -> None:
    signing = Signing(BASE, KEY)
    told = f"{signing!r} {signing.links(ALERT, NOW)!r}"
    assert SIGNATURE not in told
    assert "key" not in told


SEVERAL = (voicemail(ID), voicemail("other"))


@pytest.mark.parametrize(
    ("signing", "alert"),
    [
        (Signing("", KEY), ALERT),
        (Signing(BASE, b""), ALERT),
        (Signing(BASE, KEY), replace(ALERT, number=None)),
        (Signing(BASE, KEY), replace(ALERT, voicemails=())),
        (Signing(BASE, KEY), replace(ALERT, voicemails=(voicemail("é" * (MOST_ID // 2) + "x"),))),
        (Signing(BASE, KEY), replace(ALERT, kind=Kind.VOICEMAIL_REMINDER, voicemails=SEVERAL, count=2)),
        (Signing(BASE, KEY), replace(ALERT, kind=Kind.VOICEMAIL_REMINDER, count=2)),
        *((Signing(BASE, KEY), replace(ALERT, kind=kind)) for kind in Kind if kind.group != "voicemail"),
        (Signing(BASE, KEY), replace(ALERT, kind=Kind.VOICEMAIL_SUMMARY)),
        (Signing(BASE, KEY), replace(ALERT, kind=Kind.VOICEMAIL_DIGEST)),
        (Signing(BASE, KEY), replace(ALERT, kind=Kind.VOICEMAIL_HEARD)),
    ],
)
def test_there_are_links_only_for_one_voicemail_that_waits_to_be_heard(signing: Signing, alert: object) -> None:
    assert signing.links(alert, NOW) == NO_LINKS  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Kind.VOICEMAIL_NEW, Kind.VOICEMAIL_REMINDER, Kind.VOICEMAIL_ESCALATED])
def test_a_sample_s_links_stand_where_they_would_and_open_nothing(kind: Kind) -> None:
    alert = samples.alert(kind, NOW)
    links = samples_of(BASE, alert)
    assert links == Links(f"{BASE}/ack/sample", f"{BASE}/snooze/sample")
    assert read("/ack/sample", KEY, NOW) is Refused.FORGED
    assert samples_of("", alert) == samples_of(BASE, samples.alert(Kind.VOICEMAIL_SUMMARY, NOW)) == NO_LINKS
    assert Signing(BASE, KEY).links(alert, NOW).ack


@pytest.mark.parametrize(
    ("path_", "act"),
    [("/ack/x", Act.ACK), ("/snooze/x", Act.SNOOZE), ("/act/ack", None), ("/ack", None), ("/", None), ("/Ack/x", None)],
)
def test_a_path_says_what_it_is_for(path_: str, act: Act | None) -> None:
    assert act_of(path_) is act
