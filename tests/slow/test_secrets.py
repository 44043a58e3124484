"""No secret is told: canary PINs, URLs and tokens go through everything, and are looked for in all that is left.

Two lines of defence, each alone. The first is that no secret reaches a message: here it holds with the log's
redaction switched off. The second is that redaction: here it holds with the first line broken on purpose. Nothing
leaves 127.0.0.1: services elsewhere are asked for through a proxy that nobody listens on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import string
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from canaries import SIGNED, Canaries, Evidence
from receivers import MailServer, Webhook, closed_port
from world import Notices, until

from vmwatch.config import shape
from vmwatch.simulator import Odd, Simulator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
WORLDLY = string.ascii_uppercase + string.digits

# ---- the processes' wrapper: what production code has no switch for ----

REDACTION_OFF = """
from vmwatch.redaction import Redaction
Redaction.__call__ = lambda self, text: text
"""
WITNESS = """
import atexit, faulthandler, json, os, sys
faulthandler.enable()
atexit.register(lambda: open(f"environ-{os.getpid()}", "w").write(json.dumps(dict(os.environ))))
"""
ONE_VERB = """
from vmwatch.cli import main
raise SystemExit(main())
"""
MANY_VERBS = """
from vmwatch.cli import main
for case in json.load(sys.stdin):
    before = dict(os.environ)
    os.environ.update(case["environment"])
    try:
        status = main(case["arguments"])
    except SystemExit as end:
        status = end.code
    os.environ.clear(); os.environ.update(before)
    sys.stderr.flush(); print(f"\\nstatus {status}", flush=True)
"""


@dataclass
class Process:
    process: asyncio.subprocess.Process
    notices: Notices
    log: Path


@dataclass
class Cage:
    """A folder with a configuration full of canaries, the processes that run on it, and what they leave."""

    folder: Path
    operator: str
    canaries: Canaries = field(default_factory=Canaries)
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.evidence = Evidence(self.canaries)

    def line(self, name: str, number: str) -> str:
        """Adds a line to the configuration; returns its PIN."""
        self.lines[name] = {"number": number, "pin": self.canaries.pin(name)}
        return self.canaries.pin(name)

    def write(self) -> None:
        tables: dict[str, dict[str, Any]] = {
            "operator": {"base_url": self.operator, "timeout": "1s", "concurrency": 100},
            "web": {"listen": "", "public_url": "https://vm.example.com"},
            "contacts.carddav": {
                "url": f"http://127.0.0.1:{closed_port()}/book/",
                "user": "mette",
                "password": self.canaries.token("carddav"),
            },
            "polling": {"interval": "1s", "unreachable_after": "1s", "error_backoff": {"initial": "1s", "max": "1s"}},
            "delivery": {"timeout": "2s", "retry": {"initial": "1s", "max": "1s", "give_up_after": "3s"}},
            **{f"lines.{name}": line for name, line in self.lines.items()},
            **{f"channels.{name}": channel for name, channel in self.channels.items()},
        }
        (self.folder / "config.toml").write_text("\n".join(f"[{name}]\n{_toml(one)}" for name, one in tables.items()))

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VMWATCH_", "NOTIFY_"))}
        nobody = f"http://127.0.0.1:{closed_port()}"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), nobody)
        proxies |= {name.lower(): nobody for name in proxies}
        here = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        return kept | proxies | here | {"PYTHONPATH": str(ROOT), "PYTHONASYNCIODEBUG": "1", "TZ": "UTC"}

    @contextlib.asynccontextmanager
    async def started(self, code: str, *arguments: str) -> AsyncIterator[Process]:
        log = self.folder / f"said-{uuid4().hex[:8]}"
        with contextlib.closing(Notices()) as notices, log.open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", code, *arguments),
                cwd=self.folder,
                env=self.environment() | {"NOTIFY_SOCKET": notices.address},
                stdin=asyncio.subprocess.PIPE,
                stdout=said,
                stderr=said,
            )
            try:
                yield Process(process, notices, log)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                self.evidence.keep("systemd's socket", "\n".join(notices.listen()))
                self.evidence.keep(f"what {arguments or 'the verbs'} said", log.read_bytes())

    async def verbs(self, code: str, cases: Iterable[tuple[list[str], dict[str, str]]]) -> Counter[str]:
        """Runs one after the other in one process; how often each exit status was given."""
        told = json.dumps([{"arguments": arguments, "environment": more} for arguments, more in cases])
        async with self.started(code + MANY_VERBS) as batch:
            await asyncio.wait_for(batch.process.communicate(told.encode()), 120)
            assert batch.process.returncode == 0, batch.log.read_text()
            lines = batch.log.read_text().splitlines()
        return Counter(line.removeprefix("status ") for line in lines if line.startswith("status "))

    def keep_what_lies_around(self) -> None:
        """The store's files, a backup and a dump of it, and what the processes found in their environment."""
        self.evidence.keep_files(self.folder, lambda path: path.name.startswith(("vmwatch.db", "contacts", "environ-")))
        with contextlib.closing(sqlite3.connect(self.folder / "vmwatch.db")) as store:
            with contextlib.closing(sqlite3.connect(self.folder / "backup")) as backup:
                store.backup(backup)
            self.evidence.keep("a dump of the store", "\n".join(store.iterdump()))
        self.evidence.keep("a backup of the store", (self.folder / "backup").read_bytes())

    def keep_process(self, pid: int) -> None:
        """What `ps` shows of a process, of its threads and of its children, of which there are none."""
        proc = Path(f"/proc/{pid}")
        shown = ("cmdline", "comm", "status", "environ")
        threads = [path for path in proc.glob("task/*/comm") if path.parent.name != str(pid)]
        for path in [proc / name for name in shown] + threads:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread of a send is gone by now
                self.evidence.keep(str(path), path.read_bytes())
        for path in proc.glob("task/*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                assert path.read_text() == "", "vmwatch started a process"


def _toml(table: dict[str, Any]) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_value(one)}" for name, one in value.items()) + " }"
    return json.dumps(value)


