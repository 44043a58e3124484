"""PIN safety as a model: whatever happens, in any order, one wrong PIN costs one failed login.

`PinSafety` is a Hypothesis state machine: its rules are the steps, `the_pins_are_safe` is looked at after each.
tests/test_pin_model.py runs it briefly and replays sequences, tests/slow/test_pin_model_long.py runs it at length.
What must hold, and the exact limits, stand in `pin_book`; what the steps act upon is in `pin_world`.

No step has a precondition, and none draws on what came of another: how a run goes on is decided by its seed alone,
never by how fast this computer is. A step that has nothing to act upon does nothing, and is not counted.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pin_book import HIDING, SEEN, UNCLEAR, UNJUDGED, Line
from pin_world import NAMES, ON_A_LINE, PINS, DaemonProcess, Fate, Point, Process, VerbProcess, World, watched

from vmwatch import decide
from vmwatch.errors import LedgerError, UsageError
from vmwatch.models import DAY, FOREVER, HOUR, SECOND, Duration, Standing
from vmwatch.simulator import Odd

T = TypeVar("T")

LEASE_LEFT = 8 * SECOND
"""How far time may go while a process is held: less than its claim is good for."""
QUICK_TO_HIDE = (Odd.DROP, Odd.RESET, Odd.BAD_GATEWAY, Odd.GATEWAY_TIMEOUT)

names = st.sampled_from(NAMES)
some = st.sampled_from([(), ("a",), ("b",), ("a", "c")])
victims = st.sampled_from([NAMES, ("a",), ("b",), ("c",)])
holds = st.sampled_from([Point.CLAIMING, Point.CLAIMED, Point.ANSWERED, Point.RECORDING])
pins = st.integers(0, PINS - 1)
spans = st.sampled_from([s * SECOND for s in (1, 15, 61, 320, 400, 4_000, 8_000, 16_000, 90_000, 260_000)])
beats = st.lists(spans, max_size=5)
"""How life goes on after something happened: time passes, and the daemon's heart beats each time."""
hours = st.lists(st.sampled_from([61 * SECOND, 4_000 * SECOND, 8_000 * SECOND]), min_size=1, max_size=5)
"""A back-off of one hour is over after 4,000 s, its jitter included; one of two hours after 8,000 s."""
jumps = st.sampled_from([-60 * DAY, -HOUR, -700 * SECOND, -90 * SECOND, 90 * SECOND, 700 * SECOND, HOUR, 60 * DAY])
# A hang costs real time, and what hides a verdict is what matters most.
odds = st.sampled_from([*sorted(HIDING | UNCLEAR | UNJUDGED), *4 * QUICK_TO_HIDE])
outage = st.lists(st.sampled_from([*QUICK_TO_HIDE, Odd.EMPTY_403]), max_size=4)
mostly = st.sampled_from([True, True, False])


