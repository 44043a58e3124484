"""Several daemons on one PostgreSQL: who they are, what they carry, and what keeps them from harming each other.

The daemons are real ones inside the test's process, where their clocks can be set; the verbs are processes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lateness import SetClock
from ledgers import PostgresPlace, adopted, opened, owe
from receivers import Request, Webhook, late
from values import NOW, alert
from world import PIN, WRONG_PIN, Bench, World, bench_in, number_of, settings_of, until, world_in

from vmwatch import pins, presence, shapes
from vmwatch.adopt import adopt
from vmwatch.channels import prepare
from vmwatch.config import Loaded
from vmwatch.daemon import Daemon
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Carried
from vmwatch.ledger.processes import SILENT
from vmwatch.models import HOUR, MINUTE, SECOND, Duration
from vmwatch.settings import Line, Settings
from vmwatch.simulator import Simulator
from vmwatch.tally import LastMinute

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

HOME = number_of(0)
OFTEN = 300
CHANNELS = {"phone": "json://127.0.0.1:9/phone"}


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator
        assert not simulator.violations(), "vmwatch sent what it must never send"


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes look at each other every moment, and not four times a minute."""
    monkeypatch.setattr(presence, "EVERY", OFTEN)


def configured(operator: Simulator, pin: str = PIN, **line: Any) -> Settings:
    """One line with this PIN, polled every second."""
    settings = settings_of(operator, CHANNELS, polling={"interval": "1s"}, operator={"timeout": "1s"})
    return settings.model_copy(update={"lines": {"line0": Line.model_validate({"number": HOME, "pin": pin, **line})}})


