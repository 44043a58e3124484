"""Rounds of polling, over real sockets and on a real ledger; only the clock is turned on by hand."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from world import PIN, Bench, bench_in, number_of, settings_of, unlike, until

from vmwatch import decide, poll
from vmwatch.adopt import adopt
from vmwatch.models import DAY, HOUR, MINUTE, SECOND, Reason
from vmwatch.settings import Settings
from vmwatch.simulator import Odd, Simulator
from vmwatch.telecomx import Telecomx

HOME = number_of(0)
CHANNELS = {"phone": "json://127.0.0.1:9/phone"}

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator
        assert not simulator.violations()


@contextlib.asynccontextmanager
async def bench_of(simulator: Simulator, folder: Path, lines: int = 1, **tables: Any) -> AsyncIterator[Bench]:
    async with bench_in(folder, settings_of(simulator, CHANNELS, lines, **tables)) as bench:
        yield bench


@contextlib.contextmanager
def onlooker(folder: Path) -> Iterator[sqlite3.Connection]:
    """Another process that looks at the store: `PRAGMA data_version` tells it of commits that are not its own."""
    with contextlib.closing(sqlite3.connect(folder / "vmwatch.db", isolation_level=None)) as connection:
        yield connection


def commits_seen(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version


# ---- when a round comes ----


@contextlib.asynccontextmanager
async def rung_of(simulator: Simulator, folder: Path, lines: int = 1) -> AsyncIterator[tuple[Bench, list[float]]]:
    """Lines that were read, and at what times the poller rang since, by the loop's clock."""
    rung: list[float] = []
    settings = settings_of(simulator, CHANNELS, lines, polling={"jitter": 0})
    loop = asyncio.get_running_loop()
    async with bench_in(folder, settings, ring=lambda: rung.append(loop.time())) as bench:
        assert await bench.poll() == lines
        yield bench, rung


async def turn_to(bench: Bench, before_due: int) -> None:
    """Have so many ms pass that the line falls due in `before_due` ms."""
    _, due_at = await bench.ledger.lines.outlook(bench.clock.now())
    assert due_at is not None
    bench.clock.ahead += due_at - bench.clock.now() - before_due


async def test_a_line_that_falls_due_before_the_next_heartbeat_rings_then(operator: Simulator, tmp_path: Path) -> None:
    async with rung_of(operator, tmp_path) as (bench, rung):
        await turn_to(bench, 700)
        began = asyncio.get_running_loop().time()
        assert await bench.poll() == 0
        await until(lambda: len(rung) == 1)
        assert rung[0] - began > 0.5, "not before it is due"
        assert await bench.poll(700) == 1
        await until(lambda: len(rung) == 2)
        assert rung[1] - rung[0] > 0.9 * poll.PAUSE_S, "what falls due meanwhile is polled with it"


async def test_nothing_rings_while_the_operator_blocks_this_machine(operator: Simulator, tmp_path: Path) -> None:
    async with rung_of(operator, tmp_path, lines=2) as (bench, rung):
        operator.blacklist()
        await turn_to(bench, 0)
        assert await bench.poll() == 2
        await until(lambda: len(rung) == 1)
        blocked_until = (await bench.ledger.lines.operator()).blocked_until or 0
        bench.clock.ahead += blocked_until - bench.clock.now() - 10 * SECOND  # both are due by now
        assert await bench.poll() == 0
        await asyncio.sleep(1.5 * poll.PAUSE_S)
        assert len(rung) == 1


async def test_nothing_rings_after_the_end(operator: Simulator, tmp_path: Path) -> None:
    async with rung_of(operator, tmp_path) as (bench, rung):
        await bench.poller.stop(0.1)
        await asyncio.sleep(1.5 * poll.PAUSE_S)
        assert rung == []


# ---- what an answer comes to ----


