from __future__ import annotations

import asyncio
import logging
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apprise
import pytest
import urllib3.exceptions
from apprise.plugins.base import NotifyBase
from receivers import ACCEPT, DRIP, DROP, HANG, MailServer, Manner, Webhook, closed_port, late, redirect, refuse

from vmwatch.channels import MOST_ABANDONED, Channel, asset, attempt, objection, prepare
from vmwatch.models import MINUTE, SECOND, Outcome, Receipt
from vmwatch.wording import Text

# Apprise itself imports a module that Python 3.11 and 3.12 call deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

LETTER = Text("Voicemail from Bjørn Ærø", "From: Bjørn Ærø, +45 99 77 88 22\nLine: Sommerhus på Ærø")
HOSTILE = "<b>*x*</b> [a](http://evil.example.com) @everyone <!channel> `c` _d_"
TRAP = Text(f"Voicemail from {HOSTILE}", f"From: {HOSTILE}\nCall back: +4599778822")


@pytest.fixture(autouse=True)
def _prepared() -> None:
    prepare()


async def answer(server: Webhook | MailServer, manner: Manner, limit: int = MINUTE) -> Receipt:
    server.manner = manner
    return await Channel("phone", server.url).send(LETTER, limit)


async def test_a_webhook_gets_title_and_body() -> None:
    async with Webhook() as hook:
        assert await answer(hook, ACCEPT) == Receipt(Outcome.SENT)
        (request,) = await hook.heard(1)
    assert (request.body["title"], request.body["message"]) == (LETTER.title, LETTER.body)


async def test_a_letter_gets_subject_body_and_address_with_danish_letters() -> None:
    async with MailServer() as mail:
        assert await answer(mail, ACCEPT) == Receipt(Outcome.SENT)
        (letter,) = await mail.heard(1)
    assert letter.recipients == ("donald@example.com",)
    assert letter.message["To"] == "donald@example.com"
    assert letter.message["Subject"] == LETTER.title
    assert letter.message.get_content().strip().splitlines() == LETTER.body.splitlines()


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
async def test_a_line_break_in_a_title_is_never_a_mail_header(break_: str) -> None:
    async with MailServer() as mail:
        await Channel("mail", mail.url).send(Text(f"From Eve{break_}Bcc: eve@example.com", "body"), MINUTE)
        (letter,) = await mail.heard(1)
    assert letter.message["Subject"] == "From Eve Bcc: eve@example.com"
    assert letter.message["Bcc"] is None


@pytest.mark.parametrize(
    ("manner", "receipt"),
    [
        (refuse(404), Receipt(Outcome.REFUSED, "HTTP 404")),
        (refuse(500), Receipt(Outcome.REFUSED, "HTTP 500")),
        (DROP, Receipt(Outcome.UNKNOWN, "the connection broke off")),
    ],
)
async def test_what_a_webhook_answers_decides_the_outcome(manner: Manner, receipt: Receipt) -> None:
    async with Webhook() as hook:
        assert await answer(hook, manner) == receipt


@pytest.mark.parametrize(
    ("manner", "receipt"),
    [
        (refuse(550), Receipt(Outcome.REFUSED, "SMTP 550")),
        (refuse(451), Receipt(Outcome.REFUSED, "SMTP 451")),
        (DROP, Receipt(Outcome.UNKNOWN, "the connection broke off")),
    ],
)
async def test_what_a_mail_server_answers_decides_the_outcome(manner: Manner, receipt: Receipt) -> None:
    async with MailServer() as mail:
        assert await answer(mail, manner) == receipt


@pytest.mark.parametrize("manner", [HANG, DRIP, late(0.6)])
async def test_a_webhook_that_does_not_answer_in_time_may_have_got_it(manner: Manner) -> None:
    async with Webhook() as hook:
        assert await answer(hook, manner, 300) == Receipt(Outcome.UNKNOWN, "no answer within 0.3s")
        await hook.heard(1)


@pytest.mark.parametrize("manner", [HANG, late(0.6)])
async def test_a_mail_server_that_does_not_answer_in_time_may_have_got_it(manner: Manner) -> None:
    async with MailServer() as mail:
        assert await answer(mail, manner, 300) == Receipt(Outcome.UNKNOWN, "no answer within 0.3s")
        await mail.heard(1)


