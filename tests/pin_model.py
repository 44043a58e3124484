"""PIN safety as a model: vmwatch's own parts over a real ledger and the simulated operator, in any order.

`PinSafety` is the machine; `tests/test_pin_model.py` runs it briefly and replays what it once found,
`tests/slow/test_pin_model.py` runs it at length. In it are a daemon (`vmwatch.daemon.Daemon`, whose heart the
machine beats) and verbs (`vmwatch.cli.asking.ask`), each a process as far as the store and the operator can tell:
it can be killed or held at any point between two outside effects, and nothing it does after its death gets out.
Time is the machine's own: a wall clock that people set, and a steady one.

**Held always**, counted in the simulator's own log, per line:

1. Per human action (an edited PIN that was noticed, a `resume`) at most one failed login; two only where the verdict
   of the first was lost on the way: a timeout, a dropped connection, a 502 or 504, a crash before it was noted, a
   refusal that nobody can read. Never three. A failed login is one that the operator judged and counted (422, 404 pin).
2. A locked line is asked no earlier than its back-off says (1 h doubling to 24 h), except once after a `resume`; a
   rejected one not before a human action; a paused one not before its pause is over.
3. Never two requests at once for one line. Nothing is ever sent but the list call.

**The exact limits**, and all of them:

- A PIN that worked before is tried on through lost verdicts. So a failed login does not count where its PIN was
  *trusted* (a mailbox was read with it; since then no edit, lock-out, rejection or unread refusal) and its verdict was
  lost to a timeout, a broken connection, a 502 or 504, or a crash. The model keeps its own book of that trust.
- An answer by which somebody says that no PIN was judged is taken at its word, though the simulator counts a login
  before it gives one: 500, 503, 429, a redirect, and a 200 that is no mailbox.
- A clock set forward while no daemon runs (or one that dies before its next heartbeat) shortens every wait: nobody can
  know. The same forward step is forgiven here, once, and not more.
- A claim is good for ten seconds longer than a request may take. A verb that is stopped for longer between its claim
  and its request (SIGSTOP) is not modelled.
- One configuration file. Two, used by turns on one store, edit the PIN each time.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vmwatch import daemon as daemon_module
from vmwatch import decide
from vmwatch.cli import acting, asking, desk
from vmwatch.config import Loaded
from vmwatch.errors import LedgerError, Trouble, UsageError
from vmwatch.heartbeat import STEP, Clock
from vmwatch.ledger import Ledger, sqlite
from vmwatch.ledger.sqlite import SqliteEngine
from vmwatch.models import FOREVER, HOUR, SECOND, Duration, Instant, Reason, Standing
from vmwatch.pins import tag
from vmwatch.settings import Settings
from vmwatch.simulator import Login, Odd, Simulator, Verdict
from vmwatch.telecomx import Telecomx

T = TypeVar("T")

TIMEOUT: Duration = 150
"""One request, in real time: the only wait here that is not the machine's own."""
NAMES = ("a", "b", "c")
NUMBERS = dict(zip(NAMES, ("+4571919991", "+4571919992", "+4571919993"), strict=True))
PINS = 4
NOBODYS_PIN = "99999"
LOCKOUT, LONGEST_LOCKOUT = HOUR, 24 * HOUR
LEASE_LEFT = 8 * SECOND
"""How far time may go while a process is held: less than its claim is good for."""
COUNTED = (Verdict.PIN_INVALID, Verdict.NO_PIN)
HIDING = frozenset({Odd.HANG, Odd.DROP, Odd.RESET, Odd.BAD_GATEWAY, Odd.GATEWAY_TIMEOUT})
UNCLEAR = frozenset({Odd.EMPTY_403, Odd.EMPTY_404, Odd.EMPTY_422, Odd.UNKNOWN_4XX})
UNJUDGED = frozenset(
    {Odd.INTERNAL_ERROR, Odd.UNAVAILABLE_SECONDS, Odd.UNAVAILABLE_DATE, Odd.UNAVAILABLE_BARE, Odd.HTML, Odd.CUT}
    | {Odd.THROTTLED_SECONDS, Odd.THROTTLED_DATE, Odd.THROTTLED_BARE, Odd.REDIRECT, Odd.EMPTY, Odd.WRONG_SHAPE}
)
LOST = frozenset({Reason.TIMEOUT, Reason.CONNECTION_LOST, Reason.GATEWAY_ERROR})

