"""`vmwatch` as it is, but for killing itself at a chosen point between two outside effects.

    world.started(VMWATCH_TEST_WRAPPER="crash_wrapper", VMWATCH_TEST_KILL_AT="sent 2")

dies by SIGKILL when the point is passed for the second time. Every point is told on standard error when it is first
passed. vmwatch knows nothing of them; they are:

    made                           when the store's file is there, still empty
    fetch, fetched                 before a request to the operator, and with its answer in hand
    send, sent                     before an attempt on a channel, and with its receipt in hand
    clear, cleared                 before an attempt to clear what a channel shows, and with its receipt in hand
    begin X, commit X, committed X before a transaction, before its COMMIT, after it; X is the function whose
                                   transaction it is: prepare, Ledger.become_daemon, Lines.take, Outbox.settle…
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from vmwatch.channels import Channel
from vmwatch.ledger import place
from vmwatch.ledger.engine import Transaction
from vmwatch.ledger.sqlite import SqliteEngine
from vmwatch.telecomx import Telecomx

_KILL_AT = os.environ.get("VMWATCH_TEST_KILL_AT")
_SAID = "passed: "
_passages: Counter[str] = Counter()

Call = Callable[..., Awaitable[Any]]


def passed(point: str) -> None:
    _passages[point] += 1
    if _passages[point] == 1:
        print(f"{_SAID}{point}", file=sys.stderr, flush=True)
    if f"{point} {_passages[point]}" == _KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def points(said: str) -> set[str]:
    """Which points a wrapped vmwatch passed, by what it said."""
    return {line.removeprefix(_SAID) for line in said.splitlines() if line.startswith(_SAID)}


def between(before: str, call: Call, after: str) -> Call:
    """The call with a point on either side; trouble instead of a result passes the second one too."""

    async def watched(*arguments: Any, **options: Any) -> Any:
        passed(before)
        try:
            return await call(*arguments, **options)
        finally:
            passed(after)

    return watched


def with_points(write: Call) -> Call:
    async def watched(engine: SqliteEngine, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        name = work.__qualname__.partition(".<locals>")[0]

        async def work_then_commit(transaction: Transaction) -> Any:
            result = await work(transaction)
            passed(f"commit {name}")
            return result

        passed(f"begin {name}")
        result = await write(engine, work_then_commit)
        passed(f"committed {name}")
        return result

    return watched


def then(call: Callable[..., None], after: str) -> Callable[..., None]:
    def watched(*arguments: Any, **options: Any) -> None:
        call(*arguments, **options)
        passed(after)

    return watched


def install() -> None:
    """In this process, which is to be killed."""
    place.make_private = then(place.make_private, "made")
    Telecomx.fetch = between("fetch", Telecomx.fetch, "fetched")  # type: ignore[assignment, method-assign]
    Channel.send = between("send", Channel.send, "sent")  # type: ignore[assignment, method-assign]
    Channel.clear = between("clear", Channel.clear, "cleared")  # type: ignore[assignment, method-assign]
    SqliteEngine.write = with_points(SqliteEngine.write)  # type: ignore[assignment, method-assign]
