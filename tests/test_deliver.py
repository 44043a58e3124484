"""Deliveries, from a real ledger to real receivers; only the clock is turned on by hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from receivers import ACCEPT, DROP, HANG, MailServer, Manner, Request, Webhook, closed_port, late, refuse
from world import Bench, bench_in, channels_of, instant, number_of, settings_of, until

from vmwatch.adopt import adopt
from vmwatch.models import DAY, HOUR, MINUTE, SECOND, Alert, Kind, Voicemail
from vmwatch.settings import Channel, Settings
from vmwatch.simulator import Simulator
from vmwatch.wording import REPEAT

HOME = number_of(0)
SHORT = {"delivery": {"timeout": "1s"}}

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def other() -> AsyncIterator[Webhook]:
    async with Webhook() as webhook:
        yield webhook


async def owe(bench: Bench, *channels: str, name: str = "Donald Duck") -> int:
    """An alert is owed on these channels from now on."""
    voicemail = Voicemail(id=name, caller="+4599778822", caller_name=name, length=37)
    alert = Alert(Kind.VOICEMAIL_NEW, channels, subject="Home", number=HOME, voicemails=(voicemail,), count=1)
    return await bench.ledger.outbox.owe(alert, bench.clock.now())


def titles(record: list[Request]) -> list[str]:
    return [request.body["title"] for request in record]


async def states(bench: Bench) -> list[str]:
    return [one["state"] for one in await bench.outbox()]


async def attempts_of(bench: Bench, place: int = 0) -> int:
    attempts: int = (await bench.outbox())[place]["attempts"]
    return attempts


# ---- one channel delays no other ----


async def test_a_channel_that_hangs_delays_no_other(operator: Simulator, tmp_path: Path) -> None:
    async with Webhook(HANG) as hanging, Webhook() as well, MailServer() as mail:
        urls = {"hanging": hanging.url, "mail": mail.url, "well": well.url}
        async with bench_in(tmp_path, settings_of(operator, urls, **SHORT)) as bench:
            for name in ("first", "second", "third"):
                await owe(bench, *urls, name=name)
            await bench.deliverer.round()
            await asyncio.gather(hanging.heard(1), well.heard(3), mail.heard(3))
            assert len(hanging.record) == 1, "it still waits for its first"
            assert titles(well.record) == [f"Voicemail from {name}" for name in ("first", "second", "third")]
            await bench.deliverer.idle()


async def test_a_channel_gets_one_alert_at_a_time_in_their_order(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url})) as bench:
        hook.manner = late(0.2)
        await owe(bench, "phone", name="first")
        await owe(bench, "phone", name="second")
        for _ in range(3):
            await bench.deliverer.round()
        await hook.heard(1)
        assert len(hook.record) == 1
        await bench.deliverer.idle()
        assert titles(hook.record) == ["Voicemail from first", "Voicemail from second"]
        assert await states(bench) == ["sent", "sent"]


# ---- trying again, and giving up ----


async def test_each_wait_is_twice_as_long_and_at_last_it_is_given_up(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    hook.manner = refuse(500)
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url})) as bench:
        await owe(bench, "phone")
        waits = []
        while (await states(bench)) == ["pending"]:
            await bench.deliver()
            due = (await bench.outbox())[0]["next_attempt_at"]
            if due:
                waits.append((instant(due) - bench.clock.now()) / SECOND)
                bench.clock.ahead += round(waits[-1] * SECOND) + SECOND
        assert all(wait <= 6.7 * HOUR / SECOND for wait in waits)
        assert all(longer > 1.7 * wait for wait, longer in pairwise(waits[:10]))
        assert 9 <= waits[0] <= 12
        assert sum(waits) >= 7 * DAY / SECOND - 10
        assert await states(bench) == ["dead"]
        assert (await bench.channel("phone"))["dead"] == 1


async def test_what_was_given_up_can_be_tried_again_by_a_person(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    hook.manner = refuse(500)
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url})) as bench:
        await owe(bench, "phone")
        await bench.deliver()
        await bench.deliver(8 * DAY)
        assert await states(bench) == ["dead"]
        hook.manner = ACCEPT
        await bench.deliver(DAY)
        assert await states(bench) == ["dead"]
        assert await bench.ledger.outbox.retry(await bench.ledger.outbox.dead(), bench.clock.now())
        await bench.deliver()
        assert await states(bench) == ["sent"]


async def test_what_was_dropped_is_not_sent(operator: Simulator, tmp_path: Path, hook: Webhook) -> None:
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url})) as bench:
        await owe(bench, "phone")
        (id_,) = [one["id"] for one in await bench.outbox()]
        assert await bench.ledger.outbox.drop((id_,), bench.clock.now()) == (id_,)
        await bench.deliver(DAY)
        assert await states(bench) == ["withdrawn"]
        assert hook.record == []


async def test_when_a_channel_is_back_all_that_waited_goes_out_at_once(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    hook.manner = refuse(503)
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url})) as bench:
        for name in ("first", "second", "third"):
            await owe(bench, "phone", name=name)
        for _ in range(8):
            await bench.deliver(30 * MINUTE)
        assert await states(bench) == ["pending"] * 3
        hook.manner = ACCEPT
        await bench.deliver(HOUR * 6)
        await bench.deliver()
        assert await states(bench) == ["sent"] * 3


async def test_a_failing_channel_is_told_through_the_others_once_and_so_is_its_end(
    operator: Simulator, tmp_path: Path, hook: Webhook, other: Webhook
) -> None:
    hook.manner = refuse(500)
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url, "mail": other.url})) as bench:
        await owe(bench, "phone")
        for _ in range(6):
            await bench.deliver(HOUR)
        assert titles(other.record) == ["Channel phone: alerts do not get through"]
        assert (await bench.channel("phone"))["state"] == "failing"
        assert (await bench.channel("mail"))["state"] == "ok"
        hook.manner = ACCEPT
        for _ in range(3):
            await bench.deliver(7 * HOUR)
        assert titles(other.record)[1:] == ["Channel phone works again"]
        assert "Voicemail from Donald Duck" in titles(hook.record)
        assert not [title for title in titles(hook.record) if title.startswith("Channel")]
        assert (await bench.channel("phone"))["last_error"] is None


async def test_channels_that_fail_together_do_not_tell_each_other_for_ever(operator: Simulator, tmp_path: Path) -> None:
    closed = f"json://127.0.0.1:{closed_port()}/"
    async with bench_in(tmp_path, settings_of(operator, {"a": closed + "a", "b": closed + "b"})) as bench:
        await owe(bench, "a", "b")
        for _ in range(10):
            await bench.deliver(HOUR)
        assert sorted(await bench.told()) == ["channel.failing"] * 2 + ["voicemail.new"] * 2


# ---- what nobody can be sure of ----


@pytest.mark.parametrize("manner", [HANG, DROP], ids=["no answer", "broken off"])
async def test_what_may_have_arrived_is_marked_as_a_possible_repeat(
    operator: Simulator, tmp_path: Path, hook: Webhook, manner: Manner
) -> None:
    hook.manner = manner
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url}, **SHORT)) as bench:
        await owe(bench, "phone")
        await bench.deliver()
        hook.manner = ACCEPT
        await bench.deliver(MINUTE)
        assert [REPEAT in request.body["message"] for request in hook.record] == [False, True]
        assert await states(bench) == ["sent"]


@pytest.mark.parametrize("manner", [refuse(400), refuse(503)], ids=["400", "503"])
async def test_what_was_refused_is_no_repeat(
    operator: Simulator, tmp_path: Path, hook: Webhook, manner: Manner
) -> None:
    hook.manner = manner
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url})) as bench:
        await owe(bench, "phone")
        await bench.deliver()
        hook.manner = ACCEPT
        await bench.deliver(MINUTE)
        assert [REPEAT in request.body["message"] for request in hook.record] == [False, False]


async def test_what_a_dead_process_may_have_sent_is_a_possible_repeat_later(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    settings = settings_of(operator, {"phone": hook.url})
    hook.manner = HANG
    async with bench_in(tmp_path, settings) as bench:
        await owe(bench, "phone")
        await bench.deliverer.round()
        await hook.heard(1)
        await bench.deliverer.stop(0)
    hook.manner = ACCEPT
    async with bench_in(tmp_path, settings) as bench:
        await bench.deliver()
        assert len(hook.record) == 1, "what was claimed stays so until the claim is over"
        await bench.deliver(MINUTE)
        assert [REPEAT in request.body["message"] for request in hook.record] == [False, True]
        assert await states(bench) == ["sent"]


async def test_what_was_sent_although_it_was_dropped_meanwhile_counts_as_sent(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    hook.manner = late(0.3)
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url})) as bench:
        await owe(bench, "phone")
        await bench.deliverer.round()
        await hook.heard(1)
        await bench.ledger.outbox.drop([one["id"] for one in await bench.outbox()], bench.clock.now())
        assert await states(bench) == ["withdrawn"]
        await bench.deliverer.idle()
        assert await states(bench) == ["sent"]


# ---- channels that come and go ----


def without(settings: Settings, *names: str) -> Settings:
    kept = {name: channel for name, channel in settings.channels.items() if name not in names}
    return settings.model_copy(update={"channels": kept})


async def adopted(bench: Bench, settings: Settings) -> None:
    await adopt(bench.ledger, settings, bench.clock.now())
    bench.deliverer.use(settings, channels_of(settings))


async def test_what_is_owed_to_a_removed_channel_waits_for_it(
    operator: Simulator, tmp_path: Path, hook: Webhook, other: Webhook
) -> None:
    settings = settings_of(operator, {"phone": hook.url, "mail": other.url})
    async with bench_in(tmp_path, settings) as bench:
        await owe(bench, "phone", "mail")
        await adopted(bench, without(settings, "phone"))
        await bench.deliver(DAY)
        assert (await states(bench), hook.record) == (["pending", "sent"], [])
        assert await bench.ledger.outbox.expire(bench.clock.now(), 7 * DAY) == 0
        await adopted(bench, settings)
        await bench.deliver()
        assert await states(bench) == ["sent", "sent"]


async def test_what_is_owed_to_a_channel_that_does_not_come_back_is_given_up(
    operator: Simulator, tmp_path: Path, hook: Webhook, other: Webhook
) -> None:
    settings = settings_of(operator, {"phone": hook.url, "mail": other.url})
    async with bench_in(tmp_path, settings) as bench:
        await owe(bench, "phone")
        await adopted(bench, without(settings, "phone"))
        bench.clock.ahead += 8 * DAY
        assert await bench.ledger.outbox.expire(bench.clock.now(), 7 * DAY) == 1
        assert await states(bench) == ["dead"]


@pytest.mark.parametrize("steps", range(0, 30, 3))
async def test_a_channel_may_leave_the_configuration_at_any_moment_of_a_round(
    operator: Simulator, tmp_path: Path, hook: Webhook, other: Webhook, steps: int
) -> None:
    settings = settings_of(operator, {"phone": hook.url, "mail": other.url})
    async with bench_in(tmp_path, settings) as bench:
        await owe(bench, "phone", "mail")
        begun = asyncio.ensure_future(bench.deliverer.round())
        for _ in range(steps):
            await asyncio.sleep(0)
        left = without(settings, "phone")
        bench.deliverer.use(left, channels_of(left))
        await begun
        await bench.deliverer.idle()
        assert len(other.record) == 1


# ---- each channel in its own voice ----


def spoken_to(settings: Settings, **channels: dict[str, Any]) -> Settings:
    """The same channels with more said of each."""
    given = {name: {"url": channel.url} | channels[name] for name, channel in settings.channels.items()}
    return settings.model_copy(update={"channels": {name: Channel.model_validate(one) for name, one in given.items()}})


async def test_one_alert_is_told_to_each_channel_in_its_own_voice(
    operator: Simulator, tmp_path: Path, hook: Webhook, other: Webhook
) -> None:
    settings = spoken_to(
        settings_of(operator, {"phone": hook.url, "work": other.url}, alerts={"language": "da", "timezone": "UTC"}),
        phone={"timezone": "Europe/Copenhagen"},
        work={"language": "en", "privacy": "masked"},
    )
    async with bench_in(tmp_path, settings) as bench:
        bench.clock.ahead = 0
        voicemail = Voicemail("1", "+4599778822", "Donald Duck", received_at=1_704_067_200_000)
        alert = Alert(Kind.VOICEMAIL_NEW, ("phone", "work"), "Home", HOME, voicemails=(voicemail,), count=1)
        await bench.ledger.outbox.owe(alert, bench.clock.now())
        await bench.deliver()
    (danish,), (english,) = hook.record, other.record
    assert danish.body["title"] == "Ny talebesked fra Donald Duck"
    assert "Modtaget: man. 1. jan. 2024 kl. 01.00 CET" in danish.body["message"]
    assert english.body["title"] == "Voicemail from +45 99 •• •• 22"
    assert "Received: Mon 1 Jan 2024 00:00 UTC" in english.body["message"]
    assert "Donald" not in str(english.body)


async def test_a_template_that_fails_costs_its_wording_and_is_told_once(
    operator: Simulator, tmp_path: Path, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    template = {"voicemail": {"new": {"title": "{% if line == 'Home' %}{{ voicemails[9] }}{% endif %}fine"}}}
    settings = spoken_to(settings_of(operator, {"phone": hook.url}), phone={"templates": template})
    async with bench_in(tmp_path, settings) as bench:
        for name in ("first", "second"):
            await owe(bench, "phone", name=name)
        await bench.deliver()
        assert await states(bench) == ["sent", "sent"]
    assert titles(hook.record) == ["Voicemail from first", "Voicemail from second"]
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == [
        "channel phone: the template for voicemail.new failed, so the built-in words are sent: "
        "it uses a variable that does not exist"
    ]


async def test_a_channel_that_goes_while_its_alert_is_under_way_stays_discreet(
    operator: Simulator, tmp_path: Path, hook: Webhook, other: Webhook
) -> None:
    both = spoken_to(
        settings_of(operator, {"phone": hook.url, "mail": other.url}), phone={"privacy": "minimal"}, mail={}
    )
    async with bench_in(tmp_path, both) as bench:
        await owe(bench, "phone", "mail")
        bench.deliverer.use(without(both, "phone"), channels_of(both))
        await bench.deliver()
    assert titles(hook.record) == ["A voicemail on Home"]


# ---- what polls owe ----


@contextlib.asynccontextmanager
async def told_one(
    simulator: Simulator, folder: Path, hook: Webhook, **tables: Any
) -> AsyncIterator[tuple[Bench, str]]:
    """A message that came is owed to a channel that fails."""
    hook.manner = refuse(503)
    async with bench_in(folder, settings_of(simulator, {"phone": hook.url}, **tables)) as bench:
        await bench.poll()
        message = simulator.leave(HOME)
        await bench.poll(MINUTE)
        await bench.deliver()
        yield bench, message


async def test_what_was_heard_before_its_channel_recovered_is_never_sent(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    async with told_one(operator, tmp_path, hook) as (bench, message):
        operator.hear(HOME, message)
        for _ in range(2):
            await bench.poll(MINUTE)
        hook.manner = ACCEPT
        await bench.deliver(DAY)
        assert await states(bench) == ["withdrawn"]
        assert len(hook.record) == 1


async def test_what_is_new_again_is_owed_again(operator: Simulator, tmp_path: Path, hook: Webhook) -> None:
    async with told_one(operator, tmp_path, hook) as (bench, message):
        taken = operator.lines[HOME].boxes["NEW"].pop(message)
        for _ in range(3):
            await bench.poll(MINUTE)
        assert await states(bench) == ["withdrawn"]
        operator.lines[HOME].boxes["NEW"][message] = taken
        await bench.poll(MINUTE)
        hook.manner = ACCEPT
        await bench.deliver()
        assert await states(bench) == ["sent"]


async def test_a_summary_is_withdrawn_only_when_all_of_it_was_heard(
    operator: Simulator, tmp_path: Path, hook: Webhook
) -> None:
    hook.manner = refuse(503)
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url})) as bench:
        first, second = operator.leave(HOME), operator.leave(HOME)
        await bench.poll()
        for heard, expected in ((first, "pending"), (second, "withdrawn")):
            operator.hear(HOME, heard)
            for _ in range(2):
                await bench.poll(MINUTE)
            assert await states(bench) == [expected]


# ---- the end ----


async def test_stopping_lets_a_send_end_and_leaves_what_hangs_for_the_next_start(
    operator: Simulator, tmp_path: Path, hook: Webhook, other: Webhook
) -> None:
    hook.manner, other.manner = late(0.2), HANG
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url, "mail": other.url})) as bench:
        await owe(bench, "phone", "mail")
        await owe(bench, "phone")
        await bench.deliverer.round()
        await asyncio.gather(hook.heard(1), other.heard(1))
        await bench.deliverer.stop(3)
        await bench.deliver()
        assert await states(bench) == ["sent", "pending", "pending"]
        assert len(hook.record) == 1, "nothing is begun any more"


async def test_a_settlement_is_kept_until_the_store_takes_it(
    operator: Simulator, tmp_path: Path, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.manner = late(0.2)
    async with bench_in(tmp_path, settings_of(operator, {"phone": hook.url})) as bench:
        await owe(bench, "phone")
        await bench.deliverer.round()
        await hook.heard(1)
        with bench.held():
            await until(lambda: "channel phone: " in caplog.text)
        await bench.deliverer.idle()
        assert await states(bench) == ["sent"]
        assert len(hook.record) == 1
