"""What only PostgreSQL's engine has to do: share, break and mend, tell no secret. The rest runs on both engines."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from ledgers import LEASE, PostgresPlace, adopted, begun, claimed, due_lines, line, opened, over_tcp, owe
from postgres import Server
from values import NOW, NUMBER, OTHER, alert, rules, standing, trusted

from vmwatch import decide
from vmwatch.errors import LedgerError
from vmwatch.ledger import DaemonView, Ledger, daemon_runs, path_of
from vmwatch.ledger.engine import Transaction
from vmwatch.ledger.lines import _DUE
from vmwatch.ledger.postgres import spoken
from vmwatch.models import HOUR, MINUTE, Claim, Standing


@asynccontextmanager
async def processes(shared: PostgresPlace, count: int) -> AsyncIterator[list[Ledger]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opened(shared, role="daemon")) for _ in range(count)]


async def cut_off(shared: PostgresPlace) -> None:
    """Have the server end every session of vmwatch, as it does when it is restarted."""
    await shared.rows(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND (application_name = 'vmwatch' OR application_name LIKE 'daemon-%')"
    )


def claims_of(due: Sequence[Standing]) -> list[Claim]:
    return [decide.claimed(line, NOW, rules(), LEASE) for line in due]


# ---- several processes ----


async def test_several_daemons_share_a_store_and_each_is_seen_until_it_ends(shared: PostgresPlace) -> None:
    async with opened(shared) as verb:
        async with processes(shared, 3) as daemons:
            assert await verb.daemon() == DaemonView(running=False)
            for age, daemon in enumerate(daemons):
                await daemon.become_daemon("1", NOW + age)
            assert await verb.daemon() == DaemonView(True, "1", NOW + 2)
            await daemons.pop().close()
            assert await verb.daemon() == DaemonView(True, "1", NOW + 1)
            assert await daemon_runs(shared.url)
        assert await verb.daemon() == DaemonView(running=False)
        assert not await daemon_runs(shared.url)
        async with processes(shared, 1) as (ledger,):
            await ledger.become_daemon("2", NOW + 9)
            assert await shared.rows("SELECT version, started_at FROM daemon") == [("2", NOW + 9)]


async def test_a_daemon_is_seen_again_after_its_session_was_cut(shared: PostgresPlace) -> None:
    async with processes(shared, 1) as (daemon,), opened(shared) as verb:
        await daemon.become_daemon("1", NOW)
        await cut_off(shared)
        await after_all(daemon)
        await after_all(verb)
        assert (await verb.daemon()).running


async def test_what_a_dead_process_had_claimed_falls_due_after_its_lease(shared: PostgresPlace) -> None:
    async with processes(shared, 1) as (dead,):
        await dead.become_daemon("1", NOW)
        await adopted(dead, standing(next_poll_at=NOW))
        await owe(dead, alert(channels=("phone",)))
        await begun(dead)
        await claimed(dead)
    async with processes(shared, 1) as (ledger,):
        await ledger.become_daemon("1", NOW + 1)
        for now, due in ((NOW + LEASE - 1, 0), (NOW + HOUR, 1)):
            assert len(await due_lines(ledger, now, settled=False, most=9)) == due
        assert await ledger.outbox.claim("phone", NOW + LEASE - 1, LEASE) is None
        assert (await claimed(ledger, now=NOW + LEASE)).maybe_repeat
        assert (await line(ledger)).attempt_at == NOW


async def test_four_processes_claim_each_line_once(shared: PostgresPlace) -> None:
    numbers = [f"+457191{n:04}" for n in range(400)]
    async with processes(shared, 4) as ledgers:
        await adopted(ledgers[0], *(trusted(number=number, name=f"l{number[1:]}") for number in numbers))

        async def work(ledger: Ledger) -> list[str]:
            won: list[str] = []
            while taken := await ledger.lines.take(claims_of, [], NOW, unsettled=0, settled=20):
                won += [claim.number for claim in taken]
            return won

        won = await asyncio.gather(*map(work, ledgers))
    assert sorted(number for numbers in won for number in numbers) == numbers


async def test_four_processes_claim_each_delivery_once(shared: PostgresPlace) -> None:
    async with processes(shared, 4) as ledgers:
        await adopted(ledgers[0])
        ids = await owe(ledgers[0], alert(channels=("phone",)), 60)

        async def work(ledger: Ledger) -> list[int]:
            won = []
            while delivery := await ledger.outbox.claim("phone", NOW, LEASE):
                won.append(delivery.id)
            return won

        won = await asyncio.gather(*map(work, ledgers))
    assert sorted(id_ for ids in won for id_ in ids) == ids


async def test_a_claim_passes_over_what_another_process_holds(shared: PostgresPlace) -> None:
    async with opened(shared) as ledger:
        await adopted(ledger, standing(), standing(number=OTHER, name="work"))
        ids = await owe(ledger, alert(channels=("phone",)), 2)
        async with shared.connection.transaction():
            await shared.rows(f"SELECT 1 FROM line WHERE number = '{NUMBER}' FOR UPDATE")
            await shared.rows(f"SELECT 1 FROM delivery WHERE id = {ids[0]} FOR UPDATE")
            async with asyncio.timeout(3):
                taken = await ledger.lines.take(claims_of, [], NOW, unsettled=9, settled=9)
                assert [claim.number for claim in taken] == [OTHER]
                assert (await claimed(ledger)).id == ids[1]


async def test_processes_that_start_at_once_make_the_schema_once(shared: PostgresPlace) -> None:
    async with AsyncExitStack() as stack:
        ledgers = await asyncio.gather(*(stack.enter_async_context(opened(shared)) for _ in range(5)))
        await asyncio.gather(*(adopted(ledger) for ledger in ledgers))
        assert len({ledger.salt for ledger in ledgers}) == 1
        assert await shared.rows("SELECT version FROM line") == [(0,)]


async def test_a_configuration_waits_for_what_another_process_is_changing_and_goes_by_it(shared: PostgresPlace) -> None:
    async with opened(shared) as ledger:
        await adopted(ledger)
        async with shared.connection.transaction():
            await shared.rows("UPDATE line SET failures = 7, version = version + 1")
            merging = asyncio.create_task(
                ledger.configure(lambda known, _: {NUMBER: replace(known[NUMBER], label="New")}, ["phone"], NOW)
            )
            await asyncio.sleep(0.1)
        await merging
        assert await shared.rows("SELECT failures, label, version FROM line") == [(7, "New", 2)]


async def test_transactions_that_wait_for_each_other_are_begun_anew(shared: PostgresPlace) -> None:
    async with opened(shared) as one, opened(shared) as two:
        await adopted(one, standing(), standing(number=OTHER, name="work"))
        met = asyncio.Barrier(2)

        def crossing(first: str, second: str) -> object:
            tries = iter((True,))

            async def work(transaction: Transaction) -> None:
                sql = "UPDATE line SET failures = failures + 1 WHERE number = :number"
                await transaction.run(sql, number=first)
                if next(tries, False):
                    await met.wait()
                await transaction.run(sql, number=second)

            return work

        works = (one, crossing(NUMBER, OTHER)), (two, crossing(OTHER, NUMBER))
        await asyncio.gather(*(ledger._engine.write(work) for ledger, work in works))  # type: ignore[arg-type]
        assert await shared.rows("SELECT failures FROM line") == [(2,), (2,)]
        assert (one.trouble, two.trouble) == (None, None)


async def test_one_computers_clock_moves_nothing_that_others_share(shared: PostgresPlace) -> None:
    async with processes(shared, 2) as (one, two):
        await one.become_daemon("1", NOW)
        await adopted(one, standing(next_poll_at=NOW))
        await one.shift(HOUR)
        assert (await line(one)).next_poll_at == NOW + HOUR
        await two.become_daemon("1", NOW)
        await one.shift(HOUR)
        assert (await line(one)).next_poll_at == NOW + HOUR


async def test_the_database_tells_the_time_and_a_file_none(shared: PostgresPlace, store: Path) -> None:
    async with opened(shared) as ledger, opened(store) as file:
        assert abs((await ledger.time() or 0) - time.time() * 1000) < MINUTE
        assert await file.time() is None


# ---- a database that breaks and is mended ----


async def after_all(ledger: Ledger) -> list[LedgerError]:
    """Write until that is possible again; what was met on the way."""
    met = []
    for _ in range(9):
        try:
            await ledger.outbox.owe(alert(), NOW)
            await ledger.lines.standings()
        except LedgerError as error:
            met.append(error)
        else:
            return met
    raise met[-1]


async def test_a_ledger_resumes_by_itself_after_the_database_was_restarted(shared: PostgresPlace) -> None:
    async with opened(shared) as ledger:
        await adopted(ledger)
        await cut_off(shared)
        met = await after_all(ledger)
        assert len(met) <= 2
        assert all(error.passing for error in met)
        assert ledger.trouble is None


async def test_a_transaction_whose_connection_breaks_leaves_nothing_and_is_told(shared: PostgresPlace) -> None:
    async with opened(shared) as ledger:
        await adopted(ledger)

        async def work(transaction: Transaction) -> None:
            await transaction.run("UPDATE line SET label = 'Half'")
            await cut_off(shared)
            await transaction.run("UPDATE line SET detail = 'whole'")

        with pytest.raises(LedgerError, match="it is tried again") as caught:
            await ledger._engine.write(work)
        assert caught.value.passing
        assert ledger.trouble is caught.value
        await after_all(ledger)
        assert (await line(ledger)).label == "Home"


@asynccontextmanager
async def swallowing_proxy(server: Server) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The server behind a wire that can be cut without a word: 127.0.0.1:PORT, and what lets bytes through."""
    open_wire = asyncio.Event()
    open_wire.set()
    host, port = str(server.tcp).split(":")
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                await open_wire.wait()
                writer.write(chunk)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(host, int(port))
        tasks.add(asyncio.create_task(pump(reader, back_writer)))
        tasks.add(asyncio.create_task(pump(back_reader, writer)))

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}", open_wire
    finally:
        proxy.close()
        open_wire.set()
        await asyncio.wait(tasks, timeout=5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_database_that_is_cut_off_is_told_in_time_and_used_again_when_it_is_back(
    shared: PostgresPlace, server: Server
) -> None:
    over_tcp(shared, server)
    async with swallowing_proxy(server) as (place, wire):
        ledger = await Ledger.open(over_tcp(shared, server, place), create=True)
        try:
            await adopted(ledger)
            ledger.hurry()  # or the test would wait as patiently as a daemon
            wire.clear()
            for attempt in (ledger.outbox.owe(alert(), NOW), ledger.lines.standings()):
                async with asyncio.timeout(4):
                    with pytest.raises(LedgerError, match=r"127\.0\.0\.1/postgres: the database can't be reached"):
                        await attempt
            wire.set()
            ledger.hurry()
            await after_all(ledger)
        finally:
            await ledger.close()


async def test_a_commit_is_on_the_disk_whatever_the_database_is_set_to(shared: PostgresPlace) -> None:
    url = f"{shared.url}&synchronous_commit=off"
    ledger = await Ledger.open(url, create=True)
    try:
        assert await ledger._engine.write(lambda transaction: transaction.all("SHOW synchronous_commit")) == [("on",)]
    finally:
        await ledger.close()


# ---- what is refused, and told without a secret ----


async def told(url: str, *, create: bool = True) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        await Ledger.open(url, create=create)
    assert caught.value.status == 75
    error = caught.value  # The driver's is not told with it: it may have the URL.
    assert error.__suppress_context__ or error.__context__ is None
    return error


async def test_a_wrong_password_is_told_without_it(shared: PostgresPlace, server: Server) -> None:
    error = await told(over_tcp(shared, server, password="83529461"))
    assert "refuses the login: check the user and the password" in str(error)
    assert "83529461" not in str(error)
    assert not error.passing


URLS = [
    (
        "postgresql://vmwatch:83529461@127.0.0.1:1/vmwatch",
        "//127.0.0.1/vmwatch: the database can't be reached",
    ),
    ("postgresql://vmwatch:83529461@[::1/vmwatch", "store.url: is no URL"),
    ("postgresql://vmwatch:83529461@127.0.0.1:x/vmwatch", "store.url: is no URL"),
    ("postgresql://vmwatch:83529461@127.0.0.1/vmwatch?sslmode=often", "store.url: is no URL"),
    ("postgresql://vmwatch:8352/9461@127.0.0.1/vmwatch", ""),
    ("postgresql://vmwatch:8352?9461@127.0.0.1/vmwatch", ""),
    ("postgresql://vmwatch:8352@9461@127.0.0.1:1/vmwatch", ""),
]


@pytest.mark.parametrize(("url", "sentence"), URLS, ids=range(len(URLS)))
async def test_no_url_however_odd_brings_its_password_into_a_sentence(url: str, sentence: str) -> None:
    text = str(await told(url))
    assert sentence in text
    assert not {"8352", "9461"} & {text[start : start + 4] for start in range(len(text))}


async def test_a_database_that_is_not_there_is_told(shared: PostgresPlace, server: Server) -> None:
    url = over_tcp(shared, server).replace("/postgres?", "/nowhere?")
    assert "/nowhere: there is no such database: create it" in str(await told(url))


async def test_a_schema_that_is_not_there_is_told(shared: PostgresPlace) -> None:
    assert "there is no schema to keep the store in" in str(await told(shared.url + "_nowhere"))


async def test_another_programs_database_is_left_as_it_is(shared: PostgresPlace) -> None:
    await shared.rows("CREATE TABLE bookmark (url TEXT)")
    for create in (True, False):
        assert "another program's tables" in str(await told(shared.url, create=create))
    assert len(await shared.rows("SELECT 1 FROM pg_tables WHERE schemaname = current_schema")) == 1


async def test_a_missing_store_is_made_only_by_those_who_may(shared: PostgresPlace) -> None:
    assert "there is no store here yet" in str(await told(shared.url, create=False))
    assert await shared.rows("SELECT 1 FROM pg_tables WHERE schemaname = current_schema") == []


async def test_whoever_only_looks_writes_nothing(shared: PostgresPlace) -> None:
    async with opened(shared) as ledger:
        await adopted(ledger)
    looking = await Ledger.look(shared.url)
    try:
        assert [found.name for found in await looking.lines.standings()] == ["home"]
        with pytest.raises(LedgerError, match="takes no writes"):
            await looking.outbox.owe(alert(), NOW)
    finally:
        await looking.close()


async def test_rows_are_not_repeated_when_the_database_refuses_one(shared: PostgresPlace) -> None:
    async with opened(shared) as ledger:
        await adopted(ledger, standing(label="Grandmother"))
        with pytest.raises(LedgerError) as caught:
            await ledger._engine.write(
                lambda transaction: transaction.run("INSERT INTO line SELECT * FROM line WHERE number = :n", n=NUMBER)
            )
        assert NUMBER not in str(caught.value)
        assert "Grandmother" not in str(caught.value)
        assert await ledger.lines.change(replace(await line(ledger), label="Home"))  # the connection is good still


async def test_a_missing_driver_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.delitem(sys.modules, "vmwatch.ledger.postgres")
    assert str(await told("postgresql://u:83529461@db.example.com/vmwatch")) == (
        "store.url: PostgreSQL's driver is not installed; install it: pip install 'vmwatch[postgres]'"
    )


def test_what_is_for_files_refuses_without_the_url() -> None:
    with pytest.raises(LedgerError, match="use pg_dump and pg_restore") as caught:
        path_of("postgresql://u:83529461@db.example.com/vmwatch")
    assert "83529461" not in str(caught.value)


# ---- statements ----


@pytest.mark.parametrize(
    ("sql", "text", "names"),
    [
        ("SELECT a FROM b", "SELECT a FROM b", ()),
        ("SELECT :b, :a, :b", "SELECT $1, $2, $1", ("b", "a")),
        ("SELECT a::text, ':', 'b: c' -- of :d", "SELECT a::text, ':', 'b: c' ", ()),
        ("SELECT 1 /*+ FOR UPDATE OF :t */ LIMIT 1", "SELECT 1  FOR UPDATE OF $1  LIMIT 1", ("t",)),
        ("CREATE TABLE t (a INTEGER, b TEXT)", 'CREATE TABLE t (a BIGINT, b TEXT COLLATE "C")', ()),
    ],
)
def test_a_statement_is_put_in_postgresqls_words(sql: str, text: str, names: tuple[str, ...]) -> None:
    assert spoken(sql) == (text, names)


async def test_the_index_of_due_lines_is_used(shared: PostgresPlace) -> None:
    async with opened(shared) as ledger:
        lines = [trusted(number=f"+45719{n:05}", name=f"l{n}", next_poll_at=NOW + n) for n in range(3000)]
        await adopted(ledger, *lines)
        await shared.rows("ANALYZE line")
        await shared.rows(f"PREPARE due AS {spoken(_DUE)[0]}")
        await shared.rows("SET plan_cache_mode = force_generic_plan")  # as the engine has it
        plan = "\n".join(row[0] for row in await shared.rows(f"EXPLAIN EXECUTE due({NOW}, 'me', 1, 20, 20)"))
        assert plan.count("line_due") == 2


def test_the_driver_is_the_one_that_the_extra_names() -> None:
    assert tuple(map(int, asyncpg.__version__.split(".")[:2])) >= (0, 31)