@pytest.mark.parametrize(
    ("mode", "waiting", "expected"),
    [
        ("summary", 0, []),
        ("summary", 1, ["voicemail.new"]),
        ("summary", 2, ["voicemail.summary"]),
        ("each", 3, ["voicemail.new"] * 3),
        ("each", 6, ["voicemail.summary"]),
        ("silent", 3, []),
    ],
)
async def test_what_waits_when_a_line_is_first_read(
    operator: Simulator, tmp_path: Path, mode: str, waiting: int, expected: list[str]
) -> None:
    async with bench_of(operator, tmp_path, polling={"first_poll": mode}) as bench:
        for _ in range(waiting):
            operator.leave(HOME)
        await bench.poll()
        assert await bench.told() == expected
        operator.leave(HOME)
        await bench.poll(MINUTE)
        assert await bench.told() == [*expected, "voicemail.new"]


@pytest.mark.parametrize(("left", "expected"), [(5, ["voicemail.new"] * 5), (6, ["voicemail.summary"])])
async def test_a_storm_of_messages_is_one_summary(
    operator: Simulator, tmp_path: Path, left: int, expected: list[str]
) -> None:
    async with bench_of(operator, tmp_path) as bench:
        await bench.poll()
        for _ in range(left):
            operator.leave(HOME)
        await bench.poll(MINUTE)
        assert await bench.told() == expected


async def test_a_message_is_no_longer_new_after_two_answers_without_it(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path) as bench:
        heard, kept = operator.leave(HOME), operator.leave(HOME)
        await bench.poll()
        operator.hear(HOME, heard)
        for expected in ({heard, kept}, {kept}):
            await bench.poll(MINUTE)
            views = await bench.ledger.messages.listing(None, new_only=True, most=9)
            assert {view.voicemail.id for view in views} == expected


async def test_what_was_heard_before_it_could_be_told_is_withdrawn(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path) as bench:
        await bench.poll()
        heard, _ = operator.leave(HOME), operator.leave(HOME)
        await bench.poll(MINUTE)
        operator.hear(HOME, heard)
        await bench.poll(MINUTE)
        assert {one["state"] for one in await bench.outbox()} == {"pending"}
        await bench.poll(MINUTE)
        assert {one["message"] == heard: one["state"] for one in await bench.outbox()} == {
            True: "withdrawn",
            False: "pending",
        }


@pytest.mark.parametrize("empty_answers", [1, 2, 5])
async def test_a_box_that_looked_empty_makes_nothing_new_again(
    operator: Simulator, tmp_path: Path, empty_answers: int
) -> None:
    async with bench_of(operator, tmp_path) as bench:
        ids = [operator.leave(HOME) for _ in range(2)]
        await bench.poll()
        box = dict(operator.lines[HOME].boxes["NEW"])
        operator.lines[HOME].boxes["NEW"].clear()
        for _ in range(empty_answers):
            await bench.poll(MINUTE)
        operator.lines[HOME].boxes["NEW"].update(box)
        await bench.poll(MINUTE)
        views = await bench.ledger.messages.listing(None, new_only=True, most=9)
        assert {view.voicemail.id for view in views} == set(ids)
        assert await bench.told() == ["voicemail.summary"]
        assert [one["state"] for one in await bench.outbox()] == ["pending"]


@pytest.mark.parametrize("odd", [Odd.COUNT_DISAGREES, Odd.ONE_BAD_ENTRY, Odd.EMPTY, Odd.HTML, Odd.TRUNCATED_JSON])
async def test_an_answer_that_disagrees_with_itself_makes_nobody_heard(
    operator: Simulator, tmp_path: Path, odd: Odd
) -> None:
    async with bench_of(operator, tmp_path) as bench:
        heard, _ = operator.leave(HOME), operator.leave(HOME)
        await bench.poll()
        operator.hear(HOME, heard)
        operator.odd(HOME, odd)
        for _ in range(4):
            await bench.poll(20 * MINUTE)
        assert len(await bench.ledger.messages.listing(None, new_only=True, most=9)) == 2


# ---- quiet polls ----


