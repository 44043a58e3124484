"""The page as it changes: server-sent events, each drawn once for all who look at the same thing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

from vmwatch.errors import LedgerError
from vmwatch.web.drawing import Parts
from vmwatch.web.view import View

TICK_S = 1.0
HEARTBEAT_S = 15.0
"""Proxies and browsers give up on what says nothing."""
LONGEST_S = 3600.0
"""A page asks again after so long: who was let in then may not be any more."""
RETRY_MS = 3000

Draw = Callable[[View], Awaitable[Parts]]


class Live:
    """`process` is another one after each start: a page of an earlier one loads itself again."""

    def __init__(self, draw: Draw, process: str) -> None:
        self._draw = draw
        self._process = process
        self._over = asyncio.Event()
        self._latest: tuple[Parts, Parts, bytes] | None = None

    def end(self) -> None:
        """Every stream ends now; those that begin from here on do not."""
        self._over.set()
        self._over = asyncio.Event()

    async def stream(self, view: View, parts: Parts, seen: str) -> AsyncGenerator[bytes, None]:
        """Frames, from these parts on, for as long as somebody reads them; `seen` is the version that the page has."""
        over, began = self._over, time.monotonic()
        yield f"retry: {RETRY_MS}\n".encode() + self._frame({} if parts.version == seen else parts.sections)
        said = time.monotonic()
        while not over.is_set() and time.monotonic() - began < LONGEST_S:
            await _wait(over)
            fresh = await self._drawn(view, parts)
            frame = self._between(parts, fresh)
            parts = fresh
            if not frame and time.monotonic() - said >= HEARTBEAT_S:
                frame = b": still here\n\n"
            if frame:
                yield frame
                said = time.monotonic()

    async def _drawn(self, view: View, otherwise: Parts) -> Parts:
        with suppress(LedgerError):
            return await self._draw(view)
        return otherwise

    def _between(self, before: Parts, after: Parts) -> bytes:
        """The same bytes for all who saw the one and shall see the other."""
        if before is after:
            return b""
        if self._latest is None or self._latest[0] is not before or self._latest[1] is not after:
            changed = after.changed(before)
            self._latest = before, after, self._frame(changed) if changed else b""
        return self._latest[2]

    def _frame(self, changed: object) -> bytes:
        """JSON on one line: nothing that a caller is called can begin another field."""
        said = json.dumps({"process": self._process, "parts": changed}, ensure_ascii=True, separators=(",", ":"))
        return f"event: parts\ndata: {said}\n\n".encode()


async def _wait(over: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(TICK_S):
            await over.wait()
