"""Several vmwatch on one PostgreSQL: each line is polled by one, each alert sent by one, and no password is told."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from failover import Wire
from ledgers import PostgresPlace, adopted, claimed, decided, line, opened, outbox, over_tcp, owe, polled, rows
from postgres import PASSWORD, Server
from receivers import Webhook, late
from values import NOW, NUMBER, alert, remembered, trusted
from world import WRONG_PIN, Bench, World, bench_in, number_of, settings_of, until, world_in

from vmwatch.errors import LedgerError, Trouble
from vmwatch.ledger import copies
from vmwatch.models import HOUR, MINUTE, SECOND, LineState, Reason
from vmwatch.pins import UNKNOWN
from vmwatch.settings import Reminder
from vmwatch.simulator import Simulator

LINES = 6
HOME = number_of(0)
CHANNELS = {"phone": "json://127.0.0.1:9/phone"}

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
async def hook() -> AsyncIterator[Webhook]:
    async with Webhook() as webhook:
        yield webhook


@pytest.fixture
async def world(tmp_path: Path, shared: PostgresPlace, server: Server, hook: Webhook) -> AsyncIterator[World]:
    async with world_in(tmp_path) as found:
        found.config["store"] = {"url": over_tcp(shared, server)}
        found.config["operator"]["timeout"] = "1s"
        for place in range(LINES):
            found.line(f"line{place}")
        found.channel("hook", hook.url)
        yield found


def leave(world: World, name: str) -> None:
    world.operator.leave(world.numbers[name], caller="+4599778822", name=name)


def told(hook: Webhook, names: list[str]) -> Callable[[], bool]:
    return lambda: {f"Voicemail from {name}" for name in names} <= set(titles(hook))


def titles(hook: Webhook) -> Counter[str]:
    return Counter(str(request.body["title"]) for request in hook.record)


def polled_in_turn(world: World) -> bool:
    """Whether each line was asked once an interval (1 s), whoever asked: a round may be late, so the next is sooner."""
    logins = [[login.at for login in world.logins(name)] for name in world.numbers]
    return all(len(line) <= (line[-1] - line[0]) / SECOND + 2.5 for line in logins)


async def test_three_daemons_share_the_work_and_one_that_is_killed_is_replaced(world: World, hook: Webhook) -> None:
    async with world.running() as one, world.running() as two, world.running() as three:
        names = list(world.numbers)
        await asyncio.gather(*(until(world.polled(name, 2)) for name in names))
        for name in names:
            leave(world, name)
        await until(told(hook, names))
        assert polled_in_turn(world)
        await one.kill()
        again = await world.vmwatch("health")
        assert (again.status, "healthy" in again.out) == (0, True)
        await asyncio.gather(*(until(world.polled(name, 2), 40) for name in names))
        for name in names:
            leave(world, name)
        await until(lambda: min(titles(hook)[f"Voicemail from {name}"] for name in names) >= 2)
        assert set(titles(hook).values()) == {2}
        assert {line["state"] for line in (await world.look())["lines"]} == {"ok"}
        said = "".join(daemon.said() for daemon in (one, two, three))
    assert PASSWORD not in said


async def test_a_daemon_whose_sessions_are_cut_goes_on_by_itself(world: World, shared: PostgresPlace) -> None:
    async with world.running() as daemon:
        await until(world.polled("line0", 2))
        await shared.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND (application_name = 'vmwatch' OR application_name LIKE 'daemon-%')"
        )
        await until(world.polled("line0", 3), 40)
        assert PASSWORD not in daemon.said()


async def test_no_verb_tells_the_password(world: World) -> None:
    async with world.running() as daemon:
        await until(world.polled("line0", 1))
        for verb, status in {"check": 0, "check --json": 0, "status --json": 0, "health": 0, "backup b.db": 0}.items():
            ran = await world.vmwatch(*verb.split())
            assert (verb, ran.status) == (verb, status), ran.err
            assert PASSWORD not in ran.out + ran.err
            if verb.startswith("check"):
                assert '"url": "<secret>"' in ran.out
        assert PASSWORD not in daemon.said()
    world.config["store"]["url"] = world.store_url.replace(PASSWORD, "83529461")
    for verb in ("run", "status", "health"):
        ran = await world.vmwatch(verb)
        assert ran.status in (1, 75)
        assert "refuses the login" in ran.out + ran.err
        assert "83529461" not in ran.out + ran.err


def settings(operator: Simulator) -> Any:
    return settings_of(operator, CHANNELS)


async def test_a_quiet_polls_note_is_written_before_another_process_could_take_the_attempt_for_lost(
    shared: PostgresPlace, tmp_path: Path
) -> None:
    async with Simulator() as operator:
        wanted = settings(operator)
        async with (
            bench_in(tmp_path, wanted, store_url=shared.url) as one,
            bench_in(tmp_path, wanted, store_url=shared.url) as two,
        ):
            assert await one.poll() == 1
            due_at = (await one.ledger.lines.standings())[0].next_poll_at or 0
            assert await one.poll(due_at - one.clock.now()) == 1  # quiet, and not due again for a minute
            assert await one.poll(5 * SECOND) == 0
            assert (await two.ledger.lines.standings())[0].attempt_at is None
            assert await two.poll(3 * MINUTE + 10 * SECOND) == 1
            assert (await two.line("line0"))["state"] == "ok"
            assert len(operator.logins(HOME)) == 3


# ---- a backup of it ----


async def test_a_backup_of_a_shared_store_is_a_file_without_a_tag_and_is_made_while_daemons_run(
    shared: PostgresPlace, tmp_path: Path
) -> None:
    async with opened(shared, role="daemon") as ledger:
        await ledger.become_daemon("1", NOW)
        await adopted(ledger, trusted())
        await polled(ledger, "a")
        await copies.backup(shared.url, tmp_path / "b.db")
        assert await ledger.lines.known(NUMBER) == remembered("a")
    assert rows(tmp_path / "b.db", "SELECT pin_tag, trusted FROM line") == [(UNKNOWN, 0)]
    assert rows(tmp_path / "b.db", "SELECT key FROM meta") == []
    assert os.listdir(tmp_path) == ["b.db"]


async def test_a_shared_store_that_is_restored_keeps_what_it_knows_of_logins(
    shared: PostgresPlace, tmp_path: Path
) -> None:
    backup = tmp_path / "b.db"
    async with opened(shared) as ledger:
        await adopted(ledger, trusted())
        await polled(ledger, "a")
        await copies.backup(shared.url, backup)
        await polled(ledger, "a", "b", now=NOW + MINUTE)
        assert await ledger.lines.record(await decided(ledger, Trouble(Reason.PIN_REJECTED), NOW + HOUR), NOW + HOUR)
        salt = ledger.salt
    restored = await copies.restore(shared.url, backup, NOW + HOUR)
    async with opened(shared) as ledger:
        kept = await line(ledger)
        assert (kept.state, kept.pin_tag, ledger.salt) == (LineState.REJECTED, trusted().pin_tag, salt)
        assert await ledger.lines.known(NUMBER) == remembered("a")
        assert (await claimed(ledger)).maybe_repeat
        (fresh,) = await owe(ledger, alert())
        assert fresh > max(owed.alert_id for owed in await outbox(ledger) if owed.alert_id != fresh)
    assert restored.aside is not None
    assert rows(restored.aside, "SELECT id FROM message ORDER BY id") == [("a",), ("b",)]


async def test_a_shared_store_is_not_restored_while_a_daemon_runs(shared: PostgresPlace, tmp_path: Path) -> None:
    async with opened(shared, role="daemon") as ledger:
        await adopted(ledger)
        await copies.backup(shared.url, tmp_path / "b.db")
        await ledger.become_daemon("1", NOW)
        with pytest.raises(LedgerError, match="a vmwatch daemon runs on this store"):
            await copies.restore(shared.url, tmp_path / "b.db", NOW)
    assert os.listdir(tmp_path) == ["b.db"]


# ---- a database that goes away at the worst moment ----


@pytest.fixture
async def wire(server: Server) -> AsyncIterator[Wire]:
    if server.tcp is None:
        pytest.skip("the server of $VMWATCH_TEST_POSTGRES is not ours to be cut off from")
    async with Wire(int(server.tcp.rpartition(":")[2])) as wire:
        yield wire


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def far(
    tmp_path: Path, shared: PostgresPlace, server: Server, wire: Wire, operator: Simulator, hook: Webhook
) -> AsyncIterator[Bench]:
    """A daemon's parts, with the database at the other end of the wire."""
    store_url = over_tcp(shared, server, wire.place)
    wanted = settings_of(operator, {"hook": hook.url}, polling={"first_poll": "each"})
    async with bench_in(tmp_path, wanted, store_url=store_url) as bench:
        yield bench