class PinSafety(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        place = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="vmwatch-pins-", dir=place))
        self.runner = asyncio.Runner()
        self.world = World(self.folder)
        self.held_since = 0
        self.patches = pytest.MonkeyPatch()
        watched(self.patches, self.world)
        self.do(self.world.begin())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            for line in self.world.lines.values():
                line.count()
            self.do(self.world.end())
            self.runner.close()
        finally:
            self.patches.undo()
            shutil.rmtree(self.folder)

    @invariant()
    def the_pins_are_safe(self) -> None:
        SEEN["steps"] += 1
        self.do(self.world.check())

    def nothing_happens(self) -> None:
        SEEN["steps"] -= 1

    def line(self, name: str) -> Line:
        return self.world.lines[name]

    # ---- what people do ----

    @initialize(wrong=st.sets(names), daemon=mostly)
    def some_pins_are_wrong_from_the_start(self, wrong: set[str], daemon: bool) -> None:
        for name in wrong:
            self.line(name).configured = 1
        if daemon:
            self.the_daemon_starts(None)

    @rule(name=names, pin=pins, read=st.sampled_from(["at once", "slowly", "later"]), then=beats)
    def somebody_edits_a_pin(self, name: str, pin: int, read: str, then: list[Duration]) -> None:
        self.line(name).configured = pin
        if read != "later" and self.world.daemon is not None:
            self.do(self.world.daemon.reload(slowly=read == "slowly"))
        self.life_goes_on(then)

    @rule(name=names)
    def somebody_takes_a_line_out_or_puts_it_back(self, name: str) -> None:
        line = self.line(name)
        line.present = not line.present or len(self.world.config()) == 1

    @rule()
    def the_configuration_is_read_again(self) -> None:
        if self.world.daemon is None:
            self.nothing_happens()
            return
        self.do(self.world.daemon.reload())

    @rule(name=names, then=beats)
    def somebody_resumes(self, name: str, then: list[Duration]) -> None:
        if self._changed(name, lambda standing: decide.resumed(standing, self.world.wall())):
            self.line(name).resumed()
        self.life_goes_on(then)

    @rule(name=names, span=st.one_of(st.none(), spans))
    def somebody_pauses(self, name: str, span: Duration | None) -> None:
        if self.world.daemon is not None and self.world.daemon.clock.step():
            # In the second before the daemon follows the clock, a pause gets as long as the clock has it.
            self.nothing_happens()
            return
        now = self.world.wall()
        until = FOREVER if span is None else now + span
        if self._changed(name, lambda standing: decide.paused(standing, until, now)):
            self.line(name).paused_until = float("inf") if span is None else self.world.steady + span

    def _changed(self, name: str, decided: Callable[[Standing], Standing]) -> bool:
        async def change() -> bool:
            standing = await self.world.ledger.lines.standing(self.line(name).number)
            return standing is not None and await self.world.ledger.lines.change(decided(standing))

        return self.do(change())

    @rule(names=some, deliver=st.booleans())
    def somebody_polls(self, names: tuple[str, ...], deliver: bool) -> None:
        """Beside the daemon or without one. `poll` delivers, `check --online` does not."""
        self.do(self._poll(names, deliver=deliver))

    async def _poll(self, names: tuple[str, ...], *, deliver: bool) -> None:
        SEEN["verbs"] += 1
        verb = VerbProcess(self.world, self._present(names), deliver=deliver)
        if self.world.daemon is None:
            await self._end(verb)
        else:
            await self._beside(verb, self.world.daemon)

    def _present(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if self.line(name).present)

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

    @rule(one=some, other=some)
    def two_poll_at_once(self, one: tuple[str, ...], other: tuple[str, ...]) -> None:
        async def both() -> None:
            SEEN["verbs"] += 2
            for verb in [VerbProcess(self.world, self._present(wanted)) for wanted in (one, other)]:
                await self._end(verb)

        if self.world.daemon is None:
            self.do(both())
        else:
            self.nothing_happens()

    # ---- what time does ----

    @rule(then=st.lists(spans, min_size=1, max_size=5))
    def life_goes_on(self, then: list[Duration]) -> None:
        for span in then:
            self._pass(span)
            if self.world.daemon is not None:
                self.do(self.world.daemon.beat())

    def _pass(self, span: Duration) -> None:
        left = LEASE_LEFT - (self.world.steady - self.held_since) if self.world.held else span
        self.world.steady += max(0, min(span, left)) + 1

    @rule(by=jumps)
    def the_clock_is_set(self, by: Duration) -> None:
        if any(isinstance(process, VerbProcess) for process in self.world.held):
            self.nothing_happens()
            return
        SEEN["clock set"] += 1
        self.world.set_clock(by)

    # ---- what becomes of processes ----

    @rule(point=st.sampled_from([None, None, None, Point.ADOPTING, Point.ADOPTED, Point.SHIFTING, Point.SHIFTED]))
    def the_daemon_starts(self, point: Point | None) -> None:
        if self.world.daemon is not None:
            self.nothing_happens()
            return
        self.do(self._start(point))

    async def _start(self, point: Point | None) -> None:
        daemon = DaemonProcess(self.world, Fate(point))
        if await daemon.start():
            await self._dies(daemon, point)
        else:
            daemon.fate.point = None
            await daemon.beat()

    async def _dies(self, process: Process, point: Point | None) -> None:
        SEEN[f"crash, {point.name.lower()}" if point and process.fate.stopped else "crash, at rest"] += 1
        await process.kill()

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

    @rule(back=mostly)
    def the_daemon_stops(self, back: bool) -> None:
        if self.world.daemon is None or self.world.daemon.fate.stopped:
            self.nothing_happens()
            return
        self.do(self.world.daemon.stop())
        if back:
            self.the_daemon_starts(None)

    @rule(back=mostly)
    def the_daemon_is_killed(self, back: bool) -> None:
        if self.world.daemon is None:
            self.nothing_happens()
            return
        self.do(self._dies(self.world.daemon, None))
        if back:
            self.the_daemon_starts(None)

    @rule(
        point=st.sampled_from([*2 * ON_A_LINE, Point.ADOPTED, Point.CLAIMING, Point.SHIFTING, Point.SHIFTED]),
        names=victims,
        span=spans,
        back=mostly,
    )
    def a_process_dies_at_a_point(self, point: Point, names: tuple[str, ...], span: Duration, back: bool) -> None:
        """The daemon, if there is one, or a verb."""
        self.what_was_held_goes_on()
        self._pass(span)
        if self.world.daemon is None:
            self.do(self._verb_dies(Fate(point, names)))
            return
        self.do(self._daemon_dies(self.world.daemon, Fate(point, names)))
        if back:
            self.the_daemon_starts(None)

    async def _daemon_dies(self, daemon: DaemonProcess, fate: Fate) -> None:
        daemon.fate = fate
        await daemon.beat()
        await self._dies(daemon, fate.point)

    async def _verb_dies(self, fate: Fate) -> None:
        verb = VerbProcess(self.world, (), fate)
        if await verb.end():
            await self._dies(verb, fate.point)

    @rule(
        ends=st.lists(st.tuples(st.sampled_from(ON_A_LINE), spans), min_size=2, max_size=4), names=victims, then=beats
    )
    def processes_die_again_and_again(
        self, ends: list[tuple[Point, Duration]], names: tuple[str, ...], then: list[Duration]
    ) -> None:
        """As under a supervisor that starts it again, whatever it dies of; or under cron."""
        for point, span in ends:
            self.a_process_dies_at_a_point(point, names, span, back=True)
        self.life_goes_on(then)

    @rule(point=holds, names=victims, span=spans)
    def a_process_is_held_at_a_point(self, point: Point, names: tuple[str, ...], span: Duration) -> None:
        """The operator takes its time, or the computer does; all else goes on."""
        self.what_was_held_goes_on()
        self._pass(span)
        self.held_since = self.world.steady
        process = self.world.daemon or VerbProcess(self.world, ())
        process.fate = Fate(point, names)
        if self.do(process.beat() if isinstance(process, DaemonProcess) else process.end()):
            SEEN[f"held, {point.name.lower()}"] += 1
        process.fate.point = None

    @rule()
    def what_was_held_goes_on(self) -> None:
        async def go_on(process: Process) -> None:
            process.release()
            if isinstance(process, VerbProcess):
                await self._end(process)
            else:
                await process.settle(*process.errands)

        for process in self.world.held:
            self.do(go_on(process))

    @rule(
        point=holds,
        name=names,
        span=spans,
        act=st.sampled_from(["pause", "resume", "edit", "poll", "unlock"]),
        pin=pins,
        then=beats,
    )
    def somebody_acts_during_an_attempt(
        self, point: Point, name: str, span: Duration, act: str, pin: int, then: list[Duration]
    ) -> None:
        self.a_process_is_held_at_a_point(point, NAMES, span)
        {
            "pause": lambda: self.somebody_pauses(name, None),
            "resume": lambda: self.somebody_resumes(name, []),
            "edit": lambda: self.somebody_edits_a_pin(name, pin, "at once", []),
            "poll": lambda: self.somebody_polls((name,), deliver=False),
            "unlock": lambda: self.the_operator_unlocks(name),
        }[act]()
        self.what_was_held_goes_on()
        self.life_goes_on(then)

    # ---- what happens at the operator ----

    @rule(name=names, pin=st.one_of(st.none(), pins), what=outage, then=beats)
    def the_operators_pin_is_changed(self, name: str, pin: int | None, what: list[Odd], then: list[Duration]) -> None:
        line = self.line(name)
        self.world.operator.set_pin(line.number, None if pin is None else line.pins[pin])
        self.the_next_answers_are_odd(name, what, then)

    @rule(name=names)
    def the_pins_agree_again(self, name: str) -> None:
        line = self.line(name)
        self.world.operator.set_pin(line.number, line.pins[line.configured])

    @rule(name=names, times=st.sampled_from([1, 3, 3]), then=beats)
    def somebody_else_fails_to_log_in(self, name: str, times: int, then: list[Duration]) -> None:
        for _ in range(times):
            self.world.operator.somebody_fails(self.line(name).number)
        self.life_goes_on(then)

    @rule(name=names)
    def the_operator_unlocks(self, name: str) -> None:
        self.world.operator.unlock(self.line(name).number)

    @rule(name=names, met=hours, pin=pins, what=outage, then=hours)
    def a_lock_out_ends_with_another_pin(
        self, name: str, met: list[Duration], pin: int, what: list[Odd], then: list[Duration]
    ) -> None:
        """Somebody tried the line's PIN, and the operator's people helped."""
        self.somebody_else_fails_to_log_in(name, 3, met)
        self.the_operator_unlocks(name)
        self.the_operators_pin_is_changed(name, pin, what, then)

    @rule(name=names, met=hours, what=outage, then=hours)
    def a_locked_line_is_asked_in_vain(
        self, name: str, met: list[Duration], what: list[Odd], then: list[Duration]
    ) -> None:
        self.somebody_else_fails_to_log_in(name, 3, met)
        self.the_next_answers_are_odd(name, what, then)

    @rule(name=names, what=st.lists(odds, min_size=1, max_size=4), then=beats)
    def the_next_answers_are_odd(self, name: str, what: list[Odd], then: list[Duration]) -> None:
        for odd in what:
            self.world.operator.odd(self.line(name).number, odd, times=1)
        self.life_goes_on(then)

    @rule(name=names)
    def the_answers_are_ordinary_again(self, name: str) -> None:
        self.world.operator.odd(self.line(name).number, None)

    @rule(name=names, enabled=mostly, known=mostly)
    def the_line_is_switched(self, name: str, enabled: bool, known: bool) -> None:
        self.world.operator.set_line(self.line(name).number, enabled=enabled, known=known)

    @rule(on=st.sampled_from([True, False, False]))
    def the_operator_blocks_or_not(self, on: bool) -> None:
        self.world.operator.blacklist(on)


@contextmanager
def replay() -> Iterator[PinSafety]:
    """A machine whose steps a test takes itself, as Hypothesis prints them; the pins are looked at in the end."""
    state = PinSafety()
    try:
        yield state
        state.the_pins_are_safe()
    finally:
        state.teardown()
