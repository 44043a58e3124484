"""Moving a ledger between the engines: all of it, with its ids, into an empty one, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledgers import SENT as ARRIVED
from ledgers import (
    FilePlace,
    Place,
    PostgresPlace,
    adopted,
    attempted,
    claimed,
    decided,
    line,
    opened,
    outbox,
    over_tcp,
    owe,
    polled,
)
from postgres import PASSWORD, Server
from values import NOW, NUMBER, OTHER, alert, mailbox, rejected, standing
from world import world_in

from vmwatch.errors import LedgerError, Trouble
from vmwatch.ledger.migrations import NUMBERED, TABLES
from vmwatch.ledger.moving import move
from vmwatch.models import HOUR, Kind, Reason


@pytest.fixture
def there(request: pytest.FixtureRequest, place: Place, tmp_path: Path) -> Place:
    """An empty place of the other kind."""
    if isinstance(place, FilePlace):
        found: Place = request.getfixturevalue("shared")
        return found
    return FilePlace(tmp_path / "moved.db")


async def content(place: Place) -> dict[str, list[tuple[object, ...]]]:
    return {
        table: await place.rows(f"SELECT {', '.join(names)} FROM {table} ORDER BY {key}")
        for table, (names, key) in TABLES.items()
    }


async def a_life(place: Place) -> None:
    async with opened(place) as ledger:
        await adopted(ledger, standing(), rejected(number=OTHER, name="work", label="Ærø’s"))
        await polled(ledger, "a", "b", "c")
        await attempted(ledger, await claimed(ledger), ARRIVED)
        await polled(ledger, "c", now=NOW + 1)
        await ledger.lines.record(await decided(ledger, Trouble(Reason.BLACKLISTED), NOW + 2), NOW + 2)
        await claimed(ledger, "mail", NOW + 3)
        await ledger.follow_ups.reckon([NUMBER], NOW + 4)
        await owe(ledger, alert(Kind.VOICEMAIL_REMINDER, messages=("c",)), now=NOW + 5)


async def test_a_moved_ledger_has_every_row_and_id_and_alerts_nobody_twice(place: Place, there: Place) -> None:
    await a_life(place)
    before = await content(place)
    moved = await move(place.url, there.url)
    assert await content(there) == await content(place) == before
    assert moved.rows == {table: len(rows) for table, rows in before.items()}
    assert all(moved.rows.values())
    async with opened(there, create=False) as ledger:
        already = await outbox(ledger)
        assert await ledger.lines.record(await decided(ledger, mailbox("b", "c"), NOW + HOUR), NOW + HOUR)
        assert [owed.id for owed in await outbox(ledger)] == [owed.id for owed in already]
        (new,) = await owe(ledger, alert())
        assert new == max(owed.alert_id for owed in already) + 1
        assert (await line(ledger, NUMBER)).trusted


async def test_what_is_moved_there_and_back_is_as_it_was(place: Place, there: Place, tmp_path: Path) -> None:
    await a_life(place)
    back = FilePlace(tmp_path / "back.db")
    await move(place.url, there.url)
    await move(there.url, back.url)
    assert await content(back) == await content(place)


async def test_a_store_that_is_not_empty_is_refused_and_left_as_it_is(place: Place, there: Place) -> None:
    for one in (place, there):
        async with opened(one) as ledger:
            await adopted(ledger, standing())
    before = await content(there)
    with pytest.raises(LedgerError, match="the store is not empty; nothing was moved"):
        await move(place.url, there.url)
    assert await content(there) == before


async def test_nothing_is_moved_under_a_running_daemon(place: Place, there: Place) -> None:
    async with opened(place, role="daemon") as ledger:
        await ledger.become_daemon("1", NOW)
        with pytest.raises(LedgerError, match="a vmwatch daemon runs on this store; stop it first"):
            await move(place.url, there.url)


async def test_the_columns_that_are_moved_are_all_that_there_are(ledger: object, place: Place) -> None:
    names = "SELECT name FROM pragma_table_info('{}')"
    if isinstance(place, PostgresPlace):
        names = (
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = current_schema AND table_name = '{}' ORDER BY ordinal_position"
        )
    for table, (columns, _) in TABLES.items():
        assert tuple(name for (name,) in await place.rows(names.format(table))) == columns
    every = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    if isinstance(place, PostgresPlace):
        every = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema"
    assert {name for (name,) in await place.rows(every)} == {*TABLES, "daemon", "schema_version"}
    assert set(NUMBERED) <= set(TABLES)


async def test_the_verb_moves_and_never_takes_a_password_from_the_command_line(
    tmp_path: Path, shared: PostgresPlace, server: Server
) -> None:
    async with world_in(tmp_path) as world:
        world.line("home")
        world.channel("hook", "json://127.0.0.1:9/")
        async with opened(world.store) as ledger:
            await adopted(ledger)
        url = over_tcp(shared, server)
        ran = await world.vmwatch("move-store", url)
        assert (ran.status, "see --url-file" in ran.err, PASSWORD in ran.err) == (2, True, False)
        (tmp_path / "new.url").write_text(url + "\n")
        for status, words in ((0, "every row compared"), (75, "is not empty; nothing was moved")):
            ran = await world.vmwatch("move-store", "--url-file", str(tmp_path / "new.url"))
            assert (ran.status, words in ran.out + ran.err) == (status, True), ran.err
            assert PASSWORD not in ran.out + ran.err
        assert (await world.vmwatch("move-store", "mysql://db.example.com/x")).status == 2
        assert (await world.vmwatch("move-store")).status == 2
        world.config["store"] = {"url": url}
        assert [entry["name"] for entry in (await world.vmwatch("status", "--json")).json["lines"]] == ["home"]
