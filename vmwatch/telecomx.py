"""The operator's client: asks for one line's mailbox, once, and gives the bytes of its answer or a Trouble.

Every request is a login with the PIN in its address. So nothing here is sent twice, no redirect is followed,
and no foreign exception leaves this file: each of theirs can print the address.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Self
from urllib.parse import quote

import aiohttp
from aiohttp import hdrs
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from vmwatch import __version__, reading
from vmwatch.errors import Trouble
from vmwatch.models import SECOND, Box, Duration, Instant, Mailbox, Reason

MAX_BODY = 8 * 2**20
"""Bytes of an answer, unpacked: more than the messages that `reading` takes at most."""
MOST_ADDRESSES = 2**16
"""Lines whose address is kept, at 1 kB each."""
_CONNECT: Duration = 5 * SECOND
_SILENCE: Duration = 10 * SECOND
_KEEPALIVE = 90.0
"""Seconds; aiohttp's own 15 would never reuse a connection at one poll a minute."""
_HEADERS = {
    hdrs.USER_AGENT: f"vmwatch/{__version__}",
    hdrs.ACCEPT: "application/json",
    # Else it depends on which libraries happen to be installed what the operator may send.
    hdrs.ACCEPT_ENCODING: "gzip, deflate",
}


@dataclass(slots=True)
class _Attempt:
    """How far one request came: what a failure means hangs on it."""

    sent: bool = False
    """The operator may have seen it, and counted a login."""
    answered: bool = False


_UNDER_WAY: ContextVar[_Attempt] = ContextVar("attempt")


class _NotTwice(Exception):  # noqa: N818 - it is a message to aiohttp
    """A failure of a kind that aiohttp does not know, and so hands on as it is."""


_FOREIGN = (aiohttp.ClientError, OSError, ValueError, _NotTwice)
"""Timeouts and TLS failures are OSErrors; addresses that are none, and host names, ValueErrors."""

_UNREACHED: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the operator's name was not found"),
    (aiohttp.ClientSSLError, "no secure connection could be made"),
    (TimeoutError, "connecting took too long"),
    (aiohttp.ClientConnectorError, "the connection was refused"),
)


class Telecomx:
    """One session with the operator, for all lines; to be entered once, and left when the last poll is over.

    `base_url` has no path of its own; `timeout` (ms) bounds one request from its start to its last byte;
    `concurrency` is how many may be under way at once, others wait within their own timeout.
    """

    _session: aiohttp.ClientSession

    def __init__(self, base_url: str, timeout: Duration, concurrency: int, now: Callable[[], Instant]) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._concurrency = concurrency
        self._now = now

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=_OncePerAttempt(limit=self._concurrency, keepalive_timeout=_KEEPALIVE),
            timeout=_limits(self._timeout),
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            # ~/.netrc would add an Authorization header, and a proxy's own 403 would read as the operator's.
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def fetch(self, number: str, pin: str, box: Box = Box.NEW) -> bytes:
        """One login: the body of a 200, unpacked, not parsed. Raises Trouble for everything else."""
        attempt = _Attempt()
        _UNDER_WAY.set(attempt)
        try:
            return await self._ask(number, pin, box, attempt)
        except _FOREIGN as error:
            trouble = _translated(error, attempt)
        # Outside the except: `from None` would hide the foreign exception, but keep it and the PIN in its text.
        raise trouble

    async def read(self, number: str, pin: str, box: Box = Box.NEW) -> Mailbox:
        """One login: the mailbox. Raises Trouble."""
        return reading.mailbox(await self.fetch(number, pin, box))

    async def _ask(self, number: str, pin: str, box: Box, attempt: _Attempt) -> bytes:
        url = _list_call(self._base_url, number, pin, box)
        async with self._session.get(url, allow_redirects=False) as response:
            attempt.answered = True
            if response.status == 200:
                return await _body(response)
            words = await _words(response)
            raise reading.refusal(response.status, words, response.headers.get(hdrs.RETRY_AFTER), self._now())


@lru_cache(MOST_ADDRESSES)
def _list_call(base_url: str, number: str, pin: str, box: Box) -> URL:
    """The address of one line's mailbox. Made once a line: aiohttp takes it apart, which costs a tenth of a poll."""
    return URL(f"{base_url}/mvno/voicemail/{quote(number, safe='')}/{quote(pin, safe='')}?box={box}", encoded=True)


def _limits(timeout: Duration) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=timeout / SECOND,
        sock_connect=min(timeout, _CONNECT) / SECOND,
        sock_read=min(timeout, _SILENCE) / SECOND,
    )


class _OncePerAttempt(aiohttp.TCPConnector):
    """Gives each attempt one connection, and so keeps aiohttp from sending a GET again by itself.

    It does so once when the connection is dropped, a new or a kept one, and has no switch for it (3.14). `connect` is
    the documented way from a request to its connection: right after it the request is written, and only then it
    may have arrived. A middleware and a trace would tell the same, at a tenth of a poll's CPU.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own name
    ) -> Connection:
        attempt = _UNDER_WAY.get()
        if attempt.sent:
            raise _NotTwice
        connection = await super().connect(req, traces, timeout)
        attempt.sent = True
        return connection


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while part := await response.content.readany():
        body += part
        if len(body) > MAX_BODY:
            raise Trouble(Reason.NOT_THE_OPERATOR, "the answer is too large")
    return bytes(body)


async def _words(response: aiohttp.ClientResponse) -> bytes:
    """What an error says of itself, nothing if it can't be read: then its status has to do."""
    try:
        return await _body(response)
    except (*_FOREIGN, Trouble):
        return b""


def _translated(error: Exception, attempt: _Attempt) -> Trouble:
    if not attempt.sent:
        return Trouble(Reason.NO_CONNECTION, _unreached(error))
    if isinstance(error, TimeoutError):
        return Trouble(Reason.TIMEOUT, "no whole answer in time")
    if attempt.answered:
        return Trouble(Reason.NOT_THE_OPERATOR, "the answer is cut short or can't be unpacked")
    if isinstance(error, aiohttp.ClientResponseError):
        # What it said of the PIN is lost, whoever garbled it.
        return Trouble(Reason.CONNECTION_LOST, "the answer is not HTTP")
    return Trouble(Reason.CONNECTION_LOST, "the connection was lost before an answer came")


def _unreached(error: Exception) -> str:
    return next((words for kind, words in _UNREACHED if isinstance(error, kind)), "no connection could be made")
