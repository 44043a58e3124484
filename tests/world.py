"""A world to try vmwatch in: a simulated operator, a folder with a configuration, and vmwatch as real processes.

    async with world_in(tmp_path) as world:
        world.line("home")                                  # at the operator and in the configuration
        world.channel("phone", hook.url)
        async with world.running() as daemon:               # `vmwatch run`, ready when this begins
            await world.until(world.state_is("home", "ok")) # waits by looking, with a deadline
        verb = await world.vmwatch("status", "--json")      # a verb, run to its end

`bench` has the same parts inside the test's own process, with a clock that can be turned on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeAlias
from uuid import uuid4

import warm

from vmwatch import shapes
from vmwatch.adopt import adopt
from vmwatch.attempt import Attempts
from vmwatch.book import EMPTY, Book
from vmwatch.channels import Channel, prepare
from vmwatch.deliver import Deliverer
from vmwatch.follow import Follower
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import MINUTE, Decision, Duration, Instant
from vmwatch.pins import tag
from vmwatch.poll import Poller
from vmwatch.settings import Settings
from vmwatch.simulator import Simulator
from vmwatch.telecomx import Telecomx

AnyProcess: TypeAlias = asyncio.subprocess.Process | warm.Process
PIN, WRONG_PIN = "8352", "9461"
PATIENCE_S = 15.0
"""How long anything that must happen may take: far more than it needs, for a machine that does other things too."""
_LOOK_AGAIN_S = 0.03
_NOISE = re.compile(
    r"Traceback|Task was destroyed|never retrieved|never awaited|Exception ignored|Unclosed|ResourceWarning|Event loop"
)
_FAST: dict[str, dict[str, Any]] = {
    "operator": {"timeout": "5s"},
    "polling": {"interval": "1s", "jitter": 0},
    "web": {"listen": ""},
}


def number_of(place: int) -> str:
    """The number of the line that was the `place`th to be added."""
    return f"+45{71919998 + place}"


# ---- vmwatch as processes ----


@dataclass(frozen=True)
class Ran:
    """A verb that was run to its end."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Notices:
    """The socket that a service tells its supervisor on (sd_notify), as systemd would listen to it."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.datagrams: list[str] = []
        self._name = f"vmwatch-test-{uuid4().hex}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self._name)
        self._socket.setblocking(False)

    @property
    def address(self) -> str:
        return "@" + self._name

    def listen(self) -> list[str]:
        """Everything that was said until now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.datagrams.append(self._socket.recv(65536).decode())
                self.heard += self.datagrams[-1].splitlines()
        return self.heard

    def close(self) -> None:
        self._socket.close()


@dataclass
class Running:
    """A `vmwatch run` (or another verb that goes on); what it says goes to a file."""

    process: AnyProcess
    errors: Path
    notices: Notices

    def said(self) -> str:
        return self.errors.read_text()

    def has_said(self, words: str) -> Callable[[], bool]:
        return lambda: words in self.said()

    def has_noticed(self, words: str, times: int = 1) -> Callable[[], bool]:
        return lambda: self.notices.listen().count(words) >= times

    async def ready(self) -> None:
        await until(lambda: self.process.returncode is not None or self.has_noticed("READY=1")())
        assert self.process.returncode is None, self.said()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """What a power cut or the out-of-memory killer does."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Ask it to stop; returns how many seconds that took. It must end well and without noise."""
        began = time.monotonic()
        self.send(number)
        status = await asyncio.wait_for(self.process.wait(), 2 * PATIENCE_S)
        assert status == 0, self.said()
        assert not _NOISE.search(self.said()), self.said()
        return time.monotonic() - began