# ---- channels that fail, each in the way of its kind ----


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A service that refuses everything, and repeats in its answer all it was sent; its port."""

    async def refuse(request: web.BaseRequest) -> web.Response:
        sent = f"{request.method} {request.path_qs} {dict(request.headers)} {await request.text()}"
        return web.Response(status=403, text=sent, headers={"X-Echo": request.path_qs})

    runner = web.ServerRunner(web.Server(refuse, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def failing_channels(canaries: Canaries, port: int, mail_port: int) -> dict[str, str]:
    """Seventeen kinds of Apprise URL, each with secrets of its own in every place that takes one."""

    def token(name: str, length: int = 24, letters: str = string.ascii_letters + string.digits) -> str:
        return canaries.token(name, length, letters)

    def login(name: str) -> str:
        return f"{token(f'{name} user')}:{token(f'{name} password')}"

    here = f"127.0.0.1:{port}"
    return {
        "json": f"json://{login('json')}@{here}/{token('json')}?+X-Token={token('json header')}",
        "jsons": f"jsons://{login('jsons')}@{here}/{token('jsons')}?verify=no",
        "xml": f"xml://{login('xml')}@{here}/{token('xml')}?-argument={token('xml argument')}",
        "form": f"form://{login('form')}@{here}/{token('form')}?method=get",
        "mail": f"mailto://{login('mail')}@127.0.0.1:{mail_port}?mode=insecure&from=a@example.com&to=b@example.com",
        "ntfy": f"ntfy://{login('ntfy')}@{here}/{token('ntfy')}",
        "mmost": f"mmost://{here}/{token('mmost')}",
        "gotify": f"gotify://{here}/{token('gotify')}",
        "matrix": f"matrix://{login('matrix')}@{here}/%23{token('matrix')}",
        "rocket": f"rocket://{login('rocket')}@{here}/%23{token('rocket')}",
        "apprise": f"apprise://{here}/{token('apprise')}",
        "slack": f"slack://{token('a', 9, WORLDLY)}/{token('b', 9, WORLDLY)}/{token('c')}/%23{token('slack').lower()}",
        "tgram": f"tgram://123456789:{token('tgram')}/4242",
        "discord": f"discord://{token('discord id')}/{token('discord')}",
        "pover": f"pover://{token('pover user', 30)}@{token('pover', 30)}",
        "pbul": f"pbul://{token('pbul', 32)}",
        "closed": f"json://{login('closed')}@127.0.0.1:{closed_port()}/{token('closed')}",
    }


# ---- the first line alone ----

LOOKING = [["status"], ["messages"], ["messages", "--new"], ["outbox"], ["outbox", "--all"]]
CHANGING = [
    *([["check"], ["check", "--online"], ["poll"], ["poll", "ok"], ["test"], ["pause", "ok", "--for", "1s"]]),
    *([["resume", "ok"], ["resume", "wrong"], ["outbox", "retry"], ["outbox", "drop", "1"], ["poll", "nobody"]]),
]


def both_ways(verbs: list[list[str]]) -> list[tuple[list[str], dict[str, str]]]:
    return [(verb + more, {}) for verb in verbs for more in ([], ["--json"])]


def add_lines(cage: Cage, operator: Simulator) -> None:
    """A line for each thing that an operator may answer."""
    names = ["ok", "wrong", "locked", "no_pin", "not_enabled", "unknown", *(f"odd_{odd.name.lower()}" for odd in Odd)]
    for place, name in enumerate(names):
        number = f"+4571{919900 + place}"
        pin = cage.line(name, number)
        operator.add_line(number, None if name == "no_pin" else pin[::-1] if name == "wrong" else pin)
        if name.startswith("odd_"):
            operator.odd(number, Odd[name.removeprefix("odd_").upper()])
    operator.set_line(cage.lines["not_enabled"]["number"], enabled=False)
    operator.set_line(cage.lines["unknown"]["number"], known=False)
    operator.lines[cage.lines["locked"]["number"]].locked_at = operator.now()
    operator.leave(cage.lines["ok"]["number"], name="Donald Duck")


@contextlib.asynccontextmanager
async def full_cage(folder: Path) -> AsyncIterator[tuple[Cage, Simulator, Webhook]]:
    async with Simulator() as operator, Webhook() as hook, MailServer() as mail, echo() as port:
        cage = Cage(folder, operator.base_url)
        add_lines(cage, operator)
        urls = failing_channels(cage.canaries, port, mail.port)
        cage.channels = {name: {"url": url} for name, url in urls.items()}
        cage.channels["good"] = {"url": f"{hook.url}{cage.canaries.token('good')}"}
        cage.write()
        yield cage, operator, hook
        told, links = SIGNED.subn(b"", bodies(hook))
        assert links, "an alert has its links, and is the only one to have them"
        cage.evidence.keep("what the good channel was told", told)


def bodies(hook: Webhook) -> bytes:
    return json.dumps([request.body for request in hook.record]).encode()


@pytest.mark.parametrize("form", ["text", "json"])
async def test_with_the_redaction_off_no_secret_comes_out_of_anything(form: str, tmp_path: Path) -> None:
    async with full_cage(tmp_path) as (cage, operator, hook):
        run = ("run", "--log-level", "debug", "--log-format", form)
        async with cage.started(REDACTION_OFF + WITNESS + ONE_VERB, *run) as daemon:
            await until(lambda: "READY=1" in daemon.notices.listen())
            await until(lambda: all(operator.logins(line["number"]) for line in cage.lines.values()), 30)
            await until(lambda: SIGNED.search(bodies(hook)) is not None, 30)
            cage.keep_process(daemon.process.pid)
            await cage.verbs(REDACTION_OFF + WITNESS, both_ways(LOOKING + (CHANGING if form == "text" else [])))
            await until(lambda: daemon.log.read_text().count(" dead, attempt") >= len(cage.channels) - 1, 60)
            (tmp_path / "config.toml").write_text("[lines.ok]\npin = " + cage.canaries.pin("ok"))
            daemon.process.send_signal(signal.SIGHUP)
            await until(lambda: "configuration is refused" in daemon.log.read_text())
            cage.write()
            daemon.process.send_signal(signal.SIGHUP)
            await until(lambda: "configuration was read again" in daemon.log.read_text())
            operator.blacklist()
            await until(lambda: "blacklisted" in daemon.log.read_text())
            cage.keep_what_lies_around()
            daemon.process.send_signal(signal.SIGTERM if form == "text" else signal.SIGABRT)
            await daemon.process.wait()
        if form == "text":
            await cage.verbs(REDACTION_OFF + WITNESS, both_ways(LOOKING + CHANGING))
        cage.keep_what_lies_around()
    failed = {name for name in cage.channels if f"channel {name}: " in cage.evidence.said}
    assert failed == set(cage.channels), "a channel was not even tried"
    if form == "json":
        assert "Fatal Python error: Aborted" in cage.evidence.said
    cage.evidence.clean()


def test_a_certificate_that_is_not_looked_at_is_not_told_of() -> None:
    """The warning names the host, which for some services is the secret."""
    code = """