SEEN: Counter[str] = Counter()
"""What the machine met, over all its runs: proof that it is not idle."""


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


_BEFORE = {
    "configure": Point.ADOPTING,
    "shift": Point.SHIFTING,
    "claim": Point.CLAIMING,
    "record": Point.RECORDING,
}
_AFTER = {"configure": Point.ADOPTED, "shift": Point.SHIFTED, "record": Point.RECORDED}
ON_A_LINE = (Point.CLAIMED, Point.SENT, Point.ANSWERED, Point.RECORDING, Point.RECORDED)


# ---- the operator ----


class Operator(Simulator):
    """The simulated operator, which also remembers which of its answers it gave in an odd form."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        super().__init__(now=now)
        self.given: defaultdict[str, dict[int, Odd]] = defaultdict(dict)
        self.foreign: defaultdict[str, set[int]] = defaultdict(set)
        """Places in the log of logins that somebody else made."""

    def _next_odd(self, number: str) -> Odd | None:
        what = super()._next_odd(number)
        if what is not None:
            self.given[number][len(self.log[number]) - 1] = what
        return what

    def somebody_fails(self, number: str) -> None:
        self.foreign[number].add(len(self.log[number]))
        self.login(number, NOBODYS_PIN, "NEW")

    def ours(self, number: str) -> Iterable[tuple[int, Login]]:
        return ((at, login) for at, login in enumerate(self.log[number]) if at not in self.foreign[number])


# ---- what the model itself knows ----


@dataclass(eq=False)
class Attempt:
    """One attempt of some process on one line, from its claim on."""

    process: Process
    action: int
    edits: int
    trusted: bool
    first: int | None = None
    """The place in the operator's log that its login takes, once the request is made."""
    over: bool = False
    trouble: Reason | None = None
    recorded: bool = False


Failed: TypeAlias = tuple[int, Attempt]
"""A failed login's place in the operator's log, and whose it was."""


@dataclass(eq=False)
class Line:
    """One line as the model sees it: what people did, what was heard of it, and what follows."""

    name: str
    pins: list[str]
    configured: int = 0
    """Which of its PINs the configuration has; None where the line is not in it."""
    present: bool = True
    adopted: int | None = None
    actions: int = 0
    edits: int = 0
    trusted: bool = False
    doubtful: bool = False
    rejected: bool = False
    lockouts: int = 0
    not_before: float = 0
    """The steady time before which its lock-out's back-off forbids to ask."""
    paused_until: float = 0
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def number(self) -> str:
        return NUMBERS[self.name]

    def acted_upon(self) -> None:
        self.actions += 1
        self.rejected = self.doubtful = False

    def edited(self, pin: int) -> None:
        if self.adopted is not None and pin != self.adopted:
            self.acted_upon()
            self.edits += 1
            self.trusted = False
        self.adopted = pin

    def resumed(self) -> None:
        self.acted_upon()
        self.paused_until = self.not_before = 0

    def heard(self, attempt: Attempt, verdict: Verdict, odd: Odd | None, steady: Instant) -> None:
        """A verdict was written down; `odd` tells in which form it came, if not in the ordinary one."""
        if attempt.edits != self.edits:
            return
        if odd in UNCLEAR:
            self.doubtful = True
        elif odd is not None or attempt.trouble in LOST:
            return
        elif verdict is Verdict.OK:
            self.trusted, self.doubtful = True, False
            self._no_longer_locked()
        elif verdict is Verdict.LOCKED:
            self.trusted = False
            self.lockouts += 1
            self.not_before = steady + self.back_off()
            SEEN["locked answers"] += 1
        elif verdict in COUNTED:
            self.trusted, self.rejected = False, True
            self._no_longer_locked()
        elif verdict in (Verdict.NOT_ENABLED, Verdict.UNKNOWN_NUMBER):
            self._no_longer_locked()

    def _no_longer_locked(self) -> None:
        self.lockouts, self.not_before = 0, 0

    def back_off(self) -> Duration:
        doubled: Duration = LOCKOUT * 2 ** (self.lockouts - 1)
        return min(doubled, LONGEST_LOCKOUT)


