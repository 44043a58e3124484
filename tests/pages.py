"""The page as tests have it: a site on a ledger of its own, a browser's requests, and live pages."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pydantic import SecretStr
from visitors import Reply, ask

from vmwatch import settings
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.tally import Tally
from vmwatch.web import Concerns, Facts, Hands, Web

TOKEN = "hidden-token-of-the-page"
ANYWHERE = settings.Web(listen="127.0.0.1:0")
WITH_TOKEN = settings.Web(listen="127.0.0.1:0", token=SecretStr(TOKEN))
FORM = "application/x-www-form-urlencoded"
KEY = re.compile(r'name="form_key" value="([0-9a-f]+)"')


class Window(Web):
    """A site with buttons, and all that it tells of at hand."""

    def __init__(self, store: Path, ledger: Ledger) -> None:
        self.clock, self.concerns, self.rung = Clock(), Concerns(), 0
        facts = Facts(f"sqlite:///{store}", self.clock, Tally(), lambda: None, lambda: self.concerns)
        super().__init__(facts, Hands(ledger, self.clock.now, self._ring))

    def _ring(self) -> None:
        self.rung += 1

    async def get(self, target: str = "/", **headers: str) -> Reply:
        assert self.port is not None
        return await ask(self.port, target, **headers)

    async def key(self, **headers: str) -> str:
        return key_of(await self.get(**headers))

    async def post(self, path: str, *, key: str | None = None, body: bytes | None = None, **fields: str) -> Reply:
        """A button's press, as a browser sends it."""
        given = {"form_key": await self.key() if key is None else key, **fields}
        return await posted(self.port, path, body or urlencode(given).encode())

    @asynccontextmanager
    async def live(self, target: str = "/events", **headers: str) -> AsyncIterator[LivePage]:
        async with live_page(self.port, target, **headers) as page:
            yield page


async def posted(port: int | None, path: str, body: bytes, **headers: str) -> Reply:
    assert port is not None
    given = {"Content_Type": FORM, "Origin": "http://127.0.0.1", "Sec_Fetch_Site": "same-origin", **headers}
    return await ask(port, path, "POST", body=body, **{name: value for name, value in given.items() if value})


def key_of(page: Reply) -> str:
    (key,) = KEY.findall(page.text)
    return str(key)


@dataclass
class LivePage:
    """An open stream of events, and what its page would show by now."""

    reader: asyncio.StreamReader
    raw: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    frames: list[str] = field(default_factory=list)

    async def frame(self) -> str:
        found = (await asyncio.wait_for(self.reader.readuntil(b"\n\n"), 15)).decode()
        self.frames.append(found)
        for line in found.splitlines():
            if line.startswith("data: "):
                self.parts |= json.loads(line.removeprefix("data: "))["parts"]
        return found

    async def shows(self, words: str) -> None:
        """Wait until something of it says so."""
        async with asyncio.timeout(15):
            while not any(words in html for html in self.parts.values()):
                await self.frame()

    async def ended(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 15)


@asynccontextmanager
async def live_page(port: int | None, target: str = "/events", **headers: str) -> AsyncIterator[LivePage]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4 << 20)
    try:
        # Of an older HTTP, so that the events come as they are.
        lines = [f"GET {target} HTTP/1.0", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)).decode()
        assert " 200 " in head.splitlines()[0], head
        assert "content-type: text/event-stream" in head.lower()
        yield LivePage(reader, head)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def content(store: Path) -> list[str]:
    with closing(sqlite3.connect(store)) as connection:
        return list(connection.iterdump())


def change(store: Path, sql: str, *parameters: Any) -> None:
    with closing(sqlite3.connect(store, timeout=5, isolation_level=None)) as connection:
        connection.execute(sql, parameters)