from vmwatch.channels import prepare
prepare()
import warnings, urllib3
warnings.warn("request to host hidden", urllib3.exceptions.InsecureRequestWarning)
"""
    command = [sys.executable, "-W", "default::Warning", "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert done.stdout + done.stderr == b""


# ---- an operator that repeats what it was asked ----


async def _repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the request in every place that has room, in one of several ways that are wrong."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        asked = (await reader.readuntil(b"\r\n\r\n")).partition(b" HTTP/")[0].removeprefix(b"GET ")
        kind = int(asked.partition(b"?")[0].split(b"/")[-2][-1:])
        quoted = json.dumps({"error": {"message": asked.decode(), "code": asked.decode(), "path": asked.decode()}})
        said = [
            b"HTTP/1.1 403 %s\r\nSet-Cookie: %s;=bad\r\nContent-Length: %d\r\n\r\n%s"
            % (asked, asked, len(quoted), quoted.encode()),
            b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % asked,
            b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: 1\r\n\r\n{" % asked,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n%s" % (asked, asked),
            b"%s\r\n\r\n" % asked,
            b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % asked,
            b"HTTP/1.1 503 %s\r\nRetry-After: %s\r\nContent-Length: 9\r\n\r\n%s" % (asked, asked, asked[:5]),
            b'HTTP/1.1 200 OK\r\nContent-Type: %s; charset=%s\r\nContent-Length: 2\r\n\r\n""' % (asked, asked),
            b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n{}" % asked,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n" % asked,
        ][kind]
        writer.write(said)
        await writer.drain()
    writer.close()


async def test_an_operator_that_repeats_the_address_is_not_repeated(tmp_path: Path) -> None:
    async with await asyncio.start_server(_repeat, "127.0.0.1", 0) as server:
        cage = Cage(tmp_path, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for place in range(10):
            cage.line(f"line{place}", f"+457191999{place}")
        async with Webhook() as hook:
            cage.channels["good"] = {"url": f"{hook.url}{cage.canaries.token('good')}"}
            cage.write()
            async with cage.started(REDACTION_OFF + WITNESS + ONE_VERB, "run", "--log-level", "debug") as daemon:
                spoken = [f" line{place}: waiting -> " for place in range(10)]
                await until(lambda: all(words in daemon.log.read_text() for words in spoken), 30)
                daemon.process.send_signal(signal.SIGTERM)
                await daemon.process.wait()
            await cage.verbs(REDACTION_OFF + WITNESS, both_ways([["check", "--online"], ["poll"], *LOOKING]))
            cage.evidence.keep("the channel", json.dumps([request.body for request in hook.record]))
        cage.keep_what_lies_around()
    cage.evidence.clean()


FOREIGN = """
import aiohttp
from types import SimpleNamespace
from vmwatch import telecomx
from yarl import URL
async def failing(self, method, url, **more):
    attempt = telecomx._UNDER_WAY.get(None)
    if attempt is not None:
        attempt.sent = True
    line, asked = str(url).partition("?")[0].split("/")[-2][-1], SimpleNamespace(real_url=url, url=url, headers={})
    url = f"{url} {self.headers}"  # the address book's has its password there
    raise [
        lambda: aiohttp.ClientResponseError(asked, (), status=0, message=str(url)), lambda: aiohttp.InvalidURL(url),
        lambda: aiohttp.TooManyRedirects(asked, ()), lambda: ValueError(str(url)), lambda: OSError(5, str(url)),
        lambda: TimeoutError(str(url)), lambda: aiohttp.ServerDisconnectedError(str(url)),
        lambda: aiohttp.ClientPayloadError(str(url)), lambda: UnicodeError(str(url)),
        lambda: aiohttp.ContentTypeError(asked, (), message=str(url))][int(line) if line.isdigit() else 0]()