async def test_a_quiet_poll_is_neither_judged_nor_committed(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path, lines=3) as bench:
        for number in operator.lines:
            operator.leave(number)
        await bench.poll()
        with onlooker(tmp_path) as store:
            for turn in range(1, 6):
                bench.clock.ahead += MINUTE
                before = commits_seen(store)
                assert await bench.poller.round() == 3
                claimed = commits_seen(store)
                await bench.poller.idle()
                assert claimed != before, "three attempts are written down before they are made"
                assert commits_seen(store) == claimed, "and nothing is, when nothing came of them"
                assert [len(operator.logins(number)) for number in operator.lines] == [1 + turn] * 3
        assert len(bench.decisions) == 3


async def test_a_quiet_poll_is_noted_by_the_next_claim_or_at_the_end(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path) as bench:
        await bench.poll()
        read = [(await bench.line("line0"))["last_success_at"]]
        for _ in range(2):
            await bench.poll(MINUTE)
            read.append((await bench.line("line0"))["last_success_at"])
        await bench.poller.flush()
        read.append((await bench.line("line0"))["last_success_at"])
        assert read[0] == read[1] < read[2] < read[3]


async def test_lines_due_together_are_claimed_in_one_commit(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path, lines=8) as bench:
        with onlooker(tmp_path) as store:
            seen = {commits_seen(store)}
            begun = asyncio.ensure_future(bench.poller.round())
            while not begun.done():
                await asyncio.sleep(0)
                seen.add(commits_seen(store))
            await bench.poller.idle()
        assert begun.result() == 8
        assert len(seen) == 2


async def test_a_poll_that_a_person_asked_for_is_recorded_though_nothing_is_new(
    operator: Simulator, tmp_path: Path
) -> None:
    async with bench_of(operator, tmp_path) as bench:
        await bench.poll()
        await bench.poll(MINUTE)
        standing = await bench.ledger.lines.standing(HOME)
        assert standing is not None
        assert await bench.ledger.lines.change(decide.asked(standing, bench.clock.now()))
        await bench.poll()
        after = await bench.ledger.lines.standing(HOME)
        assert after is not None
        assert after.asked_at is None
        assert len(bench.decisions) == 2


# ---- how much at once ----


async def test_a_line_is_never_asked_twice_at_once(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path, lines=3) as bench:
        operator.delay = 100
        for _ in range(8):
            await bench.poller.round()
            bench.clock.ahead += 5 * MINUTE
        await bench.poller.idle()
        assert [operator.most_at_once(number) for number in operator.lines] == [1, 1, 1]


async def test_there_are_never_more_requests_at_once_than_are_allowed(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path, lines=10, operator={"concurrency": 4}) as bench:
        await until_all_are_read(bench, operator, 10)
        operator.delay = 50
        bench.clock.ahead += MINUTE
        assert await bench.poller.round() == 4
        assert await bench.poller.round() == 0
        await bench.poller.idle()


async def test_lines_that_hang_leave_room_for_the_others(operator: Simulator, tmp_path: Path) -> None:
    """Four lines that hang, room for four: half of it stays for those that were well."""
    async with bench_of(operator, tmp_path, lines=14, operator={"concurrency": 4, "timeout": "2s"}) as bench:
        await until_all_are_read(bench, operator, 14)
        hanging, healthy = list(operator.lines)[:4], list(operator.lines)[4:]
        for number in hanging:
            operator.odd(number, Odd.INTERNAL_ERROR, 1)
            operator.odd(number, Odd.HANG)
        bench.clock.ahead += MINUTE
        await until_all_are_read(bench, operator, 14)
        bench.clock.ahead += 2 * MINUTE
        before = {number: len(operator.logins(number)) for number in healthy}
        rounds = 0
        while any(len(operator.logins(number)) == before[number] for number in healthy):
            await bench.poller.round()
            await asyncio.sleep(0.01)
            rounds += 1
        asked = [number for number in hanging if len(operator.logins(number)) == 3]
        assert len(asked) == 2, "two hang, two wait for them, and all the others were read meanwhile"
        await bench.poller.stop(0)