# ---- vmwatch, as processes ----


class Fate:
    """Where a process stops, and on which lines: to be killed there, or held and let go on."""

    def __init__(self, point: Point | None = None, names: Iterable[str] = NAMES) -> None:
        self.point = point
        self.names = frozenset(names)
        self.stopped: set[asyncio.Task[Any]] = set()
        self.changed = asyncio.Event()
        self.free = asyncio.Event()

    def is_here(self, point: Point, name: str | None) -> bool:
        return point is self.point and (name is None or name in self.names)

    async def at(self, point: Point, name: str | None = None) -> None:
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
        self.noticed = world.set_by
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

    async def release(self) -> None:
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
        self.world.unnoticed(self.world.set_by - self.noticed)
        self.world.processes.remove(self)

    async def fetch(self, ask: Callable[[], Awaitable[bytes]], number: str) -> bytes:
        line = self.world.by_number[number]
        attempt = self.attempts[_this_task()] = self.world.begun(self, line)
        try:
            await self.fate.at(Point.CLAIMED, line.name)
            attempt.first = len(self.world.operator.log[number])
            return await self._answer(ask, number, attempt, line.name)
        except Trouble as trouble:
            attempt.trouble = trouble.reason
            raise
        finally:
            attempt.over = True

    async def _answer(self, ask: Callable[[], Awaitable[bytes]], number: str, attempt: Attempt, name: str) -> bytes:
        request = asyncio.ensure_future(ask())
        try:
            while self.fate.is_here(Point.SENT, name) and not request.done() and not self._arrived(number, attempt):  # noqa: ASYNC110
                await asyncio.sleep(0)
            await self.fate.at(Point.SENT, name)
            await asyncio.wait([request])
            await self.fate.at(Point.ANSWERED, name)
            return request.result()
        finally:
            request.cancel()
            request.done() and not request.cancelled() and request.exception()

    def _arrived(self, number: str, attempt: Attempt) -> bool:
        return len(self.world.operator.log[number]) > (attempt.first or 0)

    async def write(self, commit: Callable[[], Awaitable[T]], what: str) -> T:
        task = _this_task()
        name = task.get_name().removeprefix("poll ") if task.get_name().startswith("poll ") else None
        if what in _BEFORE:
            await self.fate.at(_BEFORE[what], name)
        result = await commit()
        self.world.committed(self, what, self.attempts.get(task))
        if what in _AFTER:
            await self.fate.at(_AFTER[what], name)
        return result


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
            self.errands = [self.spawn(self.daemon.beat())]
            if await self.settle(*self.errands) or not self.daemon.rings():
                return bool(self.fate.stopped)

    def _waited_for(self, errands: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        return super()._waited_for((*errands, *self.daemon.under_way()))

    async def stop(self) -> None:
        self.daemon.stop()
        await self.main
        self.ended()


class VerbProcess(Process):
    """`vmwatch poll [LINE...]`, or `check --online`."""

    def __init__(self, world: World, names: tuple[str, ...], fate: Fate | None = None, *, deliver: bool = True) -> None:
        super().__init__(world, fate)
        world.processes.append(self)
        self.main = self.spawn(self._run(world.loaded(), names, deliver=deliver))

    async def _run(self, loaded: Loaded, names: tuple[str, ...], *, deliver: bool) -> None:
        async with acting._whole_store(loaded) as ledger:
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
        return self._world.steady + self._world.set_by

    def steady(self) -> Duration:
        return self._world.steady


# ---- the world ----


class World:
    """Everything outside of vmwatch, and the model's own book of what happened."""

    def __init__(self, folder: Path) -> None:
        self.steady: Instant = 1_704_067_200_000
        self.set_by: Duration = 0
        self.folder = folder
        self.operator = Operator(lambda: self.steady)
        self.processes: list[Process] = []
        self.violations: list[str] = []
        self.ledger: Ledger
        self.lines: dict[str, Line] = {}
        self.by_number: dict[str, Line] = {}

    async def begin(self) -> None:
        await self.operator.start()
        self.ledger = await Ledger.open(self.store_url, create=True)
        for name in NAMES:
            line = self.lines[name] = Line(name, self._telling_pins(NUMBERS[name]))
            self.by_number[line.number] = line
            self.operator.add_line(line.number, line.pins[0])

    def _telling_pins(self, number: str) -> list[str]:
        """PINs that the ledger's one byte tells apart: the one case in 256 where it does not is documented."""
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

    def wall(self) -> Instant:
        return self.steady + self.set_by

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

    def unnoticed(self, by: Duration) -> None:
        """A clock was set forward and nobody who could have known was there."""
        if by > 0:
            for line in self.lines.values():
                line.not_before -= by
                line.paused_until -= by

    def set_clock(self, by: Duration) -> None:
        self.set_by += by
        if self.daemon is None or abs(by) <= STEP:
            self.unnoticed(by)
        if self.daemon is not None and abs(by) <= STEP:
            self.daemon.noticed += by

    # ---- what processes tell the model ----

    def begun(self, process: Process, line: Line) -> Attempt:
        """An attempt begins: may it?"""
        SEEN["attempts"] += 1
        for forbidden, why in (
            (self.steady < line.not_before, f"{line.not_before - self.steady} ms before its back-off is over"),
            (self.steady < line.paused_until, "though it is paused"),
            (line.rejected, "though it waits for a person"),
            (any(self._is_under_way(other) for other in line.attempts), "while another request is under way"),
        ):
            if forbidden:
                self.violations.append(f"{line.name} is asked {why}")
        attempt = Attempt(process, line.actions, line.edits, line.trusted and not line.doubtful)
        line.attempts.append(attempt)
        if line.lockouts:
            line.not_before = self.steady + line.back_off()
        return attempt

    def _is_under_way(self, attempt: Attempt) -> bool:
        return not attempt.over and not attempt.process.dead

    def committed(self, process: Process, what: str, attempt: Attempt | None) -> None:
        if what == "shift":
            process.noticed = self.set_by
        elif what == "configure":
            for name, pin in process.config.items():
                self.lines[name].edited(pin)
        elif what == "record" and attempt is not None and attempt.first is not None:
            attempt.recorded = True
            line = next(line for line in self.lines.values() if attempt in line.attempts)
            if attempt.first < len(self.operator.log[line.number]):
                verdict = self.operator.log[line.number][attempt.first].verdict
                line.heard(attempt, verdict, self.operator.given[line.number].get(attempt.first), self.steady)

    # ---- the invariants ----

    def check(self) -> None:
        assert not self.violations, self.violations
        assert not self.operator.violations()
        for line in self.lines.values():
            assert self.operator.most_at_once(line.number) <= 1
            for action, failed in self._failed(line).items():
                told = f"{line.name}, after human action {action}: {len(failed)} failed logins"
                assert len(failed) <= 2, told
                assert len(failed) < 2 or self._was_lost(line, failed[0]), f"{told}, though the first was heard"

    def _failed(self, line: Line) -> dict[int, list[Failed]]:
        """What counts as a failed login, by human action."""
        failed: defaultdict[int, list[Failed]] = defaultdict(list)
        for at, attempt in self._judged_wrong(line):
            if not self._is_excused(line, at, attempt):
                failed[attempt.action].append((at, attempt))
        return failed

    def _judged_wrong(self, line: Line) -> Iterator[Failed]:
        sent = [attempt for attempt in line.attempts if attempt.first is not None]
        for at, login in self.operator.ours(line.number):
            if login.verdict in COUNTED and self.operator.given[line.number].get(at) not in UNJUDGED:
                yield at, [attempt for attempt in sent if (attempt.first or 0) <= at][-1]

    def _is_excused(self, line: Line, at: int, attempt: Attempt) -> bool:
        """The limit: a trusted PIN is tried on through lost verdicts."""
        return attempt.trusted and self._was_hidden(line, at, attempt)

    def count(self) -> None:
        """What this run is to be remembered by."""
        for line in self.lines.values():
            SEEN["failed logins excused"] += sum(self._is_excused(line, *failed) for failed in self._judged_wrong(line))
            for failed in self._failed(line).values():
                SEEN["failed logins"] += len(failed)
                SEEN["second failed logins, the first lost"] += len(failed) == 2

    def _was_hidden(self, line: Line, at: int, attempt: Attempt) -> bool:
        """Whether its verdict was lost to a timeout, a broken connection, a gateway or a crash."""
        odd = self.operator.given[line.number].get(at)
        # Without an odd answer, a timeout is this machine's own being slow.
        return not attempt.recorded or odd in HIDING or (odd is None and attempt.trouble is Reason.TIMEOUT)

    def _was_lost(self, line: Line, failed: Failed) -> bool:
        at, attempt = failed
        return self._was_hidden(line, at, attempt) or self.operator.given[line.number].get(at) in UNCLEAR


def _watched(patches: pytest.MonkeyPatch, world: World) -> None:
    """Have every commit and every request pass by its process, and the verbs go by the world's clock."""
    commit, ask = SqliteEngine.write, Telecomx.fetch

    async def write(engine: SqliteEngine, work: Callable[..., Awaitable[Any]]) -> Any:
        process = PROCESS.get(None)
        if process is None:
            return await commit(engine, work)
        what = work.__qualname__.partition(".<locals>")[0].rpartition(".")[2]
        return await process.write(lambda: commit(engine, work), what)

    async def fetch(client: Telecomx, number: str, pin: str) -> bytes:
        return await PROCESS.get().fetch(lambda: ask(client, number, pin), number)

    patches.setattr(SqliteEngine, "write", write)
    patches.setattr(Telecomx, "fetch", fetch)
    patches.setattr(asking, "Clock", lambda: WorldClock(world))
    patches.setattr(asking, "LOOK_AGAIN_S", 0.001)
    patches.setattr(desk, "now", world.wall)
    patches.setattr(sqlite, "LOCK_TRIES", 2)


# ---- the machine ----

names = st.sampled_from(NAMES)
pins = st.integers(0, PINS - 1)
spans = st.sampled_from([s * SECOND for s in (1, 15, 61, 320, 400, 3_700, 7_300, 15_000, 90_000, 260_000)])
odds = st.sampled_from(
    # A hang costs real time, and what hides a verdict is what matters most.
    [*sorted(HIDING | UNCLEAR | UNJUDGED), *4 * (Odd.DROP, Odd.RESET, Odd.BAD_GATEWAY, Odd.GATEWAY_TIMEOUT)]
)
outage = st.lists(
    st.sampled_from([Odd.DROP, Odd.RESET, Odd.BAD_GATEWAY, Odd.GATEWAY_TIMEOUT, Odd.EMPTY_403]), max_size=4
)
steps = st.sampled_from([by * SECOND for by in (-60 * 86_400, -3_600, -90, 90, 3_600, 60 * 86_400)] + [-700, 700])
some = st.sampled_from([(), ("a",), ("b",), ("a", "c")])
victims = st.sampled_from([NAMES, ("a",), ("b",), ("c",)])
beats = st.lists(spans, max_size=5)
"""How life goes on after something happened: time passes, and the daemon's heart beats each time."""
hours = st.lists(st.sampled_from([61 * SECOND, 3_700 * SECOND, 7_300 * SECOND]), min_size=1, max_size=5)
mostly = st.sampled_from([True, True, False])


class PinSafety(RuleBasedStateMachine):
    """See the module's own words."""

    def __init__(self) -> None:
        super().__init__()
        place = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="vmwatch-pins-", dir=place))
        self.runner = asyncio.Runner()
        self.world = World(self.folder)
        self.patches = pytest.MonkeyPatch()
        _watched(self.patches, self.world)
        self.do(self.world.begin())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.world.count()
            self.do(self.world.end())
            self.runner.close()
        finally:
            self.patches.undo()
            shutil.rmtree(self.folder)

    @invariant()
    def the_pins_are_safe(self) -> None:
        SEEN["steps"] += 1
        self.world.check()

    def line(self, name: str) -> Line:
        return self.world.lines[name]

    def number(self, name: str) -> str:
        return NUMBERS[name]

    def daemon_goes_on(self) -> bool:
        return self.world.daemon is not None and not self.world.daemon.fate.stopped

    def a_daemon_runs(self) -> bool:
        return self.world.daemon is not None

    def no_daemon_runs(self) -> bool:
        return self.world.daemon is None

    def nothing_is_held(self) -> bool:
        return not self.world.held

    # ---- what people do ----

    @initialize(wrong=st.sets(names), daemon=mostly)
    def some_pins_are_wrong_from_the_start(self, wrong: set[str], daemon: bool) -> None:
        for name in wrong:
            self.line(name).configured = 1
        if daemon:
            self.the_daemon_starts(None)

    @rule(name=names, pin=pins, read=mostly, then=beats)
    def somebody_edits_a_pin(self, name: str, pin: int, read: bool, then: list[Duration]) -> None:
        self.line(name).configured = pin
        if read and self.a_daemon_runs():
            self.the_configuration_is_read_again()
        self.life_goes_on(then)

    @rule(name=names)
    def somebody_takes_a_line_out_or_puts_it_back(self, name: str) -> None:
        self.line(name).present = not self.line(name).present
        if not self.world.config():
            self.line(name).present = True

    @precondition(lambda self: self.a_daemon_runs())
    @rule()
    def the_configuration_is_read_again(self) -> None:
        async def reload() -> None:
            daemon = self.world.daemon
            assert daemon is not None
            await daemon.spawn(daemon.daemon.reread())

        self.do(reload())

    @rule(name=names, then=beats)
    def somebody_resumes(self, name: str, then: list[Duration]) -> None:
        if self._changed(name, lambda standing: decide.resumed(standing, self.world.wall())):
            self.line(name).resumed()
        self.life_goes_on(then)

    @rule(name=names, span=st.one_of(st.none(), spans))
    def somebody_pauses(self, name: str, span: Duration | None) -> None:
        if self.world.daemon is not None and self.world.daemon.clock.step():
            return  # in the second before the daemon follows the clock, a pause gets as long as the clock has it
        now = self.world.wall()
        until = FOREVER if span is None else now + span
        if self._changed(name, lambda standing: decide.paused(standing, until, now)):
            self.line(name).paused_until = float("inf") if span is None else self.world.steady + span

    def _changed(self, name: str, decided: Callable[[Standing], Standing]) -> bool:
        async def change() -> bool:
            standing = await self.world.ledger.lines.standing(self.number(name))
            return standing is not None and await self.world.ledger.lines.change(decided(standing))

        return self.do(change())

    @rule(names=some, deliver=st.booleans())
    def somebody_polls(self, names: tuple[str, ...], deliver: bool) -> None:
        """Beside the daemon or without one. `poll` delivers, `check --online` does not."""
        present = tuple(name for name in names if self.line(name).present)
        self.do(self._poll(present, deliver=deliver))

    async def _poll(self, names: tuple[str, ...], fate: Fate | None = None, *, deliver: bool = True) -> None:
        SEEN["verbs"] += 1
        verb = VerbProcess(self.world, names, fate, deliver=deliver)
        if self.world.daemon is None:
            await self._end(verb)
        else:
            await self._beside(verb, self.world.daemon)

    async def _end(self, verb: VerbProcess) -> None:
        with suppress(LedgerError, UsageError):
            await verb.end()

    async def _beside(self, verb: VerbProcess, daemon: DaemonProcess) -> None:
        for _ in range(5):
            await asyncio.wait([verb.main], timeout=0.004)
            if verb.main.done():
                verb.ended()
                with suppress(UsageError):
                    verb.main.result()
                return
            await daemon.beat()
        await verb.kill()

    @precondition(lambda self: self.no_daemon_runs())
    @rule(one=some, other=some)
    def two_poll_at_once(self, one: tuple[str, ...], other: tuple[str, ...]) -> None:
        async def both() -> None:
            verbs = [
                VerbProcess(self.world, tuple(name for name in wanted if self.line(name).present))
                for wanted in (one, other)
            ]
            for verb in verbs:
                await self._end(verb)

        self.do(both())

    # ---- what time does ----

    @rule(then=st.lists(spans, min_size=1, max_size=5))
    def life_goes_on(self, then: list[Duration]) -> None:
        for span in then:
            self._pass(span)
            if self.world.daemon is not None:
                self.do(self.world.daemon.beat())

    def _pass(self, span: Duration) -> None:
        left = LEASE_LEFT - self.budget_spent() if self.world.held else span
        self.world.steady += max(0, min(span, left)) + 1

    def budget_spent(self) -> Duration:
        return self.world.steady - self.held_since

    held_since: Instant = 0

    @precondition(lambda self: not any(isinstance(process, VerbProcess) for process in self.world.held))
    @rule(by=steps)
    def the_clock_is_set(self, by: Duration) -> None:
        SEEN["clock set"] += 1
        self.world.set_clock(by)

    # ---- what becomes of processes ----

    @precondition(lambda self: self.no_daemon_runs())
    @rule(point=st.sampled_from([None, None, None, Point.ADOPTING, Point.ADOPTED, Point.SHIFTING, Point.SHIFTED]))
    def the_daemon_starts(self, point: Point | None) -> None:
        async def start() -> None:
            daemon = DaemonProcess(self.world, Fate(point))
            if await daemon.start() and point is not None:
                SEEN[f"crash, {point.name.lower()}"] += 1
                await daemon.kill()
            else:
                daemon.fate.point = None
                await daemon.beat()

        self.do(start())

    @rule()
    def two_daemons_start_at_once(self) -> None:
        async def start() -> None:
            there = self.world.daemon
            daemons = [DaemonProcess(self.world), DaemonProcess(self.world)]
            ends = await asyncio.gather(*(daemon.start() for daemon in daemons), return_exceptions=True)
            refused = [end for end in ends if isinstance(end, LedgerError)]
            assert len(refused) == (1 if there is None else 2), ends
            assert all("in use by another vmwatch daemon" in str(end) for end in refused)
            SEEN["daemons refused"] += len(refused)

        self.do(start())

    @precondition(lambda self: self.daemon_goes_on())
    @rule(back=mostly)
    def the_daemon_stops(self, back: bool) -> None:
        assert self.world.daemon is not None
        self.do(self.world.daemon.stop())
        if back:
            self.the_daemon_starts(None)

    @precondition(lambda self: self.a_daemon_runs())
    @rule(back=mostly)
    def the_daemon_is_killed(self, back: bool) -> None:
        assert self.world.daemon is not None
        SEEN["crash anywhere"] += 1
        self.do(self.world.daemon.kill())
        if back:
            self.the_daemon_starts(None)

    @precondition(lambda self: self.daemon_goes_on() and self.nothing_is_held())
    @rule(
        point=st.sampled_from([*ON_A_LINE, *ON_A_LINE, Point.CLAIMING, Point.SHIFTING, Point.SHIFTED]),
        names=victims,
        span=spans,
        back=mostly,
    )
    def the_daemon_dies_at_a_point(self, point: Point, names: tuple[str, ...], span: Duration, back: bool) -> None:
        self._pass(span)
        daemon = self.world.daemon
        assert daemon is not None
        daemon.fate = Fate(point, names)
        if self.do(daemon.beat()):
            SEEN[f"crash, {point.name.lower()}"] += 1
        self.do(daemon.kill())
        if back:
            self.the_daemon_starts(None)

    @precondition(lambda self: self.daemon_goes_on() and self.nothing_is_held())
    @rule(
        ends=st.lists(st.tuples(st.sampled_from(ON_A_LINE), spans), min_size=2, max_size=4), names=victims, then=beats
    )
    def the_daemon_dies_again_and_again(
        self, ends: list[tuple[Point, Duration]], names: tuple[str, ...], then: list[Duration]
    ) -> None:
        """As under a supervisor that starts it again, whatever it dies of."""
        for point, span in ends:
            self.the_daemon_dies_at_a_point(point, names, span, back=True)
        self.life_goes_on(then)

    @precondition(lambda self: self.no_daemon_runs() and self.nothing_is_held())
    @rule(point=st.sampled_from([Point.ADOPTED, Point.CLAIMING, *ON_A_LINE]), names=victims, span=spans)
    def a_verb_dies_at_a_point(self, point: Point, names: tuple[str, ...], span: Duration) -> None:
        self._pass(span)

        async def die() -> None:
            verb = VerbProcess(self.world, (), Fate(point, names))
            if await verb.end():
                SEEN[f"crash, {point.name.lower()}"] += 1
                await verb.kill()

        self.do(die())

    @precondition(lambda self: self.nothing_is_held())
    @rule(point=st.sampled_from([Point.CLAIMED, Point.ANSWERED, Point.RECORDING]), names=victims, span=spans)
    def a_process_is_held_at_a_point(self, point: Point, names: tuple[str, ...], span: Duration) -> None:
        """The operator takes its time, or the computer does; all else goes on."""
        self._pass(span)
        self.held_since = self.world.steady

        async def hold() -> bool:
            if self.world.daemon is not None:
                self.world.daemon.fate = Fate(point, names)
                return await self.world.daemon.beat()
            return await VerbProcess(self.world, (), Fate(point, names)).end()

        if self.do(hold()):
            SEEN[f"held, {point.name.lower()}"] += 1
        elif self.world.daemon is not None:
            self.world.daemon.fate = Fate()
        for process in self.world.held:
            process.fate.point = None

    @precondition(lambda self: not self.nothing_is_held())
    @rule()
    def what_was_held_goes_on(self) -> None:
        async def go_on() -> None:
            for process in self.world.held:
                await process.release()
                if isinstance(process, VerbProcess):
                    await self._end(process)
                else:
                    await process.settle()

        self.do(go_on())

    # ---- what happens at the operator ----

    @rule(name=names, pin=st.one_of(st.none(), pins), what=outage, then=beats)
    def the_operators_pin_is_changed(self, name: str, pin: int | None, what: list[Odd], then: list[Duration]) -> None:
        self.world.operator.set_pin(self.number(name), None if pin is None else self.line(name).pins[pin])
        self.the_next_answers_are_odd(name, what, then)

    @rule(name=names)
    def the_pins_agree_again(self, name: str) -> None:
        self.world.operator.set_pin(self.number(name), self.line(name).pins[self.line(name).configured])

    @rule(name=names, times=st.sampled_from([1, 3, 3]), then=beats)
    def somebody_else_fails_to_log_in(self, name: str, times: int, then: list[Duration]) -> None:
        for _ in range(times):
            self.world.operator.somebody_fails(self.number(name))
        self.life_goes_on(then)

    @rule(name=names)
    def the_operator_unlocks(self, name: str) -> None:
        self.world.operator.unlock(self.number(name))

    @rule(name=names, met=hours, pin=pins, what=outage, then=hours)
    def a_lock_out_ends_with_another_pin(
        self, name: str, met: list[Duration], pin: int, what: list[Odd], then: list[Duration]
    ) -> None:
        """Somebody tried the line's PIN, and the operator's people helped."""
        self.somebody_else_fails_to_log_in(name, 3, met)
        self.the_operator_unlocks(name)
        self.the_operators_pin_is_changed(name, pin, what, then)

    @rule(name=names, what=st.lists(odds, min_size=1, max_size=4), then=beats)
    def the_next_answers_are_odd(self, name: str, what: list[Odd], then: list[Duration]) -> None:
        for odd in what:
            self.world.operator.odd(self.number(name), odd, times=1)
        self.life_goes_on(then)

    @rule(name=names)
    def the_answers_are_ordinary_again(self, name: str) -> None:
        self.world.operator.odd(self.number(name), None)

    @rule(name=names, enabled=mostly, known=mostly)
    def the_line_is_switched(self, name: str, enabled: bool, known: bool) -> None:
        self.world.operator.set_line(self.number(name), enabled=enabled, known=known)

    @rule(on=st.sampled_from([True, False, False]))
    def the_operator_blocks_or_not(self, on: bool) -> None:
        self.world.operator.blacklist(on)
