"""The demo's own server: a simulated phone, and the desk on which it lies beside vmwatch's status page.

It changes only what is simulated; still nobody presses its buttons but who looks at it. A form carries a token that
another site can't read, another site's page can't frame it, and a name that is led here (DNS rebinding) is refused.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Self

from aiohttp import web

from vmwatch.demo import windows
from vmwatch.demo.windows import LONGEST_NAME, Shown

log = logging.getLogger(__name__)
"""What strangers send in the wrong form is not shown between the alerts: the demo silences it."""

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""By which a browser on this computer may ask."""
LONGEST_BODY = 4096
_ENDING_S = 0.5
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Server": "vmwatch",
    "X-Content-Type-Options": "nosniff",
}
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'"

_STYLE = files(__package__) / "phone.css"

Tell = Callable[[web.Request], Awaitable[web.StreamResponse]]
Act = Callable[[str], str]
"""Is given the name that was typed, and tells in a sentence what it did."""


class Phone:
    """`acts` are the buttons, `look` tells what to show. The status page is at another port, `status_port`."""

    port: int
    _runner: web.AppRunner

    def __init__(self, acts: Mapping[str, Act], look: Callable[[str], Shown], status_port: int) -> None:
        self._acts = acts
        self._look = look
        self._done = ""
        self._token = secrets.token_urlsafe(16)
        self._status_port = status_port

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=LONGEST_BODY, middlewares=[self._guard])
        routes = [web.get("/", self._desk), web.get("/phone", self._phone), web.get("/phone.css", self._style)]
        application.add_routes([*routes, web.post("/phone", self._press)])
        self._runner = web.AppRunner(application, access_log=None, logger=log, shutdown_timeout=_ENDING_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    @property
    def origins(self) -> tuple[str, ...]:
        """What frames the status page may name this server."""
        return tuple(f"http://{name}:{self.port}" for name in NAMES)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Tell) -> web.StreamResponse:
        try:
            _admit(request)
            response = await handler(request)
        except web.HTTPException as refusal:
            if refusal.status >= 400:
                refusal.text = f"{refusal.reason}\n"
            refusal.headers.update(_HEADERS)
            raise
        response.headers.update(_HEADERS)
        return response

    async def _desk(self, request: web.Request) -> web.StreamResponse:
        status = f"http://{_name(request)}:{self._status_port}"
        policy = f"{_POLICY}; frame-src 'self' {status}; form-action 'none'; frame-ancestors 'none'"
        return _page(windows.desk("/phone", f"{status}/"), policy)

    async def _phone(self, request: web.Request) -> web.StreamResponse:
        policy = f"{_POLICY}; form-action 'self'; frame-ancestors 'self'"
        return _page(windows.phone(self._look(self._done), self._token), policy)

    async def _style(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=_STYLE.read_text(encoding="utf-8"), content_type="text/css")

    async def _press(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        if not hmac.compare_digest(_text(form, "token").encode(), self._token.encode()):
            raise web.HTTPForbidden(reason="This is not the form of this demo: load the page again.")
        act = self._acts.get(_text(form, "act"))
        if act is None:
            raise web.HTTPBadRequest(reason="There is no such button.")
        self._done = act(_text(form, "name")[:LONGEST_NAME].strip())
        raise web.HTTPSeeOther("/phone")


def _admit(request: web.Request) -> None:
    """Refuse who asks by another name (DNS rebinding), and what another site's page sends."""
    if _name(request) not in NAMES:
        raise web.HTTPForbidden(reason="Ask by the address that vmwatch demo printed.")
    if request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}":
        raise web.HTTPForbidden(reason="This comes from another site.")


def _name(request: web.Request) -> str:
    return request.headers.get("Host", "").rpartition(":")[0]


def _text(form: Mapping[str, object], key: str) -> str:
    value = form.get(key)
    return value if isinstance(value, str) else ""


def _page(html: str, policy: str) -> web.Response:
    headers = {"Content-Security-Policy": policy}
    return web.Response(text=html, content_type="text/html", headers=headers)
