"""The page's buttons: they do what the command line's verbs do, for those only who pressed them on our own page."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ledgers import adopted, line, outbox, polled
from pages import ANYWHERE, FORM, TOKEN, WITH_TOKEN, Window, change, content, key_of, live_page, posted
from receivers import Webhook
from values import NUMBER, locked, rejected, trusted
from visitors import PATIENCE_S, ask, send
from world import World, until

from vmwatch.ledger import Ledger
from vmwatch.models import FOREVER, HOUR, SECOND, DeliveryState, Kind, LineState
from vmwatch.web import listener

MESSAGES = ("/act/ack", "/act/snooze-an-hour")
ACTS = ("/act/poll", "/act/pause", "/act/pause-an-hour", "/act/resume", "/act/retry", "/act/test", *MESSAGES)
FORMS = (*ACTS, "/login", "/logout")


@pytest.fixture
async def window(store: Path, ledger: Ledger) -> AsyncIterator[Window]:
    async with Window(store, ledger) as found:
        await found.use(ANYWHERE)
        yield found


# ---- what they do ----


async def test_poll_now_asks_for_the_line_and_says_so(window: Window, ledger: Ledger) -> None:
    await adopted(ledger, trusted(next_poll_at=FOREVER))
    answer = await window.post("/act/poll", line="home")
    assert (answer.status, answer.headers["location"]) == (303, "/?told=asked&of=home")
    after = await line(ledger)
    assert after.asked_at is not None
    assert after.next_poll_at == after.asked_at
    assert window.rung == 1, "the daemon looks at once"
    assert "home: will be polled now" in (await window.get(answer.headers["location"])).text


async def test_a_line_that_must_not_be_polled_is_not_and_the_page_says_why(window: Window, ledger: Ledger) -> None:
    await adopted(ledger, locked(next_poll_at=FOREVER - 1))
    before = await line(ledger)
    answer = await window.post("/act/poll", line="home")
    assert answer.headers["location"] == "/?told=not-polled&of=home&why=pin_locked"
    assert await line(ledger) == before
    said = (await window.get(answer.headers["location"])).text
    assert "home: not polled, the operator locked the login after too many wrong PINs" in said


async def test_a_pause_lasts_an_hour_or_until_somebody_resumes(window: Window, ledger: Ledger) -> None:
    await window.post("/act/pause-an-hour", line="home")
    until_ = (await line(ledger)).paused_until
    assert until_ is not None
    assert abs(until_ - window.clock.now() - HOUR) < 60 * SECOND
    await window.post("/act/pause", line=NUMBER)
    assert (await line(ledger)).paused_until == FOREVER
    assert "paused by a person" in (await window.get()).text, "without waiting for what was kept to grow old"
    await window.post("/act/resume", line="home")
    assert (await line(ledger)).paused_until is None


async def test_resume_allows_a_rejected_line_one_more_try(window: Window, ledger: Ledger) -> None:
    await adopted(ledger, rejected())
    await window.post("/act/resume", line="home")
    assert ((await line(ledger)).state, (await line(ledger)).trusted) == (LineState.WAITING, False)


async def test_what_is_dead_is_sent_again_one_or_all(window: Window, ledger: Ledger, store: Path) -> None:
    await polled(ledger, "a")
    change(store, "UPDATE delivery SET state = 'dead', next_attempt_at = NULL")
    first, second = await outbox(ledger)
    one = await window.post("/act/retry", delivery=str(first.id))
    assert one.headers["location"] == "/?told=retried&of=1"
    assert [owed.state for owed in await outbox(ledger)] == [DeliveryState.PENDING, DeliveryState.DEAD]
    await window.post("/act/retry", delivery="all")
    assert [owed.state for owed in await outbox(ledger)] == [DeliveryState.PENDING, DeliveryState.PENDING]
    assert second.id != first.id
    nothing = await window.post("/act/retry", delivery="all")
    assert nothing.headers["location"] == "/?told=nothing-to-retry"


async def test_a_test_is_owed_to_one_channel(window: Window, ledger: Ledger) -> None:
    answer = await window.post("/act/test", channel="mail")
    assert answer.headers["location"] == "/?told=tested&of=mail"
    assert [(owed.kind, owed.channel) for owed in await outbox(ledger)] == [(Kind.TEST, "mail")]


async def test_a_voicemail_is_acknowledged_or_snoozed_and_its_row_says_so(window: Window, ledger: Ledger) -> None:
    await polled(ledger, "a")
    await polled(ledger, "a", "b")
    snoozed = await window.post("/act/snooze-an-hour", message=f"{NUMBER} a")
    assert snoozed.headers["location"] == "/?told=snoozed-an-hour&of=home"
    (a,), (b,) = await ledger.messages.with_id("a"), await ledger.messages.with_id("b")
    assert a.snoozed_until is not None
    assert abs(a.snoozed_until - window.clock.now() - HOUR) < 60 * SECOND
    assert (b.snoozed_until, window.rung) == (None, 1)
    page = (await window.get(snoozed.headers["location"])).text
    assert "home: the voicemail is snoozed for an hour" in page
    assert "snoozed until <time" in page
    assert acts_of(page, "a") == list(MESSAGES), "it may be acknowledged after all, or snoozed for longer"
    acked = await window.post("/act/ack", message=f"{NUMBER} a")
    assert acked.headers["location"] == "/?told=acknowledged&of=home"
    (a,), (b,) = await ledger.messages.with_id("a"), await ledger.messages.with_id("b")
    assert (a.acked_at is not None, a.snoozed_until, b.acked_at) == (True, None, None)
    page = (await window.get()).text
    assert "acknowledged <time" in page
    assert "snoozed until" not in page
    assert (acts_of(page, "a"), acts_of(page, "b")) == ([], list(MESSAGES))
    assert "kvitteret <time" in (await window.get("/?lang=da")).text


async def test_a_snooze_that_is_over_is_not_shown(window: Window, ledger: Ledger, store: Path) -> None:
    await polled(ledger, "a")
    change(store, "UPDATE message SET snoozed_until = ?, alert_id = 1", window.clock.now() - SECOND)
    page = (await window.get()).text
    assert "snoozed until" not in page
    assert acts_of(page, "a") == list(MESSAGES)


@pytest.mark.parametrize("column", ["left_new_at = 1", "alert_id = NULL"], ids=["heard", "not announced"])
async def test_what_was_heard_or_not_announced_has_no_buttons(
    window: Window, ledger: Ledger, store: Path, column: str
) -> None:
    await polled(ledger, "a")
    change(store, f"UPDATE message SET {column}")
    assert acts_of((await window.get()).text, "a") == []


@pytest.mark.parametrize("path", MESSAGES)
async def test_who_presses_too_late_is_told_that_it_was_heard(
    window: Window, ledger: Ledger, store: Path, path: str
) -> None:
    await polled(ledger, "a")
    change(store, "UPDATE message SET left_new_at = 1")
    before = content(store)
    answer = await window.post(path, message=f"{NUMBER} a")
    assert answer.headers["location"] == "/?told=not-new&of=home"
    assert "home: the voicemail is no longer new" in (await window.get(answer.headers["location"])).text
    assert content(store) == before


def acts_of(page: str, id_: str) -> list[str]:
    return re.findall(rf'formaction="([^"]*)" name="message" value="\{NUMBER} {id_}"', page)


@pytest.mark.parametrize(
    "query",
    ["told=nonsense&of=x", "of=x", "told=asked&of=%3Cscript%3Ealert(1)%3C/script%3E", "told=not-polled&why=nonsense"],
)
async def test_what_an_address_says_was_done_is_only_text(window: Window, query: str) -> None:
    answer = await window.get(f"/?{query}")
    assert answer.status == 200
    assert "<script>" not in answer.text


# ---- what is refused ----


async def test_only_our_own_page_s_forms_are_followed(window: Window, ledger: Ledger, store: Path) -> None:
    key, before = await window.key(), content(store)
    for path in ACTS:
        for given, status in [
            ({}, 403),
            ({"form_key": ""}, 403),
            ({"form_key": "0" * 64}, 403),
            ({"form_key": key[:-1]}, 403),
        ]:
            body = "&".join([*(f"{name}={value}" for name, value in given.items()), "line=home"]).encode()
            assert (await posted(window.port, path, body)).status == status
    assert content(store) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://example.com"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1.example.com"},
        {"Origin": "file://127.0.0.1"},
        {"Origin": "http://[::1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "cross-site", "Origin": ""},
    ],
)
async def test_what_another_site_sends_is_refused_even_with_the_key(
    window: Window, store: Path, headers: dict[str, str]
) -> None:
    key, before = await window.key(), content(store)
    refused = await posted(window.port, "/act/pause", f"form_key={key}&line=home".encode(), **headers)
    assert (refused.status, list(refused.json)) == (403, ["error"])
    assert content(store) == before


async def test_an_older_browser_that_says_nothing_of_where_it_is_from_still_needs_the_key(window: Window) -> None:
    key = await window.key()
    silent = {"Origin": "", "Sec_Fetch_Site": ""}
    assert (await posted(window.port, "/act/pause", f"form_key={key}&line=home".encode(), **silent)).status == 303
    assert (await posted(window.port, "/act/pause", b"line=home", **silent)).status == 403


async def test_a_server_in_front_may_have_a_name_of_its_own(window: Window) -> None:
    await window.use(ANYWHERE.model_copy(update={"hosts": ("status.example.com",)}))
    body = f"form_key={await window.key()}&line=home".encode()
    assert (await posted(window.port, "/act/pause", body, Origin="https://status.example.com")).status == 303
    assert (await posted(window.port, "/act/pause", body, Origin="https://other.example.com")).status == 403


async def test_the_key_of_another_login_or_another_process_is_none(window: Window, store: Path, ledger: Ledger) -> None:
    async with Window(store, ledger) as other:
        await other.use(ANYWHERE)
        assert (await window.post("/act/pause", key=await other.key(), line="home")).status == 403
    before = await window.key()
    await window.use(WITH_TOKEN)
    login = await posted(window.port, "/login", f"token={TOKEN}".encode())
    cookie = login.headers["set-cookie"].partition(";")[0]
    body = f"form_key={before}&line=home".encode()
    assert (await posted(window.port, "/act/pause", body, Cookie=cookie)).status == 403
    own = f"form_key={await window.key(Cookie=cookie)}&line=home".encode()
    assert (await posted(window.port, "/act/pause", own, Cookie=cookie)).status == 303
    assert (await posted(window.port, "/act/pause", own)).status == 401


@pytest.mark.parametrize(
    ("path", "fields", "sentence"),
    [
        ("/act/poll", {"line": "nobody"}, "nobody: there is no such line; the lines are home"),
        ("/act/pause", {"line": "nobody"}, "nobody: there is no such line; the lines are home"),
        ("/act/resume", {"line": "../home"}, "../home: there is no such line; the lines are home"),
        ("/act/poll", {}, "the form names no line"),
        ("/act/poll", {"line": ""}, "the form names no line"),
        ("/act/retry", {"delivery": "x"}, "there is no such delivery"),
        ("/act/retry", {"delivery": "-1"}, "there is no such delivery"),
        ("/act/retry", {"delivery": "9" * 30}, "there is no such delivery"),
        ("/act/test", {"channel": "nobody"}, "there is no such channel; the channels are mail, phone"),
        ("/act/ack", {}, "the form names no message"),
        ("/act/ack", {"message": NUMBER}, "there is no such message"),
        ("/act/ack", {"message": "a"}, "there is no such message"),
        ("/act/ack", {"message": f"{NUMBER} b"}, "there is no such message"),
        ("/act/snooze-an-hour", {"message": "+4571919990 a"}, "there is no such message"),
    ],
)
async def test_what_is_not_there_is_refused_in_a_sentence(
    window: Window, ledger: Ledger, store: Path, path: str, fields: dict[str, str], sentence: str
) -> None:
    await polled(ledger, "a")
    before = content(store)
    refused = await window.post(path, **fields)
    assert (refused.status, refused.json) == (400, {"error": sentence})
    assert content(store) == before
    assert window.rung == 0


async def test_a_delivery_that_is_not_there_is_not_sent_again(window: Window, store: Path) -> None:
    before = content(store)
    assert (await window.post("/act/retry", delivery="4711")).headers["location"] == "/?told=nothing-to-retry"
    assert content(store) == before


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_buttons_are_pressed_by_post_only(window: Window, store: Path, path: str, method: str) -> None:
    assert window.port is not None
    key, before = await window.key(), content(store)
    refused = await ask(window.port, f"{path}?form_key={key}&line=home", method, Content_Type=FORM)
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert content(store) == before


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * 5000, {}, 413),
        (b"x" * 20_000_000, {}, 413),
        (b"&".join([b"a=b"] * 11), {}, 400),
        (b"line=home&line=home", {}, 400),
        (b"line=\xff\xfe", {}, 400),
        (b'{"line": "home"}', {"Content_Type": "application/json"}, 415),
        (b"line=home", {"Content_Type": "text/plain"}, 415),
        (b"line=home", {"Content_Type": ""}, 415),
        (b"\x1f\x8b\x08\x00", {"Content_Encoding": "gzip"}, 400),
    ],
    ids=["long", "huge", "many", "twice", "no text", "JSON", "plain", "untyped", "zipped"],
)
async def test_bodies_that_no_form_has_are_refused(
    window: Window, store: Path, body: bytes, headers: dict[str, str], status: int
) -> None:
    before = content(store)
    assert (await posted(window.port, "/act/pause", body, **headers)).status == status
    assert content(store) == before


async def test_a_form_that_does_not_come_is_not_waited_for(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "BODY_S", 0.2)
    assert window.port is not None
    head = f"POST /act/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: 100\r\n\r\n"
    assert (await send(window.port, head.encode() + b"line=")).status == 408


async def test_a_browser_is_told_on_a_page(window: Window) -> None:
    refused = await posted(window.port, "/act/pause", b"line=home", Accept="text/html", Accept_Language="da")
    assert refused.status == 403
    assert "Intet blev gjort" in refused.text
    assert refused.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")


async def test_a_host_from_elsewhere_presses_nothing(window: Window, store: Path) -> None:
    assert window.port is not None
    key, before = await window.key(), content(store)
    body = f"form_key={key}&line=home".encode()
    refused = await ask(window.port, "/act/pause", "POST", host="example.com", body=body, Content_Type=FORM)
    assert refused.status == 403
    assert content(store) == before


# ---- in the daemon ----


@pytest.fixture
async def watched(world: World) -> World:
    world.config["web"] = {"listen": "127.0.0.1:0"}
    return world


def port_of(said: str) -> int:
    return int(re.findall(r"answering on http://\S+:(\d+)", said)[-1])


async def test_a_message_shows_itself_and_a_button_has_its_line_polled(watched: World, hook: Webhook) -> None:
    home = watched.line("home", interval="1h")
    watched.channel("phone", hook.url)
    async with watched.running() as daemon:
        await until(watched.state_is("home", "ok"))
        port = port_of(daemon.said())
        assert f"Its page: http://127.0.0.1:{port}" in (await watched.vmwatch("status")).out
        async with live_page(port) as page:
            await page.frame()
            watched.operator.leave(home, caller="+4520305071", name="Donald Duck")
            logins, key = len(watched.logins("home")), key_of(await ask(port, "/"))
            assert (await posted(port, "/act/poll", f"form_key={key}&line=home".encode())).status == 303
            await page.shows("Donald Duck")
            assert len(watched.logins("home")) == logins + 1
            await page.shows("phone: sent")
            assert (await posted(port, "/act/test", f"form_key={key}&channel=phone".encode())).status == 303
            await until(lambda: any("Test from vmwatch" in str(one) for one in hook.record))
            assert (await posted(port, "/act/pause", f"form_key={key}&line=home".encode())).status == 303
            await until(watched.state_is("home", "paused"))
            await page.shows("paused by a person")


async def test_a_refused_reload_shows_itself(watched: World, hook: Webhook) -> None:
    watched.line("home")
    watched.channel("phone", hook.url)
    async with watched.running() as daemon:
        async with live_page(port_of(daemon.said())) as page:
            await page.frame()
            watched.file.write_text("nonsense")
            daemon.send(signal.SIGHUP)
            await page.shows("vmwatch check")
        watched.write()


async def test_open_live_pages_hold_up_no_end(watched: World, hook: Webhook) -> None:
    watched.line("home")
    watched.channel("phone", hook.url)
    async with watched.running() as daemon, live_page(port_of(daemon.said())) as page:
        await page.frame()
        assert await daemon.stop() < PATIENCE_S / 2
        assert await page.ended() == b""


# ---- rooms ----


async def test_a_reader_that_is_too_slow_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    from vmwatch.web.asked import Answer, Request

    sent, ended = [0], asyncio.Event()

    async def endless() -> object:
        try:
            while True:
                sent[0] += 1
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            ended.set()

    async def tell(_: Request) -> Answer:
        return Answer(200, "text/event-stream", b"", stream=endless)  # type: ignore[arg-type]

    monkeypatch.setattr(listener, "SLOW_S", 0.3)
    one = await listener.Listener.open("127.0.0.1", 0, tell)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", one.port))
        reader.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(ended.wait(), 15)
    assert sent[0] < 40, "little is kept for who does not read"
    await one.close()


async def test_live_pages_have_a_room_of_their_own(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(listener, "MOST_STREAMS", 5)
    monkeypatch.setattr(listener, "LONGEST_S", 2.0)
    monkeypatch.setattr(listener, "LOOK_S", 0.1)
    async with asyncio.TaskGroup() as tasks:
        enough = asyncio.Event()

        async def look() -> None:
            async with window.live() as page:
                await page.frame()
                await enough.wait()
                assert await page.frame()

        pages = [tasks.create_task(look()) for _ in range(5)]
        await until(lambda: len(window._listener._streaming) == 5)  # type: ignore[union-attr]
        assert (await window.get("/events")).status == 503
        assert (await window.get("/healthz")).status == 200
        await asyncio.sleep(4)
        assert not any(page.done() for page in pages), "they last"
        await window.post("/act/pause", line="home")
        enough.set()
    await until(lambda: not window._listener._streaming)  # type: ignore[union-attr]