aiohttp.ClientSession._request = failing
"""
BUG = """
from vmwatch.telecomx import Telecomx
async def broken(self, number, pin, box, attempt):
    address = f"{self._base_url}/mvno/voicemail/{number}/{pin}"
    return {}["a key that is not there"]
Telecomx._ask = broken
"""


@pytest.mark.parametrize("breakage", [FOREIGN, BUG], ids=["foreign exceptions", "a bug beside a secret"])
async def test_with_the_redaction_off_no_exception_tells_a_secret(breakage: str, tmp_path: Path) -> None:
    cage = Cage(tmp_path, "http://127.0.0.1:9")
    for place in range(10):
        cage.line(f"line{place}", f"+457191999{place}")
    cage.channels["closed"] = {"url": f"json://127.0.0.1:{closed_port()}/{cage.canaries.token('closed')}"}
    cage.write()
    code = REDACTION_OFF + WITNESS + breakage
    async with cage.started(code + ONE_VERB, "run", "--log-level", "debug") as daemon:
        ended = asyncio.ensure_future(daemon.process.wait())
        spoken = [f" line{place}: waiting -> " for place in range(10)]
        await until(lambda: ended.done() or all(words in daemon.log.read_text() for words in spoken), 30)
        assert ended.done() is (breakage is BUG), daemon.log.read_text()
        ended.cancel()
    async with cage.started(code + ONE_VERB, "poll") as poll:
        await poll.process.wait()
    assert ("Traceback" in cage.evidence.said) is (breakage is BUG)
    cage.keep_what_lies_around()
    cage.evidence.clean()


# ---- configurations that are wrong ----

HOME, PHONE = "home", "phone"


def wrong_configurations(folder: Path, canaries: Canaries) -> Iterable[tuple[str | bytes, dict[str, str]]]:
    """Texts of a configuration, each wrong in its own way, and variables to go with them."""
    pin, token = canaries.pin(HOME), canaries.token(PHONE)
    url = f"json://{canaries.token('user')}:{canaries.token('password')}@hook.example.com/{token}"
    line, channel = '[lines.home]\nnumber = "+4571919998"\n', "[channels.phone]\n"
    has_pin, has_url = f'pin = "{pin}"\n', f'url = "{url}"\n'
    good = f"{line}{has_pin}{channel}{has_url}"
    return [
        *((text, {}) for text in _misplaced(line, channel, has_pin, has_url, pin, url)),
        *((line + wrong + channel + has_url, {}) for wrong in _wrong_pins(pin)),
        *((line + has_pin + channel + wrong, {}) for wrong in _wrong_urls(url, token)),
        *((text, {}) for text in _broken(good, line, channel, has_pin, has_url, pin, url)),
        *((good, {name: value}) for name, value in _wrong_variables(pin, url)),
        *((good, {"CREDENTIALS_DIRECTORY": str(path)}) for path in _wrong_credentials(folder, pin, url)),
    ]


def _misplaced(line: str, channel: str, has_pin: str, has_url: str, pin: str, url: str) -> Iterable[str]:
    """The secret under another key, and so missing under its own."""
    for key in shape.every_key("name"):
        key = tuple({"name": "home" if key[0] == "lines" else "phone"}.get(part, part) for part in key)
        for secret, without in ((pin, line + channel + has_url), (url, line + has_pin + channel)):
            yield f'{".".join(key)} = "{secret}"\n{without}'
            yield f'{".".join(key)} = ["{secret}"]\n{without}'
        yield f"{'.'.join(key)} = {pin}\n{line}{channel}{has_url}"


def _wrong_pins(pin: str) -> Iterable[str]:
    values = [pin, f'"{pin}1"', f'" {pin}"', f'"{pin}\\n"', f'"a{pin}"', f'["{pin}"]', f'{{ pin = "{pin}" }}']
    values += [f"{pin}.5", f"0x{pin}", f"-{pin}", f"1e{pin}", f'"""{pin}\n{pin}"""', f"'{pin}'x", f'"{pin}', f"'{pin}"]
    values += [f'"{pin}" "{pin}"', f'"\\q{pin}"', f'"{pin}\x00"', f'"\\ud800{pin}"', f'"{pin}"\npin = "{pin}"']
    values += [f'"{pin}"\npin_file = "{pin}"', f"1979-05-27T07:32:00.{pin}Z", f"'''{pin}"]
    yield from (f"pin = {value}\n" for value in values)
    yield from (f'{key} = "{pin}"\n' for key in ("pni", "Pin", "PIN", "pin_", "pins", "lines.home.pin", "pin.pin"))
    yield from (f'pin_file = "{name}"\n' for name in (pin, f" {pin}", f"{pin}/{pin}", f"+{pin}", f"{pin[:5]}-{pin}"))
    yield from (f'"{pin}" = "pin"\n', f"{pin} = 1\n", f"pin.{pin} = 1\n", f'pin = {{ "{pin}" = 1, "{pin}" = 2 }}\n')


def _wrong_urls(url: str, token: str) -> Iterable[str]:
    values = [f"{url},{url}", f" {url}", f"{url} ", f"{url}\\n", f"x{url}", url.replace("://", ":/"), f"{url}?retry=x"]
    values += [f"no{token}://{token}", f"tgram://{token}", f"slack://{token}", f"mailto://{token}", f"file:///{token}"]
    values += [f"json://[{token}", f"json://{token}:99999999", f"https://{token}.example.com/{token}", token]
    values += [f"ntfy://h.example.com/{token}/{token}2", f"dbus://{token}", f"windows://{token}", f"pover://{token}"]
    values += [
        f"mailto://a:{token}@example.com?to=b@example.com,c@example.com",
        f"json://u:{token}@",
        f"\\u0000{token}",
    ]
    yield from (f'url = "{value}"\n' for value in values)
    yield from (
        f"url = {value}\n" for value in (url, f'["{url}"]', f'{{ u = "{url}" }}', f'"{url}', f"'{url}", f'"""{url}')
    )
    yield from (f'url_file = "{name}"\n' for name in (url, token + ":", f"ntfy:{token}", f"a@{token}", f"{token}?"))
    yield from (f'{key} = "{url}"\n' for key in ("ulr", "Url", f'"{url}"', "url.url", f"'{url}'.url"))


