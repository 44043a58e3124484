"""Every verb as people and scripts meet it: processes, their output and their exit status."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from receivers import ACCEPT, HANG, MailServer, Webhook, closed_port, refuse
from world import PIN, WRONG_PIN, Ran, World, by_name, instant, until, world_in

from vmwatch import __version__

SECRET_TOPIC = "wren-of-the-north-7261"
LINE_KEYS = (
    "name label number state reason detail since last_poll_at last_success_at next_poll_at failures new old saved"
)
CHANNEL_KEYS = "name state pending dead last_sent_at last_error"
MESSAGE_KEYS = (
    "line id caller caller_name contact called call_id received_at length first_seen_at left_new_at box played "
    "acked_at snoozed_until"
)
NOT_THE_OPERATOR = ("failing", "not_the_operator")
DELIVERY_KEYS = "id kind line message channel state attempts next_attempt_at sent_at last_error waits"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(tmp_path) as found:
        del found.config["polling"]["interval"]  # the usual one, which brings no warning
        yield found


def titles(hook: Webhook) -> list[str]:
    return [request.body["title"] for request in hook.record]


def keys(shape: dict[str, object]) -> str:
    return " ".join(shape)


# ---- usage, and what is refused ----


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["watch"],
        ["run", "--log-level", "loud"],
        ["messages", "--limit", "0"],
        ["outbox", "retry", "x"],
        ["simulate", "--port", "70000"],
        ["demo", "--seconds", "soon"],
        ["pause"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_and_never_a_traceback(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from vmwatch.cli import main

    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith("usage: vmwatch")
    assert said.out == ""


async def test_what_names_nothing_there_is_wrong_usage_too(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    assert (await world.vmwatch("poll")).status == 0
    wrong = (
        ("poll", "hoem"),
        ("pause", "+4570000000"),
        ("resume", "x"),
        ("messages", "--line", "x"),
        ("test", "mail"),
        ("outbox", "drop"),
        ("pause", "home", "--for", "a while"),
    )
    for ran in await asyncio.gather(*(world.vmwatch(*arguments) for arguments in wrong)):
        assert (ran.status, ran.out) == (2, "")
        assert len(ran.err.splitlines()) == 1


async def test_the_version_is_told(world: World) -> None:
    assert await world.vmwatch("--version") == Ran(0, f"vmwatch {__version__}\n", "")


async def test_a_refused_configuration_is_78_with_a_sentence_for_each_thing_and_sends_nothing(
    world: World, hook: Webhook
) -> None:
    world.line("home", pin="12")
    world.line("office", channels=["pager"])
    world.channel("phone", hook.url, colour="red")
    for verb in ("run", "check", "poll", "test"):
        ran = await world.vmwatch(verb)
        assert ran.status == 78
        assert len(ran.err.splitlines()) == 3, ran.err
        assert all(re.match(r"config\.toml:\d+: (lines|channels)\.\w+\.\w+: ", line) for line in ran.err.splitlines())
        assert '"12"' not in ran.err
    assert not world.logins("home")
    assert hook.record == []
    assert not world.store.exists()


async def test_no_configuration_at_all_is_78_too(world: World) -> None:
    if Path("/etc/vmwatch/config.toml").exists():  # noqa: ASYNC240
        pytest.skip("this machine has a configuration of its own")
    looked, named = await asyncio.gather(
        world.vmwatch("status", config=False), world.vmwatch("--config", "x.toml", "run", config=False)
    )
    assert (looked.status, named.status) == (78, 78)
    assert "looked for config.toml" in looked.err
    assert named.err == "x.toml: there is no such file, but --config names it\n"


async def test_verbs_that_only_look_do_not_make_a_store(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    verbs = (
        *(("status",), ("messages",), ("outbox",), ("pause", "home"), ("resume", "home")),
        *(("ack", "a"), ("snooze", "a", "1h")),
    )
    for ran in await asyncio.gather(*(world.vmwatch(*verb) for verb in verbs)):
        assert (ran.status, ran.out) == (75, "")
        assert ran.err == f"{world.store}: there is no store here yet; `vmwatch run` makes one\n"
    assert not world.store.exists()


async def test_looking_needs_no_secret(world: World, hook: Webhook) -> None:
    """Somebody who may read the store, but not the PINs, can see how things stand."""
    world.line("home")
    world.channel("phone", hook.url)
    await world.vmwatch("poll")
    del world.config["lines.home"]["pin"]
    world.config["lines.home"]["pin_file"] = "/nowhere/home.pin"
    assert (await world.vmwatch("status")).status == 0
    assert (await world.vmwatch("poll")).status == 78


# ---- check ----


async def test_check_shows_what_it_understood_and_no_secret(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", f"{hook.url}{SECRET_TOPIC}")
    text, shape = await asyncio.gather(world.vmwatch("check"), world.vmwatch("check", "--json"))
    assert (text.status, shape.status) == (0, 0)
    assert text.out.endswith("config.toml: accepted: 1 line, 1 channel.\n")
    assert shape.json["config"]["lines"]["home"]["pin"] == "<secret>"
    assert shape.json["config"]["polling"]["unreachable_after"] == "30m"
    assert shape.json["store"] == f"sqlite:///{world.store}"
    for said in (text.out, text.err, shape.out, shape.err):
        assert PIN not in said
        assert SECRET_TOPIC not in said
    assert not world.logins("home")
    assert not world.store.exists()


async def test_check_online_asks_each_line_once_and_delivers_nothing(world: World, hook: Webhook) -> None:
    world.operator.leave(world.line("home"))
    world.line("office", told=WRONG_PIN)
    world.channel("phone", hook.url)
    ran = await world.vmwatch("check", "--online")
    assert ran.status == 1
    assert "home: ok, 1 new" in ran.out
    assert "office: rejected, the operator rejected the PIN" in ran.out
    assert [len(world.logins(name)) for name in ("home", "office")] == [1, 1]
    assert hook.record == []
    shape = (await world.vmwatch("check", "--online", "--json")).json
    assert {line["name"]: line["polled"] for line in shape["lines"]} == {"home": True, "office": False}


# ---- poll ----


async def test_poll_without_a_daemon_polls_and_delivers(world: World, hook: Webhook) -> None:
    number = world.line("home")
    world.line("office")
    world.operator.leave(number)
    world.channel("phone", hook.url)
    everything = await world.vmwatch("poll", "--json")
    assert everything.status == 0
    assert [keys(line) for line in everything.json] == [f"{LINE_KEYS} polled"] * 2
    assert titles(hook) == ["Voicemail from Donald Duck"]
    world.operator.leave(number)
    by_number, by_line = await world.vmwatch("poll", number), await world.vmwatch("poll", "office")
    assert by_number == Ran(0, "home: ok, 2 new\n", "")
    assert by_line == Ran(0, "office: ok, 0 new\n", "")
    assert [len(world.logins(name)) for name in ("home", "office")] == [2, 2]
    assert len(hook.record) == 2


async def test_poll_beside_a_daemon_asks_the_daemon_and_says_so(world: World, hook: Webhook) -> None:
    number = world.line("home")
    world.channel("phone", hook.url)
    async with world.running():
        await until(world.state_is("home", "ok"))
        world.operator.leave(number)
        ran = await world.vmwatch("poll")
        assert ran == Ran(0, "A daemon runs on this store: it was asked to poll now.\nhome: ok, 1 new\n", "")
        await hook.heard(1)
    assert len(world.logins("home")) == 2


async def test_poll_says_why_a_line_may_not_be_polled(world: World, hook: Webhook) -> None:
    for name, told in (("home", PIN), ("wrong", WRONG_PIN), ("off", PIN), ("resting", PIN)):
        world.line(name, told=told, enabled=name != "off")
    world.channel("phone", hook.url)
    await world.vmwatch("poll")
    await world.vmwatch("pause", "resting")
    ran = await world.vmwatch("poll")
    assert ran.status == 1
    assert ran.out.splitlines() == [
        "home: ok, 0 new",
        "off: not polled, switched off in the configuration; next poll: not by itself",
        "resting: not polled, paused by a person; next poll: not by itself",
        "wrong: not polled, the operator rejected the PIN; next poll: not by itself",
    ]


async def test_cron_does_not_shorten_a_back_off_but_a_person_who_names_the_line_does(
    world: World, hook: Webhook
) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    await world.vmwatch("poll")
    world.operator.odd(world.numbers["home"], "500")
    world.let_time_pass("home")
    assert (await world.vmwatch("poll")).status == 1
    ran = await world.vmwatch("poll")
    assert "home: not polled, the operator reported an error of its own; next poll: in" in ran.out
    assert len(world.logins("home")) == 2
    world.operator.odd(world.numbers["home"], None)
    assert (await world.vmwatch("poll", "home")).out == "home: ok, 0 new\n"


async def test_poll_tells_of_a_channel_that_fails(world: World) -> None:
    world.operator.leave(world.line("home"))
    world.channel("phone", f"json://127.0.0.1:{closed_port()}/")
    ran = await world.vmwatch("poll")
    assert ran == Ran(1, "home: ok, 1 new\nchannel phone: failing; see `vmwatch outbox`\n", "")


# ---- status, messages, outbox ----


async def test_the_json_shapes_have_exactly_the_promised_keys(world: World, hook: Webhook) -> None:
    world.operator.leave(world.line("home"))
    world.channel("phone", hook.url)
    async with world.running():
        await until(world.state_is("home", "ok"))
        await hook.heard(1)
        status, messages, outbox = await asyncio.gather(
            world.vmwatch("status", "--json"),
            world.vmwatch("messages", "--json"),
            world.vmwatch("outbox", "--all", "--json"),
        )
    assert keys(status.json) == "daemon processes disagreements lines channels"
    assert keys(status.json["daemon"]) == "running since version"
    assert (status.json["daemon"]["running"], status.json["daemon"]["version"]) == (True, __version__)
    assert [keys(process) for process in status.json["processes"]] == ["name version since seen_at polls deliveries"]
    assert [keys(line) for line in status.json["lines"]] == [f"{LINE_KEYS} stale"]
    assert [keys(channel) for channel in status.json["channels"]] == [CHANNEL_KEYS]
    assert [keys(message) for message in messages.json] == [MESSAGE_KEYS]
    assert [keys(delivery) for delivery in outbox.json] == [DELIVERY_KEYS]
    iso = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
    times = [value for key, value in every(status.json, messages.json, outbox.json) if key.endswith(("_at", "since"))]
    assert all(value is None or iso.fullmatch(str(value)) for value in times)
    assert sum(value is not None for value in times) >= 8
    assert abs(instant(str(messages.json[0]["first_seen_at"])) / 1000 - datetime.now(UTC).timestamp()) < 30


def every(*shapes: object) -> list[tuple[str, object]]:
    """Every key and value, at whatever depth."""
    found: list[tuple[str, object]] = []
    for shape in shapes:
        if isinstance(shape, dict):
            found += [*shape.items(), *every(*shape.values())]
        elif isinstance(shape, list):
            found += every(*shape)
    return found


async def test_a_person_sees_to_a_message_or_puts_it_off(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    ids = sorted(world.operator.leave(world.numbers["home"], _id=id_) for id_ in ("abc1", "abd2"))
    await world.vmwatch("poll")
    both = await world.vmwatch("ack", "ab")
    assert (both.status, both.err) == (
        2,
        "ab: several messages begin so: abc1 on home, abd2 on home; write more of the id\n",
    )
    absent = await world.vmwatch("snooze", "x", "1h")
    assert (absent.status, absent.err) == (2, "x: there is no such message; `vmwatch messages` shows their ids\n")
    assert (await world.vmwatch("ack", "")).err == ": there is no such message; `vmwatch messages` shows their ids\n"
    assert (await world.vmwatch("snooze", "abd", "soon")).status == 2
    seen = await world.vmwatch("ack", "abc")
    assert (seen.status, seen.out) == (0, "abc1: acknowledged: nobody is reminded of it\n")
    (later,) = (await world.vmwatch("snooze", "abd2", "1h", "--json")).json
    assert later["snoozed_until"] is not None
    listed = {one["id"]: one for one in (await world.vmwatch("messages", "--json")).json}
    assert [listed[id_]["acked_at"] is not None for id_ in ids] == [True, False]
    shown = (await world.vmwatch("messages")).out
    assert "new, acknowledged" in shown
    assert "snoozed" in shown
    world.sql("UPDATE message SET snoozed_until = 1 WHERE id = 'abd2'")
    assert "snoozed" not in (await world.vmwatch("messages")).out


async def test_messages_can_be_narrowed(world: World, hook: Webhook) -> None:
    home, office = world.line("home"), world.line("office")
    world.channel("phone", hook.url)
    heard = world.operator.leave(home, name="Anders", date="2024-01-01T00:00:00.000Z")
    world.operator.leave(home, name="Andersine", date="2024-01-02T00:00:00.000Z")
    world.operator.leave(office, caller=None, name=None, date="2024-01-03T00:00:00.000Z")
    await world.vmwatch("poll")
    world.operator.hear(home, heard)
    for _ in range(2):
        await world.vmwatch("poll")

    async def listed(*arguments: str) -> list[str | None]:
        return [one["caller_name"] for one in (await world.vmwatch("messages", "--json", *arguments)).json]

    lists = (listed(), listed("--line", "home"), listed("--line", office), listed("--new"), listed("--limit", "1"))
    assert await asyncio.gather(*lists) == [
        [None, "Andersine", "Anders"],
        ["Andersine", "Anders"],
        [None],
        [None, "Andersine"],
        [None],
    ]
    table = (await world.vmwatch("messages")).out.splitlines()
    assert [row.split()[0] for row in table if " Jan 00:00 " in row] == ["03", "02", "01"]
    assert "withheld" in table[3]


async def test_what_waits_can_be_tried_again_or_given_up(world: World, hook: Webhook) -> None:
    hook.manner = refuse(500)
    world.config["polling"]["first_poll"] = "each"
    number = world.line("home")
    for name in ("first", "second"):
        world.operator.leave(number, name=name)
    world.channel("phone", hook.url)
    await world.vmwatch("poll")
    pending = (await world.vmwatch("outbox", "--json")).json
    assert [one["state"] for one in pending] == ["pending", "pending"]
    first, second = sorted(one["id"] for one in pending)
    world.sql("UPDATE delivery SET state = 'dead', next_attempt_at = NULL")
    listed = await world.vmwatch("outbox")
    assert (listed.status, listed.out.count("dead")) == (1, 2)

    assert await world.vmwatch("outbox", "drop", str(second)) == Ran(0, "1 given up.\n", "")
    again = await world.vmwatch("outbox", "retry", "--json")
    assert (again.status, again.json) == (0, {"done": [first], "refused": []})
    refused = await world.vmwatch("outbox", "retry", str(second))
    assert refused == Ran(1, "0 to be tried again now.\n", f"not pending or dead, or under way just now: {second}\n")
    hook.manner = ACCEPT
    await world.vmwatch("poll")
    assert [one["state"] for one in await world.outbox()] == ["sent", "withdrawn"]
    assert await world.vmwatch("outbox") == Ran(0, "Nothing is pending, nothing is dead.\n", "")


async def test_a_pipe_gets_whole_lines(world: World) -> None:
    world.operator.leave(world.line("home", label="A label of forty characters, so it wraps"))
    world.channel("a_channel_with_quite_a_long_name", f"json://127.0.0.1:{closed_port()}/")
    await world.vmwatch("poll")
    for ran in await asyncio.gather(*(world.vmwatch(verb) for verb in ("status", "outbox", "messages"))):
        assert "\x1b" not in ran.out
        assert "…" not in ran.out
    (row,) = [line for line in (await world.vmwatch("outbox")).out.splitlines() if "voicemail.new" in line]
    assert re.split(r"  +", row.strip())[-1] == "could not connect"


@pytest.mark.parametrize("verb", ["status", "outbox", "messages"])
async def test_a_terminal_of_80_columns_shows_everything(world: World, verb: str) -> None:
    world.operator.leave(world.line("home"))
    world.channel("phone", f"json://127.0.0.1:{closed_port()}/")
    await world.vmwatch("poll")
    shown = await on_terminal(world, verb)
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert ("could" in shown) == (verb != "messages")


async def on_terminal(world: World, verb: str) -> str:
    """What a verb writes to a terminal of 80 columns, without its colours."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vmwatch",
        verb,
        cwd=world.folder,
        env=os.environ | {"COLUMNS": "80", "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = await asyncio.to_thread(read_to_end, ours)
    await process.wait()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def read_to_end(descriptor: int) -> str:
    found = b""
    with contextlib.suppress(OSError), open(descriptor, "rb", buffering=0) as terminal:
        while chunk := terminal.read(4096):
            found += chunk
    return found.decode()


async def test_a_reader_who_has_read_enough_is_no_error(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    await world.vmwatch("poll")
    for verb in ("status", "status --json", "messages --json"):
        reader, writer = os.pipe()
        os.close(reader)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "vmwatch",
            *verb.split(),
            cwd=world.folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            stdout=writer,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(writer)
        _, err = await process.communicate()
        assert (verb, process.returncode, err) == (verb, 0, b"")


async def test_what_strangers_wrote_is_shown_as_text(world: World, hook: Webhook) -> None:
    number = world.line("home")
    world.channel("phone", hook.url)
    world.operator.leave(number, name="[bold red]x[/] :smile: \x1b[2J\u202eevil")
    await world.vmwatch("poll")
    shown = (await world.vmwatch("messages")).out
    assert "[bold red]x[/] :smile:" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


# ---- every row of the operator's table of errors, and every status of a verb ----

ROWS: dict[str, tuple[str, str]] = {
    # What is not said of a number, or a login, itself:
    **dict.fromkeys(("html", "empty", "not_json", "wrong_shape", "redirect", "truncated_json"), NOT_THE_OPERATOR),
    **dict.fromkeys(("429_seconds", "429_date", "429_bare", "503_seconds", "503_date"), ("failing", "throttled")),
    **dict.fromkeys(("500", "503_bare"), ("failing", "operator_error")),
    **dict.fromkeys(("502", "504"), ("failing", "gateway_error")),
    **dict.fromkeys(("hang", "drip"), ("failing", "timeout")),
    **dict.fromkeys(("drop", "reset"), ("failing", "connection_lost")),
    **dict.fromkeys(("unknown_4xx", "empty_403", "empty_404", "empty_422"), ("failing", "refusal_unclear")),
    # More than one error in one answer: the most dangerous counts.
    "error_list": ("locked", "pin_locked"),
    "errors_list": ("rejected", "pin_rejected"),
}
"""What an answer makes of a line, in `vmwatch status`."""


async def test_every_answer_of_the_operator_s_table_shows_in_the_status(world: World, hook: Webhook) -> None:
    world.config["operator"]["timeout"] = "1s"
    world.channel("phone", hook.url)
    expected = {f"odd_{what}": row for what, row in ROWS.items()}
    for name in expected:
        world.operator.odd(world.line(name), name.removeprefix("odd_"))
    world.line("ok")
    world.line("wrong", told=WRONG_PIN)
    world.operator.set_pin(world.line("no_pin"), None)
    world.operator.set_line(world.line("not_enabled"), enabled=False)
    world.operator.set_line(world.line("unknown"), known=False)
    locked = world.line("locked")
    for _ in range(3):
        world.operator.login(locked, WRONG_PIN, "NEW")
    expected |= {
        "ok": ("ok", "read"),
        "wrong": ("rejected", "pin_rejected"),
        "no_pin": ("rejected", "pin_rejected"),
        "not_enabled": ("not_enabled", "not_enabled"),
        "unknown": ("unknown_number", "unknown_number"),
        "locked": ("locked", "pin_locked"),
    }
    assert (await world.vmwatch("poll")).status == 1
    status, human = await asyncio.gather(world.vmwatch("status", "--json"), world.vmwatch("status"))
    assert (status.status, human.status) == (1, 1)
    assert {line["name"]: (line["state"], line["reason"]) for line in status.json["lines"]} == expected
    rows = {row.split()[0]: row for row in human.out.splitlines() if row.split()}
    assert [
        name for name, (state, _) in expected.items() if state.replace("_", " ") not in rows[name].replace("_", " ")
    ] == []

    again = [name for name, (_, reason) in expected.items() if reason == "refusal_unclear"]
    for name in again:
        world.let_time_pass(name)
    await world.vmwatch("poll")
    seen = by_name((await world.vmwatch("status", "--json")).json["lines"])
    assert {(seen[name]["state"], seen[name]["reason"]) for name in again} == {("rejected", "refused_twice")}


async def test_what_concerns_every_line_shows_on_every_line(world: World, hook: Webhook) -> None:
    world.line("home")
    world.line("office")
    world.channel("phone", hook.url)
    world.config["operator"]["timeout"] = "2s"
    for base_url in (f"http://127.0.0.1:{closed_port()}", "https://operator.invalid", f"https://127.0.0.1:{hook.port}"):
        there, world.config["operator"]["base_url"] = world.config["operator"]["base_url"], base_url
        await world.vmwatch("poll", "home", "office")
        assert await shown(world) == [("failing", "no_connection")] * 2, base_url
        world.config["operator"]["base_url"] = there
    world.operator.blacklist()
    await world.vmwatch("poll", "home")
    assert await shown(world) == [("failing", "blacklisted")] * 2
    assert len(world.logins("office")) == 0


async def shown(world: World) -> list[tuple[str, str]]:
    return [(line["state"], line["reason"]) for line in (await world.vmwatch("status", "--json")).json["lines"]]


VERBS = (
    *(("run",), ("poll",), ("check", "--online"), ("test",), ("status",), ("messages",), ("outbox",)),
    *(("pause", "home"), ("resume", "home")),
)
"""Every verb that needs the store."""


async def test_a_store_that_can_not_be_had_is_75_for_every_verb(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    world.store.mkdir()
    for verb, ran in zip(VERBS, await asyncio.gather(*(world.vmwatch(*verb) for verb in VERBS)), strict=True):
        assert (verb, ran.status, ran.out) == (verb, 75, "")
        assert ran.err == f"{world.store}: the store can't be opened: Is a directory\n"
    assert not world.logins("home")
    assert hook.record == []


async def test_looking_is_1_only_where_it_shows_trouble(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    await world.vmwatch("poll")
    verbs = (("status",), ("check", "--online"), ("messages",), ("outbox",), ("outbox", "drop", "999"))

    async def statuses() -> list[int]:
        return [ran.status for ran in await asyncio.gather(*(world.vmwatch(*verb) for verb in verbs))]

    assert await statuses() == [0, 0, 0, 0, 1]
    hook.manner = refuse(500)
    world.operator.odd(world.numbers["home"], "500")
    world.let_time_pass("home")
    assert (await world.vmwatch("poll")).status == 1
    assert await statuses() == [1, 1, 0, 0, 1]


# ---- every refusal of the configuration, as a person meets it ----


async def test_all_refusals_come_in_one_run_each_a_sentence_with_file_line_and_key(world: World) -> None:
    world.config = {
        "polling": {"intervall": "60s", "interval": "0.5s"},
        "poling": {"jitter": 0},
        "operator": {"base_url": "http://operator.example.com"},
        "channels.nothing": {"url": f"nothing://{SECRET_TOPIC}"},
        "channels.several": {
            "url": f"mailto://127.0.0.1?from=a@example.com&to={SECRET_TOPIC}@example.com,b@example.com"
        },
        "channels.filed": {"url_file": "phone.url"},
        "lines.home": {"number": "+4571919998", "pin": 1234567890},
        "lines.again": {"number": "+4571919998", "pin": "12"},
        "lines.local": {"number": "71919997", "pin": PIN, "channels": ["pager"]},
        "lines.filed": {"number": "+4571919996", "pin_file": "home.pin"},
    }
    ran = await world.vmwatch("check", VMWATCH_POLLING__INTERVALL="60s", VMWATCH_TEST_ANYTHING="1")
    assert (ran.status, ran.out) == (78, "")
    assert ran.err.splitlines() == [
        "config.toml:2: polling.intervall: unknown key; did you mean interval?",
        'config.toml:3: polling.interval: must be at least "1s": every poll is a login',
        "config.toml:5: poling: unknown table; did you mean polling?",
        "config.toml:9: operator.base_url: must be https, for the PIN travels in the URL "
        "(http only for 127.0.0.1, ::1 or localhost)",
        "config.toml:12: channels.nothing.url: is not a URL that Apprise can build a channel from",
        "config.toml:15: channels.several.url: stands for 2 targets: give each a channel of its own",
        "config.toml:18: channels.filed.url_file: phone.url cannot be read: No such file or directory",
        "config.toml:22: lines.home.pin: must be 4 to 10 digits, in quotes",
        "config.toml:25: lines.again.number: is the number of lines.home too",
        "config.toml:26: lines.again.pin: must be 4 to 10 digits, in quotes",
        'config.toml:29: lines.local.number: must be a number in E.164 form, like "+4571919998"',
        "config.toml:31: lines.local.channels: there is no channel pager",
        "config.toml:35: lines.filed.pin_file: home.pin cannot be read: No such file or directory",
        "environment variable VMWATCH_POLLING__INTERVALL: names no key; did you mean VMWATCH_POLLING__INTERVAL?",
    ]
    world.config = {}
    assert (await world.vmwatch("check")) == Ran(
        78,
        "",
        "config.toml:1: channels: there is no channel: add a table such as [channels.phone]\n"
        "config.toml:1: lines: there is no line: add a table such as [lines.home]\n",
    )


# ---- pause and resume ----


async def test_a_pause_takes_effect_in_the_running_daemon_within_a_second_or_so(world: World, hook: Webhook) -> None:
    number = world.line("home", interval="1s")
    world.channel("phone", hook.url)
    async with world.running() as daemon:
        await until(world.polled("home", 2))
        paused = await world.vmwatch("pause", "home", "--for", "2h")
        assert re.fullmatch(r"home: paused until \d\d \w{3} \d\d:\d\d\n", paused.out)
        seen = await world.line_seen("home")
        assert (seen["state"], seen["reason"]) == ("paused", "paused")
        assert abs(instant(seen["next_poll_at"]) / 1000 - datetime.now(UTC).timestamp() - 7200) < 30
        spent = len(world.logins("home"))
        beats = daemon.notices.listen().count("WATCHDOG=1")
        await until(daemon.has_noticed("WATCHDOG=1", beats + 3))
        assert len(world.logins("home")) <= spent + 1
        assert (await world.vmwatch("status")).status == 0, "a pause is no trouble"

        resumed = await world.vmwatch("resume", number, "--json")
        assert (resumed.status, resumed.json["state"]) == (0, "ok")
        await until(world.polled("home", 1))
        world.sql("UPDATE line SET paused_until = 1, paused_at = 0, version = version + 1")
        await until(world.polled("home", 1))
    assert keys(resumed.json) == LINE_KEYS


async def test_a_pause_without_an_end_lasts_until_resume(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    await world.vmwatch("poll")
    assert (await world.vmwatch("pause", "home")).out == "home: paused until `vmwatch resume`\n"
    status = (await world.vmwatch("status")).out
    assert "home: paused by a person. Go on: vmwatch resume home" in status
    assert (await world.line_seen("home"))["next_poll_at"] is None
    assert (await world.vmwatch("resume", "home")).out == "home: goes on, with a poll now\n"
    assert (await world.vmwatch("poll")).status == 0


# ---- test ----


@pytest.mark.parametrize("with_daemon", [False, True], ids=["alone", "beside a daemon"])
async def test_test_tells_each_channel_s_result(world: World, hook: Webhook, *, with_daemon: bool) -> None:
    world.config["delivery"] = {"timeout": "1s"}
    world.line("home")
    async with Webhook(HANG) as hanging, Webhook(refuse(403)) as refusing, MailServer() as mail:
        urls = {"hook": hook.url, "hang": hanging.url, "no": refusing.url, "mail": mail.url}
        for name, url in urls.items():
            world.channel(name, url)
        async with world.running() if with_daemon else contextlib.nullcontext():
            ran = await world.vmwatch("test")
        assert ran.status == 1
        results = dict(line[2:].split(": ", 1) for line in ran.out.splitlines())
        assert results == {"hook": "sent", "mail": "sent", "no": "HTTP 403", "hang": "no answer within 1s"}
        assert titles(hook) == ["Test from vmwatch"]
        assert len(mail.record) == 1
        good = await world.vmwatch("test", "mail", "hook", "--json")
        assert good.status == 0
        assert {one["channel"]: one["state"] for one in good.json} == {"mail": "sent", "hook": "sent"}
        assert [keys(one) for one in good.json] == [DELIVERY_KEYS] * 2
    if not with_daemon:
        assert not world.logins("home")


# ---- simulate ----


async def test_the_simulated_operator_can_be_steered_from_outside(world: World, hook: Webhook) -> None:
    async with world.started("simulate", "--port", "0") as simulate:
        await until(simulate.has_said("_simulator/messages\n"))
        base_url = re.search(r"http://127\.0\.0\.1:\d+", simulate.said())
        assert base_url is not None
        async with aiohttp.ClientSession(base_url[0]) as session:
            steering = {"number": "+4571919998", "name": "Andersine", "caller": "+4520305071", "length": 12}
            async with session.post("/_simulator/messages", json=steering) as answer:
                assert answer.status == 200
            world.config["operator"]["base_url"] = base_url[0]
            world.config["lines.home"] = {"number": "+4571919998", "pin": "1234"}
            world.channel("phone", hook.url)
            assert (await world.vmwatch("poll")).out == "home: ok, 2 new\n"
            async with session.get("/_simulator/log") as answer:
                assert len((await answer.json())["logins"]) == 1
        taken = await world.vmwatch("simulate", "--port", base_url[0].rpartition(":")[2])
        assert taken.status == 1
        assert "can't be listened on: Address already in use\n" in taken.err
        await simulate.stop(signal.SIGINT)


# ---- nobody is held up, nothing is left behind ----


async def test_verbs_leave_no_half_transaction_and_no_lock(world: World, hook: Webhook) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    await world.vmwatch("poll")
    verbs = (("status",), ("poll",), ("pause", "home"), ("resume", "home"), ("outbox", "retry"), ("test",))
    for ran in await asyncio.gather(*(world.vmwatch(*verb) for verb in verbs * 2)):
        assert ran.status in (0, 1), ran.err
    with contextlib.closing(sqlite3.connect(world.store, timeout=0)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert by_name((await world.look())["lines"])["home"]["state"] in ("ok", "paused")
