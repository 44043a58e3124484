"""Clocks that are set, that drift or that stop for a night; summer time; 2038; another time zone."""

from __future__ import annotations

import contextlib
import io
import logging
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from lateness import SetClock
from receivers import ACCEPT, HANG, Webhook, refuse
from values import alert, voicemail
from world import bench_in, instant, number_of, settings_of, until, world_in

from vmwatch import decide, wording
from vmwatch.heartbeat import HELD_UP, STEP, Clock
from vmwatch.logs import Redaction, set_up
from vmwatch.models import DAY, FOREVER, HOUR, MINUTE, SECOND, Duration, Instant
from vmwatch.simulator import Odd, Simulator

COPENHAGEN = ZoneInfo("Europe/Copenhagen")
HOME = number_of(0)

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def at(iso: str) -> Instant:
    return round(datetime.fromisoformat(iso).timestamp() * 1000)


# ---- the clock ----


@pytest.mark.parametrize("by", [-60 * DAY, -HOUR, -2 * SECOND, 2 * SECOND, HOUR, 60 * DAY, 56 * 365 * DAY])
def test_time_goes_on_as_it_was_until_the_ledger_has_followed(by: Duration) -> None:
    clock = SetClock()
    before = clock.now()
    clock.set_by = by
    assert clock.step() == pytest.approx(by, abs=100)
    assert clock.step() == pytest.approx(by, abs=100), "what is not followed is still to be"
    assert clock.now() - before < MINUTE
    clock.follow(clock.step())
    assert clock.step() == 0
    assert clock.now() - before == pytest.approx(by, abs=MINUTE)


@pytest.mark.parametrize("by", [-HOUR, 8 * HOUR, 60 * DAY])
def test_sleep_is_no_setting_of_the_clock(by: Duration) -> None:
    clock = SetClock()
    before = clock.now()
    clock.slept = by
    assert clock.step() == 0
    assert clock.now() - before == pytest.approx(by, abs=MINUTE)


def test_the_steady_clock_is_the_one_that_counts_sleep() -> None:
    assert abs(Clock().steady() - time.clock_gettime(time.CLOCK_BOOTTIME) * 1000) < SECOND


@pytest.mark.parametrize("drift", [-20, 20, 300])
def test_a_clock_that_drifts_is_followed_when_it_adds_up(drift: Duration) -> None:
    """Steps, though each is too small to be followed by itself: never is more than STEP left."""
    clock = SetClock()
    for _ in range(500):
        clock.set_by += drift
        step = clock.step()
        assert step == 0 or abs(step) < STEP + abs(drift) + 100
        clock.follow(step)
        assert abs(clock.wall() - clock.now()) <= STEP + 100
    assert abs(clock.set_by - clock.followed) <= STEP + 100


def test_readings_between_which_the_computer_slept_do_not_count() -> None:
    class Drowsy(SetClock):
        naps = 0

        def wall(self) -> Instant:
            wall = super().wall()
            if self.naps:
                self.naps -= 1
                self.slept += HOUR
            return wall

    clock = Drowsy()
    clock.naps = 3
    assert clock.step() == 0
    assert clock.naps == 0
    assert HELD_UP < STEP


# ---- what waits, while the clock is set and while the computer sleeps ----


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator
        assert not simulator.violations()


