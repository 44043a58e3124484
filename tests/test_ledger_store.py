"""The ledger's file: its modes, its schema, its one daemon, and transactions that nothing cuts in two."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledgers import Place, adopted, begun, claimed, commits, decided, line, opened, outbox, owe, polled, states
from values import NOW, NUMBER, OTHER, alert, judged, mailbox, rejected, standing, trusted, voicemail

from vmwatch.errors import LedgerError
from vmwatch.ledger import Carried, DaemonView, Ledger
from vmwatch.ledger.engine import Transaction
from vmwatch.ledger.migrations import MIGRATIONS
from vmwatch.ledger.rows import alert_from_json, alert_to_json
from vmwatch.models import DAY, FOREVER, HOUR, MINUTE, Kind, LineState, OperatorStanding, Reason

# ---- the file ----


async def test_the_store_and_all_beside_it_is_for_its_owner_only(store: Path) -> None:
    async with opened(store, role="daemon") as ledger:
        await ledger.become_daemon("1", NOW)
        await adopted(ledger)
        modes = {
            path.name.removeprefix("vmwatch.db"): stat.S_IMODE(path.stat().st_mode) for path in store.parent.iterdir()
        }
    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600, ".lock": 0o600}


async def test_a_commit_is_on_the_disk_when_it_is_said_to_be(store: Path) -> None:
    async with opened(store) as ledger:
        engine: Any = ledger._engine
        (mode,) = await engine._writer.execute_fetchall("PRAGMA journal_mode")
        (synchronous,) = await engine._writer.execute_fetchall("PRAGMA synchronous")
        assert (tuple(mode), tuple(synchronous)) == (("wal",), (2,))


async def test_a_fresh_store_has_the_schema_and_keeps_its_salt(place: Place) -> None:
    async with opened(place) as ledger:
        salt = ledger.salt
        assert await ledger.lines.standings() == ()
    assert await place.rows("SELECT version FROM schema_version") == [(len(MIGRATIONS),)]
    async with opened(place, create=False) as ledger:
        assert ledger.salt == salt
    assert len(salt) == 16


async def test_two_stores_have_different_salts(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        assert a.salt != b.salt


async def test_what_was_known_is_known_after_a_restart(place: Place) -> None:
    async with opened(place) as ledger:
        await adopted(ledger)
        await polled(ledger, "a")
        before = await line(ledger), await ledger.lines.known(NUMBER), await ledger.outbox.channels()
    async with opened(place, create=False) as ledger:
        assert (await line(ledger), await ledger.lines.known(NUMBER), await ledger.outbox.channels()) == before


async def refusal(store: Path, *, create: bool = True) -> str:
    with pytest.raises(LedgerError) as caught:
        await Ledger.open(f"sqlite:///{store}", create=create)
    assert str(caught.value).startswith(str(store.parent))
    assert caught.value.status == 75
    return str(caught.value)


async def test_a_newer_store_is_refused_and_left_as_it_is(place: Place) -> None:
    async with opened(place):
        pass
    await place.rows("UPDATE schema_version SET version = 99")
    with pytest.raises(
        LedgerError, match=rf"by a newer vmwatch \(schema 99, this one knows {len(MIGRATIONS)}\): upgrade"
    ):
        await Ledger.open(place.url, create=True)
    assert await place.rows("SELECT version FROM schema_version") == [(99,)]


@pytest.mark.parametrize(
    "content",
    [b"Dear diary, this is no database.\n" * 100, b"\0" * 5000, b"SQLite format 3\0" + b"\7" * 5000],
    ids=["a text", "zeros", "a damaged header"],
)
@pytest.mark.parametrize("create", [True, False])
async def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(store: Path, content: bytes, create: bool) -> None:
    store.write_bytes(content)  # noqa: ASYNC240
    assert "is not a vmwatch store; it was left as it is" in await refusal(store, create=create)
    assert [path.read_bytes() for path in store.parent.iterdir()] == [content]


@pytest.mark.parametrize("create", [True, False])
async def test_another_program_s_database_is_refused_and_left_as_it_is(store: Path, create: bool) -> None:
    with closing(sqlite3.connect(store)) as theirs:
        theirs.execute("CREATE TABLE bookmark (url TEXT)")
    content = [path.read_bytes() for path in store.parent.iterdir()]
    assert "is not a vmwatch store; it was left as it is" in await refusal(store, create=create)
    assert [path.read_bytes() for path in store.parent.iterdir()] == content


async def test_a_missing_store_is_made_only_by_those_who_may(store: Path) -> None:
    assert "there is no store here yet" in await refusal(store, create=False)
    assert list(store.parent.iterdir()) == []


async def test_a_missing_folder_is_told_as_such(tmp_path: Path) -> None:
    assert "its folder does not exist" in await refusal(tmp_path / "nowhere" / "vmwatch.db")


async def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    assert "can't be opened: Is a directory" in await refusal(tmp_path / "folder")
    assert "can't be opened: Not a directory" in await refusal(tmp_path / "file" / "vmwatch.db")


async def test_another_kind_of_store_is_told_not_to_exist_and_its_url_is_not_repeated() -> None:
    with pytest.raises(LedgerError, match="must be like sqlite:///FILE or postgresql://HOST/DATABASE") as caught:
        await Ledger.open("mysql://vmwatch:hunter2@db.example.com/vmwatch", create=True)
    assert "hunter2" not in str(caught.value)


# ---- the store's one daemon ----


async def test_there_is_one_daemon_and_any_number_of_verbs(store: Path) -> None:
    async with opened(store, role="daemon") as first:
        await first.become_daemon("1.2.3", NOW)
        async with opened(store, create=False) as verb:
            assert await verb.daemon() == DaemonView(True, "1.2.3", NOW)
            await adopted(verb)
        async with opened(store, role="daemon") as second:
            with pytest.raises(LedgerError, match="in use by another vmwatch daemon"):
                await second.become_daemon("2", NOW)
        assert await first.daemon() == DaemonView(True, "1.2.3", NOW)


async def test_where_a_daemon_ended_another_may_begin(place: Place) -> None:
    for version in ("1", "2"):
        async with opened(place, role="daemon") as ledger:
            assert await ledger.daemon() == DaemonView(running=False)
            await ledger.become_daemon(version, NOW)
            assert (await ledger.daemon()).version == version
    async with opened(place) as verb:
        assert await verb.daemon() == DaemonView(running=False)


async def test_what_a_daemon_carries_goes_along_with_its_claims_and_is_over_after_a_minute(store: Path) -> None:
    async with opened(store, role="daemon") as daemon, opened(store) as verb:
        assert await verb.processes.living(NOW) == ()
        await daemon.become_daemon("1", NOW)
        await adopted(daemon)
        daemon.lines.carried = lambda: Carried("1", NOW, 12, 3)
        await begun(daemon, now=NOW + MINUTE)
        (view,) = await verb.processes.living(NOW + MINUTE)
        assert (view.version, view.since, view.seen_at) == ("1", NOW, NOW + MINUTE)
        assert (view.polls, view.deliveries) == (12, 3)
        (view,) = await verb.processes.living(NOW + HOUR)
        assert (view.seen_at, view.polls, view.deliveries) == (NOW + MINUTE, 0, 0)
        assert await verb.processes.disagreements(NOW) == ()
    async with opened(store) as verb:
        assert await verb.processes.living(NOW + MINUTE) == ()


async def test_a_verb_that_looks_for_a_daemon_keeps_none_from_starting(place: Place) -> None:
    async with opened(place, role="daemon") as ledger, opened(place) as verb:
        seen = [await verb.daemon() for _ in range(20)]
        await ledger.become_daemon("1", NOW)
        assert {view.running for view in seen} == {False}


async def test_a_verb_leaves_no_lock_file_behind_which_might_belong_to_another_user(store: Path) -> None:
    async with opened(store) as verb:
        assert await verb.daemon() == DaemonView(running=False)
    assert [path.name for path in store.parent.iterdir()] == [store.name]


async def test_a_new_daemon_ends_the_claims_of_dead_ones_and_keeps_their_attempts(store: Path) -> None:
    async with opened(store, role="daemon") as dead:
        await dead.become_daemon("1", NOW)
        await adopted(dead)
        await owe(dead, alert())
        await begun(dead)
        await claimed(dead)
    async with opened(store, role="daemon") as ledger:
        await ledger.become_daemon("2", NOW + 1)
        found = await line(ledger)
        assert (found.attempt_at, found.claimed_until) == (NOW, None)
        assert (await claimed(ledger, now=NOW + 1)).maybe_repeat


async def test_a_new_daemon_leaves_the_claims_of_verbs_alone(place: Place) -> None:
    async with opened(place) as verb, opened(place, role="daemon") as ledger:
        await adopted(verb)
        await owe(verb, alert())
        (won,) = await begun(verb)
        await claimed(verb)
        await ledger.become_daemon("1", NOW + 1)
        assert await line(ledger) == won
        assert await ledger.outbox.claim("phone", NOW + 1, MINUTE) is None


# ---- transactions ----


async def test_fact_alert_and_deliveries_are_kept_together_or_not_at_all(ledger: Ledger) -> None:
    decision = await decided(ledger, mailbox("a", "b"))
    twice = alert(channels=("phone", "mail", "phone"), messages=("b",))  # violates UNIQUE (alert, channel) at the last
    with pytest.raises(LedgerError, match=r"(?i)unique"):
        await ledger.lines.record(replace(decision, alerts=(*decision.alerts, twice)), NOW)
    assert await line(ledger) == standing()
    assert await ledger.lines.known(NUMBER) == {}
    assert await ledger.outbox.listing(everything=True, most=9) == ()
    assert await ledger.lines.record(decision, NOW)


async def test_a_block_that_another_poll_recorded_first_leaves_nothing_of_the_second(ledger: Ledger) -> None:
    await adopted(ledger, standing(), standing(number=OTHER, name="work"))
    first, second = (judged(line, Reason.BLACKLISTED) for line in (await line(ledger), await line(ledger, OTHER)))
    assert await ledger.lines.record(first, NOW)
    assert not await ledger.lines.record(second, NOW)
    assert (await line(ledger, OTHER)).state is LineState.WAITING
    assert (await ledger.lines.operator()).version == 1
    assert len(await states(ledger)) == 1


@pytest.mark.parametrize("ticks", range(0, 40, 2))
async def test_a_transaction_is_not_cut_in_two_by_cancelling_its_caller(
    ledger: Ledger, place: Place, ticks: int
) -> None:
    decision = await decided(ledger, mailbox("a", "b", "c"), first_poll="each")
    task = asyncio.create_task(ledger.lines.record(decision, NOW))
    for _ in range(ticks):
        await asyncio.sleep(0.0001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await owe(ledger, alert(Kind.TEST, ("phone",)))  # the next transaction is its own
    tables = ("line WHERE state = 'ok'", "message WHERE alert_id > 0", "alert", "delivery")
    found = [(await place.rows(f"SELECT COUNT(*) FROM {table}"))[0][0] for table in tables]
    assert found in ([1, 3, 4, 7], [0, 0, 1, 1])
    assert ticks == 0 or found[0] == 1  # once begun, it is not only whole but done


async def test_what_a_cancelled_caller_began_is_ended_before_the_ledger_closes(place: Place) -> None:
    async with opened(place) as ledger:
        await adopted(ledger)
        task = asyncio.create_task(ledger.lines.record(await decided(ledger, mailbox("a")), NOW))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
    assert await place.rows("SELECT id FROM message") == [("a",)]


@pytest.mark.parametrize("ticks", [1, 2, 5, 20])
async def test_a_ledger_whose_closing_is_cut_short_is_closed_all_the_same(place: Place, ticks: int) -> None:
    async with opened(place) as ledger:
        await adopted(ledger)
        await ledger.lines.standings()
        owing = asyncio.create_task(owe(ledger, alert(Kind.TEST)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(ledger.close())
        for _ in range(ticks):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([owing, closing])
        engine: Any = ledger._engine
        assert (engine._writer._connection, engine._reader._connection) == (None, None)


async def test_fifty_writers_interleave_safely(place: Place) -> None:
    async with opened(place) as one, opened(place) as two:
        await adopted(one)

        async def count(ledger: Ledger) -> int:
            while True:
                found = await line(ledger)
                if await ledger.lines.change(replace(found, failures=found.failures + 1)):
                    return await ledger.outbox.owe(alert(Kind.TEST), NOW)

        ids = await asyncio.gather(*(count(ledger) for ledger in [one, two] * 25))
        assert len(set(ids)) == 50
        assert ((await line(one)).failures, (await line(two)).version) == (50, 50)
        assert len(await states(one, "phone")) == len(await states(one, "mail")) == 50


async def test_a_transaction_that_waits_lets_no_other_between_its_halves(ledger: Ledger, place: Place) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def fails_after_a_wait(transaction: Transaction) -> None:
        await transaction.run("UPDATE line SET label = 'half'")
        begun.set()
        await go_on.wait()
        raise ValueError

    holding = asyncio.create_task(ledger._engine.hold(fails_after_a_wait))
    await begun.wait()
    other = asyncio.create_task(owe(ledger, alert(Kind.TEST, ("phone",))))
    await asyncio.sleep(0.05)
    waited = not other.done()
    go_on.set()
    ended = await asyncio.gather(holding, other, return_exceptions=True)
    assert waited
    assert isinstance(ended[0], ValueError)
    assert (await line(ledger)).label == "Home"
    assert len(await states(ledger)) == 1, "the other's commit stands, and took nothing along"


async def test_of_what_is_committed_together_one_that_fails_leaves_nothing_and_takes_nobody_along(
    store: Path,
) -> None:
    async with opened(store) as ledger:
        await adopted(ledger)
        current = await line(ledger)
        stale = replace(current, version=current.version - 1)
        before = commits(store)
        kept = await asyncio.gather(
            ledger.outbox.owe(alert(Kind.TEST, ("phone",)), NOW),
            ledger.lines.change(replace(stale, label="of a stale row")),
            ledger._engine.write(broken),
            ledger.lines.change(replace(current, label="Here")),
            return_exceptions=True,
        )
        assert commits(store) - before == 1
        assert kept[1] is False
        assert isinstance(kept[2], LedgerError)
        assert kept[3] is True
        assert (await line(ledger)).label == "Here"
        assert len(await states(ledger)) == 1


async def broken(transaction: Transaction) -> None:
    await transaction.run("UPDATE line SET label = 'half'")
    await transaction.run("INSERT INTO delivery (id) VALUES (1)")


async def test_a_transaction_of_one_turn_that_waits_is_refused_and_leaves_nothing(store: Path) -> None:
    async def waits(transaction: Transaction) -> None:
        await transaction.run("UPDATE line SET label = 'half'")
        await asyncio.sleep(0)

    async with opened(store) as ledger:
        await adopted(ledger)
        with pytest.raises(RuntimeError, match="hold"):
            await ledger._engine.write(waits)
        assert (await line(ledger)).label == "Home"
        await owe(ledger, alert(Kind.TEST, ("phone",)))


async def test_two_processes_that_read_before_they_write_wait_for_each_other(place: Place) -> None:
    async with opened(place) as one, opened(place) as two:
        lines = [standing(number=f"+45719199{number}") for number in range(10, 50)]
        await asyncio.gather(*(adopted(ledger, line) for line, ledger in zip(lines, [one, two] * 20, strict=True)))
    assert await place.rows("SELECT COUNT(*), SUM(configured) FROM line") == [(40, 1)]


async def test_a_reader_does_not_wait_for_a_writer(ledger: Ledger, place: Place) -> None:
    async with place.locked():
        async with asyncio.timeout(2):
            assert (await line(ledger)).label == "Home"


async def test_a_writer_waits_for_another_process_s_short_transaction(ledger: Ledger, place: Place) -> None:
    async with place.locked():
        waiting = asyncio.create_task(ledger.lines.change(replace(await line(ledger), label="Here")))
        await asyncio.sleep(0.1)
        assert not waiting.done()
    assert await waiting


# ---- the clock ----


async def test_when_the_clock_was_set_every_wait_stays_as_long_as_it_was(ledger: Ledger) -> None:
    paused = trusted(number=OTHER, name="work", paused_until=FOREVER, paused_at=NOW, next_poll_at=None)
    await adopted(ledger, trusted(paused_until=NOW + HOUR, failing_since=NOW - HOUR, claimed_until=NOW + 1), paused)
    blocked = OperatorStanding(blocked_until=NOW + HOUR, blocked_since=NOW, failures=1)
    await ledger.lines.record(replace(await decided(ledger, mailbox("a")), operator=blocked), NOW)
    before, other, (owed, _) = await line(ledger), await line(ledger, OTHER), await outbox(ledger)
    await ledger.shift(-DAY)
    after = await line(ledger)
    assert after.next_poll_at == (before.next_poll_at or 0) - DAY
    assert after.paused_until == NOW + HOUR - DAY
    assert (after.since, after.last_success_at) == (before.since, before.last_success_at)
    assert (await ledger.lines.operator()).blocked_until == NOW + HOUR - DAY
    assert (await outbox(ledger))[0] == replace(owed, next_attempt_at=NOW - DAY, created_at=NOW - DAY)
    still = await line(ledger, OTHER)
    assert (still.paused_until, still.next_poll_at) == (FOREVER, other.next_poll_at)
    await ledger.shift(DAY)
    assert replace(await line(ledger), version=before.version) == before


async def test_a_read_made_before_the_clock_was_set_is_not_written_over_it(ledger: Ledger) -> None:
    decision = await decided(ledger, mailbox())
    await ledger.shift(HOUR)
    assert not await ledger.lines.record(decision, NOW)


async def test_the_next_start_does_not_move_the_waits_again(ledger: Ledger) -> None:
    await adopted(ledger, trusted(last_poll_at=NOW + DAY))
    assert await ledger.latest() == NOW + DAY
    await ledger.shift(-DAY)
    assert await ledger.latest() == NOW


async def test_what_was_written_by_the_clock_as_it_is_now_is_not_moved(ledger: Ledger) -> None:
    """A verb may have come between the clock's being set back and the daemon's start."""
    old, new = NOW + DAY, NOW - MINUTE
    await adopted(
        ledger,
        trusted(last_poll_at=old, next_poll_at=old + HOUR, paused_until=NOW + HOUR, paused_at=new),
        standing(number=OTHER, name="work", since=new, next_poll_at=NOW + HOUR),
    )
    await ledger.shift(-DAY, after=NOW)
    moved, kept = await line(ledger), await line(ledger, OTHER)
    assert (moved.next_poll_at, moved.paused_until) == (NOW + HOUR, NOW + HOUR)
    assert kept.next_poll_at == NOW + HOUR


async def test_an_empty_store_has_seen_no_time(ledger: Ledger) -> None:
    assert await ledger.latest() is None


# ---- rows ----


@pytest.mark.parametrize("kind", Kind)
def test_an_alert_of_every_kind_comes_back_as_it_was(kind: Kind) -> None:
    plain = alert(kind, ())
    rich = replace(
        plain,
        voicemails=(voicemail("a", caller_name='Ærø "; DROP'), voicemail("b", caller=None, played=True)),
        count=7,
        reason=Reason.PIN_LOCKED,
        detail="HTTP 403 pin",
        since=NOW,
        next_poll_at=NOW + 1,
    )
    for owed in (plain, rich):
        assert alert_from_json(alert_to_json(owed)) == owed
    everything = replace(rich, channels=("phone",), messages=("a", "b"))
    assert alert_from_json(alert_to_json(everything)) == rich


async def test_a_standing_comes_back_as_it_was(ledger: Ledger) -> None:
    lines = [
        trusted(number=OTHER, name="work", new=1, old=2, saved=3, detail="odd", asked_at=NOW, claimed_until=NOW),
        rejected(enabled=False, paused_until=FOREVER, paused_at=NOW, doubts=2, failing_since=NOW, attempt_at=NOW),
    ]
    await adopted(ledger, *lines)
    assert await ledger.lines.standings() == (replace(lines[1], version=1), lines[0])
