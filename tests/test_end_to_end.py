"""The main job, whole: a message at the operator arrives by mail and by webhook, whatever dies in between."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from receivers import ACCEPT, HANG, MailServer, Manner, Webhook, refuse
from world import PIN, World, until, world_in

from vmwatch.wording import REPEAT

MESSAGES: tuple[tuple[str | None, str | None, int, str], ...] = (
    ("+4599778822", "Donald Duck", 37, "2024-07-01T10:30:00.000Z"),
    ("+46812345678", "Åke Lindström", 125, "2024-01-01T23:05:00.000Z"),
    ("+4520305071", None, 3, "2024-01-02T00:00:00.000Z"),
    (None, None, 3725, "2024-01-03T00:00:00.000Z"),
)
"""Caller, name, seconds, and when."""
WORDS = (
    (
        "Voicemail from Donald Duck",
        "From: Donald Duck, +45 99 77 88 22",
        "Line: Værkstedet",
        "Length: 0:37",
        "Received: Mon 1 Jul 2024 12:30 CEST",
        "Call back: +4599778822",
    ),
    (
        "Voicemail from Åke Lindström",
        "From: Åke Lindström, +46 8 123 456 78",
        "Line: Værkstedet",
        "Length: 2:05",
        "Received: Tue 2 Jan 2024 00:05 CET",
        "Call back: +46812345678",
    ),
    (
        "Voicemail from +45 20 30 50 71",
        "From: +45 20 30 50 71",
        "Line: Værkstedet",
        "Length: 0:03",
        "Received: Tue 2 Jan 2024 01:00 CET",
        "Call back: +4520305071",
    ),
    (
        "Voicemail from a withheld number",
        "From: a withheld number",
        "Line: Værkstedet",
        "Length: 1:02:05",
        "Received: Wed 3 Jan 2024 01:00 CET",
    ),
)
"""The title and the lines that people get for each of these."""


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with MailServer() as server:
        yield server


@pytest.fixture
async def world(tmp_path: Path, hook: Webhook, mail: MailServer) -> AsyncIterator[World]:
    """One line, and both channels, each tried again within a second or two."""
    async with world_in(tmp_path) as found:
        found.environment["TZ"] = "Europe/Copenhagen"
        found.config["delivery"] = {"timeout": "20s", "retry": {"initial": "1s", "max": "2s"}}
        found.line("home", label="Værkstedet")
        found.channel("hook", hook.url)
        found.channel("mail", mail.url)
        yield found


def leave(world: World, name: str, **more: Any) -> str:
    return world.operator.leave(world.numbers["home"], name=name, **more)


def alerts(hook: Webhook) -> list[tuple[str, list[str]]]:
    return [(request.body["title"], request.body["message"].splitlines()) for request in hook.record]


def titles(hook: Webhook) -> list[str]:
    return [title for title, _ in alerts(hook)]


def subjects(mail: MailServer) -> list[str]:
    return [str(letter.message["Subject"]) for letter in mail.record]


def lines(letter: EmailMessage) -> list[str]:
    body = letter.get_body(("plain",))
    assert body is not None
    text: str = body.get_content()
    return text.strip().splitlines()


async def all_settled(world: World) -> bool:
    owed = await world.outbox()
    return bool(owed) and all(one["state"] in ("sent", "withdrawn") for one in owed)


# ---- what arrives ----


async def test_a_message_arrives_by_mail_and_by_webhook_with_who_called_when_and_how_long(
    world: World, hook: Webhook, mail: MailServer
) -> None:
    async with world.running(cold=True):
        for count, (caller, name, length, date) in enumerate(MESSAGES, 1):
            leave(world, name, caller=caller, length=length, date=date)  # type: ignore[arg-type] # None: it has none
            await hook.heard(count)
            await mail.heard(count)
    assert [(title, *body) for title, body in alerts(hook)] == list(WORDS)
    assert [
        (subject, *lines(letter.message)) for subject, letter in zip(subjects(mail), mail.record, strict=True)
    ] == list(WORDS)
    assert {letter.recipients for letter in mail.record} == {("donald@example.com",)}


async def test_a_storm_is_one_summary_on_each_channel(world: World, hook: Webhook, mail: MailServer) -> None:
    async with world.running():
        await until(world.state_is("home", "ok"))
        for place in range(6):
            leave(world, f"Caller {place}", date=f"2024-07-01T10:3{place}:00.000Z")
        await mail.heard(1)
        await hook.heard(1)
        leave(world, "Donald Duck")
        await mail.heard(2)
    assert subjects(mail) == ["6 new voicemails on Værkstedet", "Voicemail from Donald Duck"]
    entries = [f"Caller {place}, +45 99 77 88 22, 0:37, Mon 1 Jul 2024 12:3{place} CEST" for place in range(6)]
    assert sorted(lines(mail.record[0].message)) == entries
    assert sorted(alerts(hook)[0][1]) == entries


async def test_what_a_caller_calls_himself_adds_nothing_to_a_letter(
    world: World, hook: Webhook, mail: MailServer
) -> None:
    names = {
        "Eve\r\nBcc: eve@example.com\r\n\r\nLine: forged": "Eve Bcc: eve@example.com Line: forged",
        "<img src=x onerror=alert(1)>&amp;": "<img src=x onerror=alert(1)>&amp;",
        "Eve \u202egpj.evE\u2066": "Eve gpj.evE",
    }
    async with world.running():
        await until(world.state_is("home", "ok"))
        for name in names:
            leave(world, name)
        await mail.heard(len(names))
    assert sorted(subjects(mail)) == sorted(f"Voicemail from {shown}" for shown in names.values())
    for letter in mail.record:
        assert letter.recipients == ("donald@example.com",)
        assert letter.message.get_all("To") == ["donald@example.com"]
        assert letter.message["Bcc"] is None
        # As text, in which nothing is active: the characters stay what they are.
        assert [part.get_content_type() for part in letter.message.walk()] == ["text/plain"]
        fields = [line.partition(":")[0] for line in lines(letter.message)]
        assert fields == ["From", "Line", "Length", "Received", "Call back"]


# ---- two tables ----


@pytest.mark.parametrize("by", ["webhook", "mailbox"])
async def test_two_tables_are_a_whole_configuration(tmp_path: Path, hook: Webhook, mail: MailServer, by: str) -> None:
    async with world_in(tmp_path) as world:
        base_url = world.config["operator"]["base_url"]
        number = world.line("home")
        world.operator.leave(number)
        url = hook.url if by == "webhook" else mail.url
        world.config = {"lines.home": {"number": number, "pin": PIN}, "channels.phone": {"url": url}}
        async with world.running(VMWATCH_OPERATOR__BASE_URL=base_url) as daemon:
            await (hook if by == "webhook" else mail).heard(1)
            assert "warning" not in daemon.said()
    assert titles(hook) + subjects(mail) == ["Voicemail from Donald Duck"]


# ---- whatever dies ----


@pytest.mark.parametrize(
    ("manner", "repeated"),
    [
        pytest.param(HANG, {True}, id="while the webhook hangs"),
        pytest.param(refuse(503), {False, True}, id="while it refuses"),  # True: killed before that was noted
    ],
)
async def test_killed_in_the_middle_nothing_is_lost_and_nothing_noted_comes_twice(
    world: World, hook: Webhook, mail: MailServer, manner: Manner, repeated: set[bool]
) -> None:
    async with world.running() as daemon:
        leave(world, "Noted before")
        await until(lambda: all_settled(world))
        hook.manner = manner
        leave(world, "Owed to the webhook")
        await hook.heard(2)
        await until(lambda: noted(world, "mail", 2))
        await daemon.kill()
    leave(world, "Left meanwhile")
    hook.manner = ACCEPT
    tried = len(hook.record)
    async with world.running():
        await hook.heard(tried + 2)
        await mail.heard(3)
        await until(lambda: all_settled(world))
    before, owed, meanwhile = (
        f"Voicemail from {who}" for who in ("Noted before", "Owed to the webhook", "Left meanwhile")
    )
    assert [title for title in subjects(mail) if title.startswith("Voicemail")] == [before, owed, meanwhile]
    arrived = [(title, REPEAT in body) for title, body in alerts(hook)[tried:] if title.startswith("Voicemail")]
    assert sorted(title for title, _ in arrived) == [meanwhile, owed]
    assert dict(arrived)[owed] in repeated
    assert not dict(arrived)[meanwhile]


async def noted(world: World, channel: str, count: int) -> bool:
    """Whether so many voicemails are marked as sent on a channel."""
    sent = [one for one in await world.outbox() if one["channel"] == channel and one["state"] == "sent"]
    return len([one for one in sent if one["kind"] == "voicemail.new"]) >= count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_what_was_left_while_the_daemon_was_down_is_announced_once(
    world: World, hook: Webhook, mail: MailServer, number: signal.Signals
) -> None:
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))
        daemon.send(number)
        await daemon.process.wait()
    leave(world, "Donald Duck")
    for _ in range(2):
        async with world.running():
            await until(world.polled("home", 2))
            await until(lambda: all_settled(world))
    assert (titles(hook), subjects(mail)) == (["Voicemail from Donald Duck"],) * 2


async def test_what_was_heard_before_its_channel_recovered_is_withdrawn_there(
    world: World, hook: Webhook, mail: MailServer
) -> None:
    hook.manner = refuse(503)
    world.config["channels.hook"]["events"] = ["voicemail"]
    async with world.running():
        heard = leave(world, "Heard already")
        await hook.heard(1)
        await mail.heard(1)
        world.operator.hear(world.numbers["home"], heard)
        await until(lambda: withdrawn(world, heard))
        hook.manner = ACCEPT
        tried = len(hook.record)
        leave(world, "Still new")
        await hook.heard(tried + 1)
        await until(lambda: all_settled(world))
    assert titles(hook)[tried:] == ["Voicemail from Still new"]
    states = {one["channel"]: one["state"] for one in await world.outbox() if one["message"] == heard}
    assert states == {"hook": "withdrawn", "mail": "sent"}


async def withdrawn(world: World, message: str) -> bool:
    return any(one["state"] == "withdrawn" for one in await world.outbox() if one["message"] == message)