async def test_a_claim_whose_commit_nobody_knows_of_is_not_asked_for(
    far: Bench, wire: Wire, operator: Simulator
) -> None:
    """It may have been kept: then the attempt counts as lost, and the line waits as after a crash."""
    operator.set_pin(HOME, WRONG_PIN)
    wire.swallow_answer_to(b"COMMIT")
    with pytest.raises(LedgerError, match="tried again"):
        await far.poll()
    for turn in (0, 31 * SECOND, 0):
        await far.poll(turn)
    assert operator.logins(HOME) == []
    assert (await far.line("line0"))["reason"] == "attempt_lost"
    for _ in range(3):
        await far.poll(6 * MINUTE)
    assert len(operator.failed_logins(HOME)) == 1
    assert (await far.line("line0"))["state"] == "rejected"


async def test_a_claim_is_as_long_as_ever_however_slow_the_database_was_until_then(
    far: Bench, wire: Wire, operator: Simulator, shared: PostgresPlace
) -> None:
    """Or another process would ask for the line while this one still does."""
    operator.delay = 500
    wire.cut()
    polling = asyncio.create_task(far.poll())
    await asyncio.wait({polling}, timeout=1.5)
    mended = far.clock.now()
    wire.mend()
    await until(lambda: len(operator.logins(HOME)) == 1)
    ((attempt_at, claimed_until),) = await shared.rows("SELECT attempt_at, claimed_until FROM line")
    assert attempt_at >= mended
    assert claimed_until - attempt_at == 15 * SECOND  # operator.timeout, and 10 s
    await polling


