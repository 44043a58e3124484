"""`vmwatch route` tells who would be told of a message, when and why, and sends nothing."""

from __future__ import annotations

import pytest
from receivers import Webhook
from world import World

BOSS = "+4520304050"


def configured(world: World, hook: Webhook) -> str:
    number = world.line("home", label="Hjemme", remind=["1h"])
    world.config["alerts"] = {"timezone": "Europe/Copenhagen"}
    world.channel("phone", hook.url, quiet=["22:00-07:00"])
    world.config["callers.boss"] = {"numbers": [BOSS], "urgent": True}
    return number


async def test_a_caller_is_routed_without_a_store(world: World, hook: Webhook) -> None:
    configured(world, hook)
    ran = await world.vmwatch(
        *("route", "--json", "--from", "20 30 40 60", "--line", "home", "--at", "2026-01-05 23:30", "--length", "30s")
    )
    assert ran.json == {
        "line": "home",
        "caller": "+4520304060",
        "contact": None,
        "in_contacts": False,
        "length": 30,
        "at": "2026-01-05T22:30:00.000Z",
        "group": None,
        "match": "no_group",
        "fate": "announced",
        "urgent": False,
        "tellings": [
            {
                "channel": "phone",
                "kind": "voicemail.new",
                "why": "line",
                "at": "2026-01-06T06:00:00.000Z",
                "held": "quiet",
            }
        ],
    }
    assert (ran.status, hook.record) == (0, [])


async def test_a_stored_message_is_routed_in_sentences(world: World, hook: Webhook) -> None:
    number = configured(world, hook)
    world.config["polling"]["first_poll"] = "silent"
    id_ = world.operator.leave(number, caller=BOSS, name="Boss")
    await world.vmwatch("poll")
    ran = await world.vmwatch("route", id_[:8], "--at", "2026-01-05T23:30:00+00:00")
    first, *rows = filter(str.strip, ran.out.splitlines())
    assert first == "+45 20 30 40 50 (Boss) on Hjemme, 06 Jan 00:30: in callers.boss, by its number, urgent: never held"
    assert [" ".join(row.split()) for row in rows[2:]] == [
        "phone voicemail.new 06 Jan 00:30 a channel of the line",
        "phone voicemail.reminder 06 Jan 01:30 remind: if nobody has heard it",
    ]


async def test_nobody_is_said_to_be_known_or_unknown_before_the_contacts_were_read(world: World, hook: Webhook) -> None:
    configured(world, hook)
    world.config["contacts.carddav"] = {"url": f"http://127.0.0.1:{hook.port}/never-asked/"}
    world.config["callers.strangers"] = {"numbers": ["unknown"], "mute": True}
    asked = ("route", "--from", "+4520304060", "--line", "home")
    told, ran = await world.vmwatch(*asked), await world.vmwatch(*asked, "--json")
    assert "Not all contacts could be read yet, so nobody is taken for unknown; see `vmwatch check`." in told.out
    assert (ran.json["in_contacts"], ran.json["group"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name a MESSAGE (`vmwatch messages` has them), or --from NUMBER and --line LINE"),
        (("x", "--from", BOSS), "name a MESSAGE (`vmwatch messages` has them), or --from NUMBER and --line LINE"),
        (("--from", BOSS), "--line is missing: which line was called?"),
        (("x", "--line", "home"), "--line and --length go with --from: of a message both are known"),
        (("--from", BOSS, "--line", "work"), "work: there is no such line; the lines are home"),
        (("--from", "Boss", "--line", "home"), '--from: Boss: must be a number like "+4571919998", or "withheld"'),
        (
            ("--from", BOSS, "--line", "home", "--at", "soon"),
            '--at: must be a time such as 23:30 or "2026-12-24 23:30"',
        ),
        (("--from", BOSS, "--line", "home", "--length", "x"), "--length: "),
    ],
)
async def test_what_can_t_be_routed_is_said_in_a_sentence(
    world: World, hook: Webhook, arguments: tuple[str, ...], sentence: str
) -> None:
    configured(world, hook)
    ran = await world.vmwatch("route", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert sentence in ran.err
