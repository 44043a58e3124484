"""What vmwatch answers over HTTP, to whom, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ledgers import REFUSED, SENT, UNKNOWN, adopted, attempted, begun, claimed, polled
from pydantic import SecretStr
from values import standing
from visitors import Reply, ask, send
from world import until

from vmwatch import settings, tasks
from vmwatch.errors import ConfigError, LedgerError, ListenError
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import SECOND, LineState
from vmwatch.tally import Tally
from vmwatch.web import Beside, Facts, Web, listener
from vmwatch.web.asked import Request, json_pieces
from vmwatch.web.door import refusal

TOKEN = "hidden-token-of-the-page"
PATHS = ("/api/status", "/api/messages", "/api/outbox", "/api/openapi.json", "/metrics", "/healthz", "/readyz")
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
ANYWHERE = settings.Web(listen="127.0.0.1:0")


class Site(Web):
    """A site on a ledger of its own, with all that it tells of at hand."""

    def __init__(self, store: Path) -> None:
        self.clock, self.tally = Clock(), Tally()
        self.trouble: LedgerError | None = None
        super().__init__(Facts(f"sqlite:///{store}", self.clock, self.tally, lambda: self.trouble))

    async def ask(self, target: str = "/api/status", method: str = "GET", **more: Any) -> Reply:
        assert self.port is not None
        return await ask(self.port, target, method, **more)


@pytest.fixture
async def site(store: Path, ledger: Ledger) -> AsyncIterator[Site]:
    async with Site(store) as found:
        await found.use(ANYWHERE)
        yield found


def with_token(**more: Any) -> settings.Web:
    return settings.Web(listen="127.0.0.1:0", token=SecretStr(TOKEN), **more)


# ---- who is let in ----


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8480", "localhost", "LOCALHOST:1", "localhost.", "[::1]", "[::1]:8480", "192.0.2.7:80"],
)
async def test_whoever_asks_by_an_address_is_answered(site: Site, host: str) -> None:
    assert (await site.ask(host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "example.com:8480",
        "127.0.0.1.example.com",
        "localhost.example.com",
        "127.0.0.1@example.com",
        "",
        "[::1",
        "[example.com]",
        "localhost:80:80",
        "localhost:x",
        "127.0.0.1,example.com",
        "2130706433",
        None,
    ],
)
async def test_a_host_header_from_elsewhere_is_refused(site: Site, host: str | None) -> None:
    refused = await site.ask(host=host)
    assert refused.status in (400, 403)
    assert b"Home" not in refused.body


async def test_two_host_headers_are_refused(site: Site) -> None:
    assert site.port is not None
    raw = b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: example.com\r\n\r\n"
    assert (await send(site.port, raw)).status in (400, 403)


def test_of_two_headers_none_counts() -> None:
    """Whatever the server in front of it makes of them."""
    web, mine = with_token(), f"Bearer {TOKEN}"
    for hosts, authorizations, status in [
        (("localhost",), (mine,), None),
        (("localhost", "localhost"), (mine,), 403),
        (("localhost",), (mine, "Bearer other"), 401),
    ]:
        found = refusal(Request("GET", "/healthz", hosts=hosts, authorizations=authorizations), web, PATHS)
        assert (found and found.status) == status


async def test_a_name_that_was_configured_is_ours(site: Site) -> None:
    await site.use(ANYWHERE.model_copy(update={"hosts": ("status.example.com",)}))
    assert (await site.ask(host="Status.example.com:443")).status == 200
    assert (await site.ask(host="other.example.com")).status == 403


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
@pytest.mark.parametrize(
    "given",
    [
        "",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer ",
        "Bearer",
        f"Basic {TOKEN}",
        "Bearer \xe6\xf8\xe5",
    ],
)
async def test_without_the_token_nothing_is_told(site: Site, path: str, given: str) -> None:
    await site.use(with_token())
    refused = await site.ask(path, **({"Authorization": given} if given else {}))
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="vmwatch"'
    assert refused.json == {"error": "say who you are: Authorization: Bearer TOKEN, with the token of web.token"}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_with_the_token_everything_is_told(site: Site, scheme: str) -> None:
    await site.use(with_token())
    for path in PATHS:
        assert (await site.ask(path, Authorization=f"{scheme} {TOKEN}")).status in (200, 503)


# ---- what is refused ----


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
async def test_nothing_but_looking_is_answered(site: Site, method: str) -> None:
    refused = await site.ask(method=method)
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert refused.json == {"error": "only GET and HEAD are answered here"}


async def test_a_head_is_a_get_without_its_body(site: Site) -> None:
    whole, head = await site.ask("/healthz"), await site.ask("/healthz", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.body))


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/api",
        "/api/",
        "/api/status/",
        "//api/status",
        "/api//status",
        "/api/../api/status",
        "/api/%73tatus",
        "/api%2Fstatus",
        "/api/status%00",
        "/api/status;x=1",
        "/API/STATUS",
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/metrics/../healthz",
        "/healthz\\..\\",
    ],
)
async def test_tricks_with_paths_lead_nowhere(site: Site, path: str) -> None:
    refused = await site.ask(path)
    assert refused.status in (400, 404)
    assert b"root:" not in refused.body


async def test_a_long_path_is_not_even_read(site: Site) -> None:
    assert (await site.ask("/" + "a" * 1500)).status == 404
    assert (await site.ask("/" + "a" * 3000)).status == 400


@pytest.mark.parametrize("size", [1, 100_000, 20_000_000])
async def test_a_body_is_refused_without_being_kept(site: Site, size: int) -> None:
    assert site.port is not None
    head = f"GET /api/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    async with asyncio.timeout(6):  # what never comes is not waited for
        refused = await send(site.port, head.encode() + b"x" * min(size, 100_000))
    assert (refused.status, refused.json) == (413, {"error": "send no body: nothing here takes one"})


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /api/status?" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /api/status HTTP/9.9\r\nHost: localhost\r\n\r\n",
    ],
    ids=["long target", "long header", "many headers", "TLS", "nonsense", "another HTTP"],
)
async def test_what_is_no_proper_request_is_refused(site: Site, raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert site.port is not None
    refused = await send(site.port, raw)
    assert 400 <= refused.status < 500
    assert refused.headers["content-type"] == "application/json"
    assert refused.json == {"error": listener._BROKEN}
    assert (await site.ask()).status == 200
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG], "strangers don't fill the log"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("/api/status?x=1", "this is not understood behind the ?; nothing is"),
        ("/healthz?x", "this is not understood behind the ?; nothing is"),
        ("/api/messages?all=1", "this is not understood behind the ?; what is: line, new, limit"),
        ("/api/outbox?limit=1&limit=2", "the same is given twice behind the ?"),
        ("/api/outbox?limit=0", "limit: must be a whole number from 1 to 1000"),
        ("/api/outbox?limit=1001", "limit: must be a whole number from 1 to 1000"),
        ("/api/outbox?limit=-1", "limit: must be a whole number from 1 to 1000"),
        ("/api/outbox?limit=", "limit: must be a whole number from 1 to 1000"),
        ("/api/outbox?limit=%D9%A1", "limit: must be a whole number from 1 to 1000"),
        (f"/api/outbox?limit={'9' * 500}", "limit: must be a whole number from 1 to 1000"),
        ("/api/messages?new=perhaps", "new: must be 1 or 0"),
    ],
)
async def test_wrong_options_are_refused_in_a_sentence(site: Site, target: str, sentence: str) -> None:
    refused = await site.ask(target)
    assert (refused.status, refused.json) == (400, {"error": sentence})


@pytest.mark.parametrize("name", ["nobody", ""])
async def test_a_line_that_is_not_there_is_not_found(site: Site, name: str) -> None:
    found = await site.ask(f"/api/messages?line={name}")
    assert (found.status, found.json) == (404, {"error": "line: there is no such line; /api/status has their names"})


async def test_only_the_demo_s_own_window_may_frame_it_and_only_at_the_address_that_it_brought(
    site: Site, store: Path
) -> None:
    alone = await site.ask("/")
    assert "frame-ancestors 'none'" in alone.headers["content-security-policy"]
    assert alone.headers["x-frame-options"] == "DENY"
    bound = socket.create_server(("127.0.0.1", 0))
    port, origins = bound.getsockname()[1], ("http://127.0.0.1:1", "http://localhost:1")
    facts = Facts(f"sqlite:///{store}", Clock(), Tally(), lambda: None)
    async with Web(facts, beside=Beside(origins, bound)) as framed:
        await framed.use(ANYWHERE)
        assert framed.port == port
        for target in ("/", "/api/status", "/nothing-here"):
            reply = await ask(port, target)
            policy = reply.headers["content-security-policy"]
            assert policy.endswith("; frame-ancestors http://127.0.0.1:1 http://localhost:1")
            assert (
                policy.replace(" http://127.0.0.1:1 http://localhost:1", " 'none'")
                == ((await site.ask(target)).headers["content-security-policy"])
            )
            assert "x-frame-options" not in reply.headers


async def test_a_refusal_changes_nothing(site: Site, store: Path) -> None:
    def content() -> list[str]:
        with contextlib.closing(sqlite3.connect(store)) as connection:
            return list(connection.iterdump())

    before = content()
    for method in ("POST", "DELETE", "PUT"):
        for path in (*PATHS, "/api/lines/home/pause"):
            assert (await site.ask(path, method, body=b'{"line": "home"}')).status in (404, 405)
    assert content() == before


@pytest.mark.parametrize(
    ("target", "status"), [*((path, 200) for path in PATHS[:-1]), ("/nowhere", 404), ("/readyz", 503)]
)
async def test_every_answer_is_kept_out_of_caches_frames_and_scripts(site: Site, target: str, status: int) -> None:
    answer = await site.ask(target)
    assert answer.status == status
    assert (
        answer.headers.items()
        >= {
            "cache-control": "no-store",
            "connection": "close",
            "content-security-policy": POLICY,
            "cross-origin-resource-policy": "same-origin",
            "referrer-policy": "no-referrer",
            "server": "vmwatch",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
        }.items()
    )
    assert not [name for name in answer.headers if name.startswith("access-control")]


# ---- health ----


async def test_the_process_lives(site: Site) -> None:
    answer = await site.ask("/healthz")
    assert (answer.status, answer.json) == (200, {"healthy": True, "reason": "the process lives"})


async def test_it_is_ready_once_a_round_was_completed_and_a_line_was_read(site: Site, store: Path) -> None:
    first = await site.ask("/readyz")
    assert (first.status, first.json["ready"], first.json["reason"]) == (503, False, "no round was completed yet")
    assert first.json["checks"]["lines"] == "no line is read (home: waiting); look: vmwatch status"
    site.tally.round_ended(site.clock.now())
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("UPDATE line SET state = 'ok', reason = 'read'")
    await asyncio.sleep(0.6)  # an answer is kept for a moment
    ready = await site.ask("/readyz")
    assert (ready.status, ready.json["ready"]) == (200, True)
    assert ready.json["checks"] == {"rounds": None, "ledger": None, "lines": None}


async def test_it_is_not_ready_while_the_store_takes_nothing(site: Site) -> None:
    site.tally.round_ended(site.clock.now())
    site.trouble = LedgerError("/srv/vmwatch.db: the disk is full: make room, nothing is lost")
    answer = await site.ask("/readyz")
    assert (answer.status, answer.json["reason"]) == (503, str(site.trouble))


async def test_it_is_not_ready_once_rounds_stand_still(site: Site) -> None:
    site.tally.round_ended(site.clock.now() - 45 * SECOND)
    assert (await site.ask("/readyz")).json["reason"] == "no round was completed for 45 s"


async def test_a_store_that_can_t_be_read_is_told_and_the_process_lives_on(site: Site, store: Path) -> None:
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE line RENAME TO elsewhere")
    broken = await site.ask("/api/status")
    assert (broken.status, list(broken.json)) == (503, ["error"])
    assert (await site.ask("/healthz")).status == 200


# ---- what the answers promise ----


async def test_the_document_names_every_path_and_no_other(site: Site) -> None:
    document = (await site.ask("/api/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == set(PATHS)


def objection(value: Any, schema: dict[str, Any], document: dict[str, Any], at: str = "") -> str | None:
    """What a JSON Schema has against a value, as far as the document's own words go."""
    if "$ref" in schema:
        return objection(value, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document, at)
    if "anyOf" in schema:
        return None if any(objection(value, one, document, at) is None for one in schema["anyOf"]) else f"{at}: none"
    kinds = {"string": str, "integer": int, "boolean": bool, "null": type(None), "object": dict, "array": list}
    wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if type(value) not in [kinds[kind] for kind in wanted]:
        return f"{at}: is {value!r}, not {wanted}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{at}: {value} is none of {schema['enum']}"
    if isinstance(value, list):
        return next(filter(None, (objection(one, schema["items"], document, f"{at}[]") for one in value)), None)
    if isinstance(value, dict) and "properties" in schema:
        if set(value) != set(schema["required"]) or set(value) != set(schema["properties"]):
            return f"{at}: has {sorted(value)}"
        parts = (objection(value[key], one, document, f"{at}.{key}") for key, one in schema["properties"].items())
        return next(filter(None, parts), None)
    return None


