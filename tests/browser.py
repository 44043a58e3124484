"""A real browser to look with: the machine's own chromium, driven by Playwright's library, with axe-core in it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking")
"""Tests run as root, where chromium's sandbox does not, and where /dev/shm may be small."""
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
_AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


def executable() -> str:
    if CHROMIUM is None:
        why = "there is no chromium; on Debian: apt-get install chromium"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    return CHROMIUM


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    path = executable()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


class Visit:
    """One visitor's tab, and everything it asked for, complained of and was asked by dialogs."""

    def __init__(self, context: BrowserContext, page: Page) -> None:
        self.context = context
        self.page = page
        self.asked_for: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked_for.append(request.url))
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    async def is_wider_than_its_window(self) -> bool:
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return bool(await self.page.evaluate(wide))

    async def axe(self) -> list[str]:
        """What axe-core finds, each as its rule and the elements."""
        found = await self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [
            f"{one['id']}: {one['help']}: {', '.join(str(node['html']) for node in one['nodes'])}"
            for one in found["violations"]
        ]


@contextlib.asynccontextmanager
async def visiting(browser: Browser, url: str, **context: Any) -> AsyncIterator[Visit]:
    """A tab of its own at an address; `context` is what Playwright calls so: colour scheme, language, size."""
    opened = await browser.new_context(**({"viewport": WIDE, "locale": "en-GB"} | context))
    try:
        await opened.add_init_script(_AXE)
        visit = Visit(opened, await opened.new_page())
        await visit.page.goto(url)
        yield visit
    finally:
        await opened.close()