def rows(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """All that is in the ledger but the versions, which tell of each change."""
    found = {}
    with contextlib.closing(sqlite3.connect(folder / "vmwatch.db")) as store:
        for table in ("line", "operator", "alert", "message", "channel", "delivery"):
            columns = [name for _, name, *_ in store.execute(f"PRAGMA table_info({table})") if name != "version"]
            found[table] = store.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1, 2").fetchall()
    return found


async def test_the_ledger_shifted_there_and_back_is_as_it_was(operator: Simulator, tmp_path: Path) -> None:
    async with Webhook(refuse(500)) as hook, bench_in(tmp_path, settings_of(operator, {"a": hook.url}, 3)) as bench:
        operator.leave(HOME)
        operator.odd(number_of(1), Odd.INTERNAL_ERROR)
        await bench.poll()
        await bench.deliver()
        for number, until_ in ((HOME, FOREVER), (number_of(2), bench.clock.now() + HOUR)):
            standing = await bench.ledger.lines.standing(number)
            assert standing is not None
            assert await bench.ledger.lines.change(decide.paused(standing, until_, bench.clock.now()))
        before = rows(tmp_path)
        await bench.ledger.shift(60 * DAY)
        shifted = rows(tmp_path)
        await bench.ledger.shift(-60 * DAY)
        assert rows(tmp_path) == before
        assert shifted != before
        assert (await bench.line("line0"))["next_poll_at"] is None, "a pause without an end has none"


async def test_after_a_night_s_sleep_everything_is_due_once(operator: Simulator, tmp_path: Path) -> None:
    async with Webhook(refuse(500)) as hook, bench_in(tmp_path, settings_of(operator, {"a": hook.url}, 3)) as bench:
        operator.leave(HOME)
        operator.odd(number_of(1), Odd.INTERNAL_ERROR)
        await bench.poll()
        await bench.deliver()
        assert await bench.poll(8 * HOUR) == 3
        assert await bench.poll() == 0
        await bench.deliver()
        await bench.deliver()
        tried = [request.body["title"] for request in hook.record]
        assert tried.count("Voicemail from Donald Duck") == 2


async def test_an_alert_whose_sender_died_after_the_clock_was_set_back_does_not_wait_for_the_difference(
    operator: Simulator, tmp_path: Path
) -> None:
    async with Webhook(HANG) as hook:
        settings = settings_of(operator, {"a": hook.url})
        async with bench_in(tmp_path, settings) as bench:
            await bench.ledger.outbox.owe(alert(channels=("a",)), bench.clock.now())
            await bench.deliverer.round()
            await hook.heard(1)
            await bench.ledger.shift(-HOUR)
            await bench.deliverer.stop(0)
        hook.manner = ACCEPT
        async with bench_in(tmp_path, settings) as bench:
            bench.clock.ahead = -HOUR
            await bench.ledger.become_daemon("a later one", bench.clock.now())
            await bench.deliver(SECOND)
            assert len(hook.record) == 2
            assert wording.REPEAT in hook.record[1].body["message"]


# ---- 2038, and beyond ----


@pytest.mark.parametrize("day", ["2038-01-19T03:13:30+00:00", "2106-02-07T06:27:30+00:00", "2400-02-28T23:59:30+00:00"])
async def test_32_bits_do_not_end_anything(operator: Simulator, tmp_path: Path, day: str) -> None:
    """2**31 and 2**32 seconds since 1970 pass between the first and the second poll."""
    async with Webhook(refuse(500)) as hook, bench_in(tmp_path, settings_of(operator, {"a": hook.url}, 3)) as bench:
        bench.clock.ahead = at(day) - bench.clock.now()
        operator.now = bench.clock.now
        operator.odd(number_of(1), Odd.THROTTLED_DATE, 1)
        operator.lines[number_of(2)].locked_at = bench.clock.now()
        assert await bench.poll() == 3
        operator.leave(HOME, name="Donald Duck")
        assert await bench.poll(61 * SECOND) == 1
        await bench.deliver()
        assert await bench.poll(61 * SECOND) == 2, "Retry-After said two minutes"
        hook.manner = replace(hook.manner, status=None)
        await bench.deliver()
        line = await bench.line("line0")
        assert instant(line["next_poll_at"]) - bench.clock.now() == pytest.approx(MINUTE / 2, abs=MINUTE / 2 + SECOND)
        assert [one["state"] for one in await bench.outbox() if one["kind"] == "voicemail.new"] == ["sent"]
        assert f" {day[:4]} " in hook.record[-1].body["message"]
        assert await bench.poll(HOUR) == 3, "the lock-out's back-off is over too"


# ---- summer time ----

NIGHTS = [
    ("2026-03-29T00:59:59+00:00", "Sun 29 Mar 2026 01:59 CET"),
    ("2026-03-29T01:00:00+00:00", "Sun 29 Mar 2026 03:00 CEST"),
    ("2026-10-25T00:30:00+00:00", "Sun 25 Oct 2026 02:30 CEST"),
    ("2026-10-25T01:30:00+00:00", "Sun 25 Oct 2026 02:30 CET"),
]


@pytest.mark.parametrize(("when", "words"), NIGHTS)
def test_both_nights_are_told_as_clocks_on_the_wall_show_them(when: str, words: str) -> None:
    assert wording.moment(at(when), COPENHAGEN) == words
    told = wording.text(alert(voicemails=(voicemail("a", received_at=at(when)),)), COPENHAGEN)
    assert f"Received: {words}" in told.body


@pytest.fixture
def in_copenhagen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Copenhagen")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the real logging writes; pytest's own handlers are put back afterwards."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", "vmwatch")}
    for handler in handlers:
        root.removeHandler(handler)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    set_up(Redaction())
    yield sys.stderr  # type: ignore[misc]
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("in_copenhagen")
def test_the_log_tells_the_two_halves_of_the_long_night_apart(log: io.StringIO) -> None:
    for half in ("2026-10-25T00:30:00+00:00", "2026-10-25T01:30:00+00:00"):
        entry = logging.LogRecord("vmwatch.test", logging.INFO, "", 0, "home: ok", None, None)
        entry.created = at(half) / SECOND
        logging.getLogger("vmwatch.test").handle(entry)
    times = [line[:24] for line in log.getvalue().splitlines()]
    assert times == ["2026-10-25 02:30:00+0200", "2026-10-25 02:30:00+0100"]


@pytest.mark.usefixtures("in_copenhagen")
@pytest.mark.parametrize("night", ["2026-03-29T00:30:00+00:00", "2026-10-25T00:15:00+00:00"])
async def test_no_poll_is_lost_or_added_in_either_night(operator: Simulator, tmp_path: Path, night: str) -> None:
    async with bench_in(tmp_path, settings_of(operator, {"a": "json://127.0.0.1:9/"})) as bench:
        to_that_night = at(night) - bench.clock.now()
        bench.clock.ahead += to_that_night
        await bench.ledger.shift(to_that_night)
        operator.now = bench.clock.now
        assert await bench.poll() == 1
        assert [await bench.poll(MINUTE) for _ in range(120)] == [1] * 120
        asked = [login.at for login in operator.logins(HOME)]
        assert {round((later - earlier) / MINUTE) for earlier, later in pairwise(asked)} == {1}


# ---- a ledger that was written in another time zone ----


async def test_another_time_zone_changes_what_is_shown_and_nothing_else(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world, Webhook() as hook:
        world.config["polling"]["interval"] = "10m"
        world.line("home")
        world.channel("phone", hook.url)
        world.operator.leave(world.numbers["home"], name="Donald Duck", date="2026-07-01T12:00:00.000Z")
        async with world.running(TZ="Pacific/Auckland"):
            await until(world.state_is("home", "ok"))
            await hook.heard(1)
        assert "Received: Thu 2 Jul 2026 00:00 NZST" in hook.record[0].body["message"]
        before = rows(tmp_path)
        seen = {
            zone: (await world.vmwatch("messages", TZ=zone)).out for zone in ("Pacific/Auckland", "America/New_York")
        }
        assert "02 Jul 00:00" in seen["Pacific/Auckland"]
        assert "01 Jul 08:00" in seen["America/New_York"]
        async with world.running(TZ="America/New_York"):
            status = (await world.vmwatch("status", "--json", TZ="America/New_York")).json
        assert rows(tmp_path) == before
        assert status["lines"][0]["next_poll_at"].endswith("Z")
        assert len(world.logins("home")) == 1
        assert len(hook.record) == 1