@dataclass
class World:
    """An operator and a folder with a configuration of it, from which vmwatch is run."""

    folder: Path
    operator: Simulator
    config: dict[str, dict[str, Any]]
    environment: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)

    # -- what is configured --

    def line(self, name: str, *, pin: str = PIN, told: str | None = None, **more: Any) -> str:
        """Add a line; `told` is the PIN in the configuration where that is not the line's own. Returns its number."""
        number = self.numbers.setdefault(name, number_of(len(self.numbers)))
        self.operator.add_line(number, pin)
        self.config[f"lines.{name}"] = {"number": number, "pin": told or pin, **more}
        return number

    def channel(self, name: str, url: str, **more: Any) -> None:
        self.config[f"channels.{name}"] = {"url": url, **more}

    @property
    def file(self) -> Path:
        return self.folder / "config.toml"

    @property
    def store(self) -> Path:
        return self.folder / "vmwatch.db"

    @property
    def store_url(self) -> str:
        """A file beside the configuration, unless that says otherwise."""
        return str(self.config.get("store", {}).get("url", f"sqlite:///{self.store}"))

    def write(self) -> None:
        """At once, as an editor does it: verbs that run side by side must not read half of it."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text("".join(f"[{name}]\n{_toml(table)}\n" for name, table in self.config.items()))
        fresh.replace(self.file)

    # -- vmwatch --

    async def vmwatch(self, *arguments: str, config: bool = True, cold: bool = False, **environment: str) -> Ran:
        """A verb, run to its end, with the configuration as it now is. It must not end with a traceback."""
        if config:
            self.write()
        with self._new_file("out-") as out, self._new_file("err-") as err:
            process = await self._start(arguments, out, err, environment, cold=cold)
            async with _ended(process):
                status = await asyncio.wait_for(process.wait(), 2 * PATIENCE_S)
            ran = Ran(status, Path(out.name).read_text(), Path(err.name).read_text())  # noqa: ASYNC240
        assert not _NOISE.search(ran.err), ran.err
        return ran

    @contextlib.asynccontextmanager
    async def started(
        self, *arguments: str, config: bool = True, cold: bool = False, **environment: str
    ) -> AsyncIterator[Running]:
        """`vmwatch run` from its very first moment, which `ready` waits for the end of."""
        if config:
            self.write()
        notices = Notices()
        with contextlib.closing(notices), self._new_file("said-") as said:
            more = {"NOTIFY_SOCKET": notices.address, **environment}
            process = await self._start(arguments or ("run",), said, said, more, cold=cold)
            async with _ended(process):
                yield Running(process, Path(said.name), notices)

    async def _start(
        self, arguments: tuple[str, ...], out: IO[str], err: IO[str], more: Mapping[str, str], *, cold: bool
    ) -> AnyProcess:
        """`cold`: from the very command, which takes half a second to read its modules."""
        environment = self._environment(more)
        if not cold:
            return await warm.start(arguments, self.folder, environment, out.fileno(), err.fileno())
        command = (sys.executable, "-m", "vmwatch", *arguments)
        return await asyncio.create_subprocess_exec(*command, cwd=self.folder, env=environment, stdout=out, stderr=err)

    def _new_file(self, prefix: str) -> IO[str]:
        return tempfile.NamedTemporaryFile("w", dir=self.folder, prefix=prefix, delete=False)

    @contextlib.asynccontextmanager
    async def running(self, *arguments: str, cold: bool = False, **environment: str) -> AsyncIterator[Running]:
        """`vmwatch run`, ready; stopped at the end if it still runs then, which must go well."""
        async with self.started(*arguments, cold=cold, **environment) as daemon:
            await daemon.ready()
            yield daemon
            if daemon.process.returncode is None:
                await daemon.stop()

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VMWATCH_", "NOTIFY_"))}
        own = {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONWARNINGS": "default::ResourceWarning", "TZ": "UTC"}
        return kept | own | self.environment | dict(more)

    # -- what can be seen --

    async def look(self) -> dict[str, Any]:
        """The same as `status --json`, by the same code, without a process: for waiting."""
        ledger = await Ledger.open(self.store_url, create=False)
        try:
            return await shapes.status(await shapes.seen(ledger, Clock().now()))
        finally:
            await ledger.close()

    async def line_seen(self, name: str) -> dict[str, Any]:
        return by_name((await self.look())["lines"])[name]

    async def outbox(self) -> list[dict[str, Any]]:
        """The same as `outbox --all --json`, the earliest first."""
        ledger = await Ledger.open(self.store_url, create=False)
        try:
            return [shapes.delivery(owed) for owed in reversed(await ledger.outbox.listing(everything=True, most=999))]
        finally:
            await ledger.close()

    def state_is(self, name: str, state: str, reason: str | None = None) -> Callable[[], Awaitable[bool]]:
        async def condition() -> bool:
            line = await self.line_seen(name)
            return line["state"] == state and reason in (None, line["reason"])

        return condition

    def polled(self, name: str, times: int) -> Callable[[], bool]:
        """Whether the operator saw so many more logins of a line than it had seen by now."""
        enough = len(self.logins(name)) + times
        return lambda: len(self.logins(name)) >= enough

    def logins(self, name: str) -> list[Any]:
        return self.operator.logins(self.numbers[name])

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Look into the store, or change it as time would have changed it."""
        with contextlib.closing(sqlite3.connect(self.store, timeout=5, isolation_level=None)) as connection:
            return connection.execute(statement, parameters).fetchall()

    def new_pin(self, name: str) -> str:
        """A PIN for the line that vmwatch will notice to be another one; it can't, once in 256 times."""
        ((salt,),) = self.sql("SELECT value FROM meta WHERE key = 'salt'")
        return unlike(bytes.fromhex(salt), self.operator, self.numbers[name], self.config[f"lines.{name}"]["pin"])

    def let_time_pass(self, name: str) -> None:
        """A line's wait and its claim are over."""
        self.sql(
            "UPDATE line SET next_poll_at = 0, claimed_until = 0, version = version + 1 "
            "WHERE name = ? AND next_poll_at IS NOT NULL",
            name,
        )


