"""Calling back: a link where the channel can carry one, to a number in E.164 and to nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receivers import MailServer, Webhook

from vmwatch import languages
from vmwatch.calls import in_html, in_markdown, in_ntfy_url
from vmwatch.channels import Channel, prepare, shown
from vmwatch.models import MINUTE, Links, Outcome
from vmwatch.texts import ENGLISH
from vmwatch.wording import Text, tappable

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NUMBER = "+4599778822"
ALERT = Text("Voicemail from Donald", f"From: Donald <b>\nCall back: {NUMBER}", NUMBER, "Call back")
ACK, SNOOZE = (f"https://vm_1.example.com/vm/{act}/abc2-_x.def3" for act in ("ack", "snooze"))
LINKS = Links(ACK, SNOOZE)
TAPPABLE = tappable(ALERT, LINKS, ENGLISH)
BARE = [f"Acknowledge: {ACK}", f"Snooze 1 h: {SNOOZE}"]
DANISH = languages.texts("da")
SILENT = Text("Voicemail from Donald", "From: Donald\nLine: Home")
MATTERMOST = "mmost://127.0.0.1/3ccdd113474722377935511fc85d3dd4?format=markdown"
NO_NUMBERS = ["", "112", "+45", "+0599778822", "+4599778822\n", "99778822", "tel:+4599778822", "+45 99 77 88 22", "+4599778822;x"]  # fmt: skip  # noqa: E501


@pytest.fixture(autouse=True)
def _prepared() -> None:
    prepare()


async def test_html_mail_has_a_link_that_calls_back_and_the_number_beside_it() -> None:
    async with MailServer() as mail:
        receipt = await Channel("mail", f"{mail.url}&format=html").send(ALERT, MINUTE)
        (letter,) = await mail.heard(1)
    assert receipt.outcome is Outcome.SENT
    html, plain = (letter.message.get_body((kind,)) for kind in ("html", "plain"))
    assert html is not None
    assert plain is not None
    assert f'<a href="tel:{NUMBER}">{NUMBER}</a>' in html.get_content()
    assert "Donald&nbsp;&lt;b&gt;<br/>" in html.get_content()
    assert f"Call back: {NUMBER}" in plain.get_content().replace("\xa0", " ")
    assert letter.message["Subject"] == ALERT.title


async def test_plain_mail_has_the_number_alone() -> None:
    async with MailServer() as mail:
        await Channel("mail", mail.url).send(ALERT, MINUTE)
        (letter,) = await mail.heard(1)
    assert letter.message.get_content().splitlines()[:2] == ALERT.body.splitlines()


async def test_ntfy_has_a_tap_and_a_button_that_call_back() -> None:
    async with Webhook() as hook:
        receipt = await Channel("phone", f"ntfy://127.0.0.1:{hook.port}/topic").send(ALERT, MINUTE)
        (request,) = await hook.heard(1)
    assert receipt.outcome is Outcome.SENT
    assert request.body == {"topic": "topic", "title": ALERT.title, "message": ALERT.body}
    assert unquote(request.headers["X-Click"]) == f"tel:{NUMBER}"
    assert request.headers["X-Actions"] == f"view, Call back, tel:{NUMBER}"


async def test_ntfy_has_the_links_as_buttons_instead_of_lines() -> None:
    async with Webhook() as hook:
        await Channel("phone", f"ntfy://127.0.0.1:{hook.port}/topic").send(TAPPABLE, MINUTE)
        (request,) = await hook.heard(1)
    assert request.body["message"] == ALERT.body
    assert request.headers["X-Actions"] == (
        f"view, Call back, tel:{NUMBER}; view, Acknowledge, {ACK}; view, Snooze 1 h, {SNOOZE}"
    )


async def test_without_a_number_there_are_the_links_alone_and_no_tap_that_calls() -> None:
    async with Webhook() as hook:
        await Channel("phone", f"ntfy://127.0.0.1:{hook.port}/topic").send(tappable(SILENT, LINKS, DANISH), MINUTE)
        (request,) = await hook.heard(1)
    assert request.headers["X-Actions"] == f"view, Kvitter, {ACK}; view, Udskyd 1 t, {SNOOZE}"
    assert "X-Click" not in request.headers


async def test_where_a_person_wrote_buttons_of_their_own_the_links_are_lines() -> None:
    async with Webhook() as hook:
        url = f"ntfy://127.0.0.1:{hook.port}/topic?actions=view%2C%20Mine%2C%20https%3A%2F%2Fexample.com"
        await Channel("phone", url).send(TAPPABLE, MINUTE)
        (request,) = await hook.heard(1)
    assert request.headers["X-Actions"] == "view, Mine, https://example.com"
    assert request.body["message"] == TAPPABLE.body


async def test_mail_in_html_has_the_links_and_plain_mail_their_urls() -> None:
    async with MailServer() as mail:
        await Channel("mail", f"{mail.url}&format=html").send(TAPPABLE, MINUTE)
        await Channel("mail", mail.url).send(TAPPABLE, MINUTE)
        rich, plain = await mail.heard(2)
    html = rich.message.get_body(("html",))
    assert html is not None
    shown = html.get_content().replace("=\n", "")
    assert f'<a href="{ACK}">Acknowledge</a><br/><a href="{SNOOZE}">Snooze&nbsp;1&nbsp;h</a>' in shown
    assert plain.message.get_content().splitlines()[-2:] == [f"Acknowledge: {ACK}", f"Snooze 1 h: {SNOOZE}"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (MATTERMOST, [f"[Acknowledge]({ACK})", f"[Snooze 1 h]({SNOOZE})"]),
        ("ntfy://127.0.0.1/topic?format=markdown&actions=x", [f"[Acknowledge]({ACK})", f"[Snooze 1 h]({SNOOZE})"]),
        ("discord://123456789012345678/abcdefghijklmnopqrstuvwxyz?format=markdown", BARE),
        ("mmost://127.0.0.1/3ccdd113474722377935511fc85d3dd4", BARE),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", BARE),
        ("json://127.0.0.1/", BARE),
    ],
)
@pytest.mark.parametrize(
    "foreign", ["Donald", "https://evil.example.com/ack/x [Acknowledge](https://evil.example.com)"]
)
def test_each_channel_shows_the_links_as_it_can_whole_and_no_others(url: str, said: list[str], foreign: str) -> None:
    text = tappable(Text("title", f"From: {foreign}", NUMBER, "Call back"), LINKS, ENGLISH)
    found = shown(url, text)
    assert [line.rstrip() for line in found.body.splitlines()[-2:]] == said
    assert [line.rstrip() for line in found.plain.splitlines()[-2:]] == BARE
    if "json" not in url:
        assert "https://evil" not in found.body
        assert "](https://evil" not in found.body


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (MATTERMOST, f"Tap [Acknowledge]({ACK})!"),
        ("json://127.0.0.1/", f"Tap {ACK}!"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", f"Tap {ACK}!"),
        ("mailgun://user@example.com/aaaaaaaa-bbbbbbbb-cccccccc/", f'Tap&nbsp;<a href="{ACK}">Acknowledge</a>!'),
    ],
)
def test_a_link_that_stands_alone_in_a_template_is_whole_too(url: str, said: str) -> None:
    assert shown(url, replace(TAPPABLE, body=f"Tap {ACK}!")).body == said


@pytest.mark.parametrize("text", [SILENT, Text("t", "b", "112", "Call back")])
async def test_ntfy_has_neither_where_there_is_nobody_to_call(text: Text) -> None:
    async with Webhook() as hook:
        await Channel("phone", f"ntfy://127.0.0.1:{hook.port}/topic").send(text, MINUTE)
        (request,) = await hook.heard(1)
    assert not request.headers.keys() & {"X-Click", "X-Actions"}


async def test_what_a_person_wrote_into_the_ntfy_url_stays() -> None:
    async with Webhook() as hook:
        url = f"ntfy://127.0.0.1:{hook.port}/topic?click=https%3A%2F%2Fexample.com%2F&priority=high"
        await Channel("phone", url).send(ALERT, MINUTE)
        (request,) = await hook.heard(1)
    assert (request.headers["X-Click"], request.headers["X-Priority"]) == ("https://example.com/", "high")
    assert request.headers["X-Actions"] == f"view, Call back, tel:{NUMBER}"


@pytest.mark.parametrize(
    ("label", "said"), [("Ring tilbage", "Ring tilbage"), ("Zpět volat", "Call back"), ("a, b; c", "Call back")]
)
def test_a_button_s_label_is_plain_words(label: str, said: str) -> None:
    url = in_ntfy_url("ntfys://topic", Text("t", "b", NUMBER, label))
    assert unquote(url).endswith(f"actions=view, {said}, tel:{NUMBER}")


@pytest.mark.parametrize(
    ("url", "format_", "ends"),
    [
        (MATTERMOST, "markdown", f"[{NUMBER}](tel:{NUMBER})"),
        ("ntfy://127.0.0.1/topic?format=markdown", "markdown", f"[{NUMBER}](tel:{NUMBER})"),
        ("matrix://user:secret@127.0.0.1/#room?format=markdown", "markdown", f"[{NUMBER}](tel:{NUMBER})"),
        ("discord://123456789012345678/abcdefghijklmnopqrstuvwxyz?format=markdown", "markdown", f": {NUMBER}"),
        ("mmost://127.0.0.1/3ccdd113474722377935511fc85d3dd4", "text", f": {NUMBER}"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", "text", f": {NUMBER}"),
        ("mailgun://user@example.com/aaaaaaaa-bbbbbbbb-cccccccc/", "html", f'<a href="tel:{NUMBER}">{NUMBER}</a>'),
        ("json://127.0.0.1/", "text", f": {NUMBER}"),
    ],
)
def test_each_channel_calls_back_as_it_can(url: str, format_: str, ends: str) -> None:
    found = shown(url, ALERT)
    assert found.format == format_
    assert found.body.endswith(ends)
    assert found.plain.endswith(NUMBER)


@pytest.mark.parametrize(
    ("url", "link"),
    [
        (MATTERMOST, r"\]\(([^)]*)\)"),
        ("mailgun://user@example.com/aaaaaaaa-bbbbbbbb-cccccccc/", r'<a [^>]*href="([^"]*)"'),
    ],
)
@given(
    foreign=st.text(max_size=40) | st.sampled_from(["[x](tel:+4512345678)", '<a href="tel:112">', "tel:112", NUMBER])
)
def test_whatever_a_caller_writes_the_only_link_is_to_the_number(url: str, link: str, foreign: str) -> None:
    found = shown(url, Text("title", f"From: {foreign}\nCall back: {NUMBER}", NUMBER, "Call back")).body
    assert set(re.findall(link, found)) == {f"tel:{NUMBER}"}


@pytest.mark.parametrize("number", NO_NUMBERS)
def test_no_link_is_made_of_anything_but_a_number_in_e164(number: str) -> None:
    body = f"Call back: {number}"
    assert in_markdown(body, number) == in_html(body, number) == body
    assert in_ntfy_url("ntfy://topic", Text("t", body, number, "Call back")) == "ntfy://topic"


@pytest.mark.parametrize("around", [f"{NUMBER}1", f"1{NUMBER}", f"+{NUMBER}", f"!{NUMBER}"])
def test_a_longer_number_or_a_picture_is_not_made_of_it(around: str) -> None:
    assert in_markdown(around, NUMBER) == around
