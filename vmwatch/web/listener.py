"""The HTTP server: one request a connection, a bounded number of connections, each for a bounded time."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from aiohttp.http import HttpProcessingError

from vmwatch.web.asked import Answer, Request

log = logging.getLogger(__name__)


def _is_ours(record: logging.LogRecord) -> bool:
    """What strangers send in the wrong form is refused, not logged: it would fill the log, and may hold a token."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


log.addFilter(_is_ours)

MOST_CONNECTIONS = 256
LONGEST_S = 10.0
"""How long a connection may last: a request takes milliseconds, and who is slower than that is not waited for."""
LOOK_S = 1.0
LINGER_S = 1.0
"""How long a body that nobody asked for is read and thrown away, so that its sender gets to read the refusal."""
ENDING_S = 0.5
LONGEST_TARGET = 2000
"""Characters of a path with its query."""
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
_ALONE = "frame-ancestors 'none'"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; base-uri 'none'; form-action 'none'; {_ALONE}",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "vmwatch",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Tell = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Beside:
    """A window of our own that shows the page in a frame: the demo's. Nobody can have one by configuration."""

    origins: tuple[str, ...]
    bound: socket.socket
    """Where the page is to be, whatever the configuration says."""


class Listener:
    """One address that is listened on, and the connections that came by it."""

    port: int
    _listening: asyncio.Server
    _sweeping: asyncio.Task[None]

    def __init__(self, tell: Tell, beside: Beside | None) -> None:
        self._tell = tell
        self._headers = _HEADERS if beside is None else _framed(beside.origins)
        self._server = web.Server(
            self._answer,
            logger=log,
            access_log=None,
            handler_cancellation=True,
            lingering_time=LINGER_S,
            max_line_size=LONGEST_TARGET,
        )

    @classmethod
    async def open(cls, host: str, port: int, tell: Tell, beside: Beside | None = None) -> Self:
        """Raises OSError."""
        listener, loop = cls(tell, beside), asyncio.get_running_loop()
        where: dict[str, Any] = {"host": host, "port": port} if beside is None else {"sock": beside.bound}
        listener._listening = await loop.create_server(listener._connection, **where, backlog=MOST_CONNECTIONS)
        listener._sweeping = asyncio.create_task(listener._sweep(), name="drop slow connections")
        listener.port = listener._listening.sockets[0].getsockname()[1]
        log.info("answering on http://%s:%d", f"[{host}]" if ":" in host else host, listener.port)
        return listener

    async def close(self) -> None:
        self._listening.close()
        self._sweeping.cancel()
        await self._server.shutdown(ENDING_S)

    def _connection(self) -> asyncio.Protocol:
        return self._server() if len(self._server.connections) < MOST_CONNECTIONS else _Full()

    async def _sweep(self) -> None:
        since: dict[Any, float] = {}
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            since = {connection: since.get(connection, now) for connection in self._server.connections}
            for connection, opened in since.items():
                if now - opened > LONGEST_S and connection.transport is not None:
                    connection.transport.abort()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        answer = await self._tell(_asked(request))
        headers = {**self._headers, "Content-Type": answer.content_type, **dict(answer.headers)}
        response = web.Response(status=answer.status, body=answer.body, headers=headers)
        response.force_close()
        return response


def _framed(origins: Sequence[str]) -> Mapping[str, str]:
    """The headers that let these sites, and no others, show the page in a frame."""
    policy = _HEADERS["Content-Security-Policy"].replace(_ALONE, f"frame-ancestors {' '.join(origins)}")
    rest = {name: value for name, value in _HEADERS.items() if name != "X-Frame-Options"}
    return rest | {"Content-Security-Policy": policy}


class _Full(asyncio.Protocol):
    """One connection too many: told so, and closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # a stream's is one
        transport.write(_FULL)
        transport.close()


def _asked(request: web.BaseRequest) -> Request:
    return Request(
        method=request.method,
        path=request.rel_url.raw_path,
        query=tuple(request.query.items()),
        hosts=request.headers.getall("Host", []),
        authorizations=request.headers.getall("Authorization", []),
        accept=request.headers.get("Accept", ""),
        has_body=request.can_read_body,
    )
