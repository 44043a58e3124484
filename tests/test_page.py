"""The page: what it shows, in whose words, to whom, and that it stays live."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ledgers import REFUSED, SENT, adopted, attempted, claimed, decided, polled
from pages import ANYWHERE, TOKEN, WITH_TOKEN, Window, change, posted
from values import NOW, NUMBER, OTHER, rejected, trusted

from vmwatch import settings
from vmwatch.book import Book
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import SECOND, Mailbox, Voicemail
from vmwatch.texts import ENGLISH
from vmwatch.web import Concerns, live
from vmwatch.web.needs import needs
from vmwatch.web.session import GUESSES, LASTS, Guesses, Session
from vmwatch.web.sight import see

HOSTILE = ["<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "{{ 7 * 7 }}", "&lt;b&gt;", "</title><b>"]


@pytest.fixture
async def window(store: Path, ledger: Ledger) -> AsyncIterator[Window]:
    async with Window(store, ledger) as found:
        await found.use(ANYWHERE)
        yield found


async def arrived(ledger: Ledger, *voicemails: Voicemail) -> None:
    answer = Mailbox(voicemails, new=len(voicemails), old=0, saved=0)
    decision = await decided(ledger, answer, first_poll="each")
    assert await ledger.lines.record(decision, NOW)


def called(name: str | None, caller: str | None = "+4599778822", id_: str = "a") -> Voicemail:
    return Voicemail(id=id_, caller=caller, caller_name=name, received_at=NOW, length=37)


class Elements(HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


# ---- what it shows ----


async def test_it_shows_lines_messages_channels_and_what_became_of_each_alert(window: Window, ledger: Ledger) -> None:
    await arrived(ledger, called("Donald Duck"))
    await attempted(ledger, await claimed(ledger, "phone"), SENT)
    await attempted(ledger, await claimed(ledger, "mail"), REFUSED)
    page = Elements((await window.get()).text)
    words = " ".join(page.text.split())
    for part in ("Home", "+45 71 91 99 98", "1 new", "Donald Duck", "+45 99 77 88 22", "0:37", "2024-01-01 00:00"):
        assert part in words
    assert "mail: waits, phone: sent 2024-01-01 00:00" in words
    assert [anchor["href"] for anchor in page.all("a") if (anchor["href"] or "").startswith("tel:")] == [
        "tel:+4599778822"
    ]


@pytest.mark.parametrize(
    ("statement", "shown", "not_shown"),
    [
        ("UPDATE message SET acked_at = 1", "new acknowledged", "snoozed"),
        ("UPDATE message SET snoozed_until = 4000000000000", "new snoozed until 2096", "acknowledged"),
        ("UPDATE message SET snoozed_until = 1", "new", "snoozed"),
        ("UPDATE delivery SET waits = 'quiet'", "phone: held by quiet hours", "phone: waits"),
        (
            "UPDATE delivery SET state = 'withdrawn', last_error = 'in digest 9'",
            "phone: told in a digest",
            "no longer needed",
        ),
    ],
)
async def test_what_a_person_put_off_or_a_channel_holds_is_shown_as_long_as_it_is_so(
    window: Window, ledger: Ledger, store: Path, statement: str, shown: str, not_shown: str
) -> None:
    await arrived(ledger, called("Donald Duck"))
    change(store, statement)
    words = " ".join(Elements((await window.get()).text).text.split())
    assert shown in words
    assert not_shown not in words


@pytest.mark.parametrize(
    ("caller", "dial"),
    [("+4599778822", True), ("99778822", False), ("javascript:alert(1)", False), ("+45 99 77", False), (None, False)],
)
async def test_only_a_number_can_be_called_back(window: Window, ledger: Ledger, caller: str, dial: bool) -> None:
    await arrived(ledger, called("Somebody", caller))
    assert ('href="tel:' in (await window.get()).text) is dial


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_hostile_names_stay_text(window: Window, ledger: Ledger, hostile: str) -> None:
    await adopted(ledger, trusted(label=hostile))
    plain = Elements((await window.get()).text)
    await arrived(ledger, called(hostile, hostile))
    await asyncio.sleep(live.TICK_S + 0.2)  # what is shown is kept for a moment
    page = Elements((await window.get()).text)
    assert page.text.count(hostile) >= 3
    assert {tag for tag, _ in page.found} <= {tag for tag, _ in plain.found} | {"bdi", "span", "rect"}
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]


async def test_a_name_with_line_breaks_forges_no_event(window: Window, ledger: Ledger) -> None:
    async with window.live() as page:
        await page.frame()
        await arrived(ledger, called("x\r\n\r\nevent: parts\ndata: {}\n\nretry: 1\u2028"))
        await page.shows("event: parts data: {} retry: 1")
    assert all(re.fullmatch(r"(retry: 3000\n)?event: parts\ndata: [^\n\r]+\n\n", frame) for frame in page.frames)


async def test_what_needs_somebody_comes_with_its_command(window: Window, ledger: Ledger) -> None:
    await adopted(ledger, rejected(), trusted(number=OTHER, name="work", label="Work"))
    window.concerns = Concerns("config.toml:3: no", "the disk is full", ("work",))
    page = Elements((await window.get()).text)
    for command in ("vmwatch resume home", "vmwatch check", "systemctl restart vmwatch"):
        assert command in page.text
    assert "the disk is full" in page.text
    assert "config.toml:3: no" in page.text


async def test_processes_that_are_configured_differently_need_somebody(ledger: Ledger) -> None:
    await adopted(ledger, trusted())
    sight = replace(await see(ledger, Clock(), Concerns), disagreements=("home: a/1 and b/2 differ in PIN",))
    (need,) = needs(sight, ENGLISH)
    assert "home: a/1 and b/2 differ in PIN" in need.what
    assert need.command == "vmwatch status"


async def test_voicemails_have_the_names_of_the_person_s_own_book(ledger: Ledger) -> None:
    await polled(ledger, "a")
    (view,) = await ledger.messages.listing(None, new_only=False, most=9)
    book = Book("DK", {view.voicemail.caller or "": "Freja"})
    assert view.voicemail.caller_name != "Freja"
    assert [one.voicemail.caller_name for one in (await see(ledger, Clock(), Concerns, book)).messages] == ["Freja"]


async def test_dead_alerts_and_failing_channels_need_somebody(window: Window, ledger: Ledger, store: Path) -> None:
    await polled(ledger, "a")
    change(store, "UPDATE delivery SET state = 'dead', last_error = 'HTTP 404' WHERE channel = 'phone'")
    change(store, "UPDATE channel SET state = 'failing', last_error = 'HTTP 404' WHERE name = 'phone'")
    text = Elements((await window.get()).text).text
    assert "1 alert was given up" in text
    assert "vmwatch outbox retry" in text
    assert "phone: alerts do not get through (HTTP 404)" in text
    assert "vmwatch test phone" in text


async def test_where_all_is_well_nothing_is_asked_of_anybody(window: Window, ledger: Ledger) -> None:
    await adopted(ledger, trusted())
    text = Elements((await window.get()).text).text
    assert "This needs you" not in text
    assert "All lines are well." in text


async def test_of_many_lines_those_in_trouble_come_first_and_the_rest_is_a_page_away(
    window: Window, ledger: Ledger
) -> None:
    numbers = [f"+45{70000000 + place}" for place in range(120)]
    lines = [trusted(number=number, name=f"l{number[3:]}", label=f"L{number[3:]}") for number in numbers[:-1]]
    await adopted(ledger, *lines, rejected(number=numbers[-1], name="last", label="Z"))
    names = [re.findall(r'id="line-(\w+)"', (await window.get(f"/?page={page}")).text) for page in (1, 2, 3, 4)]
    assert names[0][0] == "last"
    assert [len(found) for found in names] == [50, 50, 20, 20]
    assert len({name for found in names for name in found}) == 120
    assert "Page 1 of 3; lines in trouble come first." in (await window.get()).text


# ---- how it is made ----


async def test_nothing_comes_from_elsewhere_and_nothing_is_inline(window: Window, ledger: Ledger) -> None:
    await polled(ledger, "a")
    answer = await window.get()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": "'self'",
        "script-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    page = Elements(answer.text)
    for _, attributes in page.found:
        assert "style" not in attributes
        for name in ("src", "href", "action", "formaction"):
            assert (attributes.get(name) or "/").startswith(("/", "#", "tel:"))
            assert not (attributes.get(name) or "").startswith("//")
    assert [script["src"] for script in page.all("script")] == ["/page.js"]
    assert "style" not in dict(page.found)


@pytest.mark.parametrize("path", ["/page.css", "/page.js", "/icon.svg"])
async def test_files_are_sent_once_until_they_are_others(window: Window, path: str) -> None:
    await window.use(WITH_TOKEN)  # also to strangers: the login form wants them
    first = await window.get(path)
    assert (first.status, len(first.body) > 100, len(first.body) < 8000) == (200, True, True)
    again = await window.get(path, If_None_Match=f'"other", W/{first.headers["etag"]}')
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (await window.get(path, If_None_Match='"other"')).status == 200
    text = first.text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text)


async def test_it_is_read_by_those_who_don_t_see_it(window: Window, ledger: Ledger) -> None:
    await polled(ledger, "a")
    page = Elements((await window.get()).text)
    assert len(page.all("main")) == len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    heads = [one for one in page.all("th") if one.get("role") == "columnheader"]
    assert heads
    assert all(head["scope"] == "col" for head in heads)
    assert all(button.get("aria-label") for button in page.all("button"))
    assert {picture.get("role", "none") for picture in page.all("svg")} <= {"img", "none"}
    assert re.search(r"<title>Last 24 hours: [^<]+; 0 voicemails</title>", (await window.get()).text)


# ---- in which language ----


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("da", "da"),
        ("da-DK,da;q=0.9,en;q=0.8", "da"),
        ("en;q=0.4, da;q=0.5", "da"),
        ("en, da", "en"),
        ("fr, de;q=0.5", "en"),
        ("da;q=0", "en"),
        ("*", "en"),
        (";;;q=x,,da;q=nan", "en"),
    ],
)
async def test_it_speaks_the_browser_s_language(window: Window, accept: str, language: str) -> None:
    answer = await window.get(Accept_Language=accept)
    assert f'<html lang="{language}">' in answer.text
    assert ("Seneste talebeskeder" in answer.text) is (language == "da")


async def test_a_language_that_was_chosen_is_kept(window: Window) -> None:
    chosen = await window.get("/?lang=da")
    assert "Linjer" in chosen.text
    cookie = chosen.headers["set-cookie"]
    assert cookie.endswith("HttpOnly; SameSite=Strict")
    assert 'lang="da"' in (await window.get(Cookie=cookie.partition(";")[0], Accept_Language="en")).text
    assert 'lang="en"' in (await window.get(Cookie="vmwatch_language=../x")).text


@pytest.mark.parametrize("target", ["/?lang=xx", "/?page=0", "/?page=x", "/?page=1&page=2", "/?x=1", "/events?told=x"])
async def test_what_is_not_understood_is_refused(window: Window, target: str) -> None:
    answer = await window.get(target)
    assert (answer.status, list(answer.json)) == (400, ["error"])


# ---- who is let in ----


async def cookie_of(window: Window) -> str:
    answer = await posted(window.port, "/login", f"token={TOKEN}".encode())
    assert (answer.status, answer.headers["location"]) == (303, "/")
    return answer.headers["set-cookie"]


async def test_a_stranger_is_shown_a_login_form_and_nothing_else(window: Window, ledger: Ledger) -> None:
    await polled(ledger, "a")
    await window.use(WITH_TOKEN)
    for path, status in {"/": 401, "/events": 401, "/nowhere": 401}.items():
        answer = await window.get(path, Accept="text/html")
        assert answer.status == status
        assert 'action="/login"' in answer.text
        assert "Home" not in answer.text
        assert NUMBER not in answer.text
    assert (await window.get("/events")).json["error"].startswith("say who you are")
    assert (await window.get(Authorization=f"Bearer {TOKEN}")).status == 200


async def test_the_token_opens_the_page_by_a_cookie_that_is_not_the_token(window: Window) -> None:
    await window.use(WITH_TOKEN)
    cookie = await cookie_of(window)
    assert TOKEN not in cookie
    value, *attributes = cookie.split("; ")
    assert attributes == ["Path=/", f"Max-Age={LASTS // SECOND}", "HttpOnly", "SameSite=Strict"]
    page = await window.get(Cookie=value)
    assert page.status == 200
    assert 'formaction="/logout"' in page.text
    assert (await window.get("/api/status", Cookie=value)).status == 200
    assert TOKEN not in page.text
    over_tls = await posted(window.port, "/login", f"token={TOKEN}".encode(), Origin="https://127.0.0.1")
    assert over_tls.headers["set-cookie"].endswith("; Secure")


async def test_a_cookie_that_was_made_up_or_is_old_or_of_another_token_opens_nothing(window: Window) -> None:
    await window.use(WITH_TOKEN)
    value = (await cookie_of(window)).partition(";")[0]
    name, _, rest = value.partition("=")
    until, _, signature = rest.partition(".")
    for forged in (
        f"{int(until) + 1}.{signature}",
        f"{until}.{'0' * 64}",
        f"{until}.",
        "",
        f"{'9' * 5000}.{signature}",
        TOKEN,
    ):
        assert (await window.get(Cookie=f"{name}={forged}")).status == 401
    await window.use(WITH_TOKEN.model_copy(update={"hosts": ("status.example.com",)}))
    assert (await window.get(Cookie=value)).status == 200
    await window.use(settings.Web.model_validate({"listen": "127.0.0.1:0", "token": TOKEN + "x"}))
    assert (await window.get(Cookie=value)).status == 401


def test_a_login_ends_and_no_other_process_knows_it() -> None:
    session = Session(b"n" * 32, TOKEN)
    cookie = f"vmwatch={session.cookie(NOW)}"
    assert session.knows(cookie, NOW + LASTS - 1)
    assert not session.knows(cookie, NOW + LASTS)
    assert not Session(b"m" * 32, TOKEN).knows(cookie, NOW)
    assert not Session(b"n" * 32, None).knows(cookie, NOW)
    assert not session.knows(f"vmwatch={session.form_key(cookie)}", NOW)


async def test_a_wrong_token_is_refused_and_guessing_is_slowed(window: Window) -> None:
    await window.use(WITH_TOKEN)
    wrong = [TOKEN[:-1], TOKEN + "x", "", "\u00e6" * 20, "x" * 2000]
    assert len(wrong) == GUESSES
    for guess in wrong:
        answer = await posted(window.port, "/login", f"token={guess}".encode("ascii", "replace"))
        assert answer.status == 403
        assert "set-cookie" not in answer.headers
    slowed = await posted(window.port, "/login", f"token={TOKEN}".encode())
    assert (slowed.status, "Too many wrong tokens" in slowed.text) == (429, True)
    assert (await window.get(Authorization=f"Bearer {TOKEN}")).status == 200, "who knows it otherwise is not held up"


def test_guesses_are_few_at_once_and_then_one_in_ten_seconds() -> None:
    guesses = Guesses()
    made = 0
    for second in range(60):
        while not guesses.wait(NOW + second * SECOND):
            guesses.wrong()
            made += 1
    assert made == GUESSES + 5
    assert guesses.wait(NOW - 3600 * SECOND) <= 10, "a clock that was set back locks nobody out"


async def test_who_logs_out_is_out(window: Window) -> None:
    await window.use(WITH_TOKEN)
    value = (await cookie_of(window)).partition(";")[0]
    key = await window.key(Cookie=value)
    answer = await posted(window.port, "/logout", f"form_key={key}".encode(), Cookie=value)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert answer.headers["set-cookie"].startswith("vmwatch=; Path=/; Max-Age=0")


# ---- live ----


async def test_a_page_that_is_up_to_date_is_sent_only_what_changes(window: Window, ledger: Ledger) -> None:
    await adopted(ledger, trusted(), trusted(number=OTHER, name="work", label="Work"))
    page = await window.get()
    (target,) = re.findall(r'data-events="([^"]+)"', page.text)
    async with window.live(target.replace("&amp;", "&")) as live_one:
        await live_one.frame()
        assert live_one.parts == {}
        await arrived(ledger, called("Donald Duck"))
        await live_one.shows("Donald Duck")
        assert set(live_one.parts) == {"line-home", "messages", "news", "channels"}, "and not the other line"


async def test_a_line_that_comes_has_the_whole_table_sent(window: Window, ledger: Ledger) -> None:
    async with window.live("/events?lang=da") as page:
        await page.frame()
        await adopted(ledger, trusted(), rejected(number=OTHER, name="work", label="Work"))
        await page.shows("Work")
    assert page.parts["lines"].index("line-work") < page.parts["lines"].index("line-home")
    assert "afvist" in page.parts["lines"]


async def test_all_who_look_are_shown_one_drawing(window: Window, ledger: Ledger) -> None:
    made: list[object] = []
    parts = window._page._drawing.parts  # type: ignore[union-attr]

    def counted(*given: object) -> object:
        made.append(given)
        return parts(*given)  # type: ignore[arg-type]

    window._page._drawing.parts = counted  # type: ignore[union-attr, method-assign, assignment]
    async with window.live() as one, window.live() as other:
        for page in (one, other):
            await page.frame()
        await arrived(ledger, called("Donald Duck"))
        for page in (one, other):
            await page.shows("Donald Duck")
    assert one.frames == other.frames
    assert len(made) <= 3


async def test_a_quiet_stream_says_now_and_then_that_it_is_there(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.0)
    async with window.live() as page:
        await page.frame()
        assert await page.frame() == ": still here\n\n"


async def test_live_pages_end_at_once_when_the_site_does(
    store: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "TICK_S", 3600.0)
    async with Window(store, ledger) as window:
        await window.use(ANYWHERE)
        async with window.live() as page:
            await page.frame()
            began = time.monotonic()
            await window.use(settings.Web(listen=""))
            assert await page.ended() == b""
            assert time.monotonic() - began < 3


async def test_other_sites_open_no_live_page(window: Window) -> None:
    for site in ("cross-site", "same-site", "none"):
        assert (await window.get("/events", Sec_Fetch_Site=site)).status == 403


async def test_another_token_ends_live_pages_too(window: Window) -> None:
    async with window.live() as page:
        await page.frame()
        await window.use(WITH_TOKEN)
        assert await page.ended() == b""


async def test_a_store_that_can_t_be_read_for_a_moment_ends_no_live_page(window: Window, store: Path) -> None:
    async with window.live() as page:
        await page.frame()
        change(store, "ALTER TABLE line RENAME TO elsewhere")
        await asyncio.sleep(2 * live.TICK_S)
        assert (await window.get()).status == 503
        change(store, "ALTER TABLE elsewhere RENAME TO line")
        change(store, "UPDATE line SET label = 'Somewhere'")
        await page.shows("Somewhere")
