"""How late things are: polls by the simulator's own log, alerts by the receivers' own clocks.

Nothing here asks vmwatch how it did; only when it first saw a message is read from its ledger.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from receivers import ACCEPT, Manner, Request, Webhook
from world import World

from vmwatch.heartbeat import Clock
from vmwatch.models import Duration, Instant
from vmwatch.simulator import Simulator

_CALLER = re.compile(r"caller\d+")


def wall() -> Instant:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Figures:
    """Samples of something, in milliseconds."""

    what: str
    samples: Sequence[float]

    def share(self, part: float) -> float:
        """What no more than so large a part of the samples stays below."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))]

    @property
    def p99(self) -> float:
        return self.share(0.99)

    def __str__(self) -> str:
        parts = f"p50 {self.share(0.5):.0f} ms, p99 {self.p99:.0f} ms, max {max(self.samples):.0f} ms"
        return f"{self.what}: {parts} of {len(self.samples)}"


def late_polls(
    what: str, operator: Simulator, numbers: Iterable[str], interval: Duration, since: Instant, until: Instant
) -> Figures:
    """By how much each gap between two polls of a line exceeded its interval; 0 where it did not.

    The window's two ends count as polls, so that a line which is not asked at all can't look punctual.
    """
    samples: list[float] = []
    for number in numbers:
        asked = [login.at for login in operator.logins(number) if since <= login.at <= until]
        samples += [max(0, later - earlier - interval) for earlier, later in pairwise([since, *asked, until])]
    return Figures(what, samples)


class TimedWebhook(Webhook):
    """A webhook that notes when each alert arrived, and of which `caller17` it tells."""

    def __init__(self, manner: Manner = ACCEPT) -> None:
        super().__init__(manner)
        self.arrivals: list[tuple[str, Instant]] = []

    async def _keep(self, received: Request) -> Manner:
        if found := _CALLER.search(str(received.body)):
            self.arrivals.append((found[0], wall()))
        return await super()._keep(received)


class SetClock(Clock):
    """The computer's clock, whose wall time people set and which sleeps, each by so many milliseconds in all."""

    def __init__(self, set_by: Duration = 0) -> None:
        self.set_by = set_by
        self.slept: Duration = 0
        super().__init__()

    def wall(self) -> Instant:
        return super().wall() + self.set_by + self.slept

    def steady(self) -> Duration:
        return super().steady() + self.slept


def seen_at(world: World) -> dict[str, Instant]:
    """When the poll that first saw each caller's message was recorded."""
    return dict(world.sql("SELECT caller_name, first_seen_at FROM message WHERE caller_name LIKE 'caller%'"))


def late_alerts(what: str, hooks: Iterable[TimedWebhook], seen: dict[str, Instant]) -> Figures:
    """How long after its message was seen each alert arrived; AssertionError if one is missing or came twice."""
    samples: list[float] = []
    for hook in hooks:
        assert sorted(caller for caller, _ in hook.arrivals) == sorted(seen), "each alert once, and no other"
        samples += [at - seen[caller] for caller, at in hook.arrivals]
    return Figures(what, samples)


def most_memory(process: int) -> int:
    """The most memory that a process ever had resident, in bytes (VmHWM)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) * 1024


async def with_a_second_chance(trial: Callable[[Path], Awaitable[None]], folder: Path) -> None:
    """A busy machine may be late where vmwatch is not: what fails once is tried once more, in a folder of its own."""
    for attempt in ("first", "second"):
        (folder / attempt).mkdir()
        try:
            return await trial(folder / attempt)
        except AssertionError as failure:
            if attempt == "second":
                raise
            print(f"tried once more, for: {failure}")
    return None
