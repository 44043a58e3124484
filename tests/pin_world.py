"""The world of the PIN model: vmwatch's own parts as processes over a real ledger and the simulated operator.

In it are a daemon (`vmwatch.daemon.Daemon`, whose heart the model beats) and verbs (`vmwatch.cli.asking.ask`), each a
process as far as the store and the operator can tell: it can be killed or held at any point between two outside
effects, and nothing it does after its death gets out. Time is the world's own: a wall clock that people set, and a
steady one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import ContextVar
from datetime import UTC
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pin_book import Attempt, Line, Operator

from vmwatch import daemon as daemon_module
from vmwatch.cli import acting, asking, desk
from vmwatch.config import Loaded
from vmwatch.errors import Trouble
from vmwatch.heartbeat import STEP, Clock
from vmwatch.ledger import Ledger, sqlite
from vmwatch.ledger.sqlite import SqliteEngine
from vmwatch.models import FOREVER, Duration, Instant
from vmwatch.pins import tag
from vmwatch.settings import Settings
from vmwatch.telecomx import Telecomx

T = TypeVar("T")
Commit = Callable[[], Awaitable[T]]

TIMEOUT: Duration = 150
"""One request, in real time: the only wait here that is not the world's own."""
NAMES = ("a", "b", "c")
NUMBERS = dict(zip(NAMES, ("+4571919991", "+4571919992", "+4571919993"), strict=True))
PINS = 4
"""How many PINs of each line the steps choose from; the operator begins with the first."""
BEGINNING: Instant = 1_704_067_200_000


class Point(StrEnum):
    """Where a process can be stopped: between any two of its outside effects."""

    ADOPTING = "before the configuration's commit"
    ADOPTED = "after it"
    SHIFTING = "before the commit that follows the clock"
    SHIFTED = "after it"
    CLAIMING = "before the claim's commit"
    CLAIMED = "after it, before the request"
    SENT = "while the request is under way"
    ANSWERED = "after the answer"
    RECORDING = "before the record's commit"
    RECORDED = "after it"


ON_A_LINE = (Point.CLAIMED, Point.SENT, Point.ANSWERED, Point.RECORDING, Point.RECORDED)
_AROUND = {
    "configure": (Point.ADOPTING, Point.ADOPTED),
    "shift": (Point.SHIFTING, Point.SHIFTED),
    "take": (Point.CLAIMING, None),
    "record": (Point.RECORDING, Point.RECORDED),
}
"""The points before and after a commit, by the function whose transaction it is."""


# ---- processes ----


class Fate:
    """Where a process stops, and on which lines: to be killed there, or held and let go on."""

    def __init__(self, point: Point | None = None, names: Iterable[str] = NAMES) -> None:
        self.point = point
        self.names = frozenset(names)
        self.stopped: set[asyncio.Task[Any]] = set()
        self.changed = asyncio.Event()
        self.free = asyncio.Event()

    def is_here(self, point: Point | None, name: str | None) -> bool:
        return point is not None and point is self.point and (name is None or name in self.names)

    async def at(self, point: Point | None, name: str | None = None) -> None:
        if self.is_here(point, name):
            self.stopped.add(_this_task())
            self.changed.set()
            await self.free.wait()
            self.stopped.discard(_this_task())


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


PROCESS: ContextVar[Process] = ContextVar("process")


