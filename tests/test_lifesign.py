"""The dead-man's switch: who is pinged, how often, and with what when something is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest
from receivers import ACCEPT, HANG, Manner, Webhook, closed_port, redirect, refuse
from world import until

from vmwatch import lifesign
from vmwatch.lifesign import LifeSign, target


class Patient(LifeSign):
    """A life sign whose clock the test sets."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.at = 1000.0
        super().__init__(tasks, lambda: self.at)

    async def idle(self) -> None:
        await until(lambda: self._under_way is None)


@contextlib.asynccontextmanager
async def pinging(url: str | None) -> AsyncIterator[Patient]:
    async with asyncio.TaskGroup() as tasks:
        sign = Patient(tasks)
        sign.use(url)
        yield sign
        await sign.stop()


@pytest.mark.parametrize(
    ("url", "well", "asked"),
    [
        ("https://hc-ping.com/uuid", True, "https://hc-ping.com/uuid"),
        ("https://hc-ping.com/uuid", False, "https://hc-ping.com/uuid/fail"),
        ("https://hc-ping.com/uuid/", False, "https://hc-ping.com/uuid/fail"),
        ("https://hc.example.com/ping/key/slug?create=1", False, "https://hc.example.com/ping/key/slug/fail?create=1"),
        (
            "https://kuma.example.com/api/push/token?status=up&msg=OK&ping=",
            False,
            "https://kuma.example.com/api/push/token?status=down&msg=vmwatch+is+in+trouble",
        ),
        (
            "https://kuma.example.com/api/push/token",
            True,
            "https://kuma.example.com/api/push/token?status=up&msg=OK",
        ),
    ],
)
def test_each_service_is_told_in_its_own_way(url: str, well: bool, asked: str) -> None:
    assert target(url, well=well) == asked


async def test_it_is_pinged_at_once_and_then_once_a_minute() -> None:
    async with Webhook() as hook, pinging(f"{hook.http}uuid") as sign:
        for after in (0, 1, 58.9, 0.2, 30, 30):
            sign.at += after
            sign.round_ended(well=True)
            await sign.idle()
        assert [(request.method, request.path) for request in hook.record] == [("GET", "/uuid")] * 3


async def test_trouble_is_told_when_the_next_ping_is_due() -> None:
    async with Webhook() as hook, pinging(f"{hook.http}uuid") as sign:
        for well in (True, False, True):
            sign.round_ended(well=well)
            await sign.idle()
            sign.at += 60
        assert [request.path for request in hook.record] == ["/uuid", "/uuid/fail", "/uuid"]


async def test_nobody_is_pinged_where_nobody_is_named() -> None:
    async with Webhook() as hook, pinging(None) as sign:
        sign.round_ended(well=True)
        sign.use(f"{hook.http}uuid")
        sign.round_ended(well=True)
        await sign.idle()
        sign.use(None)
        sign.at += 60
        sign.round_ended(well=True)
        await sign.idle()
        assert len(hook.record) == 1


async def test_a_ping_that_hangs_keeps_nobody_waiting_and_no_other_is_made_meanwhile() -> None:
    async with Webhook(HANG) as hook, pinging(f"{hook.http}uuid") as sign:
        sign.round_ended(well=True)
        await hook.heard(1)
        sign.at += 600
        sign.round_ended(well=True)
        await asyncio.sleep(0.1)
        assert len(hook.record) == 1


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        (refuse(500), "HTTP 500"),
        (redirect("http://127.0.0.1:1/"), "HTTP 307"),
        (HANG, "no answer in 0 s"),
        (None, "no connection"),
    ],
    ids=["500", "redirect", "hangs", "nobody"],
)
async def test_a_ping_that_fails_is_told_once_without_its_url(
    manner: Manner | None, words: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifesign, "PATIENCE_S", 0.4 if manner is HANG else 10.0)
    caplog.set_level(logging.INFO)
    async with Webhook(manner or ACCEPT) as hook:
        base = hook.http if manner else f"http://127.0.0.1:{closed_port()}/"
        async with pinging(f"{base}hidden-uuid") as sign:
            for _ in range(2):
                sign.round_ended(well=True)
                await sign.idle()
                sign.at += 60
            hook.manner = ACCEPT
            sign.use(f"{hook.http}hidden-uuid")
            sign.round_ended(well=True)
            await sign.idle()
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("WARNING", f"heartbeat.url can't be pinged: {words}"),
        ("INFO", "heartbeat.url can be pinged again"),
    ]
    assert "hidden" not in caplog.text
