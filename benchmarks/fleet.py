"""Several processes on one PostgreSQL, forked from one that has read 100,000 lines' configuration: without HTTP.

The operator answers inside each process, at once and always the same, so that what is measured is vmwatch's own work
and the database. Every line counts as read before by every process, so that every poll is a quiet one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import asyncpg

from benchmarks.bench import number_of
from benchmarks.operator import _mailbox
from vmwatch import decide
from vmwatch.adopt import adopt
from vmwatch.attempt import Attempts
from vmwatch.heartbeat import Clock
from vmwatch.ledger import Ledger
from vmwatch.models import SECOND, Box, Claim, Standing
from vmwatch.poll import Poller
from vmwatch.settings import Settings

CONCURRENCY = 400
_ANSWER = _mailbox([])
_DIGEST = blake2b(_ANSWER, digest_size=16).digest()
_FORK = multiprocessing.get_context("fork")
_DUE_AGAIN = """
UPDATE line SET state = 'ok', reason = 'read', trusted = 1, first_read_at = 1, last_success_at = 1, next_poll_at = $1,
    attempt_at = NULL, last_poll_at = NULL, claimed_until = NULL, claimed_by = NULL
"""


@dataclass
class Worked:
    """What one process did: which lines, in how many seconds, with how much CPU."""

    lines: Counter[str] = field(default_factory=Counter)
    began: float = 0
    ended: float = 0
    cpu_s: float = 0


def settings_of(lines: int) -> Settings:
    return Settings.model_validate(
        {
            "operator": {"base_url": "http://127.0.0.1:9", "concurrency": CONCURRENCY},
            "polling": {"interval": "30d"},
            "lines": {f"line{place}": {"number": number_of(place), "pin": "1234"} for place in range(lines)},
            "channels": {"phone": {"url": "json://127.0.0.1:9"}},
        }
    )


async def seed(url: str, settings: Settings) -> float:
    """Write the lines down, as a first start does; returns the seconds that takes."""
    began = time.monotonic()
    ledger = await Ledger.open(url, create=True)
    try:
        await adopt(ledger, settings, Clock().now())
    finally:
        await ledger.close()
    return time.monotonic() - began


async def make_due(url: str) -> None:
    """Every line was read well and is due since an hour."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_DUE_AGAIN, Clock().now() - 3600 * SECOND)
        await connection.execute("VACUUM (ANALYZE) line")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


class _Instantly:
    """An operator in the same process, that notes whom it was asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def fetch(self, number: str, pin: str, box: Box = Box.NEW) -> bytes:
        self.asked[number] += 1
        return _ANSWER


async def _polls(url: str, settings: Settings, start: Callable[[], Awaitable[None]]) -> Worked:
    """Round after round until nothing is due."""
    ledger, clock, operator = await Ledger.open(url, create=False, role="daemon"), Clock(), _Instantly()
    attempts = Attempts(ledger, clock, lambda _: None)
    attempts._answered = dict.fromkeys((line.number for line in settings.lines.values()), _DIGEST)
    worked = Worked(operator.asked)
    async with asyncio.TaskGroup() as tasks:
        poller = Poller(ledger, clock, attempts, tasks)
        poller.use(settings, operator)  # type: ignore[arg-type]
        await start()
        worked.began, cpu = time.monotonic(), _cpu_s()
        while await poller.round():
            await poller.idle()
        await poller.flush()
        worked.ended, worked.cpu_s = time.monotonic(), _cpu_s() - cpu
    await ledger.close()
    return worked


async def _claims(url: str, settings: Settings, start: Callable[[], Awaitable[None]]) -> Worked:
    """The ledger's part alone: what is due is claimed, and nobody is asked."""
    ledger, clock, worked = await Ledger.open(url, create=False, role="daemon"), Clock(), Worked()
    rules = decide.rules_of(settings, "line0")

    def claims(due: Sequence[Standing]) -> list[Claim]:
        return [decide.claimed(line, clock.now(), rules, 30 * SECOND) for line in due]

    await start()
    worked.began, cpu = time.monotonic(), _cpu_s()
    while taken := await ledger.lines.take(claims, [], clock.now(), unsettled=0, settled=CONCURRENCY):
        worked.lines.update(claim.number for claim in taken)
    worked.ended, worked.cpu_s = time.monotonic(), _cpu_s() - cpu
    await ledger.close()
    return worked


def work(what: str, processes: int, url: str, settings: Settings) -> list[Worked]:
    """Have so many processes work until nothing is due, begun at once."""
    begin, results = _FORK.Barrier(processes), _FORK.SimpleQueue()
    act = {"polls": _polls, "claims": _claims}[what]

    def run() -> None:
        async def start() -> None:
            await asyncio.to_thread(begin.wait)

        results.put(asyncio.run(act(url, settings, start)))

    children = [_FORK.Process(target=run) for _ in range(processes)]
    for child in children:
        child.start()
    worked: list[Any] = [results.get() for _ in children]
    for child in children:
        child.join()
    return worked


def seconds(worked: list[Worked]) -> float:
    return max(one.ended for one in worked) - min(one.began for one in worked)


def twice(worked: list[Worked]) -> int:
    """How many lines were asked for, or claimed, more than once."""
    every: Counter[str] = sum((one.lines for one in worked), Counter())
    return sum(count > 1 for count in every.values())


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
