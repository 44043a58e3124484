"""Quiet hours, a digest and a budget, of a whole bench: nothing is lost, little is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from receivers import Webhook
from world import PIN, Bench, bench_in, number_of

from vmwatch.ledger.holding import Holding
from vmwatch.ledger.outbox import Outbox
from vmwatch.models import HOUR, MINUTE, Alert, Duration, Instant, Kind, Queue
from vmwatch.settings import Settings
from vmwatch.simulator import Simulator

LINE = number_of(0)
DAY_MS = 24 * HOUR


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


def settings_with(operator: Simulator, hook: Webhook, **channel: Any) -> Settings:
    if LINE not in operator.lines:
        operator.add_line(LINE, PIN)
    return Settings.model_validate(
        {
            "operator": {"base_url": operator.base_url, "timeout": "5s"},
            "polling": {"jitter": 0, "first_poll": "each"},
            "channels": {"phone": {"url": hook.url, **channel}},
            "lines": {"line0": {"number": LINE, "pin": PIN}},
        }
    )


@asynccontextmanager
async def waiting(operator: Simulator, folder: Path, hook: Webhook, **channel: Any) -> AsyncIterator[Bench]:
    """A line that was read once; the bench's zone is UTC, and it is 23:00."""
    async with bench_in(folder, settings_with(operator, hook, **channel)) as bench:
        bench.clock.ahead += _until(bench.clock.now(), 23 * HOUR)
        await bench.poll()
        yield bench


def _until(now: Instant, time_of_day: int) -> int:
    return (time_of_day - now) % DAY_MS


async def turn(bench: Bench, minutes: int) -> None:
    for _ in range(minutes):
        await bench.poll(MINUTE)
        await bench.deliver()


def titles(hook: Webhook) -> list[str]:
    return [request.body["title"] for request in hook.record]


@pytest.mark.parametrize("channel", [{"quiet": ["22:00-07:00"]}, {"digest": "07:00"}])
async def test_a_night_of_calls_is_one_digest_in_the_morning(
    operator: Simulator, tmp_path: Path, hook: Webhook, channel: dict[str, Any]
) -> None:
    async with waiting(operator, tmp_path, hook, **channel) as bench:
        operator.leave(LINE, name="Alice")
        await turn(bench, 1)
        heard = operator.leave(LINE, name="Bob")
        await turn(bench, 1)
        operator.leave(LINE, name="Carol")
        operator.hear(LINE, heard)
        await turn(bench, 3)
        assert titles(hook) == []
        why = next(iter(channel))
        assert [one["waits"] for one in await bench.outbox() if one["state"] == "pending"] == [why, why]
        bench.clock.ahead += _until(bench.clock.now(), 7 * HOUR)
        await turn(bench, 1)
        assert titles(hook) == ["2 voicemails not heard yet on line0"]
        assert "Bob" not in hook.record[0].body["message"]
        operator.leave(LINE, name="Dave")
        await turn(bench, 1)
        assert titles(hook)[1:] == (["Voicemail from Dave"] if why == "quiet" else [])


async def test_what_is_too_much_for_the_budget_comes_in_a_digest(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with waiting(operator, tmp_path, hook, budget="2/1h") as bench:
        for name in ("Alice", "Bob", "Carol", "Dave"):
            operator.leave(LINE, name=name)
            await turn(bench, 1)
        assert titles(hook) == ["Voicemail from Alice", "Voicemail from Bob"]
        await turn(bench, 60)
        assert titles(hook)[2:] == ["2 voicemails not heard yet on line0"]


async def test_a_snooze_that_ends_in_quiet_hours_rings_nobody_who_was_not_told_yet(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with waiting(operator, tmp_path, hook, quiet=["22:00-07:00"]) as bench:
        id_ = operator.leave(LINE, name="Alice")
        await turn(bench, 1)
        now = bench.clock.now()
        await bench.ledger.messages.snooze([(LINE, id_)], now + HOUR, now)
        await turn(bench, 62)
        assert titles(hook) == []
        assert [one["waits"] for one in await bench.outbox() if one["state"] == "pending"] == ["quiet"]
        bench.clock.ahead += _until(bench.clock.now(), 7 * HOUR)
        await turn(bench, 1)
        assert titles(hook) == ["1 voicemail not heard yet on line0"]


class Interrupted(Holding):
    """Whenever all there is was judged, a poll owes one alert more."""

    async def queue(self, channel: str, now: Instant, budget_span: Duration) -> Queue:
        found = await super().queue(channel, now, budget_span)
        if self.calls and not (found.fresh or found.released):
            self.calls -= 1
            await self.outbox.owe(Alert(Kind.LINE_LOCKED, (channel,), number=LINE, subject="Home"), now)
        return found

    calls = 3
    outbox: Outbox


async def test_what_is_owed_while_the_night_s_alerts_are_sorted_out_rings_nobody(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with waiting(operator, tmp_path, hook, quiet=["22:00-07:00"]) as bench:
        bench.ledger.holding = interrupted = Interrupted(bench.ledger._engine)
        interrupted.outbox = bench.ledger.outbox
        operator.leave(LINE, name="Alice")
        for _ in range(3):
            await turn(bench, 1)
        assert titles(hook) == []
        assert [one["waits"] for one in await bench.outbox()] == ["quiet"] * 4


async def test_an_urgent_kind_passes_the_quiet_hours(operator: Simulator, tmp_path: Path, hook: Webhook) -> None:
    async with waiting(operator, tmp_path, hook, quiet=["22:00-07:00"], urgent=["voicemail.new"]) as bench:
        operator.leave(LINE, name="Alice")
        await turn(bench, 1)
        assert titles(hook) == ["Voicemail from Alice"]


async def test_what_was_held_is_told_at_once_where_there_is_no_quiet_any_more(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with waiting(operator, tmp_path, hook, quiet=["22:00-07:00"]) as bench:
        operator.leave(LINE, name="Alice")
        await turn(bench, 1)
        bench.deliverer.use(settings_with(operator, hook), bench.deliverer._channels)
        await bench.ledger.holding.judge_anew(bench.clock.now())
        await bench.deliver()
        assert titles(hook) == ["Voicemail from Alice"]


async def test_a_digest_that_is_due_comes_although_the_channel_wants_none_any_more(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with waiting(operator, tmp_path, hook, quiet=["22:00-07:00"]) as bench:
        operator.leave(LINE, name="Alice")
        await turn(bench, 1)
        bench.deliverer.use(settings_with(operator, hook), bench.deliverer._channels)
        bench.clock.ahead += 9 * HOUR
        for _ in range(2):
            await bench.deliver()
        assert titles(hook) == ["1 voicemail not heard yet on line0"]


async def test_a_hold_longer_than_the_patience_with_a_dead_channel_gives_nothing_up(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    settings = settings_with(operator, hook, quiet=["22:00-07:00"])
    short = settings.delivery.model_copy(
        update={"retry": settings.delivery.retry.model_copy(update={"give_up_after": HOUR})}
    )
    async with waiting(operator, tmp_path, hook, quiet=["22:00-07:00"]) as bench:
        bench.deliverer.use(settings.model_copy(update={"delivery": short}), bench.deliverer._channels)
        operator.leave(LINE, name="Alice")
        await turn(bench, 1)
        bench.clock.ahead += 9 * HOUR
        await turn(bench, 1)
        assert titles(hook) == ["1 voicemail not heard yet on line0"]