async def test_a_verdict_whose_commit_nobody_knows_of_costs_no_second_login(
    far: Bench, wire: Wire, operator: Simulator
) -> None:
    operator.set_pin(HOME, WRONG_PIN)
    operator.delay = 200
    polling = asyncio.create_task(far.poll())
    await until(lambda: len(operator.logins(HOME)) == 1)
    wire.swallow_answer_to(b"COMMIT")
    await polling
    for _ in range(3):
        await far.poll(HOUR)
    assert len(operator.failed_logins(HOME)) == 1
    assert (await far.line("line0"))["state"] == "rejected"


async def test_a_verdict_that_is_heard_while_the_database_is_away_is_kept_until_it_is_back(
    far: Bench, wire: Wire, operator: Simulator
) -> None:
    operator.set_pin(HOME, WRONG_PIN)
    operator.delay = 200
    polling = asyncio.create_task(far.poll())
    await until(lambda: len(operator.logins(HOME)) == 1)
    wire.break_off()
    await asyncio.wait({polling}, timeout=0.5)
    assert not polling.done()
    wire.mend()
    await polling
    assert (await far.line("line0"))["state"] == "rejected"
    assert len(operator.failed_logins(HOME)) == 1


@pytest.mark.parametrize("place", ["record", "settle"])
async def test_a_message_whose_commit_nobody_knows_of_is_told_once(
    far: Bench, wire: Wire, operator: Simulator, hook: Webhook, place: str
) -> None:
    operator.leave(HOME)
    operator.delay = 200
    polling = asyncio.create_task(far.poll())
    await until(lambda: len(operator.logins(HOME)) == 1)
    if place == "record":
        wire.swallow_answer_to(b"COMMIT")
    await polling
    hook.manner = late(0.2)
    delivering = asyncio.create_task(far.deliver())
    await hook.heard(1)
    if place == "settle":
        wire.swallow_answer_to(b"COMMIT")
    await delivering
    await far.deliver(MINUTE)
    assert len(hook.record) == 1
    assert [one["state"] for one in await far.outbox()] == ["sent"]


@pytest.mark.parametrize("lines", [1, 40])
async def test_a_round_of_quiet_polls_takes_seven_statements_however_many_lines_there_are(
    tmp_path: Path, shared: PostgresPlace, server: Server, wire: Wire, operator: Simulator, lines: int
) -> None:
    """The operator's standing and whether any line is due; BEGIN, notes, lines, claims, COMMIT; which channels."""
    wanted = settings_of(operator, CHANNELS, lines, operator={"concurrency": 100})
    async with bench_in(tmp_path, wanted, store_url=over_tcp(shared, server, wire.place)) as bench:
        for _ in range(2):
            assert await bench.poll(MINUTE) == lines
        wire.statements = 0
        assert await bench.poll(MINUTE) == lines
        await bench.deliver()
        assert wire.statements == 7
        due = lines
        while due:  # one may be due again already
            wire.statements = 0
            due = await bench.poll()
        await bench.deliver()
        assert wire.statements == 2


