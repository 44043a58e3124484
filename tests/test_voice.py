"""How a channel is spoken to: every kind of alert, in every language, with every degree of privacy."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmwatch import languages, samples
from vmwatch.models import WORDED, Alert, Kind, Links, Privacy, Reason, Voicemail
from vmwatch.texts import ENGLISH
from vmwatch.voice import Voice, filling, objection
from vmwatch.wording import REPEAT, Style, Text, masked, text
from vmwatch.wording.facts import facts

COPENHAGEN = ZoneInfo("Europe/Copenhagen")
NEW_YEAR = 1_704_067_200_000
JULY = 1_720_000_000_000
DANISH = languages.texts("da")
HIDING = [Privacy.MASKED, Privacy.MINIMAL]


def danish(alert: Alert, privacy: Privacy = Privacy.FULL) -> Text:
    return text(alert, COPENHAGEN, texts=DANISH, privacy=privacy)


def summary(count: int, *voicemails: Voicemail, reason: Reason = Reason.NEW_MESSAGES) -> Alert:
    return Alert(Kind.VOICEMAIL_SUMMARY, (), "Hjemme", "+4571919998", (), voicemails, count, reason)


# ---- language and time ----


def test_a_voicemail_in_danish() -> None:
    found = danish(samples.alert(Kind.VOICEMAIL_NEW, NEW_YEAR + 60_000))
    assert found.title == "Ny talebesked fra Donald Duck"
    assert found.body.splitlines() == [
        "Fra: Donald Duck, +45 99 77 88 22",
        "Linje: Home",
        "Længde: 0:37",
        "Modtaget: man. 1. jan. 2024 kl. 01.00 CET",
        "Ring tilbage: +4599778822",
    ]
    assert (found.call, found.call_label) == ("+4599778822", "Ring tilbage")


@pytest.mark.parametrize(
    ("count", "reason", "title"),
    [
        (1, Reason.NEW_MESSAGES, "1 ny talebesked på Hjemme"),
        (2, Reason.NEW_MESSAGES, "2 nye talebeskeder på Hjemme"),
        (1, Reason.FIRST_SIGHT, "1 talebesked venter på Hjemme"),
        (12, Reason.FIRST_SIGHT, "12 talebeskeder venter på Hjemme"),
    ],
)
def test_a_danish_summary_counts_as_danes_do(count: int, reason: Reason, title: str) -> None:
    assert danish(summary(count, reason=reason)).title == title


@pytest.mark.parametrize(
    ("instant", "zone", "shown"),
    [
        (NEW_YEAR, "Europe/Copenhagen", "man. 1. jan. 2024 kl. 01.00 CET"),
        (JULY, "Europe/Copenhagen", "ons. 3. juli 2024 kl. 11.46 CEST"),
        (JULY, "America/New_York", "ons. 3. juli 2024 kl. 05.46 EDT"),
        (NEW_YEAR + 15 * 3_600_000, "Atlantic/Faroe", "man. 1. jan. 2024 kl. 15.00 WET"),
    ],
)
def test_a_moment_in_danish_by_the_channel_s_clock(instant: int, zone: str, shown: str) -> None:
    said = Voice(ZoneInfo(zone), DANISH).says(summary(1, Voicemail("1", received_at=instant)))
    assert said.text.body == f"skjult nummer, {shown}"


def test_every_day_and_every_month_has_a_danish_name() -> None:
    style = Style(UTC, DANISH)
    shown = [style.moment(NEW_YEAR + day * 24 * 3_600_000) for day in range(366)]
    english = [Style(UTC, ENGLISH).moment(NEW_YEAR + day * 24 * 3_600_000) for day in range(366)]
    assert {words.split()[0] for words in shown} == {"man.", "tirs.", "ons.", "tors.", "fre.", "lør.", "søn."}
    assert len({words.split()[2] for words in shown}) == 12
    assert not {words.split()[2] for words in shown} & {words.split()[2] for words in english}


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("privacy", list(Privacy))
@pytest.mark.parametrize("language", languages.names())
def test_every_kind_has_whole_words_in_every_language_and_privacy(kind: Kind, privacy: Privacy, language: str) -> None:
    voice = Voice(UTC, languages.texts(language), privacy)
    for alert in (samples.alert(kind, NEW_YEAR), samples.bare(kind)):
        for reason in (alert.reason, *Reason):
            found = voice.says(replace(alert, reason=reason)).text
            assert found.title.strip()
            assert found.body.strip()
            assert len(found.title) <= 120
            assert not re.search(r"None|[{}]", found.title + found.body), found
            assert all(line == line.strip() for line in found.body.splitlines() if alert.subject)


@pytest.mark.parametrize("kind", list(Kind))
def test_no_english_is_left_in_danish(kind: Kind) -> None:
    found = danish(samples.alert(kind, NEW_YEAR))
    english = text(samples.alert(kind, NEW_YEAR), COPENHAGEN)
    assert found.title != english.title
    words = f"{found.title}\n{found.body}".replace("no answer in 20 s", "").replace("the disk is full", "")
    assert not re.search(r"\b(the|and|is|this|to|what|voicemail|since|line|from|with)\b", words, re.IGNORECASE)


def test_a_possible_repeat_says_so_in_the_channel_s_language() -> None:
    said = Voice(UTC, DANISH).says(samples.alert(Kind.TEST, NEW_YEAR), maybe_repeat=True).text
    assert said.body.splitlines()[-1] == DANISH.gettext(REPEAT) != REPEAT


# ---- privacy ----


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+4599778822", "+45 99 •• •• 22"),
        ("+12025550143", "+1 20•-•••-••43"),
        ("+4570000", "+45 •••00"),
        ("+9999", "+••••"),
        ("99778822", "99••••22"),
        ("+99999999999", "+99•••••••99"),
        ("12", "••"),
        ("", ""),
        ("anonymous", ""),
        ("sip:donald@example.com", ""),
        ("٩٩٧٧٨٨٢٢", ""),
    ],
)
def test_a_masked_number(number: str, shown: str) -> None:
    assert masked(number) == shown


MASKED = ["From: +45 99 •• •• 22", "Line: Home", "Length: 0:37", "Received: Sun 31 Dec 2023 23:59 UTC"]


@pytest.mark.parametrize(
    ("kind", "privacy", "title", "body"),
    [
        (Kind.VOICEMAIL_NEW, Privacy.MASKED, "Voicemail from +45 99 •• •• 22", MASKED),
        (Kind.VOICEMAIL_NEW, Privacy.MINIMAL, "A voicemail on Home", ["Call your voicemail to hear it."]),
        (
            Kind.VOICEMAIL_SUMMARY,
            Privacy.MASKED,
            "5 new voicemails on Home",
            [
                "+45 99 •• •• 22, 0:37, Sun 31 Dec 2023 23:59 UTC",
                "+45 20 •• •• 50, 5:12, Sun 31 Dec 2023 23:00 UTC",
                "a withheld number, 0:04, Sun 31 Dec 2023 22:00 UTC",
                "and 2 more",
            ],
        ),
        (Kind.VOICEMAIL_SUMMARY, Privacy.MINIMAL, "5 new voicemails on Home", ["Call your voicemail to hear them."]),
    ],
)
def test_what_is_shown_of_a_voicemail(kind: Kind, privacy: Privacy, title: str, body: list[str]) -> None:
    found = text(samples.alert(kind, NEW_YEAR), UTC, privacy=privacy)
    assert (found.title, found.body.splitlines(), found.call) == (title, body, "")


@pytest.mark.parametrize(
    ("privacy", "line", "command"),
    [
        (Privacy.FULL, "Line: Home, +45 71 91 99 98", "vmwatch resume +4571919998"),
        (Privacy.MASKED, "Line: Home, +45 71 •• •• 98", "vmwatch resume LINE"),
        (Privacy.MINIMAL, None, "vmwatch resume LINE"),
    ],
)
def test_what_is_shown_of_a_line_in_trouble(privacy: Privacy, line: str | None, command: str) -> None:
    body = text(samples.alert(Kind.LINE_LOCKED, NEW_YEAR), UTC, privacy=privacy).body
    assert [found for found in body.splitlines() if found.startswith("Line: ")] == ([] if line is None else [line])
    assert body.endswith(command)


EVERYTHING = (
    "{{ title }}|{{ body }}|{{ kind }}|{{ line }}|{{ line_number }}|{{ caller }}|{{ caller.name }}|{{ caller.number }}"
    "|{{ caller.e164 }}|{{ caller.words }}|{{ length }}|{{ seconds }}|{{ received }}|{{ count }}|{{ more }}"
    "|{{ reason }}|{{ detail }}|{{ since }}|{{ next_try }}|{{ channel }}|{{ voicemails }}"
    "|{% for one in voicemails %}{{ one }}{{ one.caller.name }}{{ one.caller.e164 }}{{ one.caller.number }}{% endfor %}"
)
EVERY_FACT = {
    kind: {kind: {"title": filling("title", "{{ line }}"), "body": filling("body", EVERYTHING)}} for kind in Kind
}


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("privacy", HIDING)
@pytest.mark.parametrize("language", languages.names())
@settings(max_examples=15)
@given(name=st.text(min_size=1, max_size=20), digits=st.from_regex(r"\+?[1-9][0-9]{6,12}", fullmatch=True))
def test_nothing_leaks_past_privacy(kind: Kind, privacy: Privacy, language: str, name: str, digits: str) -> None:
    """Neither the words, nor what a template can say, nor the number to call has a name or six digits in a row."""
    name = f"Xyzzy{name}Plugh"
    callers = (digits, f"{digits}@example.com", name)
    voicemails = tuple(Voicemail(str(place), caller, name, length=7) for place, caller in enumerate(callers))
    alert = Alert(kind, (), "Home", digits, ("1",), voicemails, 5, Reason.TIMEOUT, f"{name} {digits}")
    texts = languages.texts(language)
    told = Voice(UTC, texts, privacy, EVERY_FACT[kind]).says(alert).text
    known = facts(alert, Style(UTC, texts, privacy), told)
    said = repr((told, known, [str(value) for value in known.values()]))
    of_callers = kind.group in ("voicemail", "line")
    assert not of_callers or not re.search("Xyzzy|Plugh", said), said
    assert not of_callers or digits.lstrip("+") not in re.sub(r"[^0-9•]", "", told.title + told.body)
    assert not of_callers or not re.search(r"[0-9](?:[ ()./-]*[0-9]){5,}", said), said
    assert told.call == ""


# ---- templates ----


def in_words(source: str, kind: Kind = Kind.VOICEMAIL_NEW, part: str = "body", privacy: Privacy = Privacy.FULL) -> Text:
    said = Voice(UTC, ENGLISH, privacy, {kind: {part: filling(part, source)}}).says(samples.alert(kind, NEW_YEAR))
    assert said.failed == ""
    return said.text


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ("{{ caller }}", Kind.VOICEMAIL_NEW, "Donald Duck, +45 99 77 88 22"),
        ("{{ caller.name }}/{{ caller.number }}", Kind.VOICEMAIL_NEW, "Donald Duck/+45 99 77 88 22"),
        ("{{ caller.e164 }} {{ caller.words|lower }}", Kind.TEST, "a withheld number"),
        ("{{ line }} {{ line_number }}, {{ length }}", Kind.VOICEMAIL_NEW, "Home +45 71 91 99 98, 0:37"),
        ("{{ seconds + 1 }}", Kind.VOICEMAIL_NEW, "38"),
        ("{{ title }}!", Kind.VOICEMAIL_NEW, "Voicemail from Donald Duck!"),
        ("{% if seconds > 30 %}long{% else %}short{% endif %}", Kind.VOICEMAIL_NEW, "long"),
        (
            "{% for one in voicemails %}{{ loop.index }} {{ one.caller.name or one.caller }}\n{% endfor %}+{{ more }}",
            Kind.VOICEMAIL_SUMMARY,
            "1 Donald Duck\n2 +45 20 30 40 50\n3 a withheld number\n+2",
        ),
        ("{{ kind }}: {{ reason|upper }}", Kind.LINE_REJECTED, "line.rejected: THE OPERATOR REJECTED THE PIN"),
        ("{{ channel }}: {{ detail }}", Kind.CHANNEL_FAILING, "phone: HTTP 404"),
        ("<b>{{ caller.name }}</b>", Kind.VOICEMAIL_NEW, "<b>Donald Duck</b>"),
    ],
)  # fmt: skip
def test_a_template_says_it_in_a_person_s_own_words(source: str, kind: Kind, said: str) -> None:
    assert objection(kind, "body", source) is None
    assert in_words(source, kind).body == said


LINKS = Links("https://vm.example.com/ack/x", "https://vm.example.com/snooze/x")


@pytest.mark.parametrize("privacy", Privacy)
@pytest.mark.parametrize("kind", [Kind.VOICEMAIL_NEW, Kind.VOICEMAIL_REMINDER, Kind.VOICEMAIL_ESCALATED])
def test_links_come_last_in_the_channel_s_language_and_show_no_more_than_privacy_does(
    kind: Kind, privacy: Privacy
) -> None:
    alert = samples.alert(kind, NEW_YEAR)
    without, said = (Voice(UTC, DANISH, privacy).says(alert, links=one).text for one in (Links(), LINKS))
    assert said.body == f"{without.body}\nKvitter: {LINKS.ack}\nUdskyd 1 t: {LINKS.snooze}"
    assert [(tap.label, tap.url) for tap in said.taps] == [("Kvitter", LINKS.ack), ("Udskyd 1 t", LINKS.snooze)]
    assert (said.title, without.taps) == (without.title, ())
    repeated = Voice(UTC, DANISH, privacy).says(alert, maybe_repeat=True, links=LINKS).text
    assert repeated.body.startswith(f"{said.body}\n(")


@pytest.mark.parametrize(
    ("source", "with_links", "without"),
    [
        ("{{ ack_url }} {{ snooze_url }}!", f"{LINKS.ack} {LINKS.snooze}!", "!"),
        ("{% if ack_url %}tap{% else %}call{% endif %}", "tap", "call"),
        ("{{ line }}", "Home", "Home"),
    ],
)
def test_a_template_has_the_links_where_it_wants_them(source: str, with_links: str, without: str) -> None:
    assert objection(Kind.VOICEMAIL_NEW, "body", source) is None
    voice = Voice(UTC, ENGLISH, templates={Kind.VOICEMAIL_NEW: {"body": filling("body", source)}})
    alert = samples.alert(Kind.VOICEMAIL_NEW, NEW_YEAR)
    said = [voice.says(alert, links=links).text for links in (LINKS, Links())]
    assert [one.body for one in said] == [with_links, without]
    assert [len(one.taps) for one in said] == [2, 0], "buttons are no part of the words"


def test_every_variable_and_every_kind_is_in_the_documentation_and_no_other() -> None:
    page = (Path(__file__).parents[1] / "docs" / "alerts.md").read_text()
    rows = re.findall(r"^\| (`[a-z_`, .0-9]+`) \| ", page.partition("| variable | holds |")[2], re.MULTILINE)
    written = {name.partition(".")[0] for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert written == facts(samples.bare(Kind.TEST), Style(UTC), Text("", "")).keys()
    assert all(f"`{kind}`" in page for kind in WORDED)


def test_the_examples_in_the_documentation_are_accepted() -> None:
    page = (Path(__file__).parents[1] / "docs" / "alerts.md").read_text()
    (example,) = [block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "templates" in block]
    for name, template in tomllib.loads(example)["channels"]["phone"]["templates"]["voicemail"].items():
        for part, source in template.items():
            assert objection(Kind(f"voicemail.{name}"), part, source) is None


def test_a_title_is_one_line_and_what_comes_out_empty_is_said_as_ever() -> None:
    assert in_words("{{ line }}\n\n{{ count }}", part="title").title == "Home 1"
    assert in_words("{{ detail }}", part="title").title == "Voicemail from Donald Duck"
    assert in_words("{{ detail }}").body.startswith("From: Donald Duck")


def test_what_a_caller_wrote_is_not_read_as_a_template() -> None:
    voicemail = Voicemail("1", caller="+4599778822", caller_name="{{ 7 * 7 }}{% for a in b %}")
    voice = Voice(UTC, templates={Kind.VOICEMAIL_NEW: {"body": filling("body", "{{ caller.name }}")}})
    said = voice.says(Alert(Kind.VOICEMAIL_NEW, (), voicemails=(voicemail,), count=1))
    assert (said.text.body, said.failed) == ("{{ 7 * 7 }}{% for a in b %}", "")


@pytest.mark.parametrize("privacy", HIDING)
def test_a_template_can_say_no_more_than_the_channel_may_show(privacy: Privacy) -> None:
    told = in_words("{{ caller }}{{ caller.name }}{{ caller.e164 }}{{ body }}{{ voicemails }}", privacy=privacy)
    assert "Donald" not in told.body
    assert "9977" not in told.body


def test_minimal_tells_a_template_that_somebody_called_and_no_more() -> None:
    style = Style(UTC, ENGLISH, Privacy.MINIMAL)
    known = facts(samples.alert(Kind.VOICEMAIL_SUMMARY, NEW_YEAR), style, Text("title", "body"))
    told = {name: str(value) for name, value in known.items() if value not in ("", (), 0)}
    assert told == {
        "title": "title",
        "body": "body",
        "kind": "voicemail.summary",
        "line": "Home",
        "caller": "somebody",
        "count": "5",
        "more": "5",
        "reason": "new voicemails",
    }
    withheld = facts(samples.bare(Kind.VOICEMAIL_NEW), style, Text("title", "body"))
    assert str(withheld["caller"]) == "somebody", "whether a number was withheld is not told either"


REFUSED = {
    "{% for i in range(10**9) %}x{% endfor %}": "line 1: a loop can only be over voicemails",
    "{{ range(10**9) }}": "line 1: a template can't call anything",
    "{{ 'x' * 10**9 }}": "line 1: a template can't multiply",
    "{{ 9 ** 9 ** 9 }}": "line 1: a template can't multiply",
    "{{ '%999999999d' % 1 }}": "line 1: a template can't use %",
    "{{ '%999999999d'|format(1) }}": "line 1: the filters are ",
    "{{ line|center(999999999) }}": "line 1: the filters are ",
    "{{ line|replace('', 'xxxxxxxx')|replace('', 'xxxxxxxx') }}": "line 1: the filters are ",
    "{{ 'aa'|join('xxxxxxxx')|join('xxxxxxxx') }}": "line 1: the filters are ",
    "\n{% set x = line ~ line %}{% set x = x ~ x %}": "line 2: a template can't set anything",
    "{% for a in voicemails %}{% for b in voicemails %}x{% endfor %}{% endfor %}": "line 1: a loop can't have another",
    "{% for a in voicemails recursive %}{{ loop(voicemails) }}{% endfor %}": "line 1: a loop can only be over",
    "{% for a in 'aaaa' %}x{% endfor %}": "line 1: a loop can only be over voicemails",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": "line 1: a template can't ",
    "{% include '/etc/passwd' %}": "line 1: a template can't use include",
    "{% import 'x' as x %}": "line 1: a template can't use import",
    "{{ ''.__class__.__mro__ }}": "can't be filled in (SecurityError)",
    "{{ caller.name.__class__ }}": "can't be filled in (SecurityError)",
    "{{ caller.format.__globals__ }}": "",
    "{{ lipsum }}": "there is no variable lipsum",
    "{{ callr }}": "there is no variable callr",
    "{% if count == 0 %}{{ nope }}{% endif %}": "there is no variable nope",
    "{% if voicemails %}{{ voicemails[7].caller }}{% endif %}": "uses a variable that does not exist",
    "{{ caller.nme }}": "uses a variable that does not exist",
    "{{ line": "is not a template: line 1: ",
    "a\nb\n{% iff line %}": "is not a template: line 3: Encountered unknown tag 'iff'",
    "{{ line|nonsense }}": "line 1: the filters are ",
    "{{ line + 1 }}": "can't be filled in (TypeError)",
    "{{ body }}" * 300: "comes out longer than 10000 characters",
    "x" * 4001: "must be at most 4000 characters",
    "{{" + "(" * 1500 + "1" + ")" * 1500 + "}}": "is not a template",
    "{{" + "-" * 1900 + "1}}": "",
    "{{" + "(line ~ " * 300 + "1" + ")" * 300 + "}}": "",
    "{% if line %}" * 150 + "{% endif %}" * 150: "",
}


@pytest.mark.parametrize(("source", "words"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_a_template_may_not_do_is_refused_before_it_is_done(source: str, words: str) -> None:
    found = objection(Kind.VOICEMAIL_NEW, "body", source)
    assert found is not None
    assert found.startswith(words)


def test_a_long_title_is_refused() -> None:
    assert objection(Kind.TEST, "title", "x" * 251) == "comes out longer than 250 characters"


def test_a_refusal_does_not_repeat_what_was_written() -> None:
    for source in (
        "{{ 'hidden 8352' bad }}",
        "{{ hidden.8352('x' }}",
        "{{ '8352\nhidden }}",
    ):
        found = objection(Kind.TEST, "body", source)
        assert found is not None
        assert "8352'" not in found


def test_a_template_that_fails_at_last_costs_its_wording_and_not_the_alert() -> None:
    """No sample has as many voicemails as a mailbox may have: what is fine with those may still fail."""
    source = "{% if count > 100 %}{{ voicemails[count] }}{% else %}few{% endif %}"
    assert objection(Kind.VOICEMAIL_SUMMARY, "body", source) is None
    voice = Voice(UTC, DANISH, templates={Kind.VOICEMAIL_SUMMARY: {"body": filling("body", source)}})
    said = voice.says(summary(200), maybe_repeat=True)
    assert said.failed == "uses a variable that does not exist"
    assert said.text == Voice(UTC, DANISH).says(summary(200), maybe_repeat=True).text
