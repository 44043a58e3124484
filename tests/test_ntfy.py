"""ntfy in our own words: the same as Apprise's for every URL, replaced and cleared where the server can."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import apprise
import pytest
from aiohttp import web
from ntfy_server import NtfyServer, as_sent
from receivers import ACCEPT, DRIP, DROP, HANG, Manner, Request, Webhook, closed_port, redirect, refuse

from vmwatch import calls, ntfy
from vmwatch.channels import Channel, asset, attempt, objection, prepare
from vmwatch.models import MINUTE, SECOND, Outcome, Receipt
from vmwatch.wording import Text

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

LETTER = Text("Voicemail from Bjørn Ærø", "From: Bjørn Ærø\nCall back: +4599778822", "+4599778822", "Call back")
SILENT = Text("Voicemail on Home", "Call your voicemail to hear it.")
HOSTILE = Text("  <b>*x*</b> @everyone\r\nX-Email: a@example.com ", "# [a](http://evil.example.com)\n\n`c`  \n ")
LONG = Text("Long", "x" * 7_900)
SEQUENCE = "0123456789abcdef01234567"
NOTHING_DONE = Receipt(Outcome.SENT, proves=False)
SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def _prepared() -> None:
    prepare()


def read(url: str) -> ntfy.Address | None:
    plugin = apprise.Apprise.instantiate(url, asset=asset())
    assert plugin is not None
    return ntfy.address(plugin, "https://example.com/icon.png")


OURS = {
    "a topic": "ntfy://{here}/alerts",
    "a login": "ntfy://donald:p%40ss%3Aword@{here}/alerts",
    "a token": "ntfy://tk_abc123@{here}/alerts",
    "a token as password": "ntfy://donald:secret@{here}/alerts?auth=token",
    "a token of its own": "ntfy://{here}/alerts?token=tk_abc%2F123",
    "a name that is a token": "ntfy://secret@{here}/alerts?auth=token",
    "a priority": "ntfy://{here}/alerts?priority=max",
    "a priority by number": "ntfy://{here}/alerts?priority=4",
    "an ordinary priority": "ntfy://{here}/alerts?priority=default",
    "a priority that is none": "ntfy://{here}/alerts?priority=x",
    "tags": "ntfy://{here}/alerts?xtags=phone,warning",
    "tags, as they were": "ntfy://{here}/alerts?tags=phone",
    "a tap": "ntfy://{here}/alerts?click=https%3A%2F%2Fexample.com%2Fa%20b%3Fc%3Dd%23e",
    "a tap in letters": "ntfy://{here}/alerts?click=https%3A%2F%2Fexample.com%2F%C3%A6",
    "buttons": "ntfy://{here}/alerts?actions=view%2C%20Open%2C%20https%3A%2F%2Fexample.com",
    "no picture": "ntfy://{here}/alerts?image=no",
    "a picture": "ntfy://{here}/alerts?avatar_url=https%3A%2F%2Fexample.com%2Fa.png",
    "no picture, whatever it is": "ntfy://{here}/alerts?image=no&avatar_url=https%3A%2F%2Fexample.com%2Fa.png",
    "Markdown": "ntfy://{here}/alerts?format=markdown",
    "text": "ntfy://{here}/alerts?format=text",
    "a topic by name": "ntfy://{here}/?to=alerts&mode=private",
    "tries of Apprise's": "ntfy://{here}/alerts?retry=3&optional=yes&redirect=yes",
    "limits of Apprise's": "ntfy://{here}/alerts?rto=1&cto=1",
}
THEIRS = {
    "an attachment": "ntfy://{here}/alerts?attach=https%3A%2F%2Fexample.com%2Fa.png",
    "mail": "ntfy://{here}/alerts?email=a%40example.com",
    "a delay": "ntfy://{here}/alerts?delay=30m",
    "HTML": "ntfy://{here}/alerts?format=html",
    "parts": "ntfy://{here}/alerts?overflow=split",
    "a cut": "ntfy://{here}/alerts?overflow=truncate",
    "whoever has a certificate": "ntfys://{here}/alerts?verify=no",
    "a name without a password": "ntfy://donald@{here}/alerts",
    "a login of which nothing is there": "ntfy://{here}/alerts?auth=token",
}


@pytest.mark.parametrize("text", [LETTER, SILENT, HOSTILE, LONG], ids=["letter", "silent", "hostile", "long"])
@pytest.mark.parametrize("url", OURS.values(), ids=OURS)
async def test_the_server_is_told_what_apprise_would_tell_it(url: str, text: Text) -> None:
    async with NtfyServer() as server:
        url = url.format(here=f"127.0.0.1:{server.port}")
        assert read(url) is not None
        plugin = apprise.Apprise.instantiate(calls.in_ntfy_url(url, text), asset=asset())
        assert plugin is not None
        assert await asyncio.to_thread(attempt, plugin, text, MINUTE) == Receipt(Outcome.SENT)
        assert await Channel("phone", url).send(text, MINUTE, SEQUENCE) == Receipt(Outcome.SENT, shown_as=SEQUENCE)
        theirs, ours = map(as_sent, await server.heard(2))
    assert ours.pop("X-Sequence-Id") == SEQUENCE
    assert ours == theirs


@pytest.mark.parametrize("url", THEIRS.values(), ids=THEIRS)
def test_what_we_do_not_do_is_left_to_apprise(url: str) -> None:
    assert read(url.format(here="127.0.0.1:81")) is None


@pytest.mark.parametrize(
    ("url", "base", "topic", "logs_in"),
    [
        ("ntfys://my-topic", "https://ntfy.sh", "my-topic", False),
        ("ntfy://my-topic", "https://ntfy.sh", "my-topic", False),
        ("ntfys://ntfy.sh/my-topic", "https://ntfy.sh", "my-topic", False),
        ("ntfys://tk_a@ntfy.sh/my-topic", "https://ntfy.sh", "my-topic", True),
        ("ntfys://ntfy.example.com/my-topic", "https://ntfy.example.com", "my-topic", False),
        ("ntfys://a:b@ntfy.example.com:8443/my-topic", "https://ntfy.example.com:8443", "my-topic", True),
        ("ntfy://ntfy.example.com/my-topic", "http://ntfy.example.com", "my-topic", False),
        ("NTFYS://ntfy.example.com/my-topic", "https://ntfy.example.com", "my-topic", False),
    ],
)
def test_where_a_url_leads(url: str, base: str, topic: str, logs_in: bool) -> None:
    there = read(url)
    assert there is not None
    assert (there.base, there.topic, bool(there.authorization)) == (base, topic, logs_in)
    assert objection(url) is None


async def test_letters_beyond_ascii_reach_the_server_whole() -> None:
    """Apprise sends them in Latin-1, which ntfy does not read, and fails for others."""
    async with NtfyServer() as server:
        url = f"ntfy://d%C3%B8nald:p%C3%A6ss%E2%82%AC@127.0.0.1:{server.port}/alerts?xtags=%C3%A6%E2%82%AC"
        assert (await Channel("phone", url).send(LETTER, MINUTE)).outcome is Outcome.SENT
        (request,) = await server.heard(1)
    assert request.headers["X-Tags"] == "æ€"
    assert request.headers["Authorization"] == "Basic ZMO4bmFsZDpww6Zzc+KCrA=="


async def test_what_comes_with_the_same_name_takes_the_place_of_what_was_there() -> None:
    async with NtfyServer() as server:
        channel = Channel("phone", server.url)
        for title in ("first", "second"):
            await channel.send(Text(title, "body"), MINUTE, SEQUENCE)
        await channel.send(Text("another", "body"), MINUTE)
        assert server.screen() == ["second", "another"]
        assert await channel.clear(SEQUENCE, MINUTE) == Receipt(Outcome.SENT)
        assert server.screen() == ["another"]


async def test_what_is_to_be_heard_again_is_cleared_before() -> None:
    async with NtfyServer() as server:
        channel = Channel("phone", server.url)
        await channel.send(Text("first", "body"), MINUTE, SEQUENCE)
        receipt = await channel.send(Text("second", "body"), MINUTE, SEQUENCE, anew=True)
        assert (receipt, server.screen(), server.sounds()) == (Receipt(Outcome.SENT, shown_as=SEQUENCE), ["second"], 2)


async def test_what_can_t_be_cleared_before_is_told_all_the_same() -> None:
    async with Clumsy() as server:
        receipt = await Channel("phone", server.url).send(LETTER, 2 * SECOND, SEQUENCE, anew=True)
    assert receipt.outcome is Outcome.SENT
    assert [request.method for request in server.record] == ["PUT", "POST"]


async def test_an_old_server_shows_each_by_itself_and_clears_nothing() -> None:
    async with NtfyServer(old=True) as server:
        channel = Channel("phone", server.url)
        for title in ("first", "second"):
            assert await channel.send(Text(title, "body"), MINUTE, SEQUENCE) == Receipt(Outcome.SENT)
        assert await channel.clear(SEQUENCE, MINUTE) == NOTHING_DONE
        assert server.screen() == ["first", "second"]


async def test_clearing_logs_in_too() -> None:
    async with NtfyServer(login="Bearer tk_abc") as server:
        channel = Channel("phone", server.url.replace("//", "//tk_abc@"))
        await channel.send(SILENT, MINUTE, SEQUENCE)
        await channel.clear(SEQUENCE, MINUTE)
        assert server.cleared() == [SEQUENCE]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410])
async def test_a_server_that_does_not_clear_is_no_trouble(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vmwatch")
    async with NtfyServer() as server:
        server.manner = refuse(status)
        assert await Channel("phone", server.url).clear(SEQUENCE, MINUTE) == NOTHING_DONE
    (record,) = caplog.records
    assert (record.levelno, f"HTTP {status}" in record.message) == (logging.DEBUG, True)


@pytest.mark.parametrize("status", [307, 408, 425, 429, 500, 503])
async def test_what_may_be_cleared_later_is_refused_now(status: int) -> None:
    async with NtfyServer() as server:
        server.manner = refuse(status)
        assert await Channel("phone", server.url).clear(SEQUENCE, MINUTE) == Receipt(Outcome.REFUSED, f"HTTP {status}")


@pytest.mark.parametrize("url", ["json://127.0.0.1:{port}/", THEIRS["a delay"].replace("{here}", "127.0.0.1:{port}")])
async def test_where_nothing_can_be_cleared_nobody_is_asked(url: str) -> None:
    async with Webhook() as hook:
        channel = Channel("phone", url.format(port=hook.port))
        assert await channel.clear(SEQUENCE, MINUTE) == NOTHING_DONE
        assert await channel.send(SILENT, MINUTE, SEQUENCE) == Receipt(Outcome.SENT)
        (request,) = await hook.heard(1)
    assert "X-Sequence-ID" not in request.headers


class Clumsy(NtfyServer):
    """A server that hangs when it is to clear something."""

    async def _keep(self, received: Request) -> Manner:
        self.manner = HANG if received.method == "PUT" else ACCEPT
        return await super()._keep(received)


OUTCOMES = [
    (refuse(401), Receipt(Outcome.REFUSED, "HTTP 401")),
    (refuse(404), Receipt(Outcome.REFUSED, "HTTP 404")),
    (refuse(429), Receipt(Outcome.REFUSED, "HTTP 429")),
    (refuse(500), Receipt(Outcome.REFUSED, "HTTP 500")),
    (refuse(204), Receipt(Outcome.REFUSED, "HTTP 204")),
    (redirect("http://127.0.0.1:9/"), Receipt(Outcome.REFUSED, "HTTP 307")),
    (DROP, Receipt(Outcome.UNKNOWN, "the connection broke off")),
    (HANG, Receipt(Outcome.UNKNOWN, "no answer within 0.3s")),
]


@pytest.mark.parametrize(("manner", "receipt"), OUTCOMES)
async def test_what_the_server_answers_decides_the_outcome(manner: Manner, receipt: Receipt) -> None:
    limit = 300 if manner is HANG else MINUTE
    async with NtfyServer() as server:
        server.manner = manner
        assert await Channel("phone", server.url).send(LETTER, limit, SEQUENCE) == receipt


async def test_a_redirect_is_never_followed() -> None:
    async with NtfyServer() as other, NtfyServer() as server:
        server.manner = redirect(other.http)
        for sent in (
            Channel("phone", server.url).send(LETTER, MINUTE),
            Channel("phone", server.url).clear("a", MINUTE),
        ):
            assert (await sent).outcome is Outcome.REFUSED
        assert other.record == []


async def test_an_answer_that_drips_was_a_yes() -> None:
    async with NtfyServer() as server:
        server.manner = DRIP
        assert await Channel("phone", server.url).send(LETTER, 300, SEQUENCE) == Receipt(Outcome.SENT)


async def test_nobody_there_was_not_reached() -> None:
    for url in (f"ntfy://127.0.0.1:{closed_port()}/alerts", f"ntfys://127.0.0.1:{closed_port()}/alerts"):
        assert await Channel("phone", url).send(LETTER, MINUTE) == Receipt(Outcome.REFUSED, "could not connect")
        assert await Channel("phone", url).clear("a", MINUTE) == Receipt(Outcome.REFUSED, "could not connect")


async def test_no_secure_connection_is_no_connection() -> None:
    async with NtfyServer() as server:
        receipt = await Channel("phone", server.url.replace("ntfy:", "ntfys:")).send(LETTER, MINUTE)
    assert receipt == Receipt(Outcome.REFUSED, "could not connect")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of nobody's, for 127.0.0.1; its key lies beside it."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem"), "-days", "2"]
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *files, *named], check=True, capture_output=True)
    return tmp_path / "certificate.pem"


@pytest.mark.parametrize(
    ("bundle", "receipt"),
    [
        ("", Receipt(Outcome.REFUSED, "could not connect")),
        ("certificate.pem", Receipt(Outcome.SENT)),
        ("nowhere.pem", Receipt(Outcome.REFUSED, "could not connect")),
    ],
)
async def test_a_certificate_is_checked_against_those_that_apprise_would_be_told_of(
    bundle: str, receipt: Receipt, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_name(bundle)) if bundle else "")
    async with NtfyServer() as plain:
        assert (await Channel("phone", plain.url).send(LETTER, MINUTE)).outcome is Outcome.SENT  # whatever it is
    server = NtfyServer()
    server.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.tls.load_cert_chain(certificate, certificate.with_name("key.pem"))
    async with server:
        assert await Channel("phone", server.url.replace("ntfy:", "ntfys:")).send(LETTER, MINUTE) == receipt


async def test_behind_a_proxy_it_is_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Webhook() as proxy:
        monkeypatch.setenv("http_proxy", proxy.http)
        receipt = await Channel("phone", "ntfy://ntfy.example.com/alerts").send(LETTER, MINUTE, SEQUENCE)
        (request,) = await proxy.heard(1)
    assert (receipt.outcome, request.headers["Host"]) == (Outcome.SENT, "ntfy.example.com")
    assert request.headers["X-Sequence-ID"] == SEQUENCE


class Odd(NtfyServer):
    """A server whose yes is followed by anything."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body

    def _yes(self, request: web.BaseRequest, read: str) -> web.Response:
        return web.Response(body=self.body, content_type="application/json")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'"a"',
        b"\xff",
        b'{"id": "a"}',
        b'{"sequence_id": 1}',
        b'{"sequence_id": "b"}',
        b"[" * 60_000,
        b'{"sequence_id": "' + SEQUENCE.encode() + b'", "x": "' + b"x" * (1 << 20) + b'"}',
    ],
    ids=range(11),
)
async def test_an_answer_that_is_not_ntfy_s_is_a_yes_without_a_name(body: bytes) -> None:
    async with Odd(body) as server:
        assert await Channel("phone", server.url).send(LETTER, 20 * SECOND, SEQUENCE) == Receipt(Outcome.SENT)


