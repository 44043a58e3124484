"""What the crash tests share: vmwatch started by any command, what arrived where, and whether the ledger is whole."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import sys
import tempfile
from asyncio.subprocess import Process, create_subprocess_exec
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from receivers import Request, Webhook
from world import Notices, Running, World

from vmwatch.wording import REPEAT

TESTS = Path(__file__).parent
VMWATCH_RUN = (sys.executable, "-m", "vmwatch", "run")
WRAPPED_RUN = (sys.executable, str(TESTS / "crash_wrapper.py"), "run")
KILLED = -9
_CALLER = re.compile(r"Caller [0-9]+")


@contextlib.asynccontextmanager
async def started(world: World, command: tuple[str, ...] = VMWATCH_RUN, **environment: str) -> AsyncIterator[Running]:
    """A daemon from its first moment, with the configuration as it now is; it does not outlive this block."""
    world.write()
    notices = Notices()
    own = {"PYTHONPATH": str(TESTS.parent), "TZ": "UTC", "NOTIFY_SOCKET": notices.address}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VMWATCH_")}
    with (
        contextlib.closing(notices),
        tempfile.NamedTemporaryFile("w", dir=world.folder, prefix="said-", delete=False) as errors,
    ):
        process = await create_subprocess_exec(
            *command, cwd=world.folder, env=kept | own | environment, stdout=errors, stderr=errors
        )
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
        """Nothing of the killed process may still be on its way."""
        self._kills.append(len(self._hook.record))

    def callers(self) -> set[str]:
        """Everybody whose message was announced, alone or in a summary."""
        return {name for request in self._hook.record for name in _CALLER.findall(_text(request))}

    def titles(self) -> list[str]:
        return [request.body["title"] for request in self._hook.record]

    def repeats(self) -> list[str]:
        """What arrived again, each explained by the one documented window, or this raises AssertionError.

        A channel gets one alert at a time: only the last one before a kill can have been sent and not noted, and
        when it comes again it says that it may be a repeat.
        """
        places: dict[str, list[int]] = {}
        for place, request in enumerate(self._hook.record):
            places.setdefault(_text(request).replace(REPEAT, "").strip(), []).append(place)
        found = []
        for text, (first, *again) in places.items():
            for place in again:
                assert first + 1 in self._kills, f"sent again although it was noted: {text}"
                assert REPEAT in _text(self._hook.record[place]), f"sent again without saying so: {text}"
                found.append(text)
                first = place
        return found


def _text(request: Request) -> str:
    return f"{request.body['title']}\n{request.body['message']}"


def rows(store: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        return connection.execute(statement).fetchall()


def half_written(store: Path, channels: int) -> list[str]:
    """Everything that should not be in a ledger, whatever died when: nothing, in words."""
    found = [str(row[0]) for row in rows(store, "PRAGMA integrity_check") if row[0] != "ok"]
    alerts = rows(
        store, "SELECT a.id, a.kind, COUNT(d.id) FROM alert a LEFT JOIN delivery d ON d.alert_id = a.id GROUP BY a.id"
    )
    found += [f"alert {id_} ({kind}) has {count} deliveries" for id_, kind, count in alerts if count != channels]
    alone = "SELECT id FROM message WHERE alert_id IS NULL OR alert_id NOT IN (SELECT id FROM alert)"
    found += [f"message {row[0]} has no alert" for row in rows(store, alone)]
    return found


def counted(things: Iterable[str]) -> str:
    return ", ".join(f"{count} × {thing}" for thing, count in sorted(Counter(things).items())) or "none"
