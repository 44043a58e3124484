"""Where alerts arrive in tests: a real webhook server and a real mail server on 127.0.0.1, both recording.

    async with Webhook() as hook:
        hook.manner = refuse(404)                        # may be changed at any time; ACCEPT at first
        await channel.send(...)                          # to hook.url ("json://127.0.0.1:PORT/…")
        (request,) = await hook.heard(1)                 # waits until so many have arrived

    async with MailServer() as mail:
        await channel.send(...)                          # to mail.url ("mailto://127.0.0.1:PORT/…")
        (letter,) = await mail.heard(1)
        letter.message["Subject"]

Whatever hangs or drips is let go when the server's block ends, so that no thread outlives its test for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import json
import socket
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Generic, Self, TypeVar

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass(frozen=True)
class Manner:
    """How a server treats what it receives; it records it in every manner."""

    status: int | None = None
    """None: says yes."""
    seconds: float = 0
    """How late it answers."""
    hangs: bool = False
    drips: bool = False
    """Answers a byte at a time, until the server's manner changes (webhook only)."""
    drops: bool = False
    """Breaks the connection off in place of an answer."""
    location: str | None = None


ACCEPT = Manner()
HANG = Manner(hangs=True)
DRIP = Manner(drips=True)
DROP = Manner(drops=True)


def refuse(status: int) -> Manner:
    return Manner(status=status)


def late(seconds: float) -> Manner:
    return Manner(seconds=seconds)


def redirect(location: str) -> Manner:
    return Manner(status=307, location=location)


@dataclass(frozen=True)
class Request:
    """What a webhook got; `body` is its JSON, or None."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Letter:
    """What a mail server got: the envelope's addresses and the parsed message."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage


R = TypeVar("R")


class _Recorder(Generic[R]):
    """What both servers share: the manner, the record, and the end of all hanging."""

    def __init__(self, manner: Manner = ACCEPT) -> None:
        self.manner = manner
        self.record: list[R] = []
        self.port = 0
        self._arrived = asyncio.Condition()
        self._over = asyncio.Event()

    async def heard(self, count: int) -> list[R]:
        """The record, once it holds `count` entries; TimeoutError after ten seconds."""
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: len(self.record) >= count)
        return self.record

    async def _keep(self, received: R) -> Manner:
        """Writes it down, and waits as the manner of this moment demands."""
        manner = self.manner
        async with self._arrived:
            self.record.append(received)
            self._arrived.notify_all()
        if manner.hangs or manner.seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), None if manner.hangs else manner.seconds)
        return manner


class Webhook(_Recorder[Request]):
    """An HTTP server that takes any request on any path; with `tls`, over HTTPS."""

    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """For Apprise; put a path behind it."""
        return f"json://127.0.0.1:{self.port}/"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        with contextlib.suppress(ConnectionError):  # the other side hung up, as it may
            read = await request.text()
            manner = await self._keep(Request(request.method, request.path_qs, dict(request.headers), _json(read)))
            if manner.drops or (manner.hangs and self._over.is_set()):
                _break_off(request.transport)
            if manner.drips:
                return await self._drip(request)
            if manner.status:
                return web.Response(status=manner.status, headers=_location(manner))
            return self._yes(request, read)
        return web.Response()

    def _yes(self, request: web.BaseRequest, read: str) -> web.Response:
        return web.Response()

    async def _drip(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        while self.manner.drips and not self._over.is_set():
            await response.write(b".")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), 0.05)
        _break_off(request.transport)
        return response


class MailServer(_Recorder[Letter]):
    """An SMTP server without TLS and login. `status` refuses the letter, after it was read."""

    @property
    def url(self) -> str:
        """For Apprise: a letter to donald@example.com; more may be added with `&`."""
        return f"mailto://127.0.0.1:{self.port}?mode=insecure&from=vmwatch@example.com&to=donald@example.com"

    async def __aenter__(self) -> Self:
        self._sessions: list[_Session] = []
        server = await asyncio.get_running_loop().create_server(self._session, "127.0.0.1", 0)
        self._server, self.port = server, server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for session in self._sessions:
            _break_off(session.transport)
        await asyncio.gather(*(session.gone.wait() for session in self._sessions))
        await self._server.wait_closed()

    def _session(self) -> SMTP:
        session = _Session(self, hostname="mail.example.com", enable_SMTPUTF8=True)
        self._sessions.append(session)
        return session

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        message = email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        manner = await self._keep(Letter(envelope.mail_from or "", tuple(envelope.rcpt_tos), message))
        if manner.drops:
            _break_off(server.transport)
            await self._over.wait()  # until aiosmtpd cancels this: there is nobody left to answer
        return f"{manner.status} no" if manner.status else "250 yes"


class _Session(SMTP):
    """One connection, which can be waited for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.gone = asyncio.Event()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.gone.set()


def closed_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _json(text: str) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return None


def _location(manner: Manner) -> dict[str, str]:
    return {"Location": manner.location} if manner.location else {}


def _break_off(transport: asyncio.BaseTransport | None) -> None:
    if isinstance(transport, asyncio.Transport):
        transport.abort()