@pytest.mark.parametrize(
    "target",
    [
        "/api/status",
        "/api/messages",
        "/api/messages?new=1&line=home&limit=3",
        "/api/outbox?all=1",
        "/healthz",
        "/readyz",
        "/api/openapi.json",
        "/nowhere?",
        "/api/outbox?x",
    ],
)
async def test_every_answer_is_as_the_document_says(site: Site, ledger: Ledger, target: str) -> None:
    await a_full_life(ledger)
    document, answer = (await site.ask("/api/openapi.json")).json, await site.ask(target)
    path = target.partition("?")[0]
    if path in document["paths"]:
        content = document["paths"][path]["get"]["responses"][str(answer.status)]["content"]
        assert objection(answer.json, content["application/json"]["schema"], document) is None
    else:
        assert objection(answer.json, document["components"]["schemas"]["Error"], document) is None


async def a_full_life(ledger: Ledger) -> None:
    """A line that was read, messages, and deliveries in every state."""
    await begun(ledger)
    await polled(ledger, "a", "b")
    await attempted(ledger, await claimed(ledger), SENT)
    await attempted(ledger, await claimed(ledger), REFUSED)
    await attempted(ledger, await claimed(ledger, "mail"), UNKNOWN)


# ---- how much and how long ----


async def idle(port: int) -> asyncio.StreamReader:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/status HTTP/1.1\r\n")
    _OPEN.append(writer)
    return reader


