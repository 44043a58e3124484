"""Lines that go unread while nothing is wrong with them: told once, to those who look after vmwatch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from ledgers import PostgresPlace, adopted, opened, outbox
from receivers import Webhook
from values import NOW, NUMBER, OTHER, rejected, trusted
from world import TurnedClock, settings_of, until

from vmwatch import lifesign, shapes, stale
from vmwatch.cli import tables
from vmwatch.config import Loaded
from vmwatch.daemon import Daemon
from vmwatch.ledger import Ledger
from vmwatch.models import FOREVER, HOUR, SECOND, Kind, Standing
from vmwatch.settings import Settings
from vmwatch.simulator import Simulator
from vmwatch.stale import Staleness
from vmwatch.tally import Tally

SETTINGS = Settings.model_validate(
    {
        "web": {"listen": ""},
        "polling": {"interval": "60s"},
        "lines": {"home": {"number": NUMBER, "pin": "8352", "label": "Home", "channels": ["phone"]}},
        "channels": {
            "phone": {"url": "json://a", "events": ["voicemail", "line"]},
            "mail": {"url": "json://b", "events": ["channel"]},
            "pager": {"url": "json://c", "events": ["line.stale"]},
        },
    }
)


class Watch(Staleness):
    """Looks whenever the test says that so many seconds have passed."""

    def __init__(self, ledger: Ledger) -> None:
        self.at, self.tally, self.clock = 1000.0, Tally(), TurnedClock()
        self.clock.ahead = NOW - self.clock.now()
        super().__init__(ledger, self.clock, self.tally, lambda: self.at)
        self.use(SETTINGS)

    def let_pass(self, seconds: float) -> None:
        self.at += seconds
        self.clock.ahead += int(seconds * SECOND)

    async def go_on(self, seconds: float) -> None:
        end = self.at + seconds
        while self.at < end:
            self.let_pass(min(1.0, end - self.at))
            await self.after_round()

    def read(self) -> None:
        """A quiet poll."""
        self.tally.quiet(NUMBER, self.clock.now())


def a_line(**changes: Any) -> Standing:
    return trusted(**({"last_success_at": NOW} | changes))


async def told(ledger: Ledger) -> list[tuple[Kind, str]]:
    return [(owed.kind, owed.channel) for owed in await outbox(ledger)]


STALE = [(Kind.LINE_STALE, "mail"), (Kind.LINE_STALE, "pager")]
RECOVERED = [(Kind.LINE_RECOVERED, "mail"), (Kind.LINE_RECOVERED, "pager")]


async def test_three_intervals_without_a_reading_are_told_once_to_who_looks_after_vmwatch(ledger: Ledger) -> None:
    await adopted(ledger, a_line())
    watch = Watch(ledger)
    await watch.go_on(175)
    assert (await told(ledger), watch.stale) == ([], ())
    await watch.go_on(30)
    assert (await told(ledger), watch.stale) == (STALE, ("home",))
    await watch.go_on(900)
    assert await told(ledger) == STALE


async def test_status_shows_what_the_daemon_that_lives_found_stale(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/vmwatch.db"
    daemon = await Ledger.open(url, create=True, role="daemon")
    try:
        await daemon.become_daemon("1", NOW)
        await adopted(daemon, a_line())
        watch = Watch(daemon)
        await watch.go_on(220)
        view = await daemon.daemon()
        assert view.stale == {NUMBER}
        seen = await shapes.seen(daemon, NOW)
        assert [line["stale"] for line in (await shapes.status(seen))["lines"]] == [True]
        assert [one for one in tables.remarks(seen.lines, view.stale) if "not read for three intervals" in one]
        watch.read()
        await watch.go_on(20)
        assert (await daemon.daemon()).stale == frozenset()
        await daemon.processes.note_stale([NUMBER])
    finally:
        await daemon.close()
    next_one = await Ledger.open(url, create=False, role="daemon")
    try:
        await next_one.become_daemon("1", NOW)
        assert (await next_one.daemon()).stale == frozenset(), "what one that is gone found says nothing"
    finally:
        await next_one.close()


async def test_a_reading_ends_it_also_one_that_the_ledger_has_not_heard_of_yet(ledger: Ledger) -> None:
    await adopted(ledger, a_line())
    watch = Watch(ledger)
    await watch.go_on(220)
    watch.read()
    await watch.go_on(20)
    assert (await told(ledger), watch.stale) == (STALE + RECOVERED, ())


async def test_quiet_readings_keep_a_line_from_being_stale(ledger: Ledger) -> None:
    await adopted(ledger, a_line())
    watch = Watch(ledger)
    for _ in range(20):
        watch.read()
        await watch.go_on(60)
    assert await told(ledger) == []


@pytest.mark.parametrize(
    "line",
    [rejected(), a_line(paused_until=FOREVER, paused_at=NOW), replace(trusted(), enabled=False)],
    ids=["rejected", "paused", "switched off"],
)
async def test_a_line_that_is_not_to_be_read_is_not_stale(ledger: Ledger, line: Standing) -> None:
    await adopted(ledger, line)
    watch = Watch(ledger)
    await watch.go_on(900)
    assert await told(ledger) == []


async def test_a_line_that_comes_into_trouble_is_told_by_that_alone(ledger: Ledger) -> None:
    await adopted(ledger, a_line())
    watch = Watch(ledger)
    await watch.go_on(220)
    found = await ledger.lines.standing(NUMBER)
    assert found is not None
    await ledger.lines.change(replace(rejected(), version=found.version))
    await watch.go_on(20)
    assert (await told(ledger), watch.stale) == (STALE, ())


async def test_rounds_that_did_not_complete_make_no_line_stale(ledger: Ledger) -> None:
    """Because the store took nothing, or the process was stopped."""
    await adopted(ledger, a_line())
    watch = Watch(ledger)
    await watch.go_on(60)
    watch.let_pass(3600)
    await watch.go_on(60)
    assert await told(ledger) == []


@pytest.mark.parametrize("by", [6 * HOUR, -6 * HOUR])
async def test_a_clock_that_is_set_makes_no_line_stale(ledger: Ledger, by: int) -> None:
    await adopted(ledger, a_line())
    watch = Watch(ledger)
    watch.read()
    await watch.go_on(60)
    watch.clock.follow(by)
    await watch.go_on(60)
    watch.read()
    await watch.go_on(120)
    assert await told(ledger) == []
    await watch.go_on(120)
    assert await told(ledger) == STALE


async def test_a_restart_begins_anew(ledger: Ledger) -> None:
    """A daemon that was away for a day reads its lines first."""
    await adopted(ledger, a_line(last_success_at=NOW - 24 * HOUR))
    watch = Watch(ledger)
    await watch.go_on(170)
    assert await told(ledger) == []
    await watch.go_on(30)
    assert await told(ledger) == STALE


async def test_a_line_that_was_paused_for_long_is_polled_first(ledger: Ledger) -> None:
    await adopted(ledger, a_line(paused_until=NOW + HOUR, paused_at=NOW))
    watch = Watch(ledger)
    await watch.go_on(3650)
    assert await told(ledger) == []
    watch.read()
    await watch.go_on(100)
    assert await told(ledger) == []


async def test_each_line_is_given_its_own_intervals(ledger: Ledger) -> None:
    slow = {"number": OTHER, "pin": "1478", "interval": "10m"}
    lines = {"home": {"number": NUMBER, "pin": "8352"}, "slow": slow}
    await adopted(ledger, a_line(), a_line(number=OTHER, name="slow"))
    watch = Watch(ledger)
    watch.use(SETTINGS.model_copy(update={"lines": Settings.model_validate({"lines": lines}).lines}))
    await watch.go_on(1700)
    assert watch.stale == ("home",)
    await watch.go_on(200)
    assert watch.stale == ("home", "slow")


async def test_the_ledger_is_asked_for_no_line_that_was_read(ledger: Ledger) -> None:
    """Of fifty thousand lines none is looked at, as long as all is well."""
    await adopted(ledger, a_line(), a_line(number=OTHER, name="slow", last_success_at=NOW - HOUR))
    assert [line.name for line in await ledger.lines.unread(NOW - HOUR + 1, NOW)] == ["slow"]
    assert await ledger.lines.unread(NOW - HOUR, NOW) == ()


async def test_of_several_daemons_one_tells_of_a_stale_line(shared: PostgresPlace) -> None:
    async with opened(shared, role="daemon") as one, opened(shared, role="daemon") as two:
        await adopted(one, a_line(), channels=("mail", "pager"))
        for age, ledger in enumerate((one, two)):
            await ledger.become_daemon("1", NOW + age)
        watches = Watch(two), Watch(one)
        for watch in watches:
            await watch.go_on(220)
        assert (await told(one), watches[0].stale) == (STALE, ())


async def test_the_dead_man_s_switch_hears_of_a_stale_line_and_the_daemon_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale, "LOOK_S", 0.1)
    monkeypatch.setattr(lifesign, "EVERY_S", 0.0)
    async with Simulator() as simulator, Webhook() as hook, Webhook() as switch:
        settings = settings_of(
            simulator, {"phone": hook.url}, polling={"interval": "1s"}, heartbeat={"url": f"{switch.http}uuid"}
        )
        loaded = Loaded(settings, None, f"sqlite:///{tmp_path}/vmwatch.db")
        daemon = Daemon(loaded, lambda: loaded, UTC)
        running = asyncio.create_task(daemon.run())
        await until(lambda: len(simulator.logins(NUMBER)) > 1 and len(switch.record) > 2)
        ledger = await Ledger.open(loaded.store_url, create=False)
        try:
            assert {request.path for request in switch.record} == {"/uuid"}
            await forget_to_poll(ledger)
            await until(lambda: "/uuid/fail" in {request.path for request in switch.record})
            await until(lambda: any("does not read voicemail" in str(request.body) for request in hook.record))
            assert (await ledger.daemon()).stale == {NUMBER}
        finally:
            await ledger.close()
            daemon.stop()
            await running


async def forget_to_poll(ledger: Ledger) -> None:
    """As a defect might: the line is well, and its next poll is in the far future."""
    while True:
        (line,) = await ledger.lines.standings()
        if await ledger.lines.change(replace(line, next_poll_at=FOREVER)):
            return
        await asyncio.sleep(0.05)
