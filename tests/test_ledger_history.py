"""The last day of each line: an entry where its state changes, and none for what changes nothing."""

from __future__ import annotations

from ledgers import Place, adopted, begun, decided, line, opened, polled
from values import NOW, NUMBER, OTHER, standing, trusted

from vmwatch import decide
from vmwatch.errors import Trouble
from vmwatch.ledger import Entry, Ledger
from vmwatch.ledger.migrations import MIGRATIONS
from vmwatch.models import DAY, FOREVER, HOUR, MINUTE, SECOND, Instant, Reason


async def entries(ledger: Ledger, number: str = NUMBER, now: Instant = NOW + DAY) -> list[tuple[Instant, str]]:
    past = await ledger.history.since(NOW - DAY, now)
    return [(entry.at - NOW, entry.state) for entry in past.entries.get(number, ())]


async def failed(ledger: Ledger, reason: Reason, now: Instant) -> None:
    assert await ledger.lines.record(await decided(ledger, Trouble(reason), now), now)


async def test_a_change_of_state_is_entered_and_nothing_else_is(ledger: Ledger) -> None:
    assert await entries(ledger) == [(0, "waiting")]
    await polled(ledger, "a", now=NOW + 1)
    await polled(ledger, "a", "b", now=NOW + 2)
    await failed(ledger, Reason.TIMEOUT, NOW + 3)
    await failed(ledger, Reason.NO_CONNECTION, NOW + 4)
    await polled(ledger, now=NOW + 5)
    assert await entries(ledger) == [(0, "waiting"), (1, "ok"), (3, "failing"), (5, "ok")]
    assert await entries(ledger, now=NOW + 4) == [(0, "waiting"), (1, "ok"), (3, "failing")]


async def test_a_verdict_that_was_superseded_enters_nothing(ledger: Ledger) -> None:
    decision = await decided(ledger, Trouble(Reason.TIMEOUT), NOW + 1)
    assert await ledger.lines.change(decide.asked(await line(ledger), NOW), NOW)
    assert not await ledger.lines.record(decision, NOW + 1)
    assert await entries(ledger) == [(0, "waiting")]


async def test_a_pause_has_an_end_and_a_resume_comes_before_it(ledger: Ledger) -> None:
    await adopted(ledger, trusted())
    await ledger.lines.change(decide.paused(await line(ledger), NOW + HOUR, NOW + 1), NOW + 1)
    assert (await entries(ledger, now=NOW + 2))[1:] == [(0, "ok"), (1, "paused")]
    assert (await entries(ledger))[1:] == [(0, "ok"), (1, "paused"), (HOUR, "ok")]
    await ledger.lines.change(decide.resumed(await line(ledger), NOW + MINUTE), NOW + MINUTE)
    assert (await entries(ledger))[1:] == [(0, "ok"), (1, "paused"), (MINUTE, "ok")]
    await ledger.lines.change(decide.paused(await line(ledger), FOREVER, NOW + HOUR), NOW + HOUR)
    assert (await entries(ledger))[-1] == (HOUR, "paused")


async def test_a_block_is_of_all_lines(ledger: Ledger) -> None:
    await failed(ledger, Reason.BLACKLISTED, NOW + 1)
    await polled(ledger, now=NOW + DAY - 1)
    assert await entries(ledger, "") == [(1, "blocked"), (DAY - 1, "running")]


async def test_polls_that_were_missed_tell_how_long_no_vmwatch_ran(place: Place) -> None:
    async with opened(place, role="daemon") as ledger:
        await ledger.become_daemon("1", NOW)
        await adopted(ledger, trusted(), trusted(number=OTHER, name="work"))
        await begun(ledger, now=NOW)
        assert await entries(ledger, "") == []
    for stood_still, entered in [(30 * SECOND, []), (HOUR, [(MINUTE, "stopped"), (HOUR, "running")])]:
        async with opened(place, role="daemon") as ledger:
            if entered:
                for found in (await line(ledger), await line(ledger, OTHER)):
                    await ledger.lines.change(decide.asked(found, NOW + MINUTE))
            await ledger.become_daemon("1", NOW + stood_still)
            assert await entries(ledger, "") == entered


async def test_what_nobody_asks_for_any_more_is_pruned_but_for_how_it_stood_then(ledger: Ledger) -> None:
    for place in range(1, 5):
        await polled(ledger, now=NOW + place * HOUR)
        await failed(ledger, Reason.TIMEOUT, NOW + place * HOUR + MINUTE)
    await ledger.history.prune(NOW + 3 * HOUR - 1)
    assert await entries(ledger) == [
        (2 * HOUR + MINUTE, "failing"),
        (3 * HOUR, "ok"),
        (3 * HOUR + MINUTE, "failing"),
        (4 * HOUR, "ok"),
        (4 * HOUR + MINUTE, "failing"),
    ]


async def test_a_clock_that_is_set_takes_the_past_along(ledger: Ledger) -> None:
    await polled(ledger, now=NOW + 5)
    await ledger.shift(-HOUR, after=NOW + 1)
    assert sorted(await entries(ledger)) == [(5 - HOUR, "ok"), (0, "waiting")]
    await ledger.shift(2 * HOUR)
    assert sorted(await entries(ledger)) == [(HOUR + 5, "ok"), (2 * HOUR, "waiting")]


async def test_messages_are_told_by_when_they_were_first_seen(ledger: Ledger) -> None:
    await polled(ledger, "a", now=NOW + 1)
    await polled(ledger, "a", "b", now=NOW + 2)
    past = await ledger.history.since(NOW + 1, NOW + 3)
    assert past.arrivals == {NUMBER: (NOW + 2,)}


async def test_a_store_of_before_begins_its_history_with_how_its_lines_stand(place: Place) -> None:
    async with opened(place) as ledger:
        await adopted(ledger, standing(), trusted(number=OTHER, name="work", since=NOW - HOUR))
    for statement in (
        "DROP TABLE history",
        "DROP INDEX message_seen",
        "ALTER TABLE daemon DROP COLUMN page",
        # What came after it.
        "DROP TABLE follow_up",
        "DROP TABLE mention",
        "ALTER TABLE message DROP COLUMN acked_at",
        "ALTER TABLE message DROP COLUMN snoozed_until",
        "DROP INDEX delivery_sent",
        "DROP INDEX delivery_shown",
        "ALTER TABLE delivery DROP COLUMN shown_as",
        "ALTER TABLE delivery DROP COLUMN waits",
        "ALTER TABLE delivery DROP COLUMN held_until",
        "UPDATE schema_version SET version = 2",
    ):
        await place.rows(statement)
    async with opened(place) as ledger:
        assert await place.rows("SELECT version FROM schema_version") == [(len(MIGRATIONS),)]
        past = await ledger.history.since(NOW - DAY, NOW)
        assert past.entries[OTHER] == (Entry(NOW - HOUR, "ok"),)
        await polled(ledger, "a", now=NOW)
        assert (await entries(ledger))[-1] == (0, "ok")


async def test_a_daemon_tells_where_its_page_is(place: Place) -> None:
    async with opened(place, role="daemon") as ledger:
        await ledger.become_daemon("1", NOW)
        assert (await ledger.daemon()).page is None
        await ledger.note_page("http://127.0.0.1:8480")
        assert (await ledger.daemon()).page == "http://127.0.0.1:8480"
