"""Until it is heard: reminders and escalations of a whole bench, from the operator to the channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from receivers import Webhook
from world import PIN, Bench, bench_in, number_of, turn

from vmwatch.ledger import Ledger
from vmwatch.models import HOUR, MINUTE, SECOND, Box
from vmwatch.settings import Settings
from vmwatch.simulator import Simulator

LINE = number_of(0)


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


def settings_with(
    operator: Simulator,
    hooks: dict[str, Webhook],
    remind: tuple[str, ...] = (),
    escalate: tuple[dict[str, Any], ...] = (),
    events: tuple[str, ...] = ("voicemail", "line", "channel"),
) -> Settings:
    """One line, whose messages go to the first channel."""
    line = {"number": LINE, "pin": PIN, "channels": [next(iter(hooks))], "remind": remind, "escalate": escalate}
    operator.add_line(LINE, PIN) if LINE not in operator.lines else None
    return Settings.model_validate(
        {
            "operator": {"base_url": operator.base_url, "timeout": "5s"},
            "polling": {"jitter": 0, "first_poll": "each"},
            "channels": {name: {"url": hook.url, "events": events} for name, hook in hooks.items()},
            "lines": {"line0": line},
        }
    )


@asynccontextmanager
async def following(
    operator: Simulator, folder: Path, hooks: dict[str, Webhook], *remind: str, **more: Any
) -> AsyncIterator[Bench]:
    """A line that was read once, with nothing in it, and a step or more for what is left on it."""
    async with bench_in(folder, settings_with(operator, hooks, remind, **more)) as bench:
        await bench.poll()
        yield bench


def titles(hook: Webhook) -> list[str]:
    return [request.body["title"] for request in hook.record]


NEW = "Voicemail from Donald Duck"
AGAIN = "Not heard yet: voicemail from Donald Duck"


async def test_a_message_is_told_again_until_it_is_heard(operator: Simulator, tmp_path: Path, hook: Webhook) -> None:
    async with following(operator, tmp_path, {"phone": hook}, "30m", "2h", "3h") as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 29)
        assert titles(hook) == [NEW]
        await turn(bench, 3)
        assert titles(hook) == [NEW, AGAIN]
        await turn(bench, 120 - 32 + 2)
        assert titles(hook) == [NEW, AGAIN, AGAIN]
        operator.hear(LINE, id_)
        await turn(bench, 90)
        assert titles(hook) == [NEW, AGAIN, AGAIN]


async def test_nobody_who_listens_hears_of_it_and_the_boss_is_told(operator: Simulator, tmp_path: Path) -> None:
    async with (
        Webhook() as phone,
        Webhook() as boss,
        following(
            operator, tmp_path, {"phone": phone, "boss": boss}, escalate=({"after": "1h", "channels": ["boss"]},)
        ) as bench,
    ):
        operator.leave(LINE, name="Donald Duck")
        await turn(bench, 59)
        assert (titles(phone), titles(boss)) == ([NEW], [])
        await turn(bench, 3)
        assert (titles(phone), titles(boss)) == ([NEW], ["Nobody has heard the voicemail from Donald Duck"])


async def test_who_was_told_hears_that_it_was_heard_and_nobody_else(operator: Simulator, tmp_path: Path) -> None:
    async with Webhook() as phone, Webhook() as boss:
        hooks, events = {"phone": phone, "boss": boss}, ("voicemail", "voicemail.heard")
        async with following(operator, tmp_path, hooks, events=events) as bench:
            id_ = operator.leave(LINE, name="Donald Duck")
            await turn(bench, 1)
            operator.hear(LINE, id_)
            await turn(bench, 3)
            assert (titles(phone), titles(boss)) == ([NEW, "No longer new: voicemail from Donald Duck"], [])


async def test_a_reminder_that_waits_is_withdrawn_when_the_message_is_heard(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with following(operator, tmp_path, {"phone": hook}, "30m") as bench:
        id_ = operator.leave(LINE)
        await turn(bench, 1)
        await bench.poll(30 * MINUTE)
        await bench.poll(MINUTE)
        await bench.follow()
        await bench.follow()
        assert [one["state"] for one in await bench.outbox()] == ["sent", "pending"]
        operator.hear(LINE, id_)
        for _ in range(2):
            await bench.poll(MINUTE)
        assert [(one["state"], one["message"]) for one in await bench.outbox()] == [("sent", id_), ("withdrawn", id_)]


async def test_a_channel_that_has_not_got_the_announcement_is_not_reminded_of_it(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with following(operator, tmp_path, {"phone": hook}, "30m") as bench:
        operator.leave(LINE)
        for _ in range(40):
            await bench.poll(MINUTE)
            await bench.follow()
        assert await bench.told() == ["voicemail.new"]


async def test_a_changed_configuration_counts_for_what_waits_already_from_then_on(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with following(operator, tmp_path, {"phone": hook}) as bench:
        operator.leave(LINE)
        await turn(bench, 10)
        # 5m have passed: that is not made up for. 20m have not.
        await bench.follower.use(settings_with(operator, {"phone": hook}, ("5m", "20m", "2h")))
        await turn(bench, 5)
        assert await bench.told() == ["voicemail.new"]
        await turn(bench, 10)
        assert await bench.told() == ["voicemail.new", "voicemail.reminder"]
        await bench.follower.use(settings_with(operator, {"phone": hook}))
        await turn(bench, 120)
        assert await bench.told() == ["voicemail.new", "voicemail.reminder"]


async def test_a_clock_that_is_set_leaves_a_wait_as_long_as_it_was(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with following(operator, tmp_path, {"phone": hook}, "30m") as bench:
        operator.leave(LINE)
        await turn(bench, 1)
        await bench.ledger.shift(5 * HOUR)
        bench.clock.ahead += 5 * HOUR
        await bench.follower.reckon()
        await turn(bench, 28)
        assert await bench.told() == ["voicemail.new"]
        await turn(bench, 3)
        assert await bench.told() == ["voicemail.new", "voicemail.reminder"]


async def test_after_a_standstill_the_line_is_read_before_anybody_is_reminded(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with following(operator, tmp_path, {"phone": hook}, "30m") as bench:
        id_ = operator.leave(LINE)
        await turn(bench, 1)
        operator.hear(LINE, id_)
        bench.clock.ahead += 10 * HOUR  # the computer slept
        await bench.follow()
        await turn(bench, 10)
        assert await bench.told() == ["voicemail.new"]


async def test_a_line_that_is_paused_or_gone_reminds_nobody_until_it_is_back(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with following(operator, tmp_path, {"phone": hook}, "30m") as bench:
        operator.leave(LINE)
        await turn(bench, 1)
        for column, off, on in (("enabled", 0, 1), ("configured", 0, 1), ("paused_until", 10**15, None)):
            await change(bench.ledger, column, off)
            await bench.follow(HOUR)
            assert await bench.told() == ["voicemail.new"], column
            await change(bench.ledger, column, on)
        await turn(bench, 4)
        assert await bench.told() == ["voicemail.new", "voicemail.reminder"]


async def change(ledger: Ledger, column: str, value: int | None) -> None:
    async def work(transaction: Any) -> None:
        await transaction.run(f"UPDATE line SET {column} = :value", value=value)

    await ledger._engine.write(work)


async def test_a_message_that_comes_back_is_followed_again(operator: Simulator, tmp_path: Path, hook: Webhook) -> None:
    async with following(operator, tmp_path, {"phone": hook}, "30m") as bench:
        operator.leave(LINE)
        await turn(bench, 1)
        box = dict(operator.lines[LINE].boxes[Box.NEW])
        operator.lines[LINE].boxes[Box.NEW].clear()
        await turn(bench, 3)
        operator.lines[LINE].boxes[Box.NEW].update(box)
        await turn(bench, 29)
        assert await bench.told() == ["voicemail.new"]
        await turn(bench, 4)
        assert await bench.told() == ["voicemail.new", "voicemail.reminder"]


async def test_a_round_with_nothing_due_looks_once_and_writes_nothing(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with following(operator, tmp_path, {"phone": hook}) as bench:
        committed: list[float] = []
        bench.ledger.measure(committed.append)
        for _ in range(3):
            await bench.follow(SECOND)
        await bench.follower.reckon()
        assert committed == []


async def key_of(bench: Bench) -> tuple[str, str]:
    (view,) = await bench.ledger.messages.listing(None, new_only=True, most=9)
    return view.key


async def test_of_what_a_person_sees_to_nobody_is_reminded(operator: Simulator, tmp_path: Path, hook: Webhook) -> None:
    escalate = ({"after": "20m", "channels": ["phone"]},)
    async with following(operator, tmp_path, {"phone": hook}, "5m", escalate=escalate) as bench:
        operator.leave(LINE)
        await turn(bench, 1)
        for _ in range(7):
            await bench.poll(MINUTE)
            await bench.follow()
        await bench.ledger.messages.ack([await key_of(bench)], bench.clock.now())
        await turn(bench, 30)
        assert [(one["kind"], one["state"]) for one in await bench.outbox()] == [
            ("voicemail.new", "sent"),
            ("voicemail.reminder", "withdrawn"),
        ]
        (view,) = await bench.ledger.messages.listing(None, new_only=True, most=9)
        assert view.acked_at is not None
        await bench.follower.use(
            settings_with(operator, {"phone": hook}, ("1h",))
        )  # a reload follows it no more either
        await turn(bench, 40)
        assert len(await bench.told()) == 2


async def test_a_snooze_is_quiet_until_it_ends_with_one_reminder(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with following(operator, tmp_path, {"phone": hook}, "5m", "10m", "90m") as bench:
        operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        await bench.ledger.messages.snooze([await key_of(bench)], bench.clock.now() + HOUR, bench.clock.now())
        await turn(bench, 59)
        assert titles(hook) == [NEW]
        await turn(bench, 2)
        assert titles(hook) == [NEW, AGAIN]
        await turn(bench, 6)  # everything begins again
        assert titles(hook) == [NEW, AGAIN, AGAIN]


async def test_a_snooze_ends_also_where_nothing_is_configured_and_not_for_what_was_heard(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with following(operator, tmp_path, {"phone": hook}) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        await bench.ledger.messages.snooze([await key_of(bench)], bench.clock.now() + HOUR, bench.clock.now())
        await bench.follower.use(settings_with(operator, {"phone": hook}))  # a reload leaves it
        await turn(bench, 62)
        assert titles(hook) == [NEW, AGAIN]
        await bench.ledger.messages.snooze([await key_of(bench)], bench.clock.now() + HOUR, bench.clock.now())
        operator.hear(LINE, id_)
        await turn(bench, 70)
        assert titles(hook) == [NEW, AGAIN]


async def test_an_announcement_that_did_not_get_through_waits_for_the_end_of_the_snooze(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with following(operator, tmp_path, {"phone": hook}) as bench:
        operator.leave(LINE, name="Donald Duck")
        await bench.poll(MINUTE)
        await bench.ledger.messages.snooze([await key_of(bench)], bench.clock.now() + 10 * MINUTE, bench.clock.now())
        assert [one["waits"] for one in await bench.outbox()] == ["snoozed"]
        await turn(bench, 9)
        assert titles(hook) == []
        await turn(bench, 3)
        assert titles(hook) == [NEW]
