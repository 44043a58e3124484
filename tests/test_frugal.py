"""What a quiet life costs, counted: commits, statements, parses. Seconds are measured in benchmarks/, not here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sqlite3
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from receivers import Webhook
from world import Bench, bench_in, number_of, settings_of

from vmwatch import cli, poll, presence, reading
from vmwatch.ledger import following, holding, outbox, shown
from vmwatch.ledger.engine import Transaction
from vmwatch.ledger.lines import _DUE, _OUTLOOK
from vmwatch.models import MINUTE, SECOND, Alert, Kind
from vmwatch.simulator import Simulator
from vmwatch.tally import Tally

CHANNELS = {"phone": "json://127.0.0.1:9/phone"}
LINES = 8
ALERTS = 5


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def bench(operator: Simulator, tmp_path: Path) -> AsyncIterator[Bench]:
    """Lines that were read once, each with a message: from here on all is quiet."""
    async with bench_in(tmp_path, settings_of(operator, CHANNELS, LINES, polling={"first_poll": "silent"})) as bench:
        for place in range(LINES):
            operator.leave(number_of(place))
        await bench.poll()
        yield bench


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that SQLite is given from here on, by whatever connection is opened from here on."""
    given: list[str] = []
    connect = sqlite3.connect

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(lambda statement: given.append(" ".join(statement.split())))
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    return given


