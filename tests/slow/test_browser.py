"""The page as people see it: in a real browser, live and without script, by day and by night, wide and narrow."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from asyncio import create_subprocess_exec, wait_for
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from browser import NARROW, WIDE, Visit, chromium, visiting
from playwright.async_api import Browser, Locator, expect
from receivers import Webhook, refuse
from world import PIN, WRONG_PIN, Running, World, until, world_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]
TOKEN = "hidden-token-of-the-page"
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "<img src=x onerror=window.hacked=1>",
    '"><svg onload=window.hacked=1>',
    "</td></table><h1>Hello</h1>",
    "{{ 7 * 7 }}${7*7}",
    "&lt;b&gt;",
)
LANGUAGES = {"en": ("en-GB", "Lines"), "da": ("da-DK", "Linjer")}
SCHEMES = ("light", "dark")
expect.set_options(timeout=15_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


def address(daemon: Running) -> str:
    return re.findall(r"answering on (http://\S+:\d+)", daemon.said())[-1] + "/"


@contextlib.asynccontextmanager
async def watched(folder: Path, **web: Any) -> AsyncIterator[tuple[World, Running]]:
    """A daemon with a line that is well, one that waits for a person, and three channels, of which one gave up."""
    async with world_in(folder / "world") as world, Webhook() as hook, Webhook(refuse(500)) as broken:
        world.config["web"] = {"listen": "127.0.0.1:0"} | web
        world.config["polling"]["first_poll"] = "each"
        world.config["delivery"] = {"retry": {"initial": "1s", "max": "1s", "give_up_after": "2s"}}
        world.operator.leave(world.line("home", label="Home"), caller="+4520305071", name="Mette Sørensen")
        world.operator.leave(world.line("quiet", label="A line with quite a long name", enabled=False))
        world.line("office", label="Office", pin=PIN, told=WRONG_PIN)
        world.channel("phone", hook.url)
        world.channel("pager", broken.url)
        async with world.running() as daemon:
            await until(world.state_is("home", "ok"))
            await until(world.state_is("office", "rejected"))
            await until(has_delivery(world, "phone", "sent"))
            await until(has_delivery(world, "pager", "dead"), within=30)
            yield world, daemon


def has_delivery(world: World, channel: str, state: str) -> Any:
    async def condition() -> bool:
        return any((one["channel"], one["state"]) == (channel, state) for one in await world.outbox())

    return condition


async def is_live(visit: Visit) -> None:
    await expect(visit.page.locator("#state")).to_have_text("live")


def nothing_is_wrong(visit: Visit, url: str) -> None:
    assert visit.complaints == []
    assert [one for one in visit.asked_for if not one.startswith(url)] == [], "nothing comes from any other host"


async def test_a_message_appears_by_itself_and_a_caller_s_name_stays_text(browser: Browser, tmp_path: Path) -> None:
    async with watched(tmp_path) as (world, daemon), visiting(browser, address(daemon)) as visit:
        await is_live(visit)
        await visit.page.evaluate("window.loadedOnce = true")
        for name in HOSTILE:
            world.operator.leave(world.numbers["home"], caller="+4528669041", name=name)
        for name in HOSTILE:
            await expect(visit.page.locator("#messages")).to_contain_text(name)
        assert await visit.page.evaluate("window.loadedOnce") is True, "it was not loaded again"
        assert await visit.page.evaluate("window.hacked") is None
        assert await visit.page.locator("#messages :is(script, img, h1, b)").count() == 0
        assert await visit.page.locator("#messages a[href='tel:+4528669041']").count() == len(HOSTILE)
        nothing_is_wrong(visit, address(daemon))
        await visit.page.reload()
        await is_live(visit)
        assert await visit.page.evaluate("window.hacked") is None
        assert await visit.page.locator("#messages :is(script, img, h1, b)").count() == 0


async def test_who_is_in_the_middle_of_something_stays_there(browser: Browser, tmp_path: Path) -> None:
    async with watched(tmp_path) as (world, daemon), visiting(browser, address(daemon)) as visit:
        await is_live(visit)
        await visit.page.get_by_role("button", name="Poll now: Home").focus()
        world.operator.leave(world.numbers["home"], caller=None, name="Somebody new")
        await expect(visit.page.locator("#messages")).to_contain_text("Somebody new")
        await expect(visit.page.get_by_role("button", name="Poll now: Home")).to_be_focused()
        await visit.page.keyboard.press("Enter")
        await expect(visit.page.get_by_text("home: will be polled now")).to_be_visible()


async def test_a_page_that_was_left_open_is_live_again_after_a_restart(browser: Browser, tmp_path: Path) -> None:
    async with watched(tmp_path) as (world, daemon), visiting(browser, address(daemon)) as visit:
        await is_live(visit)
        world.config["web"]["listen"] = address(daemon).removeprefix("http://").rstrip("/")
        await daemon.stop()
        await expect(visit.page.locator("#state")).to_contain_text("not live")
        async with world.running():
            await is_live(visit)
            world.operator.leave(world.numbers["home"], caller=None, name="Somebody new")
            await expect(visit.page.locator("#messages")).to_contain_text("Somebody new")


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
async def test_every_button_works(browser: Browser, tmp_path: Path, script: bool) -> None:
    async with (
        watched(tmp_path) as (world, daemon),
        visiting(browser, address(daemon), java_script_enabled=script) as visit,
    ):
        await _press_everything(world, visit)
        nothing_is_wrong(visit, address(daemon))


async def _press_everything(world: World, visit: Visit) -> None:
    async def press(name: str, told: str) -> None:
        button = visit.page.get_by_role("button", name=name, exact=True)
        await until(partial(_is_there, visit, button))
        await button.click()
        await expect(visit.page.locator(".done")).to_contain_text(told)

    more = world.polled("home", 1)
    await press("Poll now: Home", "home: will be polled now")
    await until(more)
    await press("Pause 1 h: Home", "home: paused for an hour")
    await until(world.state_is("home", "paused"))
    await press("Resume: Home", "home: goes on, with a poll now")
    await until(world.state_is("home", "ok"))
    await press("Pause: Home", "home: paused until somebody resumes it")
    await until(world.state_is("home", "paused"))
    assert (await world.line_seen("home"))["next_poll_at"] is None
    await press("Resume: Home", "home: goes on")
    once_more = world.polled("office", 1)
    await press("Allow one more try: Office", "office: goes on")
    await until(once_more)
    await press("Snooze 1 h: Mette Sørensen", "home: the voicemail is snoozed for an hour")
    row = visit.page.get_by_role("row").filter(has_text="Mette Sørensen")
    await expect(row).to_contain_text("snoozed until")
    await press("Acknowledge: Mette Sørensen", "home: the voicemail is acknowledged")
    await expect(row).to_contain_text("acknowledged")
    assert [one["acked_at"] is not None for one in (await world.vmwatch("messages", "--json")).json] == [True]
    await press("Send a test: phone", "A test alert is on its way to phone")
    await until(has_delivery(world, "phone", "sent"))
    await press("Send all of them again", "To be sent again: ")
    await until(has_delivery(world, "pager", "dead"), within=30)
    await visit.page.goto(visit.page.url)
    again = visit.page.get_by_role("button", name=re.compile(r"^Send again: \d+$")).first
    await until(partial(_is_there, visit, again))
    await again.click()
    await expect(visit.page.locator(".done")).to_have_text("To be sent again: 1")


async def _is_there(visit: Visit, button: Locator) -> bool:
    """Who looks without script looks again."""
    if not await button.count():
        await visit.page.reload()
    return bool(await button.count())


async def test_without_script_everything_is_there(browser: Browser, tmp_path: Path) -> None:
    async with watched(tmp_path) as (_, daemon), visiting(browser, address(daemon), java_script_enabled=False) as visit:
        for words in ("Mette Sørensen", "Home", "Office", "pager", "vmwatch resume office", "vmwatch outbox retry"):
            await expect(visit.page.locator("main")).to_contain_text(words)
        await visit.page.get_by_role("link", name="Dansk").click()
        await expect(visit.page.get_by_role("heading", name="Linjer")).to_be_visible()
        await visit.page.goto(address(daemon))
        await expect(visit.page.get_by_role("heading", name="Linjer")).to_be_visible()


@pytest.mark.parametrize("language", LANGUAGES)
async def test_it_is_readable_by_everyone_by_day_and_by_night_wide_and_narrow(
    browser: Browser, tmp_path: Path, language: str
) -> None:
    """The screenshots are to be looked at: pytest keeps them in its folder (`--basetemp`)."""
    locale, heading = LANGUAGES[language]
    async with watched(tmp_path) as (world, daemon):
        world.operator.leave(
            world.numbers["home"], caller="+46812345678", name="Wolfeschlegelsteinhausenbergerdorff" * 2
        )
        await until(world.polled("home", 2))
        for scheme in SCHEMES:
            for size, viewport in (("wide", WIDE), ("narrow", NARROW)):
                look = {"locale": locale, "color_scheme": scheme, "viewport": viewport}
                async with visiting(browser, address(daemon), **look) as visit:
                    await expect(visit.page.get_by_role("heading", name=heading)).to_be_visible()
                    await expect(visit.page.locator("html")).to_have_attribute("lang", language)
                    await expect(visit.page.locator("#messages")).to_contain_text("Wolfeschlegel")
                    assert await visit.axe() == [], (scheme, size)
                    await visit.page.screenshot(path=tmp_path / f"{language}-{scheme}-{size}.png", full_page=True)
                    assert not await visit.is_wider_than_its_window(), (scheme, size)


async def test_where_there_is_nothing_yet_and_what_is_refused_can_be_read_by_everyone(
    browser: Browser, tmp_path: Path
) -> None:
    async with world_in(tmp_path / "world") as world, Webhook() as hook:
        world.config["web"] = {"listen": "127.0.0.1:0"}
        world.line("home")
        world.channel("phone", hook.url)
        async with world.running() as daemon:
            for path in ("", "?page=0", "nothing-here"):
                for scheme in SCHEMES:
                    url = address(daemon) + path
                    async with visiting(browser, url, color_scheme=scheme, viewport=NARROW) as visit:
                        if path != "nothing-here":  # strangers, and programs, are told so as JSON
                            assert await visit.axe() == [], url
                        assert not await visit.is_wider_than_its_window(), url


async def test_with_a_token_one_logs_in_sees_it_live_and_logs_out(browser: Browser, tmp_path: Path) -> None:
    async with watched(tmp_path, token=TOKEN) as (world, daemon), visiting(browser, address(daemon)) as visit:
        assert await visit.axe() == []
        assert "Mette" not in await visit.page.content()
        await visit.page.get_by_label("Token").fill("a guess")
        await visit.page.get_by_role("button", name="Log in").click()
        await expect(visit.page.get_by_role("alert")).to_have_text("This is not the token of web.token.")
        assert await visit.axe() == []
        await visit.page.get_by_label("Token").fill(TOKEN)
        await visit.page.get_by_role("button", name="Log in").click()
        await is_live(visit)
        world.operator.leave(world.numbers["home"], caller=None, name="Somebody new")
        await expect(visit.page.locator("#messages")).to_contain_text("Somebody new")
        assert TOKEN not in await visit.page.content()
        await visit.page.get_by_role("button", name="Log out").click()
        await expect(visit.page.get_by_label("Token")).to_be_visible()
        await visit.page.goto(address(daemon))
        await expect(visit.page.get_by_label("Token")).to_be_visible()


async def test_another_site_has_no_button_pressed_and_no_page_framed(browser: Browser, tmp_path: Path) -> None:
    async with (
        watched(tmp_path) as (world, daemon),
        Webhook() as elsewhere,
        visiting(browser, elsewhere.http.replace("127.0.0.1", "localhost")) as visit,
    ):
        url = address(daemon)
        form = f'<form method="post" action="{url}act/pause"><input name="line" value="home"><button>x</button></form>'
        await visit.page.set_content(f'<iframe src="{url}"></iframe>{form}')
        await until(lambda: any("frame-ancestors" in one for one in visit.complaints))
        await visit.page.get_by_role("button").click()
        await expect(visit.page.locator("body")).to_contain_text("another site sent this")
        assert (await world.line_seen("home"))["state"] == "ok"


# ---- links in alerts ----


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
async def test_a_link_of_an_alert_shows_asks_and_does_it_and_opens_nothing_else(
    browser: Browser, tmp_path: Path, script: bool
) -> None:
    async with world_in(tmp_path / "world") as world, Webhook() as hook:
        world.config["web"] = {"listen": "127.0.0.1:0", "token": TOKEN, "public_url": "https://vm.example.com"}
        world.config["polling"]["first_poll"] = "each"
        world.operator.leave(world.line("home", label="Home"), caller="+4520305071", name="Mette Sørensen")
        world.channel("phone", hook.url)
        async with world.running() as daemon:
            (sent,) = await hook.heard(1)
            ack, snooze = re.findall(r"https://vm\.example\.com/(\S+)", sent.body["message"])
            await _tap(
                browser, world, daemon, script, snooze, ("Snooze this voicemail?", "Snooze 1 h", "Snoozed until")
            )
            await _tap(
                browser, world, daemon, script, ack, ("Acknowledge this voicemail?", "Acknowledge", "Acknowledged.")
            )
            await _look_again(browser, daemon, ack, tmp_path)


async def _tap(
    browser: Browser, world: World, daemon: Running, script: bool, link: str, words: tuple[str, str, str]
) -> None:
    heading, button, done = words
    url = address(daemon) + link
    async with visiting(browser, url, java_script_enabled=script) as visit:
        await expect(visit.page.get_by_role("heading", name=heading)).to_be_visible()
        before = (await world.vmwatch("messages", "--json")).json
        await visit.page.reload()
        assert (await world.vmwatch("messages", "--json")).json == before
        await visit.page.get_by_role("button", name=button, exact=True).click()
        await expect(visit.page.get_by_role("status")).to_contain_text(done)
        assert visit.page.url == url
        assert (await world.vmwatch("messages", "--json")).json != before
        nothing_is_wrong(visit, address(daemon))


async def _look_again(browser: Browser, daemon: Running, link: str, folder: Path) -> None:
    for scheme in SCHEMES:
        for path in (link, link[:-1], link.replace("ack/", "snooze/")):
            look = {"color_scheme": scheme, "viewport": NARROW, "locale": "da-DK"}
            async with visiting(browser, address(daemon) + path, **look) as visit:
                await expect(visit.page.locator("html")).to_have_attribute("lang", "da")
                assert await visit.axe() == [], path
                assert "Mette" not in await visit.page.content()
                assert not await visit.is_wider_than_its_window(), path
                await visit.page.screenshot(path=folder / f"link-{scheme}-{len(path)}.png")
    async with visiting(browser, address(daemon) + link) as visit:
        await expect(visit.page.get_by_role("status")).to_contain_text("It was acknowledged already")
        await visit.page.goto(address(daemon))
        await expect(visit.page.get_by_label("Token")).to_be_visible()


# ---- the demo ----


@contextlib.asynccontextmanager
async def demo(folder: Path) -> AsyncIterator[str]:
    """`vmwatch demo` as people start it; its address."""
    own = {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    command = (sys.executable, "-m", "vmwatch", "demo")
    process = await create_subprocess_exec(*command, cwd=folder, env=os.environ | own, stdout=PIPE)
    assert process.stdout is not None
    try:
        while True:
            line = (await wait_for(process.stdout.readline(), 30)).decode()
            assert line, "the demo ended"
            found = re.search(r"Open (http://\S+)", line)
            if found:
                yield found[1]
                break
    finally:
        if process.returncode is None:
            process.terminate()
        await wait_for(process.communicate(), 30)


async def test_the_demo_s_phone_lies_beside_the_page_and_what_it_does_is_seen_there(
    browser: Browser, tmp_path: Path
) -> None:
    async with demo(tmp_path) as url, visiting(browser, url) as visit:
        phone = visit.page.frame_locator("iframe[title='A simulated phone']")
        status = visit.page.frame_locator('iframe[title="vmwatch\'s status page"]')

        async def press(name: str) -> None:
            await phone.get_by_role("button", name=name).click()

        async def is_seen(text: str, where: str) -> None:
            await expect(status.locator(where)).to_contain_text(text)

        await expect(status.locator("#state")).to_have_text("live")
        await phone.get_by_label("Your name").fill("Ada <i>Lovelace</i>")
        await press("Leave a voicemail")
        await is_seen("Ada <i>Lovelace</i>", "#messages")
        await press("Listen to the latest one")
        row = status.get_by_role("row").filter(has_text="Lovelace")
        await expect(row).to_contain_text("no longer new")
        await press("Mistype the PIN")
        await is_seen("vmwatch resume home", "#needs")
        await press("Correct the PIN")
        await expect(phone.locator(".done")).to_contain_text("cost 1 failed login.")
        await expect(status.locator("#needs")).not_to_contain_text("vmwatch resume home")
        await press("Operator down")
        failing = status.get_by_role("row").filter(has_text="Home").locator(".state", has_text="failing")
        await expect(failing).to_be_visible()
        await press("Operator up")
        await expect(failing).to_have_count(0)
        await status.get_by_role("button", name="Send a test: phone").click()
        await is_seen("A test alert is on its way to phone", ".done")
        await visit.page.screenshot(path=tmp_path / "demo.png")
        assert visit.complaints == []


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_demo_can_be_read_by_everyone_and_used_without_script(
    browser: Browser, tmp_path: Path, scheme: Any
) -> None:
    async with demo(tmp_path) as url:
        for path in ("", "phone"):
            async with visiting(browser, url + path, color_scheme=scheme, viewport=NARROW) as visit:
                if not path:
                    await expect(visit.page.frame_locator("iframe >> nth=1").locator("#state")).to_have_text("live")
                assert await visit.axe() == []
                await visit.page.screenshot(path=tmp_path / f"demo-{path}-{scheme}.png", full_page=True)
                assert not await visit.is_wider_than_its_window()
        async with visiting(browser, url + "phone", java_script_enabled=False) as visit:
            await visit.page.get_by_label("Your name").fill("Ada")
            await visit.page.get_by_role("button", name="Leave a voicemail").click()
            await expect(visit.page.locator(".done")).to_contain_text("Ada leaves a message")