@contextlib.asynccontextmanager
async def world_in(folder: Path, kind: type[Simulator] = Simulator, **simulator: Any) -> AsyncIterator[World]:
    _make(folder)
    async with kind(**simulator) as operator:
        config = {name: dict(table) for name, table in _FAST.items()}
        config["operator"]["base_url"] = operator.base_url
        yield World(folder, operator, config)
        assert not operator.violations(), "vmwatch sent what it must never send"


def _make(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


async def until(condition: Callable[[], bool | Awaitable[bool]], within: float = PATIENCE_S) -> None:
    """Wait until something is so, by looking again and again; AssertionError when it takes too long."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(_LOOK_AGAIN_S)


def unlike(salt: bytes, operator: Simulator, number: str, pin: str) -> str:
    """Another PIN whose tag is another one too."""

    def tag_of(one: str) -> int:
        return tag(salt, operator.base_url, number, one)

    return next(str(other) for other in range(7000, 9999) if tag_of(str(other)) != tag_of(pin))


def by_name(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in entries}


def instant(iso: str) -> Instant:
    """Milliseconds since 1970 of what JSON shows."""
    assert iso.endswith("Z"), iso
    return round(datetime.fromisoformat(iso).astimezone(UTC).timestamp() * 1000)


@contextlib.asynccontextmanager
async def _ended(process: AnyProcess) -> AsyncIterator[None]:
    """No process outlives its test."""
    try:
        yield
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _toml(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value)


# ---- the same parts, inside the test ----


class TurnedClock(Clock):
    """The time at which it was made, and what the test let pass since: a case never hangs on a millisecond."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead: Duration = 0
        self._begun = super().now()

    def now(self) -> Instant:
        return self._begun + self.ahead


@dataclass
class Bench:
    """A poller and a deliverer on one ledger, whose rounds the test itself begins."""

    ledger: Ledger
    clock: TurnedClock
    poller: Poller
    deliverer: Deliverer
    follower: Follower
    decisions: list[Decision]
    """What was recorded; a quiet poll leaves none."""
    folder: Path

    def use(self, settings: Settings, client: Telecomx) -> None:
        self.poller.use(settings, client)
        self.deliverer.use(settings, channels_of(settings))

    async def poll(self, turn: Duration = 0) -> int:
        """Let `turn` ms pass, then one whole round of polls."""
        self.clock.ahead += turn
        begun = await self.poller.round()
        await self.poller.idle()
        return begun

    async def deliver(self, turn: Duration = 0) -> None:
        """Let `turn` ms pass, then one whole round of deliveries."""
        self.clock.ahead += turn
        await self.deliverer.round()
        await self.deliverer.idle()

    async def follow(self, turn: Duration = 0) -> None:
        """Let `turn` ms pass, then one round of what is owed until messages are heard."""
        self.clock.ahead += turn
        await self.follower.round()

    async def line(self, name: str) -> dict[str, Any]:
        lines = await shapes.lines_shown(self.ledger, self.clock.now())
        return by_name([shapes.line(line) for line in lines])[name]

    async def channel(self, name: str) -> dict[str, Any]:
        return by_name([shapes.channel(view) for view in await self.ledger.outbox.channels()])[name]

    async def outbox(self) -> list[dict[str, Any]]:
        """Every delivery there ever was, the earliest first."""
        owed = await self.ledger.outbox.listing(everything=True, most=999)
        return [shapes.delivery(one) for one in reversed(owed)]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Another process holds the store meanwhile: nothing can be written."""
        with contextlib.closing(sqlite3.connect(self.folder / "vmwatch.db", isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    async def told(self) -> list[str]:
        """The kinds of alert that were owed, a delivery each, the earliest first."""
        return [one["kind"] for one in await self.outbox()]


def channels_of(settings: Settings) -> dict[str, Channel]:
    return {name: Channel(name, channel.url.get_secret_value()) for name, channel in settings.channels.items()}


@contextlib.asynccontextmanager
async def bench_in(
    folder: Path,
    settings: Settings,
    ring: Callable[[], None] = lambda: None,
    store_url: str | None = None,
    book: Book = EMPTY,
) -> AsyncIterator[Bench]:
    """The parts of a daemon that watches by these settings, with nothing yet begun."""
    prepare()
    clock, decisions = TurnedClock(), list[Decision]()
    operator = settings.operator
    ledger = await Ledger.open(store_url or f"sqlite:///{folder / 'vmwatch.db'}", create=True, role="daemon")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(ledger.close)
        await adopt(ledger, settings, clock.now())
        client = await stack.enter_async_context(
            Telecomx(operator.base_url, operator.timeout, operator.concurrency, clock.now)
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        attempts = Attempts(ledger, clock, decisions.append, book=lambda: book)
        poller = Poller(ledger, clock, attempts, tasks, ring)
        deliverer, follower = Deliverer(ledger, clock, tasks, UTC, book=lambda: book), Follower(ledger, clock, UTC)
        bench = Bench(ledger, clock, poller, deliverer, follower, decisions, folder)
        bench.use(settings, client)
        await follower.use(settings)
        yield bench
        await asyncio.gather(poller.stop(0.1), bench.deliverer.stop(0.1))


async def turn(bench: Bench, minutes: int) -> None:
    """Minutes pass as they do for a daemon: each with a poll, a look at what is to be told again, and deliveries."""
    for _ in range(minutes):
        await bench.poll(MINUTE)
        await bench.follow()
        await bench.deliver()


def settings_of(simulator: Simulator, channels: Mapping[str, Any], lines: int = 1, **tables: Any) -> Settings:
    """Lines `line0`, `line1`… at the operator, each read once a minute, and channels by their URLs or tables."""
    numbers = {f"line{place}": number_of(place) for place in range(lines)}
    for number in numbers.values():
        simulator.add_line(number, PIN)
    return Settings.model_validate(
        {
            "operator": {"base_url": simulator.base_url, "timeout": "5s"} | tables.pop("operator", {}),
            "polling": {"jitter": 0} | tables.pop("polling", {}),
            "web": {"listen": ""} | tables.pop("web", {}),
            "lines": {name: {"number": number, "pin": PIN} for name, number in numbers.items()},
            "channels": {name: url if isinstance(url, dict) else {"url": url} for name, url in channels.items()},
            **tables,
        }
    )
