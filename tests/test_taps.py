"""Links in alerts, followed: looking shows, the button does it, and what is forged or too old does nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ledgers import polled
from pages import TOKEN, Window, change, content
from pydantic import SecretStr
from receivers import Webhook
from values import NUMBER
from visitors import Reply, ask
from world import World, bench_in, settings_of, until

from vmwatch import settings, wishes
from vmwatch.ledger import Ledger, MessageView
from vmwatch.links import LASTS, path
from vmwatch.models import HOUR, MINUTE, SECOND, Act
from vmwatch.simulator import Simulator

HOST = "vm.example.com"
PUBLIC = settings.Web(listen="127.0.0.1:0", token=SecretStr(TOKEN), public_url=f"https://{HOST}/home")
ASKS = {Act.ACK: "Acknowledge this voicemail?", Act.SNOOZE: "Snooze this voicemail?"}


@pytest.fixture
async def window(store: Path, ledger: Ledger) -> AsyncIterator[Window]:
    """Where everything else wants the token."""
    async with Window(store, ledger) as found:
        await polled(ledger, "a")
        await found.use(PUBLIC)
        yield found


async def link(window: Window, ledger: Ledger, act: Act = Act.ACK, id_: str = "a", lasts: int = LASTS) -> str:
    return path(act, NUMBER, id_, window.clock.now() + lasts, await ledger.keys.made())


async def look(window: Window, target: str, method: str = "GET", host: str = HOST, **headers: str) -> Reply:
    assert window.port is not None
    return await ask(window.port, target, method, host=host, **headers)


async def message(ledger: Ledger) -> MessageView:
    (found,) = await ledger.messages.with_id("a")
    return found


@pytest.mark.parametrize("act", Act)
async def test_looking_shows_what_the_button_will_do_and_changes_nothing(
    window: Window, ledger: Ledger, store: Path, act: Act
) -> None:
    target = await link(window, ledger, act)
    before = content(store)
    for method in ("GET", "HEAD", "GET", "GET"):
        shown = await look(window, target, method)
        assert shown.status == 200
        if method == "HEAD":
            assert shown.body == b""
            continue
        assert ASKS[act] in shown.text
        assert shown.text.count("<form") == shown.text.count("<button") == 1
        assert '<form method="post">' in shown.text, "to itself, whatever a proxy calls it"
    assert content(store) == before
    assert window.rung == 0


async def test_the_line_and_the_time_are_shown_and_nothing_of_the_caller(
    window: Window, ledger: Ledger, store: Path
) -> None:
    change(store, "UPDATE message SET caller = '+4520304050', caller_name = 'Donald <b>Duck'")
    change(store, "UPDATE line SET label = '<i>Hjemme'")
    shown = (await look(window, await link(window, ledger))).text
    assert re.search(r"<p>&lt;i&gt;Hjemme, received \w+ \d+ \w+ \d{4} \d\d:\d\d UTC</p>", shown)
    assert not re.search("Donald|Duck|20304050|20 30 40 50", shown)
    assert NUMBER not in shown
    assert "home" not in shown, "nor the line's name, nor the public URL"


async def test_the_button_acknowledges_once(window: Window, ledger: Ledger, store: Path) -> None:
    target = await link(window, ledger)
    done = await look(window, target, "POST")
    assert done.status == 200
    assert "Acknowledged. Nobody is reminded of it any more." in done.text
    assert (await message(ledger)).acked_at is not None
    assert window.rung == 1, "the daemon looks at once"
    before = content(store)
    for method in ("POST", "GET"):
        again = await look(window, target, method)
        assert again.status == 200
        assert "It was acknowledged already: " in again.text
        assert "<form" not in again.text
    assert (content(store), window.rung) == (before, 1)


async def test_the_button_snoozes_for_an_hour_and_again_when_that_is_over(
    window: Window, ledger: Ledger, store: Path
) -> None:
    target = await link(window, ledger, Act.SNOOZE)
    assert "Snoozed until " in (await look(window, target, "POST")).text
    until_ = (await message(ledger)).snoozed_until
    assert until_ is not None
    assert abs(until_ - window.clock.now() - HOUR) < MINUTE
    assert "It is snoozed already, until " in (await look(window, target, "POST")).text
    assert (await message(ledger)).snoozed_until == until_
    assert ASKS[Act.ACK] in (await look(window, await link(window, ledger))).text, "that is another thing"
    change(store, "UPDATE message SET snoozed_until = ?", window.clock.now() - SECOND)
    assert "Snoozed until " in (await look(window, target, "POST")).text


async def test_an_older_link_does_not_undo_what_somebody_acknowledged(
    window: Window, ledger: Ledger, store: Path
) -> None:
    await look(window, await link(window, ledger), "POST")
    before = content(store)
    late = await look(window, await link(window, ledger, Act.SNOOZE), "POST")
    assert "It was acknowledged already: " in late.text
    assert content(store) == before


async def test_who_snoozes_while_somebody_else_acknowledges_does_not_undo_that(
    window: Window, ledger: Ledger, store: Path
) -> None:
    seen = await message(ledger)
    await look(window, await link(window, ledger), "POST")
    before = content(store)
    hour, now = window.clock.now() + HOUR, window.clock.now
    (found,) = await wishes.snooze(ledger, [seen], hour, now)
    assert found.acked_at is not None
    assert content(store) == before
    (found,) = await wishes.snooze(ledger, [found], hour, now)
    assert (found.acked_at, found.snoozed_until) == (None, hour), "who knows of it may"


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("UPDATE message SET left_new_at = 1", "This voicemail is no longer new: somebody has probably heard it."),
        ("DELETE FROM message", "This voicemail is not known any more."),
        ("UPDATE message SET id = 'b'", "This voicemail is not known any more."),
        ("UPDATE message SET number = '+4571919990'", "This voicemail is not known any more."),
    ],
)
async def test_what_was_heard_or_is_gone_is_told(
    window: Window, ledger: Ledger, store: Path, sql: str, words: str
) -> None:
    target = await link(window, ledger)
    change(store, sql)
    before = content(store)
    for method in ("GET", "POST"):
        told = await look(window, target, method)
        assert told.status == 410
        assert words.replace("'", "&#39;") in told.text
    assert content(store) == before


async def test_no_reminder_is_promised_of_what_is_followed_by_nobody(
    window: Window, ledger: Ledger, store: Path
) -> None:
    """A muted voicemail that a person had sent all the same has links, too."""
    change(store, "UPDATE message SET alert_id = NULL")
    target, before = await link(window, ledger, Act.SNOOZE), content(store)
    for method in ("GET", "POST"):
        told = await look(window, target, method)
        assert "Nobody is reminded of this voicemail, for it was sent only because a person asked for it." in told.text
        assert (told.status, "<form" in told.text) == (410, False)
    assert content(store) == before
    assert "Acknowledged." in (await look(window, await link(window, ledger), "POST")).text


async def test_of_two_lines_with_the_same_id_the_right_one_is_meant(
    window: Window, ledger: Ledger, store: Path
) -> None:
    other = "+4571919000"  # before the right one, as it is read
    for table in ("line", "message"):
        names = [row[1] for row in await ledger._engine.read(f"PRAGMA table_info({table})")]
        copied = ", ".join(f"'{other}'" if name == "number" else name for name in names)
        change(store, f"INSERT INTO {table} SELECT {copied} FROM {table} WHERE number = ?", NUMBER)
    await look(window, await link(window, ledger), "POST")
    assert [(one.number, one.acked_at is not None) for one in await ledger.messages.with_id("a")] == [
        (other, False),
        (NUMBER, True),
    ]


# ---- what is refused ----


async def test_what_is_not_whole_ours_and_for_this_does_nothing(window: Window, ledger: Ledger, store: Path) -> None:
    target, now = await link(window, ledger), window.clock.now()
    signature = target.partition(".")[2]
    foreign = {
        "another act": target.replace("/ack/", "/snooze/"),
        "another key": path(Act.ACK, NUMBER, "a", now + LASTS, bytes(32)),
        "no key": path(Act.ACK, NUMBER, "a", now + LASTS, b""),
        "another message": f"{path(Act.ACK, NUMBER, 'b', now + LASTS, bytes(32)).partition('.')[0]}.{signature}",
        "cut": target[:-1],
        "longer": f"{target}a",
        "capitals": target.upper().replace("/ACK/", "/ack/"),
        "no signature": target.partition(".")[0],
        "a sample": "/ack/sample",
        "nothing": "/ack/",
        "long": f"/ack/{'a' * 1900}.{signature}",
        "percents": f"/ack/%00%ff{target[5:]}",
        "folders": f"/ack/../{target}",
    }
    before = content(store)
    for what, forged in foreign.items():
        for method in ("GET", "POST"):
            refused = await look(window, forged, method)
            assert refused.status == 403, what
            assert "This link is not one of vmwatch&#39;s, or a part of it is missing." in refused.text
            assert "<form" not in refused.text
    assert content(store) == before
    assert window.rung == 0


async def test_a_link_whose_time_is_over_does_nothing(window: Window, ledger: Ledger, store: Path) -> None:
    target = await link(window, ledger, lasts=-SECOND)
    before = content(store)
    for method in ("GET", "POST"):
        refused = await look(window, target, method)
        assert refused.status == 410
        assert "This link is too old" in refused.text
    assert content(store) == before


async def test_before_any_link_was_made_there_is_no_key_and_none_is_accepted(window: Window, store: Path) -> None:
    target = path(Act.ACK, NUMBER, "a", window.clock.now() + LASTS, b"")
    before = content(store)
    assert (await look(window, target, "POST")).status == 403
    assert content(store) == before


async def test_a_link_opens_nothing_else(window: Window, ledger: Ledger) -> None:
    target = await link(window, ledger)
    opened = await look(window, target)
    assert opened.status == 200
    assert "set-cookie" not in opened.headers
    for other in ("/", "/api/messages", f"{target}/../api/messages", "/act/ack"):
        assert (await look(window, other)).status in (401, 403)
    assert (await look(window, "/api/messages", Authorization=f"Bearer {target}")).status == 401


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_looking_and_pressing_is_answered(window: Window, ledger: Ledger, store: Path, method: str) -> None:
    target = await link(window, ledger)
    before = content(store)
    refused = await look(window, target, method)
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    assert content(store) == before


async def test_a_body_is_looked_at_by_nobody_and_huge_ones_end(window: Window, ledger: Ledger) -> None:
    assert window.port is not None
    target = await link(window, ledger)
    assert (await ask(window.port, target, "GET", host=HOST, body=b"x")).status == 413
    assert (await ask(window.port, target, "POST", host=HOST, body=b"\xff" * 20_000_000)).status == 200


async def test_it_is_asked_by_its_public_name_alone(window: Window, ledger: Ledger, store: Path) -> None:
    target = await link(window, ledger)
    before = content(store)
    assert (await look(window, target, "POST", host="other.example.com")).status == 403
    assert content(store) == before
    assert (await look(window, target, host=f"{HOST.upper()}:443")).status == 200
    assert (await look(window, "/healthz", host=HOST, Authorization=f"Bearer {TOKEN}")).status == 200


async def test_without_a_public_url_no_link_is_followed(window: Window, ledger: Ledger, store: Path) -> None:
    target = await link(window, ledger)
    before = content(store)
    await window.use(PUBLIC.model_copy(update={"public_url": ""}))
    assert (await look(window, target, "POST", host="127.0.0.1")).status == 401
    await window.use(settings.Web(listen=PUBLIC.listen))
    assert (await look(window, target, "POST", host="127.0.0.1")).status == 404
    assert content(store) == before


async def test_another_site_can_press_no_button_that_it_has_no_link_for(
    window: Window, ledger: Ledger, store: Path
) -> None:
    await link(window, ledger)
    before = content(store)
    crossed = {"Origin": "https://other.example.com", "Sec_Fetch_Site": "cross-site"}
    assert (await look(window, "/ack/aaaaaaaa.bbbb", "POST", **crossed)).status == 403
    assert content(store) == before


@pytest.mark.parametrize("target", ["", "/ack/sample"])
async def test_nobody_keeps_it_frames_it_or_learns_of_it(window: Window, ledger: Ledger, target: str) -> None:
    headers = (await look(window, target or await link(window, ledger))).headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")


async def test_it_is_said_in_the_browser_s_language(window: Window, ledger: Ledger) -> None:
    target = await link(window, ledger)
    asked = await look(window, target, Accept_Language="da-DK, en;q=0.5")
    assert '<html lang="da">' in asked.text
    assert "Kvittere for denne talebesked?" in asked.text
    assert "Der er kvitteret." in (await look(window, target, "POST", Accept_Language="da")).text
    assert "Dette link er ikke" in (await look(window, "/ack/sample", Accept_Language="da")).text


async def test_everything_on_it_is_seen_from_where_it_is(window: Window, ledger: Ledger) -> None:
    """A proxy may have it in a folder."""
    shown = (await look(window, await link(window, ledger))).text
    assert re.findall(r'(?:href|src|action)="([^"]*)"', shown) == ["../icon.svg", "../page.css"]
    assert (await look(window, "/page.css")).status == 200, "which strangers may read"


async def test_a_store_that_is_away_is_told_without_its_name(window: Window, ledger: Ledger, store: Path) -> None:
    target = await link(window, ledger)
    change(store, "ALTER TABLE message RENAME TO away")
    told = await look(window, target, "POST")
    assert told.status == 503
    assert "vmwatch can&#39;t do that just now." in told.text
    assert str(store) not in told.text
    change(store, "ALTER TABLE away RENAME TO message")


# ---- from the alert to the ledger ----


def links_in(body: str) -> list[str]:
    return re.findall(rf"https://{HOST}/vm(/(?:ack|snooze)/[a-z2-7]+\.[a-z2-7]+)", body)


async def messages(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.vmwatch("messages", "--json")).json
    return found


@pytest.mark.parametrize("pressed", [True, False])
async def test_who_acknowledged_by_a_link_is_not_reminded(tmp_path: Path, hook: Webhook, pressed: bool) -> None:
    async with Simulator() as operator:
        public = settings.Web(listen="127.0.0.1:0", public_url=f"https://{HOST}/vm")
        wanted = settings_of(operator, {"phone": hook.url}, web=public.model_dump(), polling={"first_poll": "each"})
        line = wanted.lines["line0"].model_copy(update={"remind": (settings.Reminder(after=30 * MINUTE),)})
        async with bench_in(tmp_path, wanted.model_copy(update={"lines": {"line0": line}})) as bench:
            operator.leave(line.number)
            await bench.poll()
            await bench.deliver()
            (request,) = await hook.heard(1)
            if pressed:
                async with Window(tmp_path / "vmwatch.db", bench.ledger) as window:
                    await window.use(public)
                    assert (await look(window, links_in(request.body["message"])[0], "POST")).status == 200
            for _ in range(35):
                await bench.poll(MINUTE)
                await bench.follow()
                await bench.deliver()
            assert len(hook.record) == (1 if pressed else 2)


async def test_an_alert_s_link_acknowledges_and_no_reminder_comes(world: World, hook: Webhook) -> None:
    home = world.line("home", interval="1s", remind=["1m"])
    world.channel("phone", hook.url)
    world.channel("tap", f"ntfy://127.0.0.1:{hook.port}/topic", privacy="minimal")
    world.config["web"] = {"listen": "127.0.0.1:0", "token": TOKEN, "public_url": f"https://{HOST}/vm/"}
    async with world.running("run", "--log-level", "debug") as daemon:
        await until(world.state_is("home", "ok"))
        world.operator.leave(home, caller="+4520304050", name="Donald Duck")
        sent = await hook.heard(2)
        (json,) = [one.body["message"] for one in sent if "topic" not in one.body]
        (actions,) = [one.headers["X-Actions"] for one in sent if "topic" in one.body]
        ack, snooze = links_in(json)
        assert json.splitlines()[-2:] == [
            f"Acknowledge: https://{HOST}/vm{ack}",
            f"Snooze 1 h: https://{HOST}/vm{snooze}",
        ]
        url = rf"https://{HOST}/vm"
        assert re.fullmatch(rf"view, Acknowledge, {url}/ack/\S+; view, Snooze 1 h, {url}/snooze/\S+", actions)
        port = int(re.findall(r"answering on http://\S+:(\d+)", daemon.said())[-1])
        for _ in range(3):
            shown = await ask(port, ack, host=HOST)
            assert (shown.status, "Donald" in shown.text) == (200, False)
        assert [one["acked_at"] for one in await messages(world)] == [None]
        assert world.sql("SELECT message, due FROM follow_up") == [(one["id"], "step") for one in await messages(world)]
        assert (await ask(port, ack, "POST", host=HOST)).status == 200
        assert [one["acked_at"] is None for one in await messages(world)] == [False]
        assert world.sql("SELECT * FROM follow_up") == []
        await until(world.polled("home", 3))
        assert [one["kind"] for one in await world.outbox()] == ["voicemail.new", "voicemail.new"]
        for secret in (*links_in(json), *(one.partition(".")[2] for one in links_in(json))):
            assert secret not in daemon.said()


async def test_a_reminder_has_links_of_its_own(world: World, hook: Webhook) -> None:
    home = world.line("home", interval="1s", remind=["1m"])
    world.channel("phone", hook.url)
    world.config["web"] = {"listen": "127.0.0.1:0", "public_url": f"https://{HOST}/vm"}
    async with world.running():
        await until(world.state_is("home", "ok"))
        world.operator.leave(home)
        await hook.heard(1)
        await until(lambda: world.sql("SELECT due FROM follow_up") == [("step",)])
        world.sql(f"UPDATE follow_up SET alerted_at = alerted_at - {MINUTE}, done_until = 0, at = at - {MINUTE}")
        bodies = [one.body["message"] for one in await hook.heard(2)]
    assert [len(links_in(body)) for body in bodies] == [2, 2]


async def test_without_a_public_url_alerts_have_no_links_and_no_key_is_made(world: World, hook: Webhook) -> None:
    home = world.line("home")
    world.channel("phone", hook.url)
    world.config["polling"]["first_poll"] = "each"
    world.operator.leave(home)
    assert (await world.vmwatch("poll")).status == 0
    (request,) = await hook.heard(1)
    assert "http" not in request.body["message"]
    assert world.sql("SELECT key FROM meta WHERE key = 'links'") == []


async def test_what_cron_polls_has_links_too_and_a_backup_keeps_them_good(world: World, hook: Webhook) -> None:
    home = world.line("home")
    world.channel("phone", hook.url)
    world.config["polling"]["first_poll"] = "each"
    world.config["web"] = {"listen": "127.0.0.1:0", "public_url": f"https://{HOST}/vm"}
    world.operator.leave(home)
    assert (await world.vmwatch("poll")).status == 0
    (request,) = await hook.heard(1)
    ack, _ = links_in(request.body["message"])
    assert (await world.vmwatch("backup", "copy")).status == 0
    world.store.unlink()
    assert (await world.vmwatch("restore", "copy")).status == 0
    async with world.running() as daemon:
        port = int(re.findall(r"answering on http://\S+:(\d+)", daemon.said())[-1])
        assert (await ask(port, ack, "POST", host=HOST)).status == 200
    assert [one["acked_at"] is None for one in await messages(world)] == [False]


async def test_a_backup_of_before_there_was_a_key_does_not_end_the_links_that_were_sent(
    world: World, hook: Webhook
) -> None:
    world.line("home")
    world.channel("phone", hook.url)
    assert (await world.vmwatch("poll")).status == 0
    assert (await world.vmwatch("backup", "copy")).status == 0
    world.config["web"] = {"listen": "127.0.0.1:0", "public_url": f"https://{HOST}/vm"}
    assert (await world.vmwatch("poll")).status == 0
    (key,) = world.sql("SELECT value FROM meta WHERE key = 'links'")
    assert (await world.vmwatch("restore", "copy")).status == 0
    assert world.sql("SELECT value FROM meta WHERE key = 'links'") == [key]