class Process:
    """One process of vmwatch: all that runs in it knows it, and stops where its fate says."""

    def __init__(self, world: World, fate: Fate | None = None) -> None:
        self.world = world
        self.fate = fate or Fate()
        self.clock = WorldClock(world)
        self.config = world.config()
        self.followed = world.set_by
        """How far the wall clock was set when this process last went by it."""
        self.main: asyncio.Task[Any]
        self.errands: list[asyncio.Task[Any]] = []
        self.attempts: dict[asyncio.Task[Any], Attempt] = {}
        self.dead = False

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        async def as_process() -> T:
            PROCESS.set(self)
            return await work

        return asyncio.ensure_future(as_process())

    async def settle(self, *errands: asyncio.Task[Any]) -> bool:
        """Wait until all of it is done, or stopped as its fate has it. Whether it was stopped."""
        while tasks := self._waited_for(errands):
            self.fate.changed.clear()
            change = asyncio.ensure_future(self.fate.changed.wait())
            await asyncio.wait([*tasks, change], return_when=asyncio.FIRST_COMPLETED)
            change.cancel()
            await asyncio.sleep(0)  # whatever began together has begun
        for errand in errands:
            if errand.done() and not errand.cancelled():
                errand.result()
        return bool(self.fate.stopped)

    def _waited_for(self, errands: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        return [task for task in (*errands, *self.attempts) if not task.done() and task not in self.fate.stopped]

    def release(self) -> None:
        """A process that was held goes on."""
        free, self.fate = self.fate.free, Fate()
        free.set()

    async def kill(self) -> None:
        """Nothing of it goes out any more. What the system then closes is closed."""
        self.dead = True
        tasks = [*self.errands, self.main]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self.ended()

    def ended(self) -> None:
        self.dead = True
        self.world.unnoticed(self.world.set_by - self.followed)
        self.world.processes.remove(self)

    # ---- its outside effects, on their way out ----

    async def fetch(self, ask: Callable[[], Awaitable[bytes]], number: str, pin: str) -> bytes:
        line = self.world.by_number[number]
        attempt = self.attempts[_this_task()] = line.begun(self, pin, self.world.steady)
        try:
            await self.fate.at(Point.CLAIMED, line.name)
            attempt.place = len(self.world.operator.log[number])
            return await self._answer(asyncio.ensure_future(ask()), line, attempt.place)
        except Trouble as trouble:
            attempt.trouble = trouble.reason
            raise
        finally:
            attempt.over = True

    async def _answer(self, request: asyncio.Future[bytes], line: Line, place: int) -> bytes:
        log = self.world.operator.log[line.number]
        try:
            while self.fate.is_here(Point.SENT, line.name) and not request.done() and len(log) <= place:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await self.fate.at(Point.SENT, line.name)
            await asyncio.wait([request])
            await self.fate.at(Point.ANSWERED, line.name)
            return request.result()
        finally:
            request.cancel()
            if request.done() and not request.cancelled():
                request.exception()  # Looked at, so that the loop does not complain of it.

    async def write(self, commit: Commit[T], what: str) -> T:
        task = _this_task()
        name = task.get_name().removeprefix("poll ") if task.get_name().startswith("poll ") else None
        before, after = _AROUND.get(what, (None, None))
        await self.fate.at(before, name)
        result = await commit()
        self._committed(what, self.attempts.get(task))
        await self.fate.at(after, name)
        return result

    def _committed(self, what: str, attempt: Attempt | None) -> None:
        if what == "shift":
            self.followed = self.world.set_by
        elif what == "configure":
            for name, pin in self.config.items():
                self.world.lines[name].edited(pin)
        elif what == "record" and attempt is not None:
            line = next(line for line in self.world.lines.values() if attempt in line.attempts)
            line.noted(attempt, self.world.steady)


class Driven(daemon_module.Daemon):
    """The daemon itself, but for its heartbeat and its signals."""

    born: asyncio.Event

    async def _live(self, tasks: asyncio.TaskGroup) -> None:
        self.born.set()
        await self._stop.wait()
        await asyncio.gather(*(part.stop(daemon_module.PATIENCE_S) for part in (self._poller, self._deliverer)))
        await self._flush()

    async def beat(self) -> None:
        self._bell.clear()
        await self._round()

    def rings(self) -> bool:
        return self._bell.is_set()

    def under_way(self) -> Iterable[asyncio.Task[None]]:
        return self._poller._under_way.values()

    async def reread(self) -> None:
        await self._reread()


class DaemonProcess(Process):
    def __init__(self, world: World, fate: Fate | None = None) -> None:
        super().__init__(world, fate)
        self.daemon = Driven(world.loaded(), self._load, UTC, clock=self.clock)
        self.daemon.born = asyncio.Event()

    def _load(self) -> Loaded:
        self.config = self.world.config()
        return self.world.loaded()

    async def start(self) -> bool:
        """Whether it was stopped on its way. Raises LedgerError where another daemon has the store."""
        self.world.processes.append(self)
        self.main = self.spawn(self.daemon.run())
        born = asyncio.ensure_future(self.daemon.born.wait())
        change = asyncio.ensure_future(self.fate.changed.wait())
        await asyncio.wait([self.main, born, change], return_when=asyncio.FIRST_COMPLETED)
        born.cancel()
        change.cancel()
        if self.main.done():
            self.ended()
            self.main.result()
        return bool(self.fate.stopped)

    async def beat(self) -> bool:
        """One heartbeat, and as many more rounds as it rings for; whether it was stopped."""
        while True:
            if self.main.done():
                self.main.result()  # It died of itself: this says of what.
            if not all(errand.done() for errand in self.errands):
                return True  # Its last round is held.
            self.errands = [self.spawn(self.daemon.beat())]
            if await self.settle(*self.errands) or not self.daemon.rings():
                return bool(self.fate.stopped)

    def _waited_for(self, errands: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        return super()._waited_for((*errands, *self.daemon.under_way()))

    async def reload(self, *, slowly: bool = False) -> None:
        """Read the configuration again; `slowly`: the heart beats between the ledger's change and the poller's."""
        halved = slowly and not self.fate.stopped
        if halved:
            self.fate = Fate(Point.ADOPTED)
        reload = self.spawn(self.daemon.reread())
        if halved:
            await self.settle(reload)
            self.fate.point = None
            await self.beat()
            self.release()
        await reload

    async def stop(self) -> None:
        self.daemon.stop()
        await self.main
        self.ended()


class VerbProcess(Process):
    """`vmwatch poll [LINE...]`, or `check --online`, which does not deliver."""

    def __init__(self, world: World, names: tuple[str, ...], fate: Fate | None = None, *, deliver: bool = True) -> None:
        super().__init__(world, fate)
        world.processes.append(self)
        self.main = self.spawn(self._run(world.loaded(), names, deliver=deliver))

    async def _run(self, loaded: Loaded, names: tuple[str, ...], *, deliver: bool) -> None:
        async with acting.whole_store(loaded) as ledger:
            await asking.ask(ledger, loaded, names, deliver=deliver)

    def _waited_for(self, errands: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        return super()._waited_for(() if self.fate.stopped else errands)

    async def end(self) -> bool:
        """Wait for its end; whether it was stopped before."""
        if await self.settle(self.main) or not self.main.done():
            return True
        self.ended()
        return False


class WorldClock(Clock):
    def __init__(self, world: World) -> None:
        self._world = world
        super().__init__()

    def wall(self) -> Instant:
        return self._world.wall()

    def steady(self) -> Duration:
        return self._world.steady


# ---- what is around them ----


class World:
    """Everything outside of vmwatch, with the model's book."""

    def __init__(self, folder: Path) -> None:
        self.steady: Instant = BEGINNING
        self.set_by: Duration = 0
        self.folder = folder
        self.operator = Operator(lambda: self.steady)
        self.processes: list[Process] = []
        self.ledger: Ledger
        self.lines: dict[str, Line] = {}
        self.by_number: dict[str, Line] = {}

    async def begin(self) -> None:
        await self.operator.start()
        self.ledger = await Ledger.open(self.store_url, create=True)
        for name, number in NUMBERS.items():
            line = self.lines[name] = self.by_number[number] = Line(name, number, self._pins(number), self.operator)
            self.operator.add_line(number, line.pins[0])

    def _pins(self, number: str) -> list[str]:
        """PINs that the ledger's one byte tells apart."""
        pins: dict[int, str] = {}
        for guess in range(1000, 10_000):
            pins.setdefault(tag(self.ledger.salt, self.operator.base_url, number, str(guess)), str(guess))
            if len(pins) == PINS:
                break
        return list(pins.values())

    async def end(self) -> None:
        for process in list(self.processes):
            await process.kill()
        await self.ledger.close()
        await self.operator.stop()

    @property
    def store_url(self) -> str:
        return f"sqlite:///{self.folder / 'vmwatch.db'}"

    @property
    def daemon(self) -> DaemonProcess | None:
        return next((process for process in self.processes if isinstance(process, DaemonProcess)), None)

    @property
    def held(self) -> list[Process]:
        return [process for process in self.processes if process.fate.stopped]

    def config(self) -> dict[str, int]:
        return {line.name: line.configured for line in self.lines.values() if line.present}

    def loaded(self) -> Loaded:
        lines = {
            line.name: {"number": line.number, "pin": line.pins[line.configured]}
            for line in self.lines.values()
            if line.present
        }
        operator = {"base_url": self.operator.base_url, "timeout": f"{TIMEOUT}ms"}
        settings = Settings.model_validate({"operator": operator, "lines": lines})
        return Loaded(settings=settings, path=None, store_url=self.store_url)

    def wall(self) -> Instant:
        return self.steady + self.set_by

    def set_clock(self, by: Duration) -> None:
        self.set_by += by
        if self.daemon is None or abs(by) <= STEP:
            self.unnoticed(by)
        if self.daemon is not None and abs(by) <= STEP:
            self.daemon.followed += by

    def unnoticed(self, by: Duration) -> None:
        """A clock was set forward and nobody who could have known was there."""
        if by > 0:
            for line in self.lines.values():
                line.not_before -= by
                line.paused_until -= by

    async def check(self) -> None:
        assert not self.operator.violations()
        for line in self.lines.values():
            line.check()
        for standing in await self.ledger.lines.standings():
            said = self.by_number[standing.number].paused_until == float("inf")
            assert said == (standing.paused_until == FOREVER), f"{standing.name}: people's last word was lost"


def watched(patches: pytest.MonkeyPatch, world: World) -> None:
    """Have every commit and every request pass by its process, and the verbs go by the world's clock."""
    commit, ask = SqliteEngine.write, Telecomx.fetch

    async def write(engine: SqliteEngine, work: Callable[..., Awaitable[Any]]) -> Any:
        process = PROCESS.get(None)
        if process is None:
            return await commit(engine, work)
        what = work.__qualname__.partition(".<locals>")[0].rpartition(".")[2]
        return await process.write(lambda: commit(engine, work), what)

    async def fetch(client: Telecomx, number: str, pin: str) -> bytes:
        return await PROCESS.get().fetch(lambda: ask(client, number, pin), number, pin)

    async def clock(_: Ledger) -> WorldClock:
        return WorldClock(world)

    patches.setattr(SqliteEngine, "write", write)
    patches.setattr(Telecomx, "fetch", fetch)
    patches.setattr(asking, "Clock", lambda: WorldClock(world))
    patches.setattr(asking, "LOOK_AGAIN_S", 0.001)
    patches.setattr(desk, "clock", clock)
    patches.setattr(sqlite, "LOCK_TRIES", 2)