def _broken(
    good: str, line: str, channel: str, has_pin: str, has_url: str, pin: str, url: str
) -> Iterable[str | bytes]:
    """Files that are no TOML, or whose tables stand twice."""
    yield from (
        good + good,
        good + line + has_pin,
        good + channel + has_url,
        good.replace("[", "[["),
        good.replace("]", ""),
    )
    yield from (good.replace("\n", "\r"), good.replace("\n", " "), good.replace('"', "“"), good.replace("=", ":"))
    yield from (
        good.encode("utf-16"),
        good.encode() + b"\xff",
        good.encode() + b"\0",
        b"\xef\xbb\xbf\xef\xbb\xbf" + good.encode(),
    )
    yield from (good[: good.index(pin) + len(pin)], good[: good.index(url) + len(url)], good + pin, good + url)
    yield from (f'[channels."{url}"]\n{has_url}' * 2, f'{good}[channels."{url}"]\n', f'{good}["{url}"]\n{has_url}')
    yield from (
        f'{good}[lines.home]\n"{url}" = 1\n',
        f"lines = '{pin}'\n{channel}{has_url}",
        f"channels = '{url}'\n{line}",
    )
    yield from (f"{line}{has_pin}channels = ['{url}']\n{channel}{has_url}", f"{line}{has_pin}label = '{url}\\u001b'\n")
    yield from (
        json.dumps({"lines": {"home": {"pin": pin}}}),
        f"pin={pin}\nurl={url}\n",
        f"lines:\n  home:\n    pin: {pin}\n",
    )
    yield "a = " + "[" * 20000 + f'"{pin}"'


