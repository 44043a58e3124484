"""`vmwatch run` and what it answers over HTTP: the command line's own JSON, through reloads and troubles."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from receivers import Webhook, refuse
from visitors import Reply, ask
from world import WRONG_PIN, Running, World, until, world_in

TOKEN = "hidden-token-of-the-page"
ANSWERING = re.compile(r"answering on http://\S+:(\d+)")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(tmp_path) as found:
        found.config["web"] = {"listen": "127.0.0.1:0"}
        yield found


@pytest.fixture
async def hook() -> AsyncIterator[Webhook]:
    async with Webhook() as webhook:
        yield webhook


def port_of(daemon: Running) -> int:
    return int(ANSWERING.findall(daemon.said())[-1])


async def told(daemon: Running, target: str, **headers: str) -> Reply:
    return await ask(port_of(daemon), target, **headers)


async def test_the_json_is_the_command_line_s_own(world: World, hook: Webhook) -> None:
    home = world.line("home")
    world.line("wrong", told=WRONG_PIN)
    world.channel("phone", hook.url)
    for caller in ("+4520305071", None):
        world.operator.leave(home, caller=caller, name="<b>Ø</b>")
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))
        await until(world.state_is("wrong", "rejected"))
        await until(lambda: len(hook.record) >= 2)
        assert (await world.vmwatch("pause", "home")).status == 0
        await asyncio.sleep(0.7)  # for what is under way, and for what was kept
        for target, verb in {
            "/api/status": ["status"],
            "/api/messages": ["messages"],
            "/api/messages?line=home&new=1&limit=1": ["messages", "--line", "home", "--new", "--limit", "1"],
            "/api/outbox": ["outbox"],
            "/api/outbox?all=1&limit=2": ["outbox", "--all", "--limit", "2"],
        }.items():
            answers = (await told(daemon, target)).json, (await world.vmwatch(*verb, "--json")).json
            for answer in answers if verb == ["status"] else ():
                answer["processes"] = len(answer["processes"])  # what each carried is written now and then
            assert answers[0] == answers[1], target


async def test_it_is_ready_once_a_line_was_read_and_not_where_none_can_be(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(world.state_is("home", "ok"))

        async def is_ready() -> bool:
            return (await told(daemon, "/readyz")).status == 200

        await until(is_ready)
        assert (await told(daemon, "/healthz")).status == 200
    world.config["lines.home"]["pin"] = WRONG_PIN
    async with world.running() as daemon:
        await until(world.state_is("home", "rejected"))
        await until(lambda: bool(world.logins("home")))
        answer = await told(daemon, "/readyz")
        assert answer.status == 503
        assert answer.json["checks"]["lines"] == "no line is read (home: rejected); look: vmwatch status"


async def test_an_address_that_is_taken_keeps_the_daemon_from_starting_before_any_login(
    world: World, hook: Webhook
) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        listen = f"127.0.0.1:{holder.getsockname()[1]}"
        world.config["web"] = {"listen": listen}
        ran = await world.vmwatch("run")
    assert (ran.status, world.logins("home")) == (75, [])
    assert f"web.listen: {listen} can't be listened on: Address already in use" in ran.err


async def test_the_default_address_being_taken_keeps_nothing_from_running(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    del world.config["web"]
    with socket.socket() as holder:
        try:
            holder.bind(("127.0.0.1", 8480))
            holder.listen()
        except OSError:
            pass  # somebody else holds it: as good
        async with world.running() as daemon:
            await until(world.state_is("home", "ok"))
            assert "127.0.0.1:8480 can't be listened on: Address already in use; vmwatch goes on" in daemon.said()


async def test_a_reload_asks_for_the_token_from_then_on_and_never_tells_it(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running("run", "--log-level", "debug") as daemon:
        assert (await told(daemon, "/api/status")).status == 200
        (world.folder / "web.token").write_text(f"{TOKEN}\n")
        world.config["web"] = {"listen": "0.0.0.0:0", "token_file": "web.token"}
        world.write()
        daemon.send(signal.SIGHUP)
        await until(daemon.has_said("the configuration was read again"))
        assert (await told(daemon, "/api/status")).status == 401
        assert (await told(daemon, "/api/status", Authorization=f"Bearer {TOKEN}")).status == 200
        assert TOKEN not in daemon.said()
    checked = await world.vmwatch("check", "--json")
    assert checked.json["config"]["web"] == {"listen": "0.0.0.0:0", "token": "<secret>", "hosts": [], "public_url": ""}


async def test_a_reload_to_an_address_that_is_taken_is_refused_and_the_old_one_stays(
    world: World, hook: Webhook
) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            world.config["web"] = {"listen": f"127.0.0.1:{holder.getsockname()[1]}"}
            world.line("office")
            world.write()
            daemon.send(signal.SIGHUP)
            await until(daemon.has_said("the new configuration is refused, the old one stays: web.listen: 127.0.0.1:"))
        answer = await told(daemon, "/api/status")
        assert [line["name"] for line in answer.json["lines"]] == ["home"]


async def test_metrics_count_what_happens(world: World, hook: Webhook) -> None:
    home = world.line("home")
    world.line("wrong", told=WRONG_PIN)
    world.channel("phone", hook.url)
    world.operator.leave(home)
    async with world.running() as daemon:
        await until(world.state_is("wrong", "rejected"))
        await until(lambda: len(hook.record) >= 2)
        await until(world.polled("home", 3))
        await asyncio.sleep(0.7)
        text = (await told(daemon, "/metrics")).text
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["vmwatch_polls_total", "pin_rejected", "rejected"] == 1
    assert found["vmwatch_polls_total", "nothing_new", "ok"] >= 2
    assert found["vmwatch_poll_duration_seconds_count",] >= 4
    assert found["vmwatch_poll_lateness_seconds_count",] >= 4
    assert found["vmwatch_messages_total", "home"] == 1
    assert found["vmwatch_deliveries_total", "phone", "sent"] == 2
    assert found["vmwatch_claims_total", "poll"] >= 4
    assert found["vmwatch_claims_total", "delivery"] == 2
    assert found["vmwatch_ledger_commit_duration_seconds_count",] >= 5
    assert found["vmwatch_rounds_total",] >= 3
    assert found["vmwatch_line_state", "home", "ok"] == 1
    assert found["vmwatch_line_state", "rejected", "wrong"] == 1
    assert found["vmwatch_oldest_unsent_alert_age_seconds",] == 0
    read_at = found["vmwatch_line_last_read_timestamp_seconds", "home"]
    assert found["vmwatch_last_round_timestamp_seconds",] - read_at < 5, (
        "a quiet poll counts, though it is not noted yet"
    )
    assert ("vmwatch_line_last_read_timestamp_seconds", "wrong") not in found
    assert home not in text
    assert home.lstrip("+") not in text


async def test_an_alert_that_is_not_sent_grows_old(world: World) -> None:
    world.operator.leave(world.line("home"))
    async with Webhook(refuse(500)) as hook:
        world.channel("phone", hook.url)
        async with world.running() as daemon:
            await until(lambda: bool(hook.record))
            await asyncio.sleep(1.5)
            text = (await told(daemon, "/metrics")).text
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    assert 1 <= families["vmwatch_oldest_unsent_alert_age_seconds"][0].value < 60
    assert families["vmwatch_deliveries_pending"][0].value == 1
    assert [sample.labels["outcome"] for sample in families["vmwatch_deliveries"]] == ["refused"]