_OPEN: list[asyncio.StreamWriter] = []


@pytest.fixture
async def ended() -> AsyncIterator[None]:
    yield
    while _OPEN:
        writer = _OPEN.pop()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.usefixtures("ended")
async def test_whoever_is_slow_is_dropped(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LONGEST_S", 0.3)
    monkeypatch.setattr(listener, "LOOK_S", 0.1)
    await site.use(settings.Web(listen="localhost:0"))
    assert site.port is not None
    reader = await idle(site.port)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 10) == b""


@pytest.mark.usefixtures("ended")
async def test_connections_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MOST_CONNECTIONS", 3)
    assert site.port is not None
    for _ in range(3):
        await idle(site.port)
    assert (await site.ask()).status == 503
    _OPEN.pop().close()

    async def answers() -> bool:
        return (await site.ask()).status == 200

    await until(answers)


async def test_a_connection_serves_one_request(site: Site) -> None:
    assert site.port is not None
    twice = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2
    assert (await send(site.port, twice)).body.count(b"the process lives") == 1


async def test_the_same_asked_many_times_is_looked_up_once(site: Site) -> None:
    looked: list[str] = []

    made = site._kept._made

    async def counted(key: Any, make: Any) -> Any:
        looked.append(key)
        return await made(key, make)

    site._kept._made = counted  # type: ignore[method-assign]
    answers = await asyncio.gather(*(site.ask() for _ in range(30)))
    assert {answer.status for answer in answers} == {200}
    assert len(looked) < 5


