"""A webhook on 127.0.0.1 that shows what it gets on the terminal: the demo's phone and pager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from aiohttp import web

Show = Callable[[str, str, str], None]


class Terminal:
    """Shows alerts posted to `/NAME` by calling `show(name, title, body)`; a broken NAME answers 503 instead."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self.broken: set[str] = set()

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_post("/{name}", self._receive)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port: int = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def url(self, name: str) -> str:
        """The Apprise URL of a channel that ends here."""
        return f"json://127.0.0.1:{self._port}/{name}"

    async def _receive(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name in self.broken:
            return web.Response(status=503)
        alert = await request.json()
        self._show(name, alert["title"], alert["message"])
        return web.Response()
