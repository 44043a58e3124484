"""`vmwatch` as it is, but for killing itself at a chosen point between two outside effects.

    VMWATCH_TEST_KILL_AT="sent" VMWATCH_TEST_KILL_ON=2 python crash_wrapper.py run

dies by SIGKILL when the point is passed for the second time. The points, whose names hold no switch in vmwatch:

    fetch, fetched                 before a request to the operator, and with its answer in hand
    send, sent                     before an attempt on a channel, and with its receipt in hand
    begin X, commit X, committed X before a transaction, before its COMMIT, after it; X is the function whose
                                   transaction it is: _prepare, Ledger.become_daemon, Lines.claim, Outbox.settle…
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from vmwatch.channels import Channel
from vmwatch.cli import main
from vmwatch.ledger.engine import Transaction
from vmwatch.ledger.sqlite import SqliteEngine
from vmwatch.telecomx import Telecomx

KILL_AT = os.environ["VMWATCH_TEST_KILL_AT"]
KILL_ON = int(os.environ["VMWATCH_TEST_KILL_ON"])
_passages: Counter[str] = Counter()

Call = Callable[..., Awaitable[Any]]


def passed(point: str) -> None:
    _passages[point] += 1
    if point == KILL_AT and _passages[point] == KILL_ON:
        os.kill(os.getpid(), signal.SIGKILL)


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


if __name__ == "__main__":
    Telecomx.fetch = between("fetch", Telecomx.fetch, "fetched")  # type: ignore[assignment, method-assign]
    Channel.send = between("send", Channel.send, "sent")  # type: ignore[assignment, method-assign]
    SqliteEngine.write = with_points(SqliteEngine.write)  # type: ignore[assignment, method-assign]
    sys.exit(main())