async def test_the_url_s_own_limits_do_not_turn_silence_into_a_refusal() -> None:
    async with Webhook(late(0.4)) as hook:
        assert await Channel("phone", hook.url + "?rto=0.1").send(LETTER, MINUTE) == Receipt(Outcome.SENT)
    async with MailServer(late(0.4)) as mail:
        assert await Channel("mail", mail.url + "&cto=0.1").send(LETTER, MINUTE) == Receipt(Outcome.SENT)


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1:{port}/",
        "mailto://127.0.0.1:{port}?mode=insecure&from=a@example.com",
        "json://nowhere.invalid/",
        "mailto://nowhere.invalid?mode=insecure&from=a@example.com",
    ],
)
async def test_a_connection_that_was_never_made_is_a_refusal(url: str) -> None:
    receipt = await Channel("phone", url.format(port=closed_port())).send(LETTER, MINUTE)
    assert receipt == Receipt(Outcome.REFUSED, "could not connect")


async def test_a_mail_server_that_hangs_up_before_the_letter_is_a_refusal() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        receipt = await Channel("mail", f"mailto://127.0.0.1:{port}?mode=insecure&from=a@example.com").send(
            LETTER, MINUTE
        )
    assert receipt == Receipt(Outcome.REFUSED, "could not connect")


async def test_a_tls_handshake_that_fails_is_a_refusal() -> None:
    async with Webhook() as hook:
        receipt = await Channel("phone", f"jsons://127.0.0.1:{hook.port}/").send(LETTER, MINUTE)
        assert receipt == Receipt(Outcome.REFUSED, "could not connect")


async def test_a_redirect_is_never_followed() -> None:
    async with Webhook() as hook, Webhook() as elsewhere:
        hook.manner = redirect(elsewhere.http)
        receipt = await Channel("phone", hook.url + "?redirect=yes").send(LETTER, MINUTE)
        assert receipt == Receipt(Outcome.REFUSED, "HTTP 307")
        assert elsewhere.record == []


async def test_a_url_can_ask_neither_for_repeats_nor_for_praise() -> None:
    async with Webhook(refuse(500)) as hook:
        receipt = await Channel("phone", hook.url + "?retry=3&wait=0&optional=yes").send(LETTER, MINUTE)
        assert receipt == Receipt(Outcome.REFUSED, "HTTP 500")
        assert len(hook.record) == 1


async def test_twelve_hanging_channels_delay_no_healthy_one() -> None:
    async with Webhook() as healthy:
        async with Webhook(HANG) as hanging:
            channels = [Channel(f"c{count}", hanging.url) for count in range(12)]
            waiting = [asyncio.create_task(channel.send(LETTER, MINUTE)) for channel in channels]
            await hanging.heard(12)
            assert await answer(healthy, ACCEPT) == Receipt(Outcome.SENT)
            assert not any(task.done() for task in waiting)
        assert {receipt.outcome for receipt in await asyncio.gather(*waiting)} == {Outcome.UNKNOWN}


async def test_an_answer_that_comes_too_late_disturbs_nobody() -> None:
    disturbed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: disturbed.append(context))
    async with Webhook(late(0.4)) as hook:
        before = set(threading.enumerate())
        assert (await Channel("phone", hook.url).send(LETTER, 100)).outcome is Outcome.UNKNOWN
        for thread in set(threading.enumerate()) - before:
            await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)
    assert disturbed == []