async def test_what_is_too_long_for_a_message_is_left_to_apprise() -> None:
    async with Webhook() as hook:
        url = f"ntfy://127.0.0.1:{hook.port}/alerts"
        receipt = await Channel("phone", url).send(replace(LONG, body="x" * 8_000), MINUTE, SEQUENCE)
        (request,) = await hook.heard(1)
    assert receipt == Receipt(Outcome.SENT)
    assert (request.path.partition("?")[0], "X-Sequence-ID" in request.headers) == ("/alerts", False)


@pytest.mark.parametrize(
    ("proxies", "known"),
    [
        ({}, True),
        ({"http_proxy": "http://proxy.example.com:3128", "no_proxy": "127.0.0.1"}, True),
        ({"https_proxy": "socks5://proxy.example.com"}, False),
        ({"all_proxy": "http://proxy.example.com"}, False),
    ],
)
def test_a_proxy_that_only_apprise_knows_is_left_to_it(
    proxies: dict[str, str], known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    assert ntfy.way_is_known() is known


@pytest.mark.parametrize("manner", [manner for manner, _ in OUTCOMES])
async def test_nothing_of_the_url_is_told(manner: Manner, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with NtfyServer() as server:
        server.manner = manner
        url = f"ntfy://{SECRET}:{SECRET}@127.0.0.1:{server.port}/{SECRET}?click={SECRET}&xtags={SECRET}"
        told = [Channel("phone", url).send(LETTER, 300, SEQUENCE), Channel("phone", url).clear(SEQUENCE, 300)]
        said: list[Any] = [repr(await one) for one in told]
        there = read(url)
        assert there is not None
        said += [repr(there), repr(ntfy.letter(there, "t", "b")), caplog.text]
    assert [one for one in said if SECRET in one or "ntfy://" in one] == []


@pytest.mark.parametrize(
    "url", ["ntfy://127.0.0.1:{port}/a?click=x%0D%0AX-Email:%20a", "ntfy://127.0.0.1:{port}/a?xtags=x%0Dy"]
)
async def test_a_line_break_in_an_option_is_never_a_header(url: str) -> None:
    async with NtfyServer() as server:
        receipt = await Channel("phone", url.format(port=server.port)).send(LETTER, MINUTE)
        names = {name for request in server.record for name in request.headers}
    assert "X-Email" not in names
    assert receipt.detail in ("", "its URL makes no request")
