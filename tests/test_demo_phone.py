"""The demo's simulated phone: what its buttons do, and who may press them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest
from visitors import Reply, ask

from vmwatch.demo.hand import HOME, HOME_PIN, OFFICE, WRONG_PIN, Hand
from vmwatch.demo.phone import LONGEST_BODY, Phone
from vmwatch.models import Box
from vmwatch.simulator import Simulator, Verdict

STATUS_PORT = 45678
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"


@dataclass
class World:
    operator: Simulator
    hand: Hand
    phone: Phone
    told: list[str] = field(default_factory=list)
    reread: list[str] = field(default_factory=list)
    """The PIN of each configuration that vmwatch was asked to read."""

    async def get(self, target: str = "/phone", **more: Any) -> Reply:
        return await ask(
            self.phone.port, target, Connection="close", **({"host": f"127.0.0.1:{self.phone.port}"} | more)
        )

    async def token(self) -> str:
        return re.findall(r'name="token" value="([^"]+)"', (await self.get()).text)[0]

    async def post(self, body: bytes, **more: Any) -> Reply:
        form = {"Content_Type": "application/x-www-form-urlencoded"} | more
        return await self.get("/phone", method="POST", body=body, **form)

    async def press(self, act: str, name: str = "", **more: Any) -> Reply:
        fields = {"token": await self.token(), "act": act, "name": name}
        return await self.post(urlencode(fields).encode(), **more)

    def new(self) -> list[dict[str, Any]]:
        return list(self.operator.listing(HOME, Box.NEW)["voicemails"])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with Simulator() as operator:
        told: list[str] = []
        reread: list[str] = []
        hand = Hand(operator, Random(7), told.append)
        hand.reread = lambda: reread.append(hand.pin)
        operator.add_line(HOME, HOME_PIN)
        operator.add_line(OFFICE, "4321")
        async with Phone(hand.acts, hand.look, STATUS_PORT) as phone:
            yield World(operator, hand, phone, told, reread)


async def test_a_message_is_left_and_listened_to(world: World) -> None:
    assert not world.hand.has_touched
    assert (await world.press("leave", "Åse Kjær")).headers["location"] == "/phone"
    assert [message["fromName"] for message in world.new()] == ["Åse Kjær"]
    assert "It holds 1 new message." in (shown := (await world.get()).text)
    assert "Åse Kjær leaves a message of " in shown
    await world.press("leave")
    assert len(world.new()) == 2
    await world.press("hear")
    assert [message["fromName"] for message in world.new()] == ["Åse Kjær"], "the latest one is listened to"
    await world.press("hear")
    await world.press("hear")
    assert "There is nothing new to listen to." in (await world.get()).text
    assert world.hand.has_touched
    assert world.told[-1] == "you: There is nothing new to listen to."


async def test_the_pin_is_mistyped_and_corrected(world: World) -> None:
    await world.press("mistype")
    assert "The PIN is mistyped" in (await world.get()).text
    world.operator.login(HOME, world.reread[-1], "NEW")
    await world.press("correct")
    shown = (await world.get()).text
    assert "The wrong PIN cost 1 failed login. It is right again" in shown
    assert "Mistype the PIN" in shown
    assert world.reread == [WRONG_PIN, HOME_PIN]


async def test_the_operator_goes_down_and_comes_up(world: World) -> None:
    async def answered(number: str, pin: str) -> int:
        port = int(world.operator.base_url.rpartition(":")[2])
        return (await ask(port, f"/mvno/voicemail/{number}/{pin}", Connection="close")).status

    await world.press("take_down")
    assert "The operator is down" in (await world.get()).text
    assert [await answered(HOME, HOME_PIN), await answered(OFFICE, "4321")] == [500, 500]
    await world.press("bring_up")
    assert [await answered(HOME, HOME_PIN), await answered(OFFICE, "4321")] == [200, 200]
    assert [login.verdict for login in world.operator.logins(HOME)] == [Verdict.OK] * 2


async def test_a_caller_s_name_stays_text(world: World) -> None:
    await world.press("leave", "<script>alert(1)</script>\"'&amp;" + "x" * 100)
    shown = (await world.get()).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;amp;xxx" in shown
    assert "<script" not in shown
    assert len(world.new()[0]["fromName"]) == 60


async def test_the_desk_shows_both_by_the_name_it_was_asked_by(world: World) -> None:
    for name in ("127.0.0.1", "localhost"):
        shown = await world.get("/", host=f"{name}:{world.phone.port}")
        assert re.findall(r'<iframe src="([^"]+)"', shown.text) == ["/phone", f"http://{name}:{STATUS_PORT}/"]
        assert f"frame-src 'self' http://{name}:{STATUS_PORT};" in shown.headers["content-security-policy"]
        assert shown.headers["content-security-policy"].endswith("; form-action 'none'; frame-ancestors 'none'")
        assert f"http://{name}:{world.phone.port}" in world.phone.origins


async def test_only_its_own_page_has_it_do_anything(world: World) -> None:
    token, port = await world.token(), world.phone.port
    leave = urlencode({"token": token, "act": "leave"}).encode()
    refused = {
        "another name": await world.post(leave, host=f"evil.example.com:{port}"),
        "another site": await world.post(leave, Origin="https://evil.example.com"),
        "another port": await world.post(leave, Origin=f"http://127.0.0.1:{port + 1}"),
        "a page in a sandbox": await world.post(leave, Origin="null"),
        "no token": await world.post(b"act=leave"),
        "a wrong token": await world.post(urlencode({"token": token[:-1] + "é", "act": "leave"}).encode()),
        "no such button": await world.post(urlencode({"token": token, "act": "__init__"}).encode()),
        "a huge form": await world.post(b"name=" + b"x" * LONGEST_BODY + b"&" + leave),
        "by looking": await world.get(f"/phone?token={token}&act=leave"),
        "another method": await world.get("/phone", method="PUT", body=leave),
        "a path trick": await world.get("/../windows.py"),
        "no name": await world.post(leave, host=None),
    }
    statuses = {what: reply.status for what, reply in refused.items()}
    assert statuses == dict(zip(refused, (403, 403, 403, 403, 403, 403, 400, 413, 200, 405, 404, 400), strict=True))
    assert world.new() == []
    assert not world.hand.has_touched
    assert all("<" not in reply.text for what, reply in refused.items() if what != "by looking")
    assert (await world.post(leave, Origin=f"http://127.0.0.1:{port}")).status == 303
    assert len(world.new()) == 1


async def test_every_answer_says_what_a_browser_may_do_with_it(world: World) -> None:
    replies = [await world.get(target) for target in ("/", "/phone", "/phone.css", "/nothing")]
    replies.append(await world.press("leave"))
    assert [reply.status for reply in replies] == [200, 200, 200, 404, 303]
    for reply in replies:
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
    assert replies[1].headers["content-security-policy"] == POLICY
    assert "script" not in replies[1].text