# ---- the address ----


@contextlib.contextmanager
def taken() -> Any:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def unasked(port: int) -> settings.Web:
    """As if that port were the default."""
    return settings.Web.model_construct(_fields_set=set(), listen=f"127.0.0.1:{port}", token=None, hosts=())


async def test_an_address_that_was_asked_for_and_is_taken_is_an_error(store: Path, ledger: Ledger) -> None:
    with taken() as port:
        async with Site(store) as site:
            with pytest.raises(ListenError) as caught:
                await site.use(settings.Web(listen=f"127.0.0.1:{port}"))
    assert str(caught.value) == f"web.listen: 127.0.0.1:{port} can't be listened on: Address already in use"
    assert caught.value.status == 75


async def test_an_address_that_is_not_this_machine_s_is_an_error(store: Path, ledger: Ledger) -> None:
    async with Site(store) as site:
        with pytest.raises(ListenError, match="can't be listened on: Cannot assign requested address"):
            await site.use(settings.Web(listen="192.0.2.7:8480", token=SecretStr(TOKEN)))


async def test_the_default_address_being_taken_is_a_warning(
    store: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    with taken() as port:
        async with Site(store) as site:
            await site.use(unasked(port))
            assert site.port is None
            (record,) = caplog.records
            assert (record.levelname, record.getMessage()) == (
                "WARNING",
                f"web.listen: 127.0.0.1:{port} can't be listened on: Address already in use; "
                'vmwatch goes on without: set web.listen to another address, or to ""',
            )
    async with Site(store) as site:
        await site.use(unasked(port))
        assert site.port == port


async def test_another_address_replaces_the_old_one_also_one_that_holds_it(site: Site) -> None:
    before = site.port
    assert before is not None
    await site.use(settings.Web(listen=f"0.0.0.0:{before}", token=SecretStr(TOKEN)))
    assert site.port == before
    assert (await site.ask()).status == 401
    await site.use(ANYWHERE)
    assert (await site.ask()).status == 200
    await site.use(settings.Web(listen=""))
    assert site.port is None
    with pytest.raises(ConnectionError):
        await ask(before)


async def test_an_address_that_can_t_be_had_leaves_the_old_one_as_it_was(site: Site) -> None:
    await site.use(with_token())
    with taken() as port, pytest.raises(ListenError):
        await site.use(settings.Web(listen=f"127.0.0.1:{port}"))
    assert (await site.ask()).status == 401
    assert (await site.ask(Authorization=f"Bearer {TOKEN}")).status == 200


async def test_a_changed_token_counts_at_once_and_the_listener_stays(site: Site) -> None:
    before = site.port
    await site.use(with_token())
    assert (await site.ask()).status == 401
    assert site.port == before


async def test_what_only_a_person_can_mend_is_a_refused_configuration() -> None:
    from vmwatch.web import site as one

    trouble = one._trouble(settings.Web(listen="127.0.0.1:80"), PermissionError(13, "Permission denied"))
    assert isinstance(trouble, ConfigError)
    assert str(trouble) == "web.listen: 127.0.0.1:80 can't be listened on: Permission denied"


def of_files(store: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of all that lies beside the store; -shm only counts readers."""
    files = [file for file in store.parent.glob("vmwatch.db*") if not file.name.endswith("-shm")]
    return {file.name: (stat.S_IMODE(file.stat().st_mode), file.read_bytes()) for file in files}


async def test_the_store_is_only_looked_at(store: Path, ledger: Ledger) -> None:
    before = of_files(store)
    async with Site(store) as site:
        await site.use(ANYWHERE)
        for path in PATHS:
            await site.ask(path)
    assert of_files(store) == before


# ---- many lines ----


async def test_a_look_at_many_lines_lets_everything_else_have_its_turn(
    ledger: Ledger, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that is due waits for one piece of it, not for all."""
    lines, at_once, turns = 100, 20, 0

    async def sleep(seconds: float) -> None:
        nonlocal turns
        turns += 1

    await adopted(ledger, *(standing(number=f"+45719{n:05}", name=f"line{n}") for n in range(lines)))
    monkeypatch.setattr(tasks, "AT_ONCE", at_once)
    monkeypatch.setattr(tasks, "asyncio", SimpleNamespace(sleep=sleep))
    assert len(await ledger.lines.standings()) == lines
    assert turns == lines // at_once
    reply = await site.ask("/metrics")
    states = reply.text.count("vmwatch_line_state{")
    assert states == lines * len(LineState)
    assert turns > 3 * lines // at_once + states // at_once
    turns = 0
    reply = await site.ask("/api/status")
    assert len(reply.json["lines"]) == lines
    assert turns == 3 * lines // at_once + len(list(json_pieces(reply.json))) // at_once