def _wrong_variables(pin: str, url: str) -> Iterable[tuple[str, str]]:
    for name in ("LINES__HOME__PINN", "LINES__HOME", "LINES", "PIN", "LINES__HOME__PIN__X", "LINES__HOME__NUMBER"):
        yield f"VMWATCH_{name}", pin
    yield from (("VMWATCH_LINES__HOME__PIN", value) for value in (f"{pin}0", f'"{pin}"', f"{pin} ", f"x{pin}"))
    for name in ("CHANNELS__PHONE__ULR", "CHANNELS__PHONE", "CHANNELS", "URL", "STORE__URL", "OPERATOR__BASE_URL"):
        yield f"VMWATCH_{name}", url
    yield from (
        ("VMWATCH_CHANNELS__PHONE__URL", value) for value in (f"{url},{url}", f" {url}", "x" + url, f"{url}\x7f")
    )
    yield from (
        ("VMWATCH_LINES__HOME__CHANNELS", value) for value in (url, f'["{url}"', f'["{url}"]', f'{{"{url}": 1}}')
    )
    yield from (("VMWATCH_POLLING__INTERVAL", value) for value in (pin, url))
    yield from (("VMWATCH_LINES__HOME__PIN_FILE", pin), ("VMWATCH_CHANNELS__PHONE__URL_FILE", url))


