"""CPU per quiet poll: the whole daemon's, against a bare aiohttp loop with as many connections.

The daemon polls at its own pace; between windows in which its CPU time is counted, the bare loop has its bursts. Both
are counted by the kernel: user and system time of every thread, divided by the requests that the operator answered.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from statistics import median

from benchmarks import others
from benchmarks.bench import (
    SUBJECT_CORE,
    Daemon,
    Operator,
    config_of,
    daemon,
    operator,
    options,
    process,
    report,
    spread,
    wait_for_polls,
)

CONNECTIONS = 100
WINDOWS = 7
BURST = 4000
"""Requests; the rates below are chosen so that a window has about as many."""


@dataclass(frozen=True)
class Size:
    lines: int
    interval_s: float
    window_s: float
    fast: bool = False
    """With uvloop on both sides."""


SIZES = (
    Size(10, 1, 10),
    Size(100, 1, 10),
    Size(1_000, 2, 8),
    Size(1_000, 2, 8, fast=True),
    Size(10_000, 20, 8),
    Size(50_000, 100, 8),
)
QUICK = (Size(10, 1, 2), Size(1_000, 2, 2))


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU a request, window by window."""

    lines: int
    fast: bool
    per_second: float
    vmwatch: list[float]
    bare: list[float]

    @property
    def ratios(self) -> list[float]:
        return [ours / bare for ours, bare in zip(self.vmwatch, self.bare, strict=True)]


def main() -> None:
    chosen = options(__doc__)
    sizes = [size for size in (QUICK if chosen.quick else SIZES) if not size.fast or find_spec("uvloop")]
    costs = [measure(size, WINDOWS) for size in sizes]
    titles = ("lines", "loop", "polls a second", "vmwatch, µs a poll", "bare aiohttp, µs a GET", "ratio")
    rows = [
        (
            f"{c.lines:,}",
            "uvloop" if c.fast else "asyncio",
            f"{c.per_second:.0f}",
            spread(c.vmwatch),
            spread(c.bare),
            spread(c.ratios, "{:.2f}"),
        )
        for c in costs
    ]
    figures = [vars(cost) | {"ratio": median(cost.ratios)} for cost in costs]
    with operator() as asked:
        compared = list(others.costs(asked))
    rows += [(name, "", "", spread(found), "", "") for name, found in compared]
    report("poll_cost", titles, rows, {"vmwatch": figures, "others": dict(compared)}, chosen.json)


def measure(size: Size, windows: int) -> Cost:
    config = partial(config_of, lines=size.lines, interval_s=size.interval_s, concurrency=CONNECTIONS)
    with operator() as asked, bare(asked, size.fast) as other, daemon(config(asked), fast=size.fast) as subject:
        settle(asked, size)
        burst(other, BURST)
        ours, bares, polls = [], [], []
        for _ in range(windows):
            bares.append(burst(other, BURST) / BURST * 1e6)
            cost, count = window(subject, asked, size.window_s)
            ours.append(cost * 1e6)
            polls.append(count / size.window_s)
    return Cost(size.lines, size.fast, median(polls), ours, bares)


def settle(asked: Operator, size: Size) -> None:
    """Until every line was read once, and each has had its second turn: from there on all is quiet."""
    wait_for_polls(asked, size.lines)
    time.sleep(min(size.interval_s * 1.2, 30))


@contextmanager
def bare(asked: Operator, fast: bool) -> Iterator[subprocess.Popen[str]]:
    command = (sys.executable, "-m", "benchmarks.bare", asked.base_url, str(CONNECTIONS), *(["uvloop"] if fast else []))
    with process(*command, core=SUBJECT_CORE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        yield child


def burst(child: subprocess.Popen[str], requests: int) -> float:
    assert child.stdin
    assert child.stdout
    child.stdin.write(f"{requests}\n")
    child.stdin.flush()
    return float(child.stdout.readline())


def window(subject: Daemon, asked: Operator, seconds: float) -> tuple[float, int]:
    """Seconds of CPU a poll, and how many polls, in so many seconds."""
    polls, cpu = asked.answered(), subject.cpu_s()
    time.sleep(seconds)
    count, used = asked.answered() - polls, subject.cpu_s() - cpu
    return used / max(count, 1), count


if __name__ == "__main__":
    main()