async def test_what_one_daemon_is_to_do_the_one_does_that_runs_for_longest(shared: PostgresPlace) -> None:
    async with opened(shared, role="daemon") as two:
        async with opened(shared, role="daemon") as one:
            assert await one.processes.is_first()
            await one.become_daemon("1", NOW)
            await two.become_daemon("1", NOW + 1)
            assert (await one.processes.is_first(), await two.processes.is_first()) == (True, False)
        assert await two.processes.is_first()


@asynccontextmanager
async def two_that_follow(
    shared: PostgresPlace, folder: Path, operator: Simulator, hook: Webhook, *reminds: tuple[str, ...]
) -> AsyncIterator[list[Bench]]:
    """Benches on one store that differ in when they remind of what waits on the same line."""
    async with AsyncExitStack() as stack:
        found = []
        for remind in reminds:
            plain = settings_of(operator, {"phone": hook.url})
            steps = tuple(Reminder(after=int(step) * MINUTE) for step in remind)
            line = plain.lines["line0"].model_copy(update={"remind": steps})
            settings = plain.model_copy(update={"lines": {"line0": line}})
            found.append(await stack.enter_async_context(bench_in(folder, settings, store_url=shared.url)))
        await found[0].poll()
        yield found


async def minutes_pass(benches: list[Bench], minutes: int) -> None:
    """Each does all that is to be done, the one after the other."""
    for _ in range(minutes):
        for bench in benches:
            await bench.poll(MINUTE)
            await bench.follow()
            await bench.deliver()


AGAIN = "Not heard yet: voicemail from Ann"


@pytest.mark.parametrize("reminds", [((), ("30", "60")), (("60",), ("30", "60")), (("45",), ())])
async def test_who_has_other_steps_for_a_line_or_none_does_not_end_another_process_s(
    shared: PostgresPlace, tmp_path: Path, hook: Webhook, operator: Simulator, reminds: tuple[tuple[str, ...], ...]
) -> None:
    """Whoever polls the message, and looks first."""
    async with two_that_follow(shared, tmp_path, operator, hook, *reminds) as benches:
        operator.leave(HOME, name="Ann")
        for order in (benches, benches[::-1]):
            await minutes_pass(order, 20)
        for order in (benches, benches[::-1]):
            await minutes_pass(order, 25)
        assert titles(hook)[AGAIN] >= 1
        assert titles(hook)[AGAIN] <= max(map(len, reminds))


async def test_what_nobody_has_steps_for_any_more_ends(
    shared: PostgresPlace, tmp_path: Path, hook: Webhook, operator: Simulator
) -> None:
    async with two_that_follow(shared, tmp_path, operator, hook, (), ("30",)) as (idle, other):
        operator.leave(HOME, name="Ann")
        await minutes_pass([idle, other], 2)
        assert await shared.rows("SELECT 1 FROM follow_up") != []
        await minutes_pass([idle], 29)
        assert await shared.rows("SELECT 1 FROM follow_up") != [], "the other one may be about to do it"
        await minutes_pass([idle], 2)
        assert await shared.rows("SELECT 1 FROM follow_up") == []
        assert titles(hook)[AGAIN] == 0


async def test_the_end_of_a_snooze_needs_no_steps(
    shared: PostgresPlace, tmp_path: Path, hook: Webhook, operator: Simulator
) -> None:
    async with two_that_follow(shared, tmp_path, operator, hook, ()) as (bench,):
        id_ = operator.leave(HOME, name="Ann")
        await minutes_pass([bench], 3)
        await bench.ledger.messages.snooze([(HOME, id_)], bench.clock.now() + 5 * MINUTE, bench.clock.now())
        await minutes_pass([bench], 5)
        assert titles(hook)[AGAIN] == 1


async def test_a_line_that_another_process_is_about_to_claim_is_passed_over(
    shared: PostgresPlace, tmp_path: Path
) -> None:
    async with Simulator() as operator, bench_in(tmp_path, settings(operator), store_url=shared.url) as bench:
        async with shared.connection.transaction():
            await shared.rows("SELECT 1 FROM line FOR UPDATE")
            async with asyncio.timeout(3):
                assert await bench.poll() == 0
        assert operator.logins(HOME) == []
        assert await bench.poll() == 1
