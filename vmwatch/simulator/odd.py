"""Answers that no operator should give, each one seen somewhere: proxies, captive portals, crashes, bombs."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from enum import StrEnum
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

from aiohttp import web

from vmwatch.models import SECOND, Instant

RETRY_AFTER = 120
"""Seconds that the throttled answers ask for."""
BOMB = 200 * 2**20
"""Bytes of the gzip bomb, unpacked."""
_BLOCK = 2**16
_LOCKED = {"message": "Login via pin disabled due to multiple failed logins", "code": "pin", "status": 403}
_OFF = {"message": "Voicemail not enabled for this number", "code": "number", "status": 403}
_NO_PIN = {"message": "Not found", "code": "pin", "status": 404}
_NO_LINE = {"message": "Not found", "code": "id", "status": 404}
_PORTAL = b"<!DOCTYPE html><html><title>Welcome</title><body>Accept our terms to go on.</body></html>"
_BAD_GATEWAY = b"<html><body><h1>Bad Gateway</h1></body></html>"
_INTERNAL = {"error": {"message": "Internal server error", "code": "internal_error", "status": 500}}


class Odd(StrEnum):
    HTML = "html"
    EMPTY = "empty"
    NOT_JSON = "not_json"
    WRONG_SHAPE = "wrong_shape"
    REDIRECT = "redirect"
    ERROR_LIST = "error_list"
    ERRORS_LIST = "errors_list"
    ERROR_TEXT = "error_text"
    BARE_STRING = "bare_string"
    EMPTY_403 = "empty_403"
    EMPTY_404 = "empty_404"
    EMPTY_422 = "empty_422"
    UNKNOWN_4XX = "unknown_4xx"
    THROTTLED_SECONDS = "429_seconds"
    THROTTLED_DATE = "429_date"
    THROTTLED_BARE = "429_bare"
    UNAVAILABLE_SECONDS = "503_seconds"
    UNAVAILABLE_DATE = "503_date"
    UNAVAILABLE_BARE = "503_bare"
    INTERNAL_ERROR = "500"
    BAD_GATEWAY = "502"
    GATEWAY_TIMEOUT = "504"
    TRUNCATED_JSON = "truncated_json"
    ONE_BAD_ENTRY = "one_bad_entry"
    ONLY_IDS = "only_ids"
    COUNT_DISAGREES = "count_disagrees"
    CUT = "cut"
    DROP = "drop"
    RESET = "reset"
    HANG = "hang"
    DRIP = "drip"
    GIGANTIC = "gigantic"
    GZIP_BOMB = "gzip_bomb"


class _Fixed(NamedTuple):
    status: int
    body: Any = b""
    """Bytes as they are, anything else as JSON."""
    retry: str = ""
    """The form of Retry-After: "seconds", "date", or none."""


_FIXED = {
    Odd.HTML: _Fixed(200, _PORTAL),
    Odd.EMPTY: _Fixed(200),
    Odd.NOT_JSON: _Fixed(200, b"OK"),
    Odd.WRONG_SHAPE: _Fixed(200, {"success": True}),
    Odd.ERROR_LIST: _Fixed(403, {"error": [_OFF, _LOCKED]}),
    Odd.ERRORS_LIST: _Fixed(404, {"errors": [_NO_LINE, _NO_PIN]}),
    Odd.ERROR_TEXT: _Fixed(422, {"error": "Pin code is invalid"}),
    Odd.BARE_STRING: _Fixed(403, _LOCKED["message"]),
    Odd.EMPTY_403: _Fixed(403),
    Odd.EMPTY_404: _Fixed(404),
    Odd.EMPTY_422: _Fixed(422),
    Odd.UNKNOWN_4XX: _Fixed(418, {"error": {"message": "I'm a teapot", "code": "teapot", "status": 418}}),
    Odd.THROTTLED_SECONDS: _Fixed(429, retry="seconds"),
    Odd.THROTTLED_DATE: _Fixed(429, retry="date"),
    Odd.THROTTLED_BARE: _Fixed(429),
    Odd.UNAVAILABLE_SECONDS: _Fixed(503, retry="seconds"),
    Odd.UNAVAILABLE_DATE: _Fixed(503, retry="date"),
    Odd.UNAVAILABLE_BARE: _Fixed(503),
    Odd.INTERNAL_ERROR: _Fixed(500, _INTERNAL),
    Odd.BAD_GATEWAY: _Fixed(502, _BAD_GATEWAY),
    Odd.GATEWAY_TIMEOUT: _Fixed(504, _BAD_GATEWAY),
}


def _one_bad_entry(listing: dict[str, Any]) -> dict[str, Any]:
    return listing | {"voicemails": [*listing["voicemails"], {"_id": None, "from": 7}]}


def _only_ids(listing: dict[str, Any]) -> dict[str, Any]:
    return {"voicemails": [{"_id": message["_id"]} for message in listing["voicemails"]]}


def _count_disagrees(listing: dict[str, Any]) -> dict[str, Any]:
    return listing | {"newCount": listing["newCount"] + 1}


_REWRITTEN: dict[Odd, Callable[[dict[str, Any]], dict[str, Any]]] = {
    Odd.ONE_BAD_ENTRY: _one_bad_entry,
    Odd.ONLY_IDS: _only_ids,
    Odd.COUNT_DISAGREES: _count_disagrees,
}


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b'{"newCount": 0, "voic')
    return _closed(request, response)


async def _drop(request: web.Request) -> web.StreamResponse:
    return _closed(request, web.Response())


async def _reset(request: web.Request) -> web.StreamResponse:
    if request.transport:
        _linger_not(request.transport.get_extra_info("socket"))
        request.transport.abort()
    return web.Response()


def _linger_not(connection: socket.socket) -> None:
    """Closing it now sends RST, not FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _closed(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    if request.transport:
        request.transport.close()
    return response


async def _hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("nothing wakes it but its end")


async def _drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for byte in b'{"newCount": 0, "oldCount": 0, "savedCount": 0, "voicemails": []}':
        await response.write(bytes([byte]))
        await asyncio.sleep(1)
    return response


async def _gigantic(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for block in repeat(b" " * _BLOCK):
        await response.write(block)
    return response


async def _gzip_bomb(request: web.Request) -> web.StreamResponse:
    return web.Response(body=_bomb(), headers={"Content-Encoding": "gzip"}, content_type="application/json")


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join([*(packer.compress(b" " * _BLOCK) for _ in range(BOMB // _BLOCK)), packer.flush()])


async def _redirect(request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": f"{request.rel_url.raw_path}?box=OLD"})


_SPOILT: dict[Odd, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
    Odd.CUT: _cut,
    Odd.DROP: _drop,
    Odd.RESET: _reset,
    Odd.HANG: _hang,
    Odd.DRIP: _drip,
    Odd.GIGANTIC: _gigantic,
    Odd.GZIP_BOMB: _gzip_bomb,
    Odd.REDIRECT: _redirect,
}


async def spoil(what: Odd, request: web.Request, ordinary: web.Response, now: Instant) -> web.StreamResponse:
    """The odd answer in the place of the ordinary one; a refusal is not rewritten, for it lists nothing."""
    if what in _FIXED:
        return _fixed(_FIXED[what], now)
    if what in _SPOILT:
        return await _SPOILT[what](request)
    if ordinary.status != 200:
        return ordinary
    body = bytes(ordinary.body or b"")  # type: ignore[arg-type]  # a Response of our own: bytes
    return json_answer(body[:-5] if what is Odd.TRUNCATED_JSON else _REWRITTEN[what](json.loads(body)))


def json_answer(body: Any, status: int = 200) -> web.Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return web.Response(status=status, body=raw, content_type="application/json")


def _fixed(answer: _Fixed, now: Instant) -> web.Response:
    response = json_answer(answer.body, answer.status)
    if isinstance(answer.body, bytes):
        response.content_type = "text/html"
    if answer.retry == "seconds":
        response.headers["Retry-After"] = str(RETRY_AFTER)
    if answer.retry == "date":
        response.headers["Retry-After"] = formatdate(now // SECOND + RETRY_AFTER, usegmt=True)
    return response
