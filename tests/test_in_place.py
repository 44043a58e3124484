"""On ntfy a message is one thing on the screen: announced, reminded of in its place, and gone when it was heard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ntfy_server import NtfyServer
from receivers import ACCEPT, Webhook, refuse
from world import PIN, Bench, bench_in, channels_of, number_of, turn

from vmwatch.models import HOUR, MINUTE
from vmwatch.settings import Settings
from vmwatch.simulator import Simulator

LINE = number_of(0)
NEW = "Voicemail from Donald Duck"
AGAIN = "Not heard yet: voicemail from Donald Duck"
OVER = "No longer new: voicemail from Donald Duck"


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


def settings_with(operator: Simulator, *urls: str, **channel: Any) -> Settings:
    line = {"number": LINE, "pin": PIN, "remind": ["30m", "1h"]}
    operator.add_line(LINE, PIN) if LINE not in operator.lines else None
    return Settings.model_validate(
        {
            "operator": {"base_url": operator.base_url, "timeout": "5s"},
            "polling": {"jitter": 0, "first_poll": "each"},
            "channels": {f"channel{place}": {"url": url, **channel} for place, url in enumerate(urls)},
            "lines": {"line0": line},
        }
    )


@asynccontextmanager
async def showing(operator: Simulator, folder: Path, *urls: str, **channel: Any) -> AsyncIterator[Bench]:
    """A line that was read once, with nothing in it."""
    async with bench_in(folder, settings_with(operator, *urls, **channel)) as bench:
        await bench.poll()
        yield bench


async def ack(bench: Bench) -> None:
    (view,) = await bench.ledger.messages.listing(None, new_only=True, most=9)
    await bench.ledger.messages.ack([view.key], bench.clock.now())


async def owed(bench: Bench) -> list[tuple[str, str]]:
    return [(one["kind"].partition(".")[2], one["state"]) for one in await bench.outbox()]


async def test_a_reminder_takes_the_announcement_s_place_and_what_was_heard_is_gone(
    operator: Simulator, tmp_path: Path
) -> None:
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        assert ntfy.screen() == [NEW]
        await turn(bench, 32)
        assert ntfy.screen() == [AGAIN]
        assert len({each.sequence for each in ntfy.events}) == 1
        assert ntfy.sounds() == 2, "a reminder is to be heard"
        operator.hear(LINE, id_)
        await turn(bench, 3)
        assert ntfy.screen() == []
        assert [each.event for each in ntfy.events] == ["message", "message_clear", "message", "message_clear"]
        assert await owed(bench) == [("new", "sent"), ("reminder", "sent"), ("cleared", "sent")]
        assert {one["message"] for one in await bench.outbox()} == {id_}
        await turn(bench, 90)
        assert len(ntfy.events) == 4


async def test_what_a_person_sees_to_goes_away_too(operator: Simulator, tmp_path: Path) -> None:
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        await ack(bench)
        await bench.deliver()
        assert ntfy.screen() == []
        operator.hear(LINE, id_)
        await turn(bench, 60)
        assert await owed(bench) == [("new", "sent"), ("cleared", "sent")]


async def test_each_message_is_one_thing_and_two_channels_do_not_meet(operator: Simulator, tmp_path: Path) -> None:
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url, ntfy.url) as bench:
        first = operator.leave(LINE, name="Alice")
        await turn(bench, 1)
        operator.leave(LINE, name="Bob")
        await turn(bench, 1)
        assert sorted(ntfy.screen()) == ["Voicemail from Alice"] * 2 + ["Voicemail from Bob"] * 2
        operator.hear(LINE, first)
        await turn(bench, 3)
        assert ntfy.screen() == ["Voicemail from Bob"] * 2


async def test_who_wants_to_hear_that_it_was_heard_is_told_in_the_same_place(
    operator: Simulator, tmp_path: Path
) -> None:
    events = ("voicemail", "voicemail.heard")
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url, events=events) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        operator.hear(LINE, id_)
        await turn(bench, 3)
        assert (ntfy.screen(), ntfy.cleared()) == ([OVER], [])


async def test_who_wants_each_for_itself_gets_it_so_and_nothing_is_cleared(operator: Simulator, tmp_path: Path) -> None:
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url, update_in_place=False) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 33)
        operator.hear(LINE, id_)
        await turn(bench, 3)
        assert ntfy.screen() == [NEW, AGAIN]
        assert await owed(bench) == [("new", "sent"), ("reminder", "sent")]


async def test_an_old_server_is_told_as_ever_and_asked_for_nothing_more(operator: Simulator, tmp_path: Path) -> None:
    async with NtfyServer(old=True) as ntfy, showing(operator, tmp_path, ntfy.url) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 33)
        operator.hear(LINE, id_)
        await turn(bench, 3)
        assert ntfy.screen() == [NEW, AGAIN]
        assert len(ntfy.record) == 2
        assert (await bench.channel("channel0"))["state"] == "ok"


async def test_a_server_that_was_taken_back_to_an_old_one_costs_nothing(operator: Simulator, tmp_path: Path) -> None:
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        ntfy.old = True
        operator.hear(LINE, id_)
        await turn(bench, 5)
        assert await owed(bench) == [("new", "sent"), ("cleared", "sent")]
        assert (len(ntfy.record), (await bench.channel("channel0"))["state"]) == (2, "ok")


async def test_a_clearing_that_is_refused_does_not_make_a_failing_channel_look_well(
    operator: Simulator, tmp_path: Path
) -> None:
    """Its login was revoked: nothing can be told there, so nobody is to be told that it is back."""
    async with NtfyServer() as ntfy, Webhook() as hook, showing(operator, tmp_path, ntfy.url, hook.url) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        ntfy.login = "Bearer tk_other"
        operator.leave(LINE, name="Daisy Duck")
        await turn(bench, 20)
        operator.hear(LINE, id_)
        await turn(bench, 5)
        assert ("cleared", "sent") in await owed(bench)
        assert ("failing", "sent") in await owed(bench)
        assert ("recovered", "sent") not in await owed(bench)
        assert (await bench.channel("channel0"))["state"] == "failing"


async def test_a_clearing_is_tried_until_the_server_is_back(operator: Simulator, tmp_path: Path) -> None:
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        operator.hear(LINE, id_)
        ntfy.manner = refuse(503)
        await turn(bench, 4)
        assert (await owed(bench))[1:] == [("cleared", "pending")]
        ntfy.manner = ACCEPT
        await turn(bench, 10)
        assert (ntfy.screen(), len(ntfy.cleared())) == ([], 1)


async def test_a_clearing_that_comes_late_takes_no_newer_reminder_away(operator: Simulator, tmp_path: Path) -> None:
    """Seen to while the server was away, and snoozed after all: the reminder is what is to be seen, and heard."""
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        ntfy.manner = refuse(503)
        await ack(bench)
        await turn(bench, 1)
        await bench.ledger.messages.snooze([(LINE, id_)], bench.clock.now() + 20 * MINUTE, bench.clock.now())
        await turn(bench, 18)
        ntfy.manner = ACCEPT
        await turn(bench, 20)
        assert ntfy.screen() == [AGAIN]
        assert ntfy.sounds() == 2
        operator.hear(LINE, id_)
        await turn(bench, 3)
        assert ntfy.screen() == []


async def test_a_clearing_is_given_up_after_the_usual_time(operator: Simulator, tmp_path: Path) -> None:
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        operator.hear(LINE, id_)
        ntfy.manner = refuse(503)
        await turn(bench, 3)
        for _ in range(8):
            await bench.deliver(24 * HOUR)
        assert (await owed(bench))[1] == ("cleared", "dead")


async def test_a_clearing_makes_no_noise_and_so_is_held_by_nothing(operator: Simulator, tmp_path: Path) -> None:
    at_night = {"quiet": ["00:00-23:59"], "urgent": ["voicemail.new"], "budget": "1/1h", "digest": "08:00"}
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url, **at_night) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        assert ntfy.screen() == [NEW]
        operator.hear(LINE, id_)
        await turn(bench, 3)
        assert ntfy.screen() == []


async def test_a_digest_in_the_place_of_what_it_reminds_of_is_heard(operator: Simulator, tmp_path: Path) -> None:
    """A night's reminders of one message are one digest in the morning: by the announcement's name."""
    async with NtfyServer() as ntfy, showing(operator, tmp_path, ntfy.url, quiet=["22:00-07:00"]) as bench:
        bench.clock.ahead += (21 * HOUR + 50 * MINUTE - bench.clock.now()) % (24 * HOUR)
        operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        assert (ntfy.screen(), ntfy.sounds()) == ([NEW], 1)
        await turn(bench, 70)
        assert ("reminder", "pending") in await owed(bench)
        bench.clock.ahead += 8 * HOUR
        await turn(bench, 3)
        assert ntfy.screen() == ["1 voicemail not heard yet on line0"]
        assert len({each.sequence for each in ntfy.events}) == 1
        assert ntfy.sounds() == 2


async def test_what_was_sent_twice_is_shown_once(operator: Simulator, tmp_path: Path) -> None:
    """The process died between sending and noting it; it derives the same name again."""
    async with NtfyServer() as ntfy:
        async with showing(operator, tmp_path, ntfy.url) as bench:
            operator.leave(LINE, name="Donald Duck")
            await turn(bench, 1)
            await forget_that_it_was_sent(bench)
        async with bench_in(tmp_path, settings_with(operator, ntfy.url)) as bench:
            await bench.deliver(HOUR)
            assert (len(ntfy.published()), ntfy.screen(), ntfy.sounds()) == (2, [NEW], 1)


async def forget_that_it_was_sent(bench: Bench) -> None:
    async def work(transaction: Any) -> None:
        await transaction.run(
            "UPDATE delivery SET state = 'pending', sent_at = NULL, shown_as = NULL, next_attempt_at = 0"
        )

    await bench.ledger._engine.write(work)


async def test_other_channels_get_nothing_of_it(operator: Simulator, tmp_path: Path) -> None:
    async with NtfyServer() as ntfy, Webhook() as hook, showing(operator, tmp_path, ntfy.url, hook.url) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        operator.hear(LINE, id_)
        await turn(bench, 3)
        assert [one["channel"] for one in await bench.outbox() if one["kind"] == "voicemail.cleared"] == ["channel0"]
        assert len(hook.record) == 1


async def test_what_a_channel_showed_before_it_became_another_is_done(operator: Simulator, tmp_path: Path) -> None:
    async with NtfyServer() as ntfy, Webhook() as hook, showing(operator, tmp_path, ntfy.url) as bench:
        id_ = operator.leave(LINE, name="Donald Duck")
        await turn(bench, 1)
        other = settings_with(operator, hook.url)
        bench.deliverer.use(other, channels_of(other))
        operator.hear(LINE, id_)
        await turn(bench, 3)
        assert await owed(bench) == [("new", "sent"), ("cleared", "sent")]
        assert hook.record == []
