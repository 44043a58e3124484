"""What the supervisor hears of a start, of a hang and of a failure, and what people hear of a failure."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC
from pathlib import Path

import pytest
from receivers import ACCEPT, Webhook, closed_port, refuse
from world import Notices, World, settings_of, until

from vmwatch.cli.supervising import failure
from vmwatch.config import Loaded, channels_alone
from vmwatch.daemon import Daemon
from vmwatch.simulator import Odd, Simulator

# ---- the start ----


async def test_ready_waits_for_the_store_and_not_for_the_operator(world: World, hook: Webhook) -> None:
    """An operator's outage must not become restarts, each of which would be a login."""
    world.config["operator"]["base_url"] = f"http://127.0.0.1:{closed_port()}"
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        daemon.notices.listen()
        opening, ready = daemon.notices.datagrams[:2]
        assert opening == "EXTEND_TIMEOUT_USEC=70000000\nSTATUS=opening the store"
        assert ready == "READY=1\nSTATUS=1 of 1 lines ok"
        await until(daemon.has_noticed("STATUS=0 of 1 lines ok; home: no connection to the operator"))
        await until(daemon.has_noticed("WATCHDOG=1", 3))


async def test_ready_comes_before_the_first_answer(world: World, hook: Webhook) -> None:
    world.operator.odd(world.line("home"), Odd.HANG)
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(lambda: bool(world.logins("home")))
        await daemon.kill()


@pytest.mark.parametrize("what", ["configuration", "store"])
async def test_a_start_that_fails_leaves_its_reason_in_the_status(world: World, hook: Webhook, what: str) -> None:
    world.line("home", told="12" if what == "configuration" else None)
    world.channel("phone", hook.url)
    if what == "store":
        world.config["store"] = {"url": "sqlite:///nowhere/vmwatch.db"}
    with contextlib.closing(Notices()) as notices:
        ran = await world.vmwatch("run", NOTIFY_SOCKET=notices.address)
        heard = notices.listen()
    assert ran.status == {"configuration": 78, "store": 75}[what]
    assert "READY=1" not in heard
    assert heard[-1] == f"STATUS={ran.err.splitlines()[-1]}"
    assert not world.logins("home")


async def test_a_channel_that_fails_is_in_the_status_until_it_is_back(world: World, hook: Webhook) -> None:
    hook.manner = refuse(500)
    world.config["delivery"] = {"retry": {"initial": "500ms", "max": "1s"}}
    world.operator.leave(world.line("home"))
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(daemon.has_noticed("STATUS=1 of 1 lines ok; channel phone: failing (HTTP 500)"))
        hook.manner = ACCEPT
        await until(lambda: daemon.notices.listen()[::-1].index("STATUS=1 of 1 lines ok") < 5)


# ---- the watchdog ----


class HungDaemon(Daemon):
    """Its loop is alive; its rounds are not."""

    rounds = 0

    async def _round(self) -> None:
        self.rounds += 1
        if self.rounds > 2:
            await asyncio.Event().wait()
        await super()._round()


async def test_the_watchdog_is_fed_by_completed_rounds_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(Notices()) as notices:
        monkeypatch.setenv("NOTIFY_SOCKET", notices.address)
        async with Simulator() as simulator, Webhook() as hook:
            loaded = Loaded(settings_of(simulator, {"phone": hook.url}), None, f"sqlite:///{tmp_path}/vmwatch.db")
            daemon = HungDaemon(loaded, lambda: loaded, UTC)
            running = asyncio.create_task(daemon.run())
            await until(lambda: daemon.rounds > 2)
            await asyncio.sleep(1.5)  # a timer would have fed it
            daemon.stop()
            await running
        assert notices.listen().count("WATCHDOG=1") == 2


# ---- telling a failure ----

ENDED = {"MONITOR_SERVICE_RESULT": "exit-code", "MONITOR_EXIT_STATUS": "78"}


def credentials(folder: Path, **files: str) -> dict[str, str]:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


async def test_a_failure_is_told_on_every_channel_whose_url_is_a_credential(
    world: World, hook: Webhook, tmp_path: Path
) -> None:
    """Whatever the configuration is like: it may be what failed."""
    async with Webhook() as mail:
        kept = credentials(
            tmp_path / "credentials",
            vmwatch_channels__phone__url=f"{hook.url}\n",
            channels__mail__url=mail.url,
            vmwatch_lines__home__pin="12",
            vmwatch="none",
        )
        world.file.write_text("[lines.home\n")
        ran = await world.vmwatch("tell-failure", "vmwatch", config=False, **kept, **ENDED)
        assert (ran.status, ran.out) == (0, "")
        assert sorted(ran.err.splitlines()) == ["channel mail: sent", "channel phone: sent"]
        (told,), (mailed,) = await hook.heard(1), await mail.heard(1)
    assert told.body["title"].startswith("vmwatch failed on ")
    assert "It ended with exit-code, status 78: the configuration is refused." in told.body["message"]
    assert mailed.body["message"] == told.body["message"]


async def test_a_failure_that_cannot_be_told_somewhere_is_tried_again(
    world: World, hook: Webhook, tmp_path: Path
) -> None:
    async with Webhook(refuse(404)) as broken:
        kept = credentials(
            tmp_path / "credentials", channels__phone__url=hook.url, channels__mail__url=f"{broken.url}wren-7261"
        )
        ran = await world.vmwatch("tell-failure", "vmwatch", config=False, **kept)
    assert ran.status == 1, "Restart=on-failure does it"
    assert sorted(ran.err.splitlines()) == ["channel mail: refused (HTTP 404)", "channel phone: sent"]
    assert "wren" not in ran.err + ran.out


async def test_without_a_channel_among_the_credentials_that_is_said(world: World, tmp_path: Path) -> None:
    for folder in ({}, credentials(tmp_path / "credentials", vmwatch="none", lines__home__pin="1234")):
        ran = await world.vmwatch("tell-failure", "vmwatch", config=False, **folder)
        assert ran.status == 78, "not to be tried again"
        assert ran.err.startswith("no channel's URL is among the credentials")


def test_urls_alone_are_read_whatever_else_is_there(tmp_path: Path) -> None:
    kept = credentials(
        tmp_path / "credentials",
        vmwatch_channels__phone__url="json://localhost\n",
        channels__mail__url_file="mail.url",
        channels__other__events="line",
        channels__bad__colour="red",
        unrelated="x",
    )
    assert channels_alone(kept) == {"phone": "json://localhost"}
    assert channels_alone({}) == {}
    assert channels_alone({"CREDENTIALS_DIRECTORY": str(tmp_path / "nowhere")}) == {}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "systemd does not say why."),
        (ENDED, "It ended with exit-code, status 78: the configuration is refused."),
        (
            {"MONITOR_SERVICE_RESULT": "watchdog", "MONITOR_EXIT_STATUS": "ABRT"},
            "It ended with watchdog, status ABRT: it hung, and the watchdog ended it.",
        ),
        ({"MONITOR_SERVICE_RESULT": "exit-code", "MONITOR_EXIT_STATUS": "1"}, "It ended with exit-code, status 1."),
    ],
)
def test_a_failure_is_told_in_words(environ: dict[str, str], words: str) -> None:
    text = failure("vmwatch", "pi", environ)
    assert text.title == "vmwatch failed on pi"
    assert words in text.body
    assert "systemctl status vmwatch" in text.body