@contextlib.contextmanager
def parses() -> Iterator[list[str]]:
    """The bodies that are read meanwhile."""
    read: list[str] = []

    def watch(frame: types.FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is reading.mailbox.__code__:
            read.append(frame.f_code.co_name)

    sys.setprofile(watch)
    try:
        yield read
    finally:
        sys.setprofile(None)


def count(statements: list[str], beginning: str) -> int:
    return sum(statement.startswith(beginning) for statement in statements)


async def test_an_answer_that_is_the_last_one_again_is_not_parsed(operator: Simulator, bench: Bench) -> None:
    with parses() as read:
        for _ in range(3):
            assert await bench.poll(MINUTE) == LINES
        assert read == []
        operator.leave(number_of(0))
        await bench.poll(MINUTE)
        assert len(read) == 1


async def test_a_heartbeat_with_quiet_lines_due_makes_one_commit(statements: list[str], bench: Bench) -> None:
    for _ in range(3):
        statements.clear()
        assert await bench.poll(MINUTE) == LINES
        assert count(statements, "COMMIT") == 1


async def test_a_few_lines_are_polled_at_one_go_which_takes_one_commit_a_minute(
    operator: Simulator, statements: list[str], tmp_path: Path
) -> None:
    settings = settings_of(operator, CHANNELS, LINES, polling={"jitter": 0.1})
    async with bench_in(tmp_path, settings) as bench:
        assert await bench.poll() == LINES
        await bench.poll(MINUTE)
        statements.clear()
        found = [polled for _ in range(20 * 60) if (polled := await bench.poll(SECOND))]
    assert found == [LINES] * len(found)
    assert 19 <= len(found) <= 21
    assert count(statements, "COMMIT") == len(found)


async def test_a_heartbeat_with_nothing_due_writes_nothing(statements: list[str], bench: Bench) -> None:
    await bench.poll(MINUTE)
    statements.clear()
    for _ in range(30):
        assert await bench.poll() == 0
        await bench.deliver()
    assert [statement for statement in statements if not statement.startswith("SELECT")] == []


async def test_what_the_process_carries_is_written_with_claims_and_never_alone(
    statements: list[str], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "EVERY_ALONG", 0)

    async def nobody() -> None:
        raise AssertionError("SQLite's daemon is alone")

    found = presence.Presence(bench.ledger, bench.clock, Tally(), nobody)
    statements.clear()
    assert await bench.poll(MINUTE) == LINES
    await found.after_round()
    assert count(statements, "COMMIT") == 1
    assert count(statements, "INSERT INTO daemon") == 1
    statements.clear()
    assert await bench.poll() == 0
    await found.after_round()
    assert [statement for statement in statements if not statement.startswith("SELECT")] == []


async def test_a_heartbeat_with_nothing_due_looks_twice(statements: list[str], bench: Bench) -> None:
    """How the operator stands and whether any line is due, and which channels."""
    statements.clear()
    assert await bench.poll() == 0
    await bench.deliver()
    assert len(statements) == 2


async def test_a_claim_takes_one_statement_a_line_and_a_note_another(statements: list[str], bench: Bench) -> None:
    await bench.poll(MINUTE)
    statements.clear()
    assert await bench.poll(MINUTE) == LINES
    written = [statement for statement in statements if not statement.startswith("SELECT")]
    assert count(written, "UPDATE line SET attempt_at = NULL") == LINES
    assert count(written, "UPDATE line SET attempt_at = 1") == LINES
    assert len(written) == 2 * LINES + len(("BEGIN", "SAVEPOINT", "RELEASE", "COMMIT"))


async def test_what_was_claimed_is_not_read_again(statements: list[str], bench: Bench) -> None:
    statements.clear()
    assert await bench.poll(MINUTE) == LINES
    assert count(statements, "SELECT") == 2


# ---- an alert ----


@pytest.fixture
async def owing(operator: Simulator, tmp_path: Path, hook: Webhook) -> AsyncIterator[Bench]:
    """One line was read a moment ago; a channel that works is owed an alert for each of its messages."""
    settings = settings_of(operator, {"phone": hook.url}, polling={"first_poll": "each"})
    async with bench_in(tmp_path, settings) as bench:
        for _ in range(ALERTS):
            operator.leave(number_of(0))
        await bench.poll()
        yield bench


async def test_an_alert_takes_one_commit_more_than_the_poll_that_saw_it(statements: list[str], owing: Bench) -> None:
    """The first one's claim has a commit of its own; every other is claimed by the one before it."""
    statements.clear()
    await owing.deliver()
    assert [one["state"] for one in await owing.outbox()] == ["sent"] * ALERTS
    assert count(statements, "COMMIT") == 1 + ALERTS


async def test_a_transaction_is_one_turn_of_its_thread_whatever_it_does(
    caplog: pytest.LogCaptureFixture, owing: Bench
) -> None:
    """aiosqlite's own log tells its turns."""
    with caplog.at_level(logging.DEBUG, "aiosqlite"):
        await owing.deliver()
    turns = sum(record.msg.startswith("executing") for record in caplog.records)
    due, claim, channel = 1, 1, 1
    assert turns == due + claim + channel + ALERTS, "a settlement each"


async def test_what_is_to_be_written_at_once_is_committed_together(statements: list[str], owing: Bench) -> None:
    statements.clear()
    alert = Alert(Kind.TEST, ("phone",))
    ids = await asyncio.gather(*(owing.ledger.outbox.owe(alert, owing.clock.now()) for _ in range(ALERTS)))
    assert len(set(ids)) == ALERTS
    assert count(statements, "COMMIT") == 1


async def test_rows_are_written_without_all_of_them_in_memory(bench: Bench) -> None:
    class Given(dict[str, object]):
        alive = most = 0

        def __init__(self, **cells: object) -> None:
            super().__init__(cells)
            Given.alive += 1
            Given.most = max(Given.most, Given.alive)

        def __del__(self) -> None:
            Given.alive -= 1

    async def work(transaction: Transaction) -> int:
        return await transaction.many(outbox._CONFIGURE, (Given(name=f"phone{n}", now=1) for n in range(100)))

    assert await bench.ledger._engine.write(work) == 100
    assert Given.most < 5


@pytest.mark.parametrize("look", [_DUE, _OUTLOOK])
async def test_due_lines_are_found_by_their_index(bench: Bench, look: str) -> None:
    given = {"now": 1, "me": "", "ok": 1, "unsettled": 9, "settled": 9}
    with contextlib.closing(sqlite3.connect(bench.folder / "vmwatch.db")) as connection:
        plan = [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {look}", given)]
    assert sum("USING INDEX line_due" in step for step in plan) == 2


@pytest.mark.parametrize("look", [following._HEARD, following._WHO_GOT_IT, holding._SENT_AT, shown._OF_MESSAGE])
async def test_nothing_goes_through_all_that_was_ever_sent(bench: Bench, look: str) -> None:
    given = dict.fromkeys(re.findall(r":([a-z]+)", look), 1)
    with contextlib.closing(sqlite3.connect(bench.folder / "vmwatch.db")) as connection:
        plan = [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {look}", given)]
    assert not [step for step in plan if "delivery_due" in step or step.startswith("SCAN d")]


async def test_what_is_shown_by_a_name_is_found_by_its_index(bench: Bench) -> None:
    with contextlib.closing(sqlite3.connect(bench.folder / "vmwatch.db")) as connection:
        given = {"channel": "phone", "name": "a"}
        plan = [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {outbox._SHOWS}", given)]
    assert any("delivery_shown" in step for step in plan)


async def test_a_round_is_begun_again_only_when_half_of_the_room_is_free(
    operator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round costs as much as many polls do: a bell for every poll that ends would make one of each."""
    monkeypatch.setattr(poll, "PAUSE_S", 60.0)  # nor one by the clock
    rung: list[int] = []
    settings = settings_of(operator, CHANNELS, 12, operator={"concurrency": 4})
    async with bench_in(tmp_path, settings, ring=lambda: rung.append(1)) as bench:
        while await bench.poll():
            pass
        rung.clear()
        bench.clock.ahead += MINUTE
        assert await bench.poller.round() == 4
        await bench.poller.idle()
        assert len(rung) == 3


@pytest.mark.parametrize(("there", "expected"), [(True, asyncio.SelectorEventLoop), (False, None)])
def test_the_faster_event_loop_is_used_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, there: bool, expected: Callable[[], object] | None
) -> None:
    """Any module of that name will do: uvloop itself is no part of the tests."""
    stand_in = types.SimpleNamespace(new_event_loop=asyncio.SelectorEventLoop) if there else None
    monkeypatch.setitem(sys.modules, "uvloop", stand_in)  # type: ignore[arg-type]
    assert cli._fast_loop() is expected


async def test_what_a_bunch_of_polls_makes_is_not_looked_at_for_garbage_while_it_lives(tmp_path: Path) -> None:
    program = """
import gc, sys
from vmwatch import cli
from vmwatch.cli import running

class Daemon(running.Daemon):
    async def run(self):
        before = gc.get_stats()[0]["collections"]
        polls = [[] for _ in range(5_000)]
        print(gc.get_stats()[0]["collections"] - before, "looks; modules and configuration:", gc.get_freeze_count())

running.Daemon = Daemon
cli.main(["--config", sys.argv[1], "run"])
"""
    config = tmp_path / "config.toml"
    config.write_text(
        f'lines.home = {{number="{number_of(0)}", pin="1234"}}\nchannels.phone.url="{CHANNELS["phone"]}"\n'
    )
    command = (sys.executable, "-c", program, str(config))
    told = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(told.communicate(), 60)
    looks, _, frozen = output.decode().partition(" looks; modules and configuration: ")
    assert looks == "0"
    assert int(frozen) > 10_000


async def test_the_version_is_told_without_what_only_verbs_need() -> None:
    """Every module takes its time to be read: of vmwatch there are these, and none of them reads the models."""
    program = """
import sys
from vmwatch import cli
try:
    cli.main(["--version"])
except SystemExit:
    print(*sorted(name for name in sys.modules if name.startswith("vmwatch.") or name in ("asyncio", "dataclasses")))
"""
    told = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(told.communicate(), 60)
    modules = output.decode().splitlines()[-1].split()
    assert modules == ["vmwatch.cli", "vmwatch.cli.parser", "vmwatch.errors", "vmwatch.signals"]