def _wrong_credentials(folder: Path, pin: str, url: str) -> Iterable[Path]:
    wrong = {"lines__home__pin": f"{pin}\n\n", "lines__home__pinn": pin, "lines__home__pin ": pin, "lines__home": pin}
    wrong |= {"channels__phone__url": f"{url}\n{url}", "channels__phone": url, "vmwatch_lines__home__number": pin}
    for place, (name, content) in enumerate(wrong.items()):
        path = folder / f"credentials-{place}"
        path.mkdir()
        (path / name).write_bytes(content.encode() + b"\xff" * (place == 1))
        yield path


async def test_with_the_redaction_off_no_wrong_configuration_tells_a_secret(tmp_path: Path) -> None:
    cage = Cage(tmp_path, "http://127.0.0.1:9")
    cases = []
    for place, (text, variables) in enumerate(wrong_configurations(tmp_path, cage.canaries)):
        file = tmp_path / f"{place}.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        cases += [
            (["--config", str(file), verb, *more], variables) for verb, more in (("check", ["--json"]), ("status", []))
        ]
    statuses = await cage.verbs(REDACTION_OFF + WITNESS, cases)
    print(f"{len(cases) // 2} configurations, exit statuses {dict(statuses)}")
    assert statuses["78"] > 200
    assert set(statuses) <= {"0", "75", "78"}
    assert "Traceback" not in cage.evidence.said
    cage.evidence.clean()


# ---- the second line alone ----

