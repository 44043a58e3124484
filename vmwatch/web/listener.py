"""The HTTP server: one request a connection, a bounded number of connections, each for a bounded time.

Live pages have a room of their own: they last, and take nobody else's place.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from aiohttp import web
from aiohttp.http import HttpProcessingError

from vmwatch.web.asked import Answer, BodyError, Request, refused

log = logging.getLogger(__name__)


def _is_ours(record: logging.LogRecord) -> bool:
    """What strangers send in the wrong form is refused, not logged: it would fill the log, and may hold a token."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


log.addFilter(_is_ours)

MOST_CONNECTIONS = 256
MOST_STREAMS = 256
MOST_UNREAD = 64 << 10
"""Bytes that are kept for a live page that does not read them, and as many again by the system."""
SLOW_S = 5.0
"""How long a live page may leave more than that unread."""
LONGEST_BODY = 4096
BODY_S = 5.0
LONGEST_S = 10.0
"""How long a connection may last: a request takes milliseconds, and who is slower than that is not waited for."""
LOOK_S = 1.0
LINGER_S = 1.0
"""How long a body that nobody asked for is read and thrown away, so that its sender gets to read the refusal."""
ENDING_S = 0.5
LONGEST_TARGET = 2000
"""Bytes of a path with its query."""
_LIMITS: dict[str, Any] = {
    "logger": log,
    "access_log": None,
    "lingering_time": LINGER_S,
    "max_line_size": LONGEST_TARGET,
    "auto_decompress": False,
}
_BROKEN = f"this is no HTTP request that is understood here: its path with its query has at most {LONGEST_TARGET} bytes"
_FAILED = "vmwatch failed at this: its log says why"
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
_POLICY = "Content-Security-Policy"
_ALONE = "frame-ancestors 'none'"
_HEADERS = {
    "Cache-Control": "no-store",
    _POLICY: f"default-src 'none'; base-uri 'none'; form-action 'none'; {_ALONE}",
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
        self._beside = beside
        self._server = web.Server(self._answer, handler_cancellation=True)
        self._streaming: set[Any] = set()

    @classmethod
    async def open(cls, host: str, port: int, tell: Tell, beside: Beside | None = None) -> Self:
        """Raises OSError."""
        listener, loop = cls(tell, beside), asyncio.get_running_loop()
        where: dict[str, Any] = {"host": host, "port": port} if beside is None else {"sock": beside.bound}
        listener._listening = await loop.create_server(listener._connection, **where, backlog=MOST_CONNECTIONS)
        listener._sweeping = asyncio.create_task(listener._sweep(), name="drop slow connections")
        listener.port = listener._listening.sockets[0].getsockname()[1]
        log.info("answering on http://%s:%d: open it in a browser", f"[{host}]" if ":" in host else host, listener.port)
        return listener

    async def close(self) -> None:
        self._listening.close()
        self._sweeping.cancel()
        await self._server.shutdown(ENDING_S)

    def _connection(self) -> asyncio.Protocol:
        short = len(self._server.connections) - len(self._streaming)
        return _Connection(self._server) if short < MOST_CONNECTIONS else _Full()

    async def _sweep(self) -> None:
        since: dict[Any, float] = {}
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            short = set(self._server.connections) - self._streaming
            since = {connection: since.get(connection, now) for connection in short}
            for connection, opened in since.items():
                if now - opened > LONGEST_S and connection.transport is not None:
                    connection.transport.abort()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = await self._tell(_asked(request))
        headers = self._headers(answer)
        if answer.stream is not None and request.method == "GET":
            return await self._go_on(request, answer.stream, headers)
        response = web.Response(status=answer.status, body=answer.body, headers=headers)
        response.force_close()
        return response

    def _headers(self, answer: Answer) -> dict[str, str]:
        headers = {**_HEADERS, "Content-Type": answer.content_type, **dict(answer.headers)}
        return headers if self._beside is None else _framed(headers, self._beside.origins)

    async def _go_on(
        self, request: web.BaseRequest, stream: Callable[[], AsyncGenerator[bytes, None]], headers: dict[str, str]
    ) -> web.StreamResponse:
        """Write what comes, to somebody who reads it."""
        if len(self._streaming) >= MOST_STREAMS or request.transport is None:
            response: web.StreamResponse = web.Response(status=503, headers={**_HEADERS, "Retry-After": "30"})
            response.force_close()
            return response
        response = web.StreamResponse(headers=headers)
        response.force_close()
        self._streaming.add(request.protocol)
        _bound(request.transport)
        try:
            await response.prepare(request)
            await self._write(response, stream())
        except TimeoutError:
            request.transport.abort()
        finally:
            self._streaming.discard(request.protocol)
        return response

    async def _write(self, response: web.StreamResponse, frames: AsyncGenerator[bytes, None]) -> None:
        async with aclosing(frames):
            async for frame in frames:
                async with asyncio.timeout(SLOW_S):
                    await response.write(frame)


def _bound(transport: asyncio.Transport) -> None:
    transport.set_write_buffer_limits(high=MOST_UNREAD)
    with suppress(OSError, AttributeError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_UNREAD)


def _framed(headers: Mapping[str, str], origins: Sequence[str]) -> dict[str, str]:
    """The headers that let these sites, and no others, show the page in a frame."""
    policy = headers[_POLICY].replace(_ALONE, f"frame-ancestors {' '.join(origins)}")
    rest = {name: value for name, value in headers.items() if name != "X-Frame-Options"}
    return rest | {_POLICY: policy}


class _Connection(web.RequestHandler):
    """One connection; what is no request is refused in the words and the form of every other refusal."""

    def __init__(self, server: web.Server) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **_LIMITS)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)  # logs it, and raises if half an answer is out already
        answer = refused(status, _BROKEN if status < 500 else _FAILED)
        response = web.Response(status=status, body=answer.body, headers=_HEADERS, content_type=answer.content_type)
        response.force_close()
        return response


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
        cookie=request.headers.get("Cookie", ""),
        origin=request.headers.get("Origin", ""),
        site=request.headers.get("Sec-Fetch-Site", ""),
        languages=request.headers.get("Accept-Language", ""),
        content_type=request.headers.get("Content-Type", ""),
        known_tag=request.headers.get("If-None-Match", ""),
        body=partial(_body, request),
    )


async def _body(request: web.BaseRequest) -> bytes:
    """Raises BodyError."""
    found = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.content.iter_any():
                found += chunk
                if len(found) > LONGEST_BODY:
                    raise BodyError(413, f"a form has at most {LONGEST_BODY} bytes")
    except TimeoutError:
        raise BodyError(408, "the form did not come in time") from None
    except (HttpProcessingError, web.RequestPayloadError):
        raise BodyError(400, "the form is broken") from None
    return found
