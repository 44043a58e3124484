"""What the tests of several daemons on one database share: who asked the operator, a wire that can be cut, a load.

async with Wire(port) as wire:                  # to a server of 127.0.0.1
    wire.url(server.url)                        # the same database, over the wire
    wire.cut(); wire.mend()                     # nothing comes through, and nobody is told
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from aiohttp import web
from crash_world import Callers, Ear
from receivers import Webhook
from world import Running, World

from vmwatch.simulator import Simulator
from vmwatch.wording import REPEAT


class Asked(NamedTuple):
    at: float
    """By the monotonic clock."""
    number: str
    by: int | None
    """The process that asked; None if it had died by the time that this was looked up."""


class AttentiveOperator(Simulator):
    """Also notes which process each login came from."""

    asked: list[Asked]
    pids: set[int]

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        self.asked, self.pids, self._owners = [], set(), dict[object, int | None]()
        return await super().start(host, port)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(Asked(time.monotonic(), request.match_info["number"], self._asking(request)))
        return await super()._list(request)

    def _asking(self, request: web.Request) -> int | None:
        transport = request.transport
        if transport is None:
            return None
        if self._owners.get(transport) is None:
            self._owners[transport] = _owner(transport.get_extra_info("peername")[1], self.pids)
        return self._owners[transport]

    def forget_owners(self) -> None:
        """Look them up again: there are more processes now."""
        self._owners.clear()

    def by(self, daemon: Running, since: float = 0, before: float = float("inf")) -> list[Asked]:
        return [one for one in self.asked if one.by == daemon.process.pid and since <= one.at < before]

    def first_after(self, since: float) -> dict[str, float]:
        """When each number was first asked for from then on."""
        first: dict[str, float] = {}
        for one in self.asked:
            if one.at >= since:
                first.setdefault(one.number, one.at)
        return first


def _owner(port: int, pids: Iterable[int]) -> int | None:
    """Which of these processes has the socket at this port of 127.0.0.1."""
    local = f"0100007F:{port:04X}"
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    inodes = {line[9] for line in lines if line[1] == local}
    for pid in pids:
        with contextlib.suppress(OSError):
            if any(_target(file) in {f"socket:[{inode}]" for inode in inodes} for file in _files(pid)):
                return pid
    return None


def _files(pid: int) -> list[str]:
    return [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]


def _target(file: str) -> str:
    try:
        return os.readlink(file)
    except OSError:
        return ""


class Wire:
    """A way to a port of 127.0.0.1 that can be cut without a word: no end hears that the other is gone."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        self._broken = False
        self._swallowing: bytes | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.statements = 0
        """How many went through; one that is run for many rows, a row at a time, counts for each."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._abort()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def url(self, url: str) -> str:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.replace(f"127.0.0.1:{self._port}", self.place)).geturl()

    def cut(self) -> None:
        """From here on nothing comes through, and nobody is told."""
        self._open.clear()

    def break_off(self) -> None:
        """Every connection is reset, and none is made any more."""
        self._broken = True
        self._abort()

    def mend(self) -> None:
        self._broken = False
        self._open.set()

    def swallow_answer_to(self, words: bytes) -> None:
        """The next time that these are sent, they arrive, and in place of the answer the connection is reset."""
        self._swallowing = words

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._broken:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        swallowed = asyncio.Event()
        for way in (self._there(reader, far_writer, swallowed), self._back(far_reader, writer, swallowed)):
            self._tasks.add(asyncio.create_task(way))

    async def _there(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowed: asyncio.Event
    ) -> None:
        said = _Frontend()
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                await self._open.wait()
                self.statements += said.statements(chunk)
                if self._swallowing is not None and self._swallowing in chunk:
                    self._swallowing = None
                    swallowed.set()
                writer.write(chunk)
        writer.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowed: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                await self._open.wait()
                if swallowed.is_set():
                    writer.transport.abort()
                    return
                writer.write(chunk)
        writer.close()


class _Frontend:
    """What a client says to PostgreSQL [its manual, "Message Formats"]: letter, length, body; at first no letter."""

    def __init__(self) -> None:
        self._unread = b""
        self._begun = False

    def statements(self, chunk: bytes) -> int:
        """How many statements are asked for in what has come by now: Query and Execute."""
        self._unread += chunk
        found = 0
        while message := self._next():
            found += message[:1] in (b"Q", b"E") and self._begun
            self._begun = self._begun or message[4:8] == _STARTUP
        return found

    def _next(self) -> bytes:
        letter = 1 if self._begun else 0
        if len(self._unread) < letter + 4:
            return b""
        length = letter + int.from_bytes(self._unread[letter : letter + 4], "big")
        if len(self._unread) < length:
            return b""
        message, self._unread = self._unread[:length], self._unread[length:]
        return message


_STARTUP = b"\0\3\0\0"


class Load:
    """Calls that come in all the time, and what became of them."""

    def __init__(self, world: World, hook: Webhook) -> None:
        self.callers, self._ear, self._hook = Callers(world), Ear(hook), hook
        self._names = list(world.numbers)
        self._chance = random.Random(5)

    @contextlib.asynccontextmanager
    async def coming(self, every_s: float) -> AsyncIterator[None]:
        task = asyncio.create_task(self._calls(every_s))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _calls(self, every_s: float) -> None:
        while True:
            self.callers.call(self._chance.choice(self._names))
            await asyncio.sleep(every_s)

    def all_told(self) -> bool:
        return self._ear.callers() >= set(self.callers.names)

    def repeats(self) -> list[str]:
        """Alerts that came more than once; each but the first must say that it may be a repeat."""
        assert not self._ear.told_differently()
        sent = [f"{request.body['title']}\n{request.body['message']}" for request in self._hook.record]
        calls = [text for text in sent if "Caller" in text]
        unsaid = Counter(text for text in calls if REPEAT not in text)
        assert not (again := [text for text, count in unsaid.items() if count > 1]), f"sent again, unsaid: {again}"
        times = Counter(text.replace(REPEAT, "").strip() for text in calls)
        return [text for text, count in times.items() if count > 1]
