"""The operator's client against the simulated operator and against worse, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest

from vmwatch import __version__
from vmwatch.errors import Trouble
from vmwatch.models import SECOND, Box, Duration, Mailbox, Reason
from vmwatch.reading import mailbox
from vmwatch.simulator import Odd, Simulator
from vmwatch.telecomx import MAX_BODY, Telecomx

NUMBER = "+4571919998"
PIN = "0735"
NOW = 1_704_067_200_000
EMPTY = b'{"newCount": 0, "oldCount": 0, "savedCount": 0, "voicemails": []}'


@pytest.fixture
async def operator() -> AsyncIterator[Simulator]:
    async with Simulator(now=lambda: NOW) as simulator:
        simulator.add_line(NUMBER, PIN)
        yield simulator


def client(base_url: str, limit: Duration = 5 * SECOND, concurrency: int = 5) -> Telecomx:
    return Telecomx(base_url, limit, concurrency, lambda: NOW)


async def trouble_with(base_url: str, pin: str = PIN, number: str = NUMBER, limit: Duration = 5 * SECOND) -> Trouble:
    async with client(base_url, limit) as telecomx:
        with pytest.raises(Trouble) as caught:
            await telecomx.read(number, pin)
    assert_nothing_told(caught.value, pin, number)
    return caught.value


def assert_nothing_told(trouble: Trouble, *secrets: str) -> None:
    """Neither the trouble nor anything that hangs on it holds the PIN or the number."""
    assert trouble.__cause__ is None
    assert trouble.__context__ is None
    told = "".join(traceback.format_exception(trouble)) + f"{trouble!s}{trouble!r}{trouble.detail}{trouble.args}"
    for secret in secrets:
        assert secret.lstrip("+") not in told


async def test_a_mailbox_is_read(operator: Simulator) -> None:
    heard, fresh = operator.leave(NUMBER, caller=None, name=None), operator.leave(NUMBER, length=12)
    operator.hear(NUMBER, heard)
    async with client(operator.base_url) as telecomx:
        new = await telecomx.read(NUMBER, PIN)
        old = await telecomx.read(NUMBER, PIN, Box.OLD)
        saved = await telecomx.read(NUMBER, PIN, Box.SAVED)
    assert [(message.id, message.caller, message.length) for message in new.messages] == [(fresh, "+4599778822", 12)]
    assert [(message.id, message.caller, message.played) for message in old.messages] == [(heard, None, True)]
    assert (saved.messages, saved.new, saved.old, saved.saved) == ((), 1, 1, 0)
    assert [login.box for login in operator.logins(NUMBER)] == ["NEW", "OLD", "SAVED"]
    assert operator.violations() == []


async def test_equal_mailboxes_are_equal_bytes(operator: Simulator) -> None:
    operator.leave(NUMBER)
    async with client(operator.base_url) as telecomx:
        assert await telecomx.fetch(NUMBER, PIN) == await telecomx.fetch(NUMBER, PIN)


async def test_every_row_of_the_operators_table(operator: Simulator) -> None:
    operator.add_line("+4571919901", None)
    operator.add_line("+4571919902", PIN, enabled=False)
    url = operator.base_url
    assert (await trouble_with(url, number="+4571919901")).reason is Reason.PIN_REJECTED
    assert (await trouble_with(url, number="+4571919902")).reason is Reason.NOT_ENABLED
    assert (await trouble_with(url, number="+4571919903")).reason is Reason.UNKNOWN_NUMBER
    wrong = [(await trouble_with(url, pin="9999")).reason for _ in range(4)]
    assert wrong == [Reason.PIN_REJECTED] * 3 + [Reason.PIN_LOCKED]
    assert (await trouble_with(url)).reason is Reason.PIN_LOCKED
    operator.blacklist()
    assert (await trouble_with(url)).reason is Reason.BLACKLISTED
    assert len(operator.logins(NUMBER)) == 6


ODD_ANSWERS = [
    (Odd.HTML, Reason.NOT_THE_OPERATOR, None),
    (Odd.EMPTY, Reason.NOT_THE_OPERATOR, None),
    (Odd.NOT_JSON, Reason.NOT_THE_OPERATOR, None),
    (Odd.WRONG_SHAPE, Reason.NOT_THE_OPERATOR, None),
    (Odd.TRUNCATED_JSON, Reason.NOT_THE_OPERATOR, None),
    (Odd.REDIRECT, Reason.NOT_THE_OPERATOR, None),
    (Odd.CUT, Reason.NOT_THE_OPERATOR, None),
    (Odd.GIGANTIC, Reason.NOT_THE_OPERATOR, None),
    (Odd.GZIP_BOMB, Reason.NOT_THE_OPERATOR, None),
    (Odd.DROP, Reason.CONNECTION_LOST, None),
    (Odd.RESET, Reason.CONNECTION_LOST, None),
    (Odd.HANG, Reason.TIMEOUT, None),
    (Odd.DRIP, Reason.TIMEOUT, None),
    (Odd.ERROR_LIST, Reason.PIN_LOCKED, None),
    (Odd.ERRORS_LIST, Reason.PIN_REJECTED, None),
    (Odd.ERROR_TEXT, Reason.PIN_REJECTED, None),
    (Odd.BARE_STRING, Reason.PIN_LOCKED, None),
    (Odd.EMPTY_403, Reason.REFUSAL_UNCLEAR, None),
    (Odd.EMPTY_404, Reason.REFUSAL_UNCLEAR, None),
    (Odd.EMPTY_422, Reason.REFUSAL_UNCLEAR, None),
    (Odd.UNKNOWN_4XX, Reason.REFUSAL_UNCLEAR, None),
    (Odd.THROTTLED_SECONDS, Reason.THROTTLED, 120 * SECOND),
    (Odd.THROTTLED_DATE, Reason.THROTTLED, 120 * SECOND),
    (Odd.THROTTLED_BARE, Reason.THROTTLED, None),
    (Odd.UNAVAILABLE_SECONDS, Reason.THROTTLED, 120 * SECOND),
    (Odd.UNAVAILABLE_DATE, Reason.THROTTLED, 120 * SECOND),
    (Odd.UNAVAILABLE_BARE, Reason.OPERATOR_ERROR, None),
    (Odd.INTERNAL_ERROR, Reason.OPERATOR_ERROR, None),
    (Odd.BAD_GATEWAY, Reason.GATEWAY_ERROR, None),
    (Odd.GATEWAY_TIMEOUT, Reason.GATEWAY_ERROR, None),
]
READABLE = {Odd.ONE_BAD_ENTRY, Odd.ONLY_IDS, Odd.COUNT_DISAGREES}


@pytest.mark.parametrize(("what", "reason", "wait"), ODD_ANSWERS, ids=lambda value: str(value))
async def test_an_odd_answer_is_one_trouble_and_one_login(
    operator: Simulator, what: Odd, reason: Reason, wait: Duration | None
) -> None:
    operator.odd(NUMBER, what)
    trouble = await trouble_with(operator.base_url, limit=500 if reason is Reason.TIMEOUT else 5 * SECOND)
    assert (trouble.reason, trouble.wait) == (reason, wait)
    assert len(operator.logins(NUMBER)) == 1
    assert operator.violations() == []


def test_no_odd_answer_is_left_out() -> None:
    assert {what for what, _, _ in ODD_ANSWERS} | READABLE == set(Odd)


@pytest.mark.parametrize(("what", "new", "unreadable"), [
    (Odd.ONE_BAD_ENTRY, 1, 1),
    (Odd.ONLY_IDS, None, 0),
    (Odd.COUNT_DISAGREES, 2, 0),
])  # fmt: skip
async def test_an_answer_with_a_flaw_is_read(operator: Simulator, what: Odd, new: int | None, unreadable: int) -> None:
    known = operator.leave(NUMBER)
    operator.odd(NUMBER, what)
    async with client(operator.base_url) as telecomx:
        found = await telecomx.read(NUMBER, PIN)
    assert ([message.id for message in found.messages], found.new, found.unreadable) == ([known], new, unreadable)


@pytest.mark.parametrize("what", [Odd.DROP, Odd.RESET])
async def test_a_dropped_connection_is_not_asked_again_by_the_library(operator: Simulator, what: Odd) -> None:
    async with client(operator.base_url) as telecomx:
        await telecomx.read(NUMBER, PIN)
        operator.odd(NUMBER, what, times=1)
        with pytest.raises(Trouble) as caught:
            await telecomx.read(NUMBER, PIN)
        assert caught.value.reason is Reason.CONNECTION_LOST
        assert len(operator.logins(NUMBER)) == 2
        assert await telecomx.read(NUMBER, PIN) == Mailbox(new=0, old=0, saved=0)


@pytest.mark.parametrize("what", [Odd.GIGANTIC, Odd.GZIP_BOMB])
async def test_an_endless_answer_costs_little_time_and_memory(operator: Simulator, what: Odd) -> None:
    operator.odd(NUMBER, what, times=1)
    async with client(operator.base_url) as telecomx:
        with pytest.raises(Trouble):
            await telecomx.fetch(NUMBER, PIN)  # packs the bomb
        operator.odd(NUMBER, what, times=1)
        tracemalloc.start()
        started = time.monotonic()
        with pytest.raises(Trouble) as caught:
            await telecomx.fetch(NUMBER, PIN)
        took, (_, peak) = time.monotonic() - started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert caught.value.detail == "the answer is too large"
    assert took < 2
    assert peak < 5 * MAX_BODY


async def test_a_large_mailbox_is_read_whole(operator: Simulator) -> None:
    for _ in range(2000):
        operator.leave(NUMBER)
    async with client(operator.base_url) as telecomx:
        assert len((await telecomx.read(NUMBER, PIN)).messages) == 2000


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(handle: Handler) -> AsyncIterator[str]:
    """Whatever `handle` does to a connection; its requests are its own business."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling = asyncio.ensure_future(handle(reader, writer))
        under_way.add(handling)
        await asyncio.wait([handling])
        writer.close()

    under_way: set[asyncio.Future[None]] = set()
    async with await asyncio.start_server(connected, "127.0.0.1", 0) as listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        for handling in under_way:
            handling.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await asyncio.sleep(0)