LEAKING = """
import asyncio, logging, threading, warnings
from vmwatch import attempt, channels, poll, telecomx
log = logging.getLogger("vmwatch.leak")
honest_ask, honest_run = telecomx.Telecomx._ask, channels._run
class Leaky:
    def __init__(self, text): self.text = text
    def __repr__(self): return f"Leaky({self.text!r})"
    def __del__(self): raise RuntimeError(self.text)
def leak(text):
    log.info(text); log.info("asking %s with %r", text, text.encode(), extra={"line": text}); log.info("%d", text)
    log.warning("%r", Leaky(text)); warnings.warn(text, stacklevel=1)
    threading.Thread(target=lambda: 1 / 0 if not text else int(text)).start()
    try: raise ValueError(text)
    except ValueError: log.exception("it broke")
async def orphan(text): raise RuntimeError(text)
async def leaking_ask(self, number, pin, box, attempt):
    address = f"{self._base_url}/mvno/voicemail/{number}/{pin}?box=NEW"
    leak(address); leak(telecomx.quote(address, safe="")); leak(f"first line\\n{pin}")
    asyncio.create_task(orphan(address), name=address)
    if number.endswith("1"): raise RuntimeError(address)
    return await honest_ask(self, number, pin, box, attempt)
def leaking_run(url, text, *rest):
    leak(text.body); leak(url); leak(telecomx.quote(url, safe=""))
    threading.Thread(target=int, args=(url,), name=url).start()
    honest_run(url, text, *rest)
"""
LEAKS_AND_STOPS = LEAKING + "telecomx.Telecomx._ask = leaking_ask\n"
LEAKS_AND_LIVES = LEAKING + "channels._run = leaking_run\n"
UNREADABLE_CONFIG = """
from vmwatch import config
def broken(gathered, *rest): raise RuntimeError(str(gathered.tree))
config.judge = broken
"""


async def leaky_run(cage: Cage, code: str, form: str, operator: Simulator, port: int, mail_port: int) -> None:
    """A daemon until every channel was tried (or it stops), and a `poll`, with code that tells secrets on purpose."""
    for place in range(2):
        operator.add_line(f"+457191999{place}", cage.line(f"line{place}", f"+457191999{place}"))
    operator.leave("+4571919990")
    urls = failing_channels(cage.canaries, port, mail_port)
    cage.channels = {name: {"url": url} for name, url in urls.items()}
    cage.write()
    run = ("run", "--log-level", "debug", "--log-format", form)
    async with cage.started(WITNESS + code + ONE_VERB, *run) as daemon:
        if LEAKS_AND_STOPS in code:
            assert await asyncio.wait_for(daemon.process.wait(), 60) == 1
        else:
            await until(lambda: daemon.log.read_text().count("attempt 1 (") >= len(urls), 60)
    async with cage.started(WITNESS + code + ONE_VERB, "poll") as poll:
        assert await asyncio.wait_for(poll.process.wait(), 60) == 1


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("code", [LEAKS_AND_STOPS, LEAKS_AND_LIVES], ids=["the operator's client", "the channels"])
async def test_with_the_first_line_broken_the_redaction_holds(code: str, form: str, tmp_path: Path) -> None:
    async with Simulator() as operator, echo() as port, MailServer() as mail:
        cage = Cage(tmp_path, operator.base_url)
        await leaky_run(cage, code, form, operator, port, mail.port)
    assert cage.evidence.said.count("<secret>") > 20
    assert "Traceback" in cage.evidence.said
    stopped = "vmwatch stops because a part of it failed" in cage.evidence.said
    assert stopped is (code is LEAKS_AND_STOPS)
    cage.keep_what_lies_around()
    cage.evidence.clean()


async def test_with_both_lines_down_the_canaries_are_heard(tmp_path: Path) -> None:
    """So that silence elsewhere means something."""
    async with Simulator() as operator, echo() as port, MailServer() as mail:
        cage = Cage(tmp_path, operator.base_url)
        await leaky_run(cage, REDACTION_OFF + LEAKS_AND_LIVES, "text", operator, port, mail.port)
    heard = {what for _, content in cage.evidence.pieces for what in cage.canaries.found_in(content)}
    assert {"token of tgram, plain", "token of json, plain", "token of mail password, plain"} <= heard
    assert "a link of an alert" in heard


async def test_a_crash_before_any_secret_is_known_does_not_tell_what_it_held(tmp_path: Path) -> None:
    cage = Cage(tmp_path, "http://127.0.0.1:9")
    cage.line("home", "+4571919998")
    cage.channels["phone"] = {"url": f"json://127.0.0.1/{cage.canaries.token('phone')}"}
    cage.write()
    async with cage.started(WITNESS + UNREADABLE_CONFIG + ONE_VERB, "check") as check:
        assert await asyncio.wait_for(check.process.wait(), 60) == 1
    assert "RuntimeError" in cage.evidence.said
    cage.evidence.clean()