async def test_a_cancelled_send_leaves_its_thread_without_a_word() -> None:
    async with Webhook(HANG) as hook:
        task = asyncio.create_task(Channel("phone", hook.url).send(LETTER, MINUTE))
        await hook.heard(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_no_further_thread_is_started_while_too_many_hang() -> None:
    async with Webhook(DRIP) as hook:
        channel = Channel("phone", hook.url)
        for _ in range(MOST_ABANDONED + 1):
            assert (await channel.send(LETTER, 20)).outcome is Outcome.UNKNOWN
        assert await channel.send(LETTER, 20) == Receipt(Outcome.REFUSED, "earlier attempts still hang")
        await hook.heard(MOST_ABANDONED + 1)
        hook.manner = ACCEPT
        for _ in range(1000):  # nothing tells when a thread has ended
            if (receipt := await channel.send(LETTER, MINUTE)).outcome is not Outcome.REFUSED:
                break
            await asyncio.sleep(0.01)
        assert receipt == Receipt(Outcome.SENT)


EXITING = """
import asyncio, sys, threading
from vmwatch.channels import Channel, prepare
from vmwatch.wording import Text
prepare()
print(asyncio.run(Channel("phone", sys.argv[1]).send(Text("title", "body"), 300)).outcome)
"""
LINGERING = "[thread.join() for thread in threading.enumerate() if thread.daemon]"


@pytest.mark.parametrize(("manner", "then"), [(DRIP, ""), (late(0.6), LINGERING)], ids=["at once", "after the thread"])
async def test_a_hanging_send_does_not_hold_up_the_interpreter_s_exit(manner: Manner, then: str) -> None:
    async with Webhook(manner) as hook:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", EXITING + then, hook.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )
        said, complained = await asyncio.wait_for(process.communicate(), 20)
        assert (process.returncode, said.strip(), complained) == (0, b"unknown", b"")
        assert len(hook.record) == 1


class Recording(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "asyncio":
            self.lines.append(f"{record.levelname} {record.name} {record.getMessage()}")


@pytest.fixture
def logged() -> Iterator[tuple[list[str], list[str]]]:
    """What reaches a handler of the root, and what a handler hung on Apprise's own logger would get."""
    root, own = logging.getLogger(), logging.getLogger("apprise")
    before, at_root, at_apprise = root.level, Recording(), Recording()
    root.setLevel(logging.DEBUG)
    root.addHandler(at_root)
    own.addHandler(at_apprise)
    yield at_root.lines, at_apprise.lines
    root.setLevel(before)
    root.removeHandler(at_root)
    own.removeHandler(at_apprise)


@pytest.mark.parametrize("manner", [ACCEPT, refuse(403), DROP])
async def test_no_secret_is_logged_or_told(manner: Manner, logged: tuple[list[str], list[str]]) -> None:
    async with Webhook(manner) as hook:
        url = f"json://duck:s3cret@127.0.0.1:{hook.port}/s3cret-path?+X-Token=s3cret-token"
        channel = Channel("phone", url)
        receipt = await channel.send(LETTER, MINUTE)
        (request,) = await hook.heard(1)
    assert request.headers["X-Token"] == "s3cret-token"
    assert objection(url) is None
    at_root, at_apprise = logged
    assert at_root == []
    assert [line for line in at_apprise if not line.startswith("WARNING")] == []
    assert "s3cret" not in repr(receipt) + repr(channel) + str(channel) + "\n".join(at_apprise)


@pytest.mark.parametrize("name", ["apprise", "urllib3", "urllib3.connectionpool", "requests_oauthlib", "oauthlib"])
def test_the_talkative_loggers_are_shut(name: str, logged: tuple[list[str], list[str]]) -> None:
    logging.getLogger(name).debug("s3cret")
    logging.getLogger(name).warning("s3cret")
    assert logged[0] == []


async def test_the_machine_s_netrc_adds_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login duck password quack\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    async with Webhook() as hook:
        await answer(hook, ACCEPT)
        (request,) = await hook.heard(1)
    assert "Authorization" not in request.headers


class Broken(NotifyBase):  # type: ignore[no-untyped-call]
    """A plug-in that raises what it was given."""

    def __init__(self, error: Exception) -> None:
        super().__init__(asset=asset())  # type: ignore[no-untyped-call]
        self.error = error

    def url(self, *_: Any, **__: Any) -> str:
        return "broken://"

    def send(self, *_: Any, **__: Any) -> bool:
        raise self.error


NOBODY: Any = None


def wrapped(reason: Exception) -> Exception:
    return urllib3.exceptions.MaxRetryError(NOBODY, "s3cret", reason)


NOT_MADE = Receipt(Outcome.REFUSED, "could not connect")
BROKEN_OFF = Receipt(Outcome.UNKNOWN, "the connection broke off")
TOO_LATE = Receipt(Outcome.UNKNOWN, "no answer in time")


@pytest.mark.parametrize(
    ("error", "receipt"),
    [
        (ConnectionRefusedError("s3cret"), NOT_MADE),
        (socket.gaierror("s3cret"), NOT_MADE),
        (OSError(urllib3.exceptions.ConnectTimeoutError("s3cret")), NOT_MADE),
        (OSError(urllib3.exceptions.SSLError("s3cret")), NOT_MADE),
        (OSError(urllib3.exceptions.ProxyError("s3cret", OSError())), NOT_MADE),
        (OSError(wrapped(urllib3.exceptions.NewConnectionError(NOBODY, "s3cret"))), NOT_MADE),
        (TimeoutError("s3cret"), TOO_LATE),
        (OSError(urllib3.exceptions.ReadTimeoutError(NOBODY, "s3cret", "s3cret")), TOO_LATE),
        (ConnectionResetError("s3cret"), BROKEN_OFF),
        (smtplib.SMTPServerDisconnected("s3cret"), BROKEN_OFF),
        (smtplib.SMTPAuthenticationError(535, b"s3cret"), Receipt(Outcome.REFUSED, "SMTP 535")),
        (smtplib.SMTPRecipientsRefused({"s3cret": (551, b"s3cret")}), Receipt(Outcome.REFUSED, "SMTP 551")),
        (KeyError("s3cret"), Receipt(Outcome.REFUSED, "the channel's plug-in failed (KeyError)")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.detail,
)  # fmt: skip
async def test_the_kind_of_an_error_decides_and_its_text_is_never_told(error: Exception, receipt: Receipt) -> None:
    assert await asyncio.to_thread(attempt, Broken(error), LETTER, SECOND) == receipt


async def test_no_mistake_in_the_thread_of_a_send_is_silence() -> None:
    receipt = await Channel("phone", "json://127.0.0.1/").send(Text(None, "body"), MINUTE)  # type: ignore[arg-type]
    assert receipt == Receipt(Outcome.REFUSED, "the channel's plug-in failed (AttributeError)")


async def test_a_url_that_cannot_be_built_is_a_refusal() -> None:
    receipt = await Channel("phone", "nonsense://").send(LETTER, MINUTE)
    assert receipt == Receipt(Outcome.REFUSED, "is not a URL that Apprise can build a channel from")


# What callers wrote, where it would become active.


async def sent_to(hook: Webhook, url: str, *addresses: str) -> Any:
    """What the plug-in of a fixed service posts, its addresses turned to this machine."""
    plugin = apprise.Apprise.instantiate(url, asset=asset())
    assert plugin is not None
    for address in addresses:
        setattr(plugin, address, hook.http)
    await asyncio.to_thread(attempt, plugin, TRAP, MINUTE)
    return (await hook.heard(1))[0].body


ACTIVE = ("<b>", "*x*", "[a](", "@everyone", "<!channel>", "`c`", "_d_", "http://evil")


def assert_nothing_active(said: str) -> None:
    assert [sign for sign in ACTIVE if sign in said] == []
    assert "evil.example.com" in said
    assert "4599778822" in said


@pytest.mark.parametrize("query", ["", "?format=markdown", "?format=text"])
async def test_discord_shows_a_hostile_name_as_characters(query: str) -> None:
    async with Webhook() as hook:
        body = await sent_to(hook, f"discord://123/abc{query}", "notify_url")
    assert_nothing_active(str(body))


@pytest.mark.parametrize("query", ["", "?format=markdown", "?blocks=yes"])
async def test_slack_shows_a_hostile_name_as_characters(query: str) -> None:
    async with Webhook() as hook:
        body = await sent_to(hook, f"slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7{query}", "webhook_url")
    assert_nothing_active(str(body["attachments"]))


async def test_mattermost_shows_a_hostile_name_as_characters() -> None:
    async with Webhook() as hook:
        assert await Channel("chat", f"mmost://127.0.0.1:{hook.port}/token").send(TRAP, MINUTE) == Receipt(Outcome.SENT)
        (request,) = await hook.heard(1)
    assert_nothing_active(request.body["text"])
    assert "Voicemail from ＜b＞＊x＊" in request.body["text"]


async def test_telegram_shows_a_hostile_name_as_characters() -> None:
    async with Webhook() as hook:
        body = await sent_to(hook, "tgram://123456789:abcdefg_hijklmnop/42", "notify_url")
    assert body["parse_mode"] == "HTML"
    assert body["text"].count("<b>") == 1  # Apprise's own, around the title
    assert "&lt;b&gt;*x*&lt;/b&gt;" in body["text"]
    assert "@everyone" not in body["text"]
    assert "http://evil" not in body["text"]
    assert "+4599778822" in body["text"]


async def test_html_mail_shows_a_hostile_name_as_characters() -> None:
    async with MailServer() as mail:
        assert await Channel("mail", mail.url + "&format=html").send(TRAP, MINUTE) == Receipt(Outcome.SENT)
        (letter,) = await mail.heard(1)
    html = letter.message.get_body(("html",))
    assert html is not None
    assert "<b>" not in html.get_content()
    assert "&lt;b&gt;" in html.get_content()


async def test_plain_channels_keep_a_caller_s_characters() -> None:
    async with Webhook() as hook, MailServer() as mail:
        await Channel("hook", hook.url).send(TRAP, MINUTE)
        await Channel("mail", mail.url).send(TRAP, MINUTE)
        (request,), (letter,) = await hook.heard(1), await mail.heard(1)
    assert (request.body["title"], request.body["message"]) == (TRAP.title, TRAP.body)
    assert letter.message["Subject"] == TRAP.title
    assert HOSTILE in letter.message.get_content()


async def test_a_caller_draws_no_emoji() -> None:
    async with Webhook() as hook:
        await Channel("hook", hook.url + "?emojis=yes").send(Text(":smile:", ":smile:"), MINUTE)
        (request,) = await hook.heard(1)
    assert (request.body["title"], request.body["message"]) == (":smile:", ":smile:")


# Which URLs are a channel.


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1/path",
        "jsons://hook.example.com/path?+X-Token=secret",
        "json://127.0.0.1/?retry=3",
        "ntfys://my-secret-topic",
        "ntfys://ntfy.example.com/my-secret-topic",
        "mailto://duck:quack@example.com",
        "mailto://duck:quack@example.com?to=Daisy <daisy@example.com>",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7/%23general",
        "discord://123/abc",
        "https://discord.com/api/webhooks/123/abc",
        "tgram://123456789:abcdefg_hijklmnop/42",
        "apprise://apprise.example.com/token",
        "irc://irc.example.com/%23general",
    ],
)
def test_a_url_of_one_target_is_a_channel(url: str) -> None:
    assert objection(url) is None


@pytest.mark.parametrize(
    ("url", "targets"),
    [
        ("mailto://duck:quack@example.com?to=a@example.com,b@example.com", 2),
        ("mailto://duck:quack@example.com/a@example.com/b@example.com/c@example.com", 3),
        ("mailto://duck:quack@example.com?to=a@example.com&cc=b@example.com", 2),
        ("mailto://duck:quack@example.com?bcc=b@example.com", 2),
        ("mailto://duck:quack@example.com?to=a@example.com,b@example.com&retry=2", 2),
        ("json://127.0.0.1/a, json://127.0.0.1/b", 2),
        ("json://127.0.0.1/a json://127.0.0.1/b", 2),
        ("json://127.0.0.1/a;json://127.0.0.1/b", 2),
        ("ntfys://ntfy.example.com/one/two", 2),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7/%23a/%23b", 2),
        ("tgram://123456789:abcdefg_hijklmnop/42/43", 2),
        ("d7sms://token@4599778822/4599778823?batch=yes", 2),
        ("irc://irc.example.com/%23a/%23b", 2),
    ],
)
def test_a_url_of_several_targets_is_refused(url: str, targets: int) -> None:
    assert objection(url) == f"stands for {targets} targets: give each a channel of its own"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3cret",
        "s3cret://s3cret",
        "http://s3cret.example.com",
        "file:///s3cret",
        "memory://s3cret",
        "json://",
        "json://[::1",
        "mailto://s3cret",
        "tgram://s3cret",
        "mailto://s3cret:s3cret@example.com?to=s3cret",
        "mmost://example.com/token?to=%21%21s3cret",
        " json://s3cret.example.com",
        "json://s3cret.example.com\n",
        "json://s3cret.example.com/\x00",
    ],
)
def test_what_is_no_channel_is_refused_without_showing_it(url: str, logged: tuple[list[str], list[str]]) -> None:
    found = objection(url)
    assert found is not None
    assert "s3cret" not in found
    assert logged[0] == []


@pytest.mark.parametrize("url", ["dbus://", "macosx://", "Windows://", "glib://", "gnome://", "blink1://"])
def test_a_desktop_is_no_channel(url: str) -> None:
    assert "desktop" in (objection(url) or "")