@asynccontextmanager
async def watching(shared: PostgresPlace, settings: Settings, clock: Clock | None = None) -> AsyncIterator[Daemon]:
    """A daemon by these settings, until the block ends."""
    prepare()
    loaded = Loaded(settings, None, shared.url)
    daemon = Daemon(loaded, lambda: loaded, UTC, clock=clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(daemon.run())
        yield daemon
        daemon.stop()


async def seen(shared: PostgresPlace) -> shapes.Shape:
    async with opened(shared) as ledger:
        return await shapes.status(await shapes.seen(ledger, Clock().now()))


def line_is(shared: PostgresPlace, state: str) -> Any:
    async def condition() -> bool:
        async with opened(shared) as ledger:
            return [line.state for line in await ledger.lines.standings()] == [state]

    return condition


def daemons_are(shared: PostgresPlace, count: int) -> Any:
    async def condition() -> bool:
        async with opened(shared) as ledger:
            return len(await ledger.processes.living(Clock().now())) == count

    return condition


def disagreement_is(shared: PostgresPlace, beginning: str, end: str) -> Any:
    async def condition() -> bool:
        told = (await seen(shared))["disagreements"]
        return len(told) == 1 and told[0].startswith(beginning) and told[0].endswith(end)

    return condition


def polled_again(operator: Simulator) -> Callable[[], bool]:
    """Whether the line was asked twice from here on."""
    enough = len(operator.logins(HOME)) + 2
    return lambda: len(operator.logins(HOME)) >= enough


async def some_rounds() -> None:
    """Time in which every process looks at the others and polls what it would poll."""
    await asyncio.sleep(2.5)


# ---- who lives, and what each carries ----


async def test_each_process_is_shown_with_what_it_carried_until_it_ends_or_falls_silent(shared: PostgresPlace) -> None:
    async with opened(shared, role="daemon") as one, opened(shared) as verb:
        async with opened(shared, role="daemon") as two:
            await one.become_daemon("1", NOW)
            await two.become_daemon("2", NOW + 1)
            await one.processes.sign(Carried("1", NOW, 12, 3), NOW + SECOND)
            views = await verb.processes.living(NOW + SECOND)
            assert [(view.version, view.seen_at, view.polls, view.deliveries) for view in views] == [
                ("1", NOW + SECOND, 12, 3),
                ("2", NOW + 1, 0, 0),
            ]
            assert [view.version for view in await verb.processes.living(NOW + SILENT + 2)] == ["1"]
        assert [view.version for view in await verb.processes.living(NOW + SECOND)] == ["1"]
        await one.processes.leave()
        assert await shared.rows("SELECT version FROM daemon") == [("2",)], "what ended badly is forgotten at a start"


async def test_a_process_that_was_taken_for_dead_writes_itself_down_again(shared: PostgresPlace) -> None:
    async with opened(shared, role="daemon") as ledger:
        await ledger.become_daemon("1", NOW)
        await shared.rows("DELETE FROM daemon")
        assert {digest for _, digest in await ledger.processes.sign(Carried("1", NOW, 5), NOW + SECOND)} == {""}
        (view,) = await ledger.processes.living(NOW + SECOND)
        assert (view.since, view.polls) == (NOW, 5)


@pytest.mark.usefixtures("often")
async def test_the_work_of_a_minute_is_told_of_each_and_an_ended_one_is_gone(
    shared: PostgresPlace, operator: Simulator
) -> None:
    settings = settings_of(operator, CHANNELS, 4, polling={"interval": "1s"})
    async with watching(shared, settings):
        async with watching(shared, settings):
            await until(daemons_are(shared, 2))

            async def carried() -> bool:
                polls = [process["polls"] for process in (await seen(shared))["processes"]]
                return len(polls) == 2 and sum(polls) >= 12

            await until(carried)
        assert len((await seen(shared))["processes"]) == 1
    assert (await seen(shared))["processes"] == []
    assert await shared.rows("SELECT id FROM daemon") == []


def test_what_was_counted_within_the_last_minute_is_told_from_sums() -> None:
    counted = LastMinute()
    assert counted.of(3, 1) == (3, 1)
    for second in range(200):
        counted.note(second * SECOND, second, 0)
    assert counted.of(199, 5) == (60, 5)
    counted.note(199 * SECOND + 1, 500, 0)
    assert counted.of(199, 0) == (60, 0), "looked at again within a second"


# ---- configurations that differ ----


async def other_pins(shared: PostgresPlace, operator: Simulator, count: int) -> list[str]:
    """PINs that the store can tell from the line's and from each other; of any two it can't, once in 256 times."""
    async with opened(shared) as ledger:
        found = {pins.tag(ledger.salt, operator.base_url, HOME, PIN): PIN}
        for pin in map(str, range(7000, 9999)):
            found.setdefault(pins.tag(ledger.salt, operator.base_url, HOME, pin), pin)
    return list(found.values())[1 : count + 1]


def failed(operator: Simulator) -> int:
    return sum(not login.pin_ok for login in operator.logins(HOME))


@pytest.mark.usefixtures("often")
async def test_a_process_with_another_pin_does_not_try_it_while_one_lives_that_has_the_known_one(
    shared: PostgresPlace, operator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vmwatch.presence")
    (wrong_pin,) = await other_pins(shared, operator, 1)
    right, wrong = configured(operator), configured(operator, wrong_pin, label="Flat")
    async with watching(shared, right):
        await until(line_is(shared, "ok"))
        for _ in range(3):
            async with watching(shared, wrong):
                await until(disagreement_is(shared, "line0: ", " differ in PIN, label"))
                await until(polled_again(operator))
        assert failed(operator) == 0
        assert await line_is(shared, "ok")()
        assert (await seen(shared))["disagreements"] == []
        await until(lambda: "the configurations no longer differ" in caplog.text)
    assert "the configurations differ: line0: " in caplog.text
    assert not re.search(rf"(?<![0-9]){wrong_pin}(?![0-9])", caplog.text)


@pytest.mark.usefixtures("often")
async def test_two_pins_are_not_tried_in_turns_however_often_their_processes_start(
    shared: PostgresPlace, operator: Simulator
) -> None:
    (wrong_pin,) = await other_pins(shared, operator, 1)
    right, wrong = configured(operator), configured(operator, wrong_pin)
    async with watching(shared, right):
        await until(line_is(shared, "ok"))
        async with watching(shared, wrong):
            await until(daemons_are(shared, 2))
            await until(polled_again(operator))
    async with watching(shared, wrong):
        await until(line_is(shared, "rejected"), 30)
    for settings in (right, wrong, right, wrong, right):
        async with watching(shared, settings):
            await until(daemons_are(shared, 1))
            await some_rounds()
        assert failed(operator) == 1
    async with watching(shared, wrong), watching(shared, right):
        await until(line_is(shared, "ok"))
    assert failed(operator) == 1


@pytest.mark.usefixtures("often")
async def test_two_wrong_pins_cost_one_failed_login_each(shared: PostgresPlace, operator: Simulator) -> None:
    one, other = (configured(operator, pin) for pin in await other_pins(shared, operator, 2))
    for _ in range(2):
        async with watching(shared, one), watching(shared, other):
            await until(daemons_are(shared, 2))
            await some_rounds()
    for settings in (one, other, one, other):
        async with watching(shared, settings):
            await some_rounds()
    assert failed(operator) == 2
    assert await line_is(shared, "rejected")()


@pytest.mark.usefixtures("often")
async def test_a_pin_that_was_passed_over_is_tried_once_the_known_one_is_refused(
    shared: PostgresPlace, operator: Simulator
) -> None:
    """The PIN is changed at the operator, in one configuration before and in the other not yet."""
    (new_pin,) = await other_pins(shared, operator, 1)
    async with watching(shared, configured(operator)):
        await until(line_is(shared, "ok"))
        async with watching(shared, configured(operator, new_pin)):
            await until(daemons_are(shared, 2))
            await some_rounds()  # both have met, and nothing else will make them look again
            operator.set_pin(HOME, new_pin)
            await until(lambda: failed(operator) == 1)
            await until(line_is(shared, "ok"))
            await some_rounds()
    assert failed(operator) == 1


async def test_what_only_another_process_knows_stays_configured_until_that_ends(
    shared: PostgresPlace, operator: Simulator
) -> None:
    more = settings_of(operator, CHANNELS | {"mail": "json://127.0.0.1:9/mail"}, 2)
    less = settings_of(operator, CHANNELS)
    async with opened(shared, role="daemon") as one:
        async with opened(shared, role="daemon") as other:
            for ledger, settings in ((one, less), (other, more), (one, less)):
                await ledger.become_daemon("1", NOW)
                met = await adopt(ledger, settings, NOW)
            assert len(met.disagreements) == 2
            assert [line.name for line in await one.lines.standings()] == ["line0", "line1"]
            assert [view.standing.name for view in await one.outbox.channels()] == ["mail", "phone"]
        met = await adopt(one, less, NOW)
        assert met.disagreements == ()
        assert [line.name for line in await one.lines.standings()] == ["line0"]
        assert [view.standing.name for view in await one.outbox.channels()] == ["phone"]


# ---- deliveries ----


class Overlapping(Webhook):
    """Counts how many requests were under way at once."""

    def __init__(self) -> None:
        super().__init__(late(0.1))
        self.most = self.now = 0

    async def _keep(self, received: Request) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await super()._keep(received)
        finally:
            self.now -= 1


@asynccontextmanager
async def bench(folder: Path, shared: PostgresPlace, settings: Settings) -> AsyncIterator[Bench]:
    async with bench_in(folder, settings, store_url=shared.url) as found:
        await found.ledger.become_daemon("1", found.clock.now())
        yield found


async def test_a_channel_has_one_delivery_under_way_and_alerts_keep_their_order(
    shared: PostgresPlace, operator: Simulator, tmp_path: Path
) -> None:
    async with Overlapping() as hook:
        settings = settings_of(operator, {"hook": hook.url})
        async with (
            bench(tmp_path, shared, settings) as one,
            bench(tmp_path, shared, settings) as two,
            bench(tmp_path, shared, settings) as three,
        ):
            for place in range(12):
                await owe(one.ledger, alert(channels=("hook",), subject=f"line {place}"), now=one.clock.now())

            async def drained() -> bool:
                await asyncio.gather(*(found.deliver() for found in (one, two, three)))
                return len(hook.record) == 12

            await until(drained)
            assert hook.most == 1
            told = [str(request.body) for request in hook.record]
            assert [next(n for n in range(12) if f"line {n}'" in text or f"line {n}\\" in text) for text in told]


async def test_of_processes_that_claim_on_a_channel_at_the_same_moment_one_does(shared: PostgresPlace) -> None:
    async with (
        opened(shared, role="daemon") as one,
        opened(shared, role="daemon") as two,
        opened(shared, role="daemon") as three,
    ):
        for ledger in (one, two, three):
            await ledger.become_daemon("1", NOW)
        await adopted(one)
        for _ in range(40):
            await owe(one, alert(channels=("phone",)), 3)
            claims = await asyncio.gather(*(ledger.outbox.claim("phone", NOW, MINUTE) for ledger in (one, two, three)))
            assert sum(claim is not None for claim in claims) == 1
            await shared.rows("DELETE FROM delivery")


async def test_a_process_that_died_while_sending_holds_up_no_other_alert(shared: PostgresPlace) -> None:
    async with opened(shared, role="daemon") as ledger:
        await ledger.become_daemon("1", NOW)
        async with opened(shared, role="daemon") as dead:
            await dead.become_daemon("1", NOW)
            await adopted(ledger)
            first, second = await owe(ledger, alert(channels=("phone",)), 2)
            claimed = await dead.outbox.claim("phone", NOW, MINUTE)
            assert claimed is not None
            assert claimed.alert.kind
            assert await ledger.outbox.channels_due(NOW) == frozenset()
            assert await ledger.outbox.claim("phone", NOW, MINUTE) is None
            wanted = await ledger.outbox.claim("phone", NOW, MINUTE, only_alert=second)
            assert wanted is not None, "a test alert is for the person who waits for it"
            await ledger.outbox.retry([wanted.id], NOW)
        third = (await owe(ledger, alert(channels=("phone",))))[0]
        assert await ledger.outbox.channels_due(NOW) == {"phone"}
        last = await ledger.outbox.claim("phone", NOW, MINUTE)
        assert last is not None
        assert last.id not in (claimed.id, wanted.id)
        assert {first, second, third}


# ---- clocks ----


async def test_processes_whose_computers_clocks_differ_poll_each_line_in_turn(
    shared: PostgresPlace, operator: Simulator
) -> None:
    settings = settings_of(operator, CHANNELS, 3, polling={"interval": "1s"}, operator={"timeout": "1s"})
    clocks = [SetClock(set_by=by) for by in (5 * MINUTE, 0, -5 * MINUTE)]
    async with (
        watching(shared, settings, clocks[0]),
        watching(shared, settings, clocks[1]),
        watching(shared, settings, clocks[2]),
    ):
        await until(lambda: all(len(operator.logins(number_of(place))) > 8 for place in range(3)))
        assert max(abs(clock.now() - Clock().now()) for clock in clocks) < SECOND
    for place in range(3):
        asked = [login.at for login in operator.logins(number_of(place))]
        assert len(asked) <= (asked[-1] - asked[0]) / SECOND + 2.5
        assert max(later - earlier for earlier, later in pairwise(asked)) < 4 * SECOND
    assert {state for (state,) in await shared.rows("SELECT state FROM line")} == {"ok"}


@pytest.mark.parametrize("by", [HOUR, -HOUR])
async def test_a_process_that_starts_with_its_clock_set_moves_no_wait(
    shared: PostgresPlace, operator: Simulator, by: Duration
) -> None:
    settings = configured(operator, WRONG_PIN)
    operator.lock_for = None
    operator.add_line(HOME, PIN)
    operator.lines[HOME].locked_at = Clock().now()
    async with watching(shared, settings):
        await until(line_is(shared, "locked"))
    before = await shared.rows("SELECT next_poll_at FROM line")
    async with watching(shared, settings, SetClock(set_by=by)):
        await until(daemons_are(shared, 1))
        await some_rounds()
        assert await shared.rows("SELECT next_poll_at FROM line") == before
    assert len(operator.logins(HOME)) == 1


async def test_a_store_s_clock_is_gone_by_and_its_being_set_is_followed() -> None:
    told: list[Duration | None] = [NOW, NOW + HOUR, None]
    clock = SetClock()

    async def time() -> Duration | None:
        return told.pop(0)

    await clock.go_by(time)
    assert clock.now() == pytest.approx(NOW, abs=SECOND)
    clock.set_by += HOUR
    assert clock.step() == 0, "this computer's clock says nothing any more"
    await clock.go_by(time)
    assert clock.now() == pytest.approx(NOW, abs=SECOND)
    assert clock.step() == pytest.approx(HOUR, abs=SECOND)
    clock.follow(clock.step())
    assert clock.now() == pytest.approx(NOW + HOUR, abs=SECOND)
    await clock.go_by(time)
    assert clock.step() == 0


async def test_a_store_that_is_slow_to_tell_its_time_is_asked_again_later() -> None:
    clock = SetClock()

    async def time() -> Duration:
        clock.slept += MINUTE
        return NOW

    await clock.go_by(time)
    assert clock.now() == pytest.approx(Clock().now() + MINUTE, abs=SECOND)


# ---- the verbs ----


@pytest.fixture
async def world(tmp_path: Path, shared: PostgresPlace) -> AsyncIterator[World]:
    async with world_in(tmp_path) as found:
        found.config["store"] = {"url": shared.url}
        found.line("home")
        yield found


async def test_the_verbs_give_one_answer_whichever_process_polls(world: World) -> None:
    async with Webhook() as hook:
        world.channel("phone", hook.url)
        async with world.running(), world.running():
            await until(world.polled("home", 2))
            status = (await world.vmwatch("status", "--json")).json
            assert len(status["processes"]) == 2
            assert "process" in (await world.vmwatch("status")).out

            assert (await world.vmwatch("pause", "home")).status == 0
            await asyncio.sleep(1.5)
            count = len(world.logins("home"))
            await asyncio.sleep(2.5)
            assert len(world.logins("home")) == count, "both have stopped"
            assert (await world.vmwatch("poll", "home", "--json")).json[0]["polled"] is False
            assert (await world.vmwatch("resume", "home")).status == 0
            await until(world.polled("home", 2))
            (answer,) = (await world.vmwatch("poll", "home", "--json")).json
            assert (answer["polled"], answer["state"]) == (True, "ok")

            hook.manner = late(0)
            ran = await world.vmwatch("test", "--json")
            assert [one["state"] for one in ran.json] == ["sent"]
            assert (await world.vmwatch("outbox", "--json")).json == []
