"""What the crash tests share: vmwatch started by any command, what arrived where, and whether the ledger is whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
import sys
import tempfile
from asyncio.subprocess import Process, create_subprocess_exec
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from receivers import Request, Webhook
from world import Notices, Running, World, until

from vmwatch.wording import REPEAT

TESTS = Path(__file__).parent
VMWATCH_RUN = (sys.executable, "-m", "vmwatch", "run")
KILLED = -9
_CALLER = re.compile(r"Caller [0-9]+")


@contextlib.asynccontextmanager
async def begun_by(world: World, *command: str) -> AsyncIterator[Running]:
    """A daemon that another command starts, in surroundings of its own; it does not outlive this block."""
    world.write()
    notices = Notices()
    own = {"PYTHONPATH": str(TESTS.parent), "TZ": "UTC", "NOTIFY_SOCKET": notices.address}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VMWATCH_")}
    with (
        contextlib.closing(notices),
        tempfile.NamedTemporaryFile("w", dir=world.folder, prefix="said-", delete=False) as errors,
    ):
        process = await create_subprocess_exec(*command, cwd=world.folder, env=kept | own, stdout=errors, stderr=errors)
        async with _ended(process):
            yield Running(process, Path(errors.name), notices)


@contextlib.asynccontextmanager
async def _ended(process: Process) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def alive_until(daemon: Running, condition: Callable[[], bool], within: float) -> None:
    """Wait until something is so, which only a daemon that lives on can bring about."""
    await until(lambda: daemon.process.returncode is not None or condition(), within)
    assert daemon.process.returncode is None, daemon.said()


class Callers:
    """Leaves messages at the operator, each by a caller of its own name, which is how alerts are told apart."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.names: list[str] = []

    def call(self, line: str) -> None:
        self.names.append(f"Caller {len(self.names)}")
        self._world.operator.leave(self._world.numbers[line], name=self.names[-1])


class Ear:
    """One channel's far end, and where in its record vmwatch was killed."""

    def __init__(self, hook: Webhook) -> None:
        self._hook = hook
        self._kills: list[int] = []

    def note_kill(self) -> None:
        self._kills.append(len(self._hook.record))

    def callers(self) -> set[str]:
        """Everybody whose message was announced, alone or in a summary."""
        return {name for request in self._hook.record for name in _CALLER.findall(_text(request))}

    def titles(self) -> list[str]:
        return [request.body["title"] for request in self._hook.record]

    def told_differently(self) -> list[str]:
        """Callers whose message two different alerts announced, as one of its own and one in a summary do."""
        alerts = {_same(request) for request in self._hook.record}
        times = Counter(name for text in alerts for name in set(_CALLER.findall(text)))
        return [name for name, count in times.items() if count > 1]

    def repeats(self) -> list[str]:
        """What arrived again, each explained by the one documented window, or this raises AssertionError.

        A channel gets one alert at a time: only the last one before a kill can have been sent and not noted, and
        when it comes again it says that it may be a repeat.
        """
        places: dict[str, list[int]] = {}
        for place, request in enumerate(self._hook.record):
            places.setdefault(_same(request), []).append(place)
        found = []
        for text, (first, *again) in places.items():
            for place in again:
                assert first + 1 in self._kills, f"sent again although it was noted: {text}"
                assert REPEAT in _text(self._hook.record[place]), f"sent again without saying so: {text}"
                found.append(text)
                first = place
        return found


async def note_kill(ears: Iterable[Ear]) -> None:
    """The process is dead; what it sent last is still to be read by the webhooks, in some turns of this loop."""
    for _ in range(15):
        await asyncio.sleep(0.001)
    for ear in ears:
        ear.note_kill()


def _text(request: Request) -> str:
    return f"{request.body['title']}\n{request.body['message']}"


def _same(request: Request) -> str:
    """The text as it was the first time."""
    return _text(request).replace(REPEAT, "").strip()


def rows(store: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        return connection.execute(statement).fetchall()


def half_written(store: Path, channels: int, of_kinds: Mapping[str, int] = MappingProxyType({})) -> list[str]:
    """Everything that should not be in a ledger, whatever died when: nothing, in words.

    `channels` is how many an alert goes to, but for those `of_kinds`.
    """
    found = [str(row[0]) for row in rows(store, "PRAGMA integrity_check") if row[0] != "ok"]
    alerts = rows(
        store, "SELECT a.id, a.kind, COUNT(d.id) FROM alert a LEFT JOIN delivery d ON d.alert_id = a.id GROUP BY a.id"
    )
    found += [
        f"alert {id_} ({kind}) has {count} deliveries"
        for id_, kind, count in alerts
        if count != of_kinds.get(kind, channels)
    ]
    alone = "SELECT id FROM message WHERE alert_id IS NULL OR alert_id NOT IN (SELECT id FROM alert)"
    found += [f"message {row[0]} has no alert" for row in rows(store, alone)]
    return found