async def until_all_are_read(bench: Bench, operator: Simulator, lines: int) -> None:
    """Rounds until nothing is due any more."""
    while await bench.poll():
        pass
    assert all(operator.logins(number_of(place)) for place in range(lines))


# ---- somebody else changes the line meanwhile ----


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_a_line_may_leave_the_configuration_at_any_moment_of_a_round(
    operator: Simulator, tmp_path: Path, steps: int
) -> None:
    settings = settings_of(operator, CHANNELS, lines=2)
    smaller = settings.model_copy(update={"lines": {"line1": settings.lines["line1"]}})
    async with bench_in(tmp_path, settings) as bench, client_of(settings) as client:
        begun = asyncio.ensure_future(bench.poller.round())
        for _ in range(steps):
            await asyncio.sleep(0)
        bench.poller.use(smaller, client)
        await begun
        await bench.poller.idle()
        assert len(operator.logins(number_of(1))) == 1


def client_of(settings: Settings) -> Telecomx:
    return Telecomx(settings.operator.base_url, settings.operator.timeout, 9, lambda: 0)


async def test_the_verdict_on_an_old_pin_says_nothing_of_the_new_one(operator: Simulator, tmp_path: Path) -> None:
    settings = settings_of(operator, CHANNELS)
    operator.delay = 200
    async with bench_in(tmp_path, settings) as bench, client_of(settings) as client:
        right = unlike(bench.ledger.salt, operator, HOME, PIN)
        operator.set_pin(HOME, right)
        await bench.poller.round()
        await until(lambda: len(operator.logins(HOME)) == 1)
        line = settings.lines["line0"].model_copy(update={"pin": SecretStr(right)})
        changed = settings.model_copy(update={"lines": {"line0": line}})
        await adopt(bench.ledger, changed, bench.clock.now())
        bench.use(changed, client)
        await bench.poller.idle()
        assert (await bench.line("line0"))["state"] == "waiting"
        await bench.poll(MINUTE)
        assert (await bench.line("line0"))["state"] == "ok"
        assert len(operator.failed_logins(HOME)) == 1
        assert await bench.told() == []


async def test_a_pause_during_a_poll_stays_and_the_answer_counts(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path) as bench:
        operator.leave(HOME)
        operator.delay = 100
        await bench.poller.round()
        standing = await bench.ledger.lines.standing(HOME)
        assert standing is not None
        now = bench.clock.now()
        assert await bench.ledger.lines.change(decide.paused(standing, now + HOUR, now))
        await bench.poller.idle()
        assert (await bench.line("line0"))["state"] == "paused"
        assert await bench.told() == ["voicemail.new"]
        assert await bench.poll(30 * MINUTE) == 0
        assert await bench.poll(31 * MINUTE) == 1


# ---- attempts that nobody saw the end of ----


async def die_during_a_poll(operator: Simulator, folder: Path) -> None:
    """A daemon claims its line, asks, and is gone before the answer."""
    operator.odd(HOME, Odd.HANG, 1)
    async with bench_of(operator, folder) as bench:
        await bench.poller.round()
        await until(lambda: operator.most_at_once(HOME) == 1)
        await bench.poller.stop(0)


async def test_a_lost_attempt_with_a_trusted_pin_is_made_again_at_once(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path) as bench:
        await bench.poll()
        bench.clock.ahead += MINUTE
        operator.odd(HOME, Odd.HANG, 1)
        await bench.poller.round()
        await until(lambda: len(operator.logins(HOME)) == 2)
        await bench.poller.stop(0)
        await bench.poll(MINUTE)
        assert [decision.reason for decision in bench.decisions] == [Reason.FIRST_SIGHT, Reason.ATTEMPT_LOST]
        assert await bench.poll(SECOND) == 1
        assert (await bench.line("line0"))["state"] == "ok"


