"""`vmwatch preview` shows what would be sent, and sends nothing."""

from __future__ import annotations

import asyncio

import pytest
from receivers import Webhook
from world import World

from vmwatch.models import Kind

KEYS = [
    *("channel", "kind", "wanted", "language", "timezone", "privacy"),
    *("title", "body", "format", "call", "buttons", "template_error"),
]


def configured(world: World, hook: Webhook) -> str:
    number = world.line("home", label="Hjemme")
    world.config["alerts"] = {"language": "da", "timezone": "Europe/Copenhagen"}
    world.channel("phone", hook.url)
    world.channel("work", f"ntfy://127.0.0.1:{hook.port}/topic?format=markdown", language="en", privacy="masked")
    world.config["channels.work.templates.voicemail.new"] = {"body": "{{ caller }} on {{ line }}"}
    return number


async def test_a_stored_message_is_shown_as_each_channel_would_get_it(world: World, hook: Webhook) -> None:
    number = configured(world, hook)
    world.config["polling"]["first_poll"] = "silent"
    id_ = world.operator.leave(
        number, caller="+4599778822", name="Donald Duck", length=37, date="2024-01-01T00:00:00.000Z"
    )
    await world.vmwatch("poll")
    ran, told = await asyncio.gather(world.vmwatch("preview", "--json", id_), world.vmwatch("preview", id_))
    assert (ran.status, told.status) == (0, 0)
    phone, work = ran.json
    assert [list(one) for one in (phone, work)] == [KEYS, KEYS]
    assert phone == {
        "channel": "phone",
        "kind": "voicemail.new",
        "wanted": True,
        "language": "da",
        "timezone": "Europe/Copenhagen",
        "privacy": "full",
        "title": "Ny talebesked fra Donald Duck",
        "body": "Fra: Donald Duck, +45 99 77 88 22\nLinje: Hjemme\nLængde: 0:37\n"
        "Modtaget: man. 1. jan. 2024 kl. 01.00 CET\nRing tilbage: +4599778822",
        "format": "text",
        "call": "+4599778822",
        "buttons": [],
        "template_error": None,
    }
    assert (work["title"], work["body"]) == ("Voicemail from +45 99 •• •• 22", "+45 99 •• •• 22 on Hjemme")
    assert (work["format"], work["call"]) == ("markdown", None)
    assert told.out.splitlines()[:2] == [
        "phone (da, Europe/Copenhagen, full, text), voicemail.new:",
        "  Ny talebesked fra Donald Duck",
    ]
    assert hook.record == []
    assert await world.outbox() == []


async def test_links_are_shown_where_they_would_stand_and_nobody_can_use_them(world: World, hook: Webhook) -> None:
    configured(world, hook)
    world.config["web"] = {"listen": "127.0.0.1:0", "public_url": "https://vm.example.com"}
    world.channel("tap", f"ntfy://127.0.0.1:{hook.port}/topic")
    ran, told = await asyncio.gather(world.vmwatch("preview", "--json"), world.vmwatch("preview", "--channel", "tap"))
    phone, _, tap = ran.json
    acts = {"Kvitter": "https://vm.example.com/ack/sample", "Udskyd 1 t": "https://vm.example.com/snooze/sample"}
    assert phone["body"].splitlines()[-2:] == [f"{label}: {url}" for label, url in acts.items()]
    call = {"label": "Ring tilbage", "url": "tel:+4599778822"}
    assert tap["buttons"] == [call, *({"label": label, "url": url} for label, url in acts.items())]
    assert "https:" not in tap["body"]
    assert "  [Kvitter] https://vm.example.com/ack/sample" in told.out.splitlines()
    assert (await world.vmwatch("check", "--json")).json["config"]["web"]["public_url"] == "https://vm.example.com"
    assert "https://vm.example.com" in (await world.vmwatch("check")).out


async def test_a_sample_needs_no_store_and_leaves_none(world: World, hook: Webhook) -> None:
    configured(world, hook)
    kinds = [Kind.VOICEMAIL_SUMMARY, Kind.LINE_REJECTED, Kind.STORE_FAILING, Kind.TEST]
    ran = await asyncio.gather(
        *(world.vmwatch("preview", "--json", "--channel", "phone", "--kind", kind) for kind in kinds)
    )
    assert [[(one["channel"], one["kind"]) for one in each.json] for each in ran] == [
        [("phone", kind)] for kind in kinds
    ]
    assert ran[0].json[0]["title"] == "5 nye talebeskeder på Home"
    assert not world.store.exists()
    assert hook.record == []


async def test_what_comes_whatever_a_channel_s_events_are_is_not_said_not_to_come(world: World, hook: Webhook) -> None:
    world.line("home", escalate=[{"after": "1h", "channels": ["boss"]}])
    world.channel("phone", hook.url)
    world.channel("boss", hook.url, events=["line"], digest="08:00")
    for kind, wanted in {
        Kind.VOICEMAIL_NEW: [True, False],
        Kind.VOICEMAIL_ESCALATED: [False, True],
        Kind.VOICEMAIL_DIGEST: [True, True],
    }.items():
        assert [one["wanted"] for one in (await world.vmwatch("preview", "--json", "--kind", kind)).json] == wanted
    told = await world.vmwatch("preview", "--channel", "phone", "--kind", Kind.VOICEMAIL_ESCALATED)
    assert told.out.splitlines()[-1] == "No line's escalate names it, so it would not be sent this one."


async def test_a_template_that_fails_on_a_message_is_told(world: World, hook: Webhook) -> None:
    number = configured(world, hook)
    source = "{% if line == 'Hjemme' %}{{ voicemails[9] }}{% endif %}"
    world.config["channels.work.templates.voicemail.new"] = {"body": source}
    world.config["channels.work"]["events"] = ["line"]
    id_ = world.operator.leave(number)
    await world.vmwatch("poll")
    ran = await world.vmwatch("preview", "--channel", "work", id_)
    assert ran.status == 1
    assert ran.out.splitlines()[-2:] == [
        "The template failed, so these are the built-in words: it uses a variable that does not exist.",
        "It does not ask for such alerts (events), so it would not be sent this one.",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--channel", "mail"), "mail: there is no such channel; the channels are phone, work"),
        (("--kind", "voicemail"), "voicemail: there is no such kind of alert; the kinds are voicemail.new, "),
        (("--kind", "line.locked", "7"), "line.locked is not about a message: leave MESSAGE out, or --kind"),
        (("7",), "7: there is no such message; `vmwatch messages` shows their ids"),
    ],
)
async def test_what_names_nothing_there_is_wrong_usage(
    world: World, hook: Webhook, arguments: tuple[str, ...], words: str
) -> None:
    configured(world, hook)
    await world.vmwatch("poll")
    ran = await world.vmwatch("preview", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert words in ran.err
