"""What the supervisor is told, over a real datagram socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from values import NOW, NUMBER, OTHER, failing, locked, rejected, standing, trusted
from world import Notices, until

from vmwatch import systemd
from vmwatch.condition import Condition
from vmwatch.models import ChannelStanding, ChannelState, LineState, Reason


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notices]:
    with contextlib.closing(Notices()) as notices:
        monkeypatch.setenv("NOTIFY_SOCKET", notices.address)
        yield notices


def test_each_word_is_one_datagram(notices: Notices) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    systemd.ready("1 of 1 lines ok")
    systemd.reloading()
    systemd.alive()
    systemd.alive("2 of 2 lines ok")
    systemd.tell("the disk is full")
    systemd.stopping()
    notices.listen()
    reloading = notices.datagrams.pop(1)
    assert notices.datagrams == [
        "READY=1\nSTATUS=1 of 1 lines ok",
        "WATCHDOG=1",
        "WATCHDOG=1\nSTATUS=2 of 2 lines ok",
        "STATUS=the disk is full",
        "STOPPING=1",
    ]
    word, stamp = reloading.split("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert before <= int(stamp) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("refused:\nconfig.toml:1: no\nconfig.toml:2: no", "refused:; config.toml:1: no; config.toml:2: no"),
        ("ok\nREADY=1", "ok; READY=1"),
        ("a\r\nb\x0bc\u2028d", "a; b; c; d"),
        ("/tmp/\udce9.toml", "/tmp/?.toml"),
        ("x" * 5000, "x" * 999 + "…"),
        ("ø" * 5000, "ø" * 999 + "…"),
    ],
)
def test_a_status_is_one_line_that_systemd_does_not_refuse(notices: Notices, status: str, told: str) -> None:
    systemd.ready(status)
    notices.listen()
    assert notices.datagrams == [f"READY=1\nSTATUS={told}"]
    assert len(notices.datagrams[0].encode()) <= 4096, "systemd would ignore all of it"


def test_a_socket_in_the_file_system_is_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.stopping()
        assert listener.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "@nobody-listens-here", "vsock:2:1234"])
def test_without_a_supervisor_nothing_happens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.ready("1 of 1 lines ok")
    systemd.alive()


def test_a_supervisor_that_does_not_listen_holds_nothing_up_for_long(notices: Notices) -> None:
    began = time.monotonic()
    taken = [systemd.alive("1 of 1 lines ok") for _ in range(2000)]
    assert (taken[0], taken[-1]) == (True, False), "so that a status is told again"
    assert time.monotonic() - began < 1, "the watchdog's food is never waited for"
    systemd.ready("1 of 1 lines ok")
    assert time.monotonic() - began < 3
    assert "READY=1" not in notices.listen(), "the queue was full all the time"


async def test_more_time_is_asked_for_as_long_as_the_start_takes(
    notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "ASK_AGAIN_S", 0.01)
    async with systemd.starting("opening the store"):
        await until(lambda: notices.listen().count("STATUS=opening the store") >= 3)
    asked = len(notices.listen())
    await asyncio.sleep(0.05)
    assert len(notices.listen()) == asked
    assert notices.datagrams[0] == "EXTEND_TIMEOUT_USEC=60010000\nSTATUS=opening the store"


# ---- the status ----


PHONE = ChannelStanding("phone")
BROKEN = ChannelStanding("phone", state=ChannelState.FAILING, since=NOW, last_error="HTTP 500")


@pytest.mark.parametrize(
    ("lines", "channels", "told"),
    [
        ((trusted(),), (PHONE,), "1 of 1 lines ok"),
        ((standing(),), (PHONE,), "1 of 1 lines ok"),
        ((rejected(),), (PHONE,), "0 of 1 lines ok; home: the operator rejected the PIN"),
        (
            (trusted(), locked(number=OTHER, name="office")),
            (PHONE,),
            "1 of 2 lines ok; office: the operator locked the login after too many wrong PINs",
        ),
        ((failing(),), (PHONE,), "0 of 1 lines ok; home: the operator did not answer in time"),
        ((rejected(enabled=False),), (PHONE,), "1 of 1 lines ok"),
        ((trusted(),), (BROKEN,), "1 of 1 lines ok; channel phone: failing (HTTP 500)"),
    ],
)
def test_the_status_is_what_needs_a_person(lines: tuple, channels: tuple, told: str) -> None:  # type: ignore[type-arg]
    condition = Condition()
    condition.watch([line.number for line in lines], lines, channels)
    assert str(condition) == told


def test_the_status_follows_what_happens() -> None:
    condition = Condition()
    condition.watch([NUMBER, OTHER], [], [PHONE])
    condition.line(failing())
    condition.line(failing(reason=Reason.NO_CONNECTION))
    condition.channel(BROKEN)
    condition.store = "/var/lib/vmwatch/vmwatch.db: the disk is full"
    condition.refusal = "config.toml:3: lines.home.pin: must be 4 to 10 digits, in quotes"
    assert str(condition) == (
        "1 of 2 lines ok; the new configuration is refused, the old one stays: config.toml:3: lines.home.pin: must be "
        "4 to 10 digits, in quotes; /var/lib/vmwatch/vmwatch.db: the disk is full; home: no connection to the operator"
        "; channel phone: failing (HTTP 500)"
    )
    condition.line(trusted())
    condition.channel(PHONE)
    condition.store = condition.refusal = ""
    assert str(condition) == "2 of 2 lines ok"


def test_what_went_from_the_configuration_is_told_no_more() -> None:
    """A poll or a delivery that was under way at the reload ends after it."""
    condition = Condition()
    condition.watch([NUMBER], [], [PHONE])
    condition.line(rejected(number=OTHER, name="office", state=LineState.REJECTED))
    condition.channel(ChannelStanding("mail", state=ChannelState.FAILING))
    assert str(condition) == "1 of 1 lines ok"