def answering(raw: bytes, seen: list[bytes], linger: float = 0) -> AbstractAsyncContextManager[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(raw)
        await writer.drain()
        await asyncio.sleep(linger)

    return server(handle)


def raw(status: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


LENGTH_OF_MORE = "Content-Length: 500"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", Reason.CONNECTION_LOST),
        (b"HTTP/1.1 200 O", Reason.CONNECTION_LOST),
        (b"HTTP/1.1 200 OK\r\nContent-Type: appl", Reason.CONNECTION_LOST),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Reason.CONNECTION_LOST),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Reason.CONNECTION_LOST),
        (raw("200 OK", "X: " + "x" * 20_000), Reason.CONNECTION_LOST),
        (raw("200 OK", LENGTH_OF_MORE, body=EMPTY), Reason.NOT_THE_OPERATOR),
        (raw("200 OK", "Transfer-Encoding: chunked", body=b"5\r\n{"), Reason.NOT_THE_OPERATOR),
        (raw("200 OK", "Transfer-Encoding: chunked", body=b"zz\r\n{}\r\n"), Reason.CONNECTION_LOST),
        (raw("200 OK", "Transfer-Encoding: chunked", body=b"1\r\n{}}\r\n"), Reason.CONNECTION_LOST),
        (raw("200 OK", "Content-Encoding: gzip", "Content-Length: 4", body=b"gzip"), Reason.NOT_THE_OPERATOR),
        (raw("200 OK", "Content-Encoding: deflate", "Content-Length: 4", body=b"gzip"), Reason.NOT_THE_OPERATOR),
        (raw("200 OK", "Content-Encoding: br", "Content-Length: 4", body=b"brot"), Reason.CONNECTION_LOST),
        (raw("200 OK", "Content-Encoding: rot13", "Content-Length: 4", body=b"ebg1"), Reason.NOT_THE_OPERATOR),
        (raw("204 No Content"), Reason.NOT_THE_OPERATOR),
        (raw("304 Not Modified"), Reason.NOT_THE_OPERATOR),
        (raw("101 Switching Protocols", "Upgrade: websocket", "Connection: upgrade"), Reason.NOT_THE_OPERATOR),
        (raw("301 Moved", "Location: /elsewhere", "Content-Length: 0"), Reason.NOT_THE_OPERATOR),
        (raw("307 Moved", "Location: http://[", "Content-Length: 0"), Reason.NOT_THE_OPERATOR),
        # An error whose body can't be read is known by its status.
        (raw("403 Forbidden", LENGTH_OF_MORE, body=b"{"), Reason.REFUSAL_UNCLEAR),
        (raw("422 No", "Content-Encoding: gzip", "Content-Length: 4", body=b"gzip"), Reason.REFUSAL_UNCLEAR),
        (raw("404 No", "Transfer-Encoding: chunked", body=b"5\r\n{"), Reason.REFUSAL_UNCLEAR),
        (raw("403 No", f"Content-Length: {2 * MAX_BODY}", body=b" " * 2 * MAX_BODY), Reason.REFUSAL_UNCLEAR),
        (raw("502 Bad Gateway", LENGTH_OF_MORE, body=b"<"), Reason.GATEWAY_ERROR),
        (raw("429 Slow", LENGTH_OF_MORE, body=b"<"), Reason.THROTTLED),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_a_broken_answer_is_one_trouble_and_one_request(answer: bytes, reason: Reason) -> None:
    seen: list[bytes] = []
    async with answering(answer, seen) as address:
        trouble = await trouble_with(f"http://{address}", limit=2 * SECOND)
    assert (trouble.reason, len(seen)) == (reason, 1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n", Reason.TIMEOUT),
        (raw("200 OK", LENGTH_OF_MORE, body=EMPTY), Reason.TIMEOUT),
        (raw("200 OK", "Transfer-Encoding: chunked", body=b"zz\r\n{}\r\n"), Reason.CONNECTION_LOST),
        (raw("403 Forbidden", LENGTH_OF_MORE, body=b"{"), Reason.REFUSAL_UNCLEAR),
        (raw("500 Oh", LENGTH_OF_MORE, body=b"{"), Reason.OPERATOR_ERROR),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_an_answer_that_stops_without_an_end(answer: bytes, reason: Reason) -> None:
    seen: list[bytes] = []
    async with answering(answer, seen, linger=2) as address:
        trouble = await trouble_with(f"http://{address}", limit=300)
    assert (trouble.reason, len(seen)) == (reason, 1)


async def test_what_is_sent_is_one_plain_get() -> None:
    seen: list[bytes] = []
    answer = raw("200 OK", f"Content-Length: {len(EMPTY)}", body=EMPTY)
    async with answering(answer, seen) as address, client(f"http://{address}/") as telecomx:
        assert await telecomx.fetch(NUMBER, PIN, Box.SAVED) == EMPTY
    line, *headers = seen[0].decode().strip().split("\r\n")
    assert line == "GET /mvno/voicemail/%2B4571919998/0735?box=SAVED HTTP/1.1"
    assert sorted(headers) == [
        "Accept-Encoding: gzip, deflate",
        "Accept: application/json",
        f"Host: {address}",
        f"User-Agent: vmwatch/{__version__}",
    ]


async def test_a_cookie_is_not_kept() -> None:
    seen: list[bytes] = []
    answer = raw("200 OK", "Set-Cookie: a=b", "Connection: close", f"Content-Length: {len(EMPTY)}", body=EMPTY)
    async with answering(answer, seen) as address:
        named = address.replace("127.0.0.1", "localhost")  # a cookie jar keeps none of a bare address
        async with client(f"http://{named}") as telecomx:
            await telecomx.fetch(NUMBER, PIN)
            await telecomx.fetch(NUMBER, PIN)
    assert len(seen) == 2
    assert b"ookie" not in seen[1]


async def test_a_connection_is_kept_for_the_next_poll() -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(raw("200 OK", f"Content-Length: {len(EMPTY)}", body=EMPTY))

    async with server(handle) as address, client(f"http://{address}") as telecomx:
        for _ in range(3):
            await telecomx.fetch(NUMBER, PIN)
    assert connections == 1


async def test_the_environment_adds_no_proxy_and_no_login(operator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with client(operator.base_url) as telecomx:
        assert mailbox(await telecomx.fetch(NUMBER, PIN)) == Mailbox(new=0, old=0, saved=0)


async def _silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def _refusing_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(raw("400 Bad Request", "Content-Length: 0"))


async def closed_port() -> str:
    async with server(_silence) as address:
        return address


async def test_a_refused_connection_reached_nobody() -> None:
    trouble = await trouble_with(f"http://{await closed_port()}")
    assert (trouble.reason, trouble.detail) == (Reason.NO_CONNECTION, "the connection was refused")


async def test_an_unknown_host_reached_nobody() -> None:
    trouble = await trouble_with("http://operator.invalid")
    assert (trouble.reason, trouble.detail) == (Reason.NO_CONNECTION, "the operator's name was not found")


async def test_a_failed_handshake_reached_nobody() -> None:
    async with server(_refusing_tls) as address:
        trouble = await trouble_with(f"https://{address}")
    assert (trouble.reason, trouble.detail) == (Reason.NO_CONNECTION, "no secure connection could be made")


async def test_a_timeout_while_connecting_reached_nobody() -> None:
    async with server(_silence) as address:
        trouble = await trouble_with(f"https://{address}", limit=300)  # a TLS handshake that nobody answers
    assert (trouble.reason, trouble.detail) == (Reason.NO_CONNECTION, "connecting took too long")


async def test_a_timeout_while_waiting_for_a_turn_reached_nobody(operator: Simulator) -> None:
    numbers = [f"+45719199{tail:02}" for tail in range(5)]
    for number in numbers:
        operator.odd(number, Odd.HANG)
    async with client(operator.base_url, limit=300, concurrency=1) as telecomx:
        asked = (telecomx.fetch(number, PIN) for number in numbers)
        troubles = dict(zip(numbers, await asyncio.gather(*asked, return_exceptions=True), strict=True))
    reasons = {number: trouble.reason for number, trouble in troubles.items() if isinstance(trouble, Trouble)}
    assert reasons[numbers[0]] is Reason.TIMEOUT
    assert reasons[numbers[-1]] is Reason.NO_CONNECTION
    assert {reasons[number] for number in numbers if operator.logins(number)} == {Reason.TIMEOUT}


@pytest.mark.parametrize(
    ("base_url", "number"),
    [
        ("http://127.0.0.1:99999", NUMBER),
        ("http://", NUMBER),
        ("ftp://127.0.0.1", NUMBER),
        ("nonsense", NUMBER),
        ("http://" + "x" * 300 + ".invalid", NUMBER),
        ("http://a..b.invalid", NUMBER),
        ("http://127.0.0.1:1", "\ud800" + NUMBER),
    ],
)
async def test_an_address_that_is_none_reached_nobody(base_url: str, number: str) -> None:
    assert (await trouble_with(base_url, number=number)).reason is Reason.NO_CONNECTION


async def test_cancelling_is_no_trouble() -> None:
    arrived = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()

    async with server(handle) as address, client(f"http://{address}") as telecomx:
        asked = asyncio.create_task(telecomx.fetch(NUMBER, PIN))
        await arrived.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_no_more_are_under_way_at_once_than_allowed() -> None:
    numbers = [f"+45719199{tail:02}" for tail in range(12)]
    async with Simulator(delay=20) as operator, client(operator.base_url, concurrency=3) as telecomx:
        for number in numbers:
            operator.add_line(number, PIN)
        started = time.monotonic()
        await asyncio.gather(*(telecomx.read(number, PIN) for number in numbers))
        assert time.monotonic() - started >= len(numbers) / 3 * 0.02


async def test_nothing_is_logged_while_things_go_wrong(operator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for what in (Odd.DROP, Odd.CUT, Odd.REDIRECT, Odd.HTML, Odd.EMPTY_422, Odd.HANG):
        operator.odd(NUMBER, what)
        await trouble_with(operator.base_url, limit=300)
    assert PIN not in caplog.text
    assert NUMBER.lstrip("+") not in caplog.text