async def test_a_lost_attempt_with_an_untrusted_pin_waits_some_minutes(operator: Simulator, tmp_path: Path) -> None:
    await die_during_a_poll(operator, tmp_path)
    async with bench_of(operator, tmp_path) as bench:
        bench.clock.ahead = MINUTE
        await bench.poll()
        assert (await bench.line("line0"))["reason"] == "attempt_lost"
        assert await bench.poll(4 * MINUTE) == 0
        assert await bench.poll(2 * MINUTE) == 1
        assert (await bench.line("line0"))["state"] == "ok"
        assert len(operator.logins(HOME)) == 2


async def test_a_person_who_resumes_a_line_forgives_its_lost_attempt_too(operator: Simulator, tmp_path: Path) -> None:
    await die_during_a_poll(operator, tmp_path)
    async with bench_of(operator, tmp_path) as bench:
        bench.clock.ahead = MINUTE
        standing = await bench.ledger.lines.standing(HOME)
        assert standing is not None
        assert await bench.ledger.lines.change(decide.resumed(standing, bench.clock.now()))
        await bench.poll()
        assert (await bench.line("line0"))["state"] == "ok"
        assert len(operator.logins(HOME)) == 2


async def test_the_verdict_is_kept_until_the_store_takes_it(
    operator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process holds the store for longer than a statement waits: the answer is not paid for twice."""
    async with bench_of(operator, tmp_path) as bench:
        operator.leave(HOME)
        operator.delay = 100
        await bench.poller.round()
        with bench.held():
            await until(lambda: "line0: can't be recorded" in caplog.text)
        await bench.poller.idle()
        assert await bench.told() == ["voicemail.new"]
        assert len(operator.logins(HOME)) == 1


# ---- the operator blocks this machine's address ----


async def test_a_blocked_address_stops_every_line_and_is_told_once(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path, lines=5) as bench:
        await bench.poll()
        operator.blacklist()
        await bench.poll(MINUTE)
        spent = len([login for number in operator.lines for login in operator.logins(number)])
        assert await bench.poll(3 * HOUR) == 0
        assert {(await bench.line(f"line{place}"))["reason"] for place in range(5)} == {"blacklisted"}
        assert await bench.told() == ["line.unreachable"]
        assert spent <= 10
        assert await bench.poll(2 * HOUR) == 1, "one line asks for all"
        assert await bench.told() == ["line.unreachable"]
        operator.blacklist(False)
        assert await bench.poll(12 * HOUR) == 1
        while await bench.poll():
            pass
        assert {(await bench.line(f"line{place}"))["state"] for place in range(5)} == {"ok"}
        assert await bench.told() == ["line.unreachable", "line.recovered"]


async def test_a_lock_out_backs_off_longer_each_time_and_is_told_at_its_two_ends(
    operator: Simulator, tmp_path: Path
) -> None:
    async with bench_of(operator, tmp_path) as bench:
        operator.lock_for = 2 * DAY
        operator.lines[HOME].failed = 3
        operator.lines[HOME].locked_at = bench.clock.now()
        waits = []
        for _ in range(7):
            assert await bench.poll() == 1
            standing = await bench.ledger.lines.standing(HOME)
            assert standing is not None
            assert standing.next_poll_at is not None
            waits.append((standing.next_poll_at - bench.clock.now()) / HOUR)
            bench.clock.ahead = standing.next_poll_at - bench.clock.now() + bench.clock.ahead
        assert [round(wait, 1) for wait in waits] == [1, 2, 4, 8, 16, 24, 24]
        assert await bench.told() == ["line.locked"]
        operator.unlock(HOME)
        await bench.poll()
        assert await bench.told() == ["line.locked", "line.recovered"]


# ---- the end ----


async def test_stopping_lets_an_answer_arrive_and_cuts_off_what_hangs(operator: Simulator, tmp_path: Path) -> None:
    async with bench_of(operator, tmp_path, lines=2) as bench:
        operator.odd(number_of(1), Odd.HANG)
        operator.delay = 100
        await bench.poller.round()
        await bench.poller.stop(0.5)
        assert (await bench.line("line0"))["state"] == "ok"
        assert (await bench.line("line1"))["state"] == "waiting"
