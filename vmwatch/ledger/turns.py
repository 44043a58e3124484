"""What a SQLite connection's thread does in one turn: a whole transaction, or one statement of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from vmwatch.ledger.engine import Row, Transaction

T = TypeVar("T")
Work = Callable[[Transaction], Awaitable[T]]
Turn = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]
"""How something is done with the connection: by a turn of its thread, or at once, by whoever is in one."""


@dataclass(slots=True, eq=False)
class Piece:
    """A transaction's work that is committed together with others, and what came of it."""

    work: Work[Any]
    result: Any = None
    failure: BaseException | None = None


class SqliteTransaction:
    serial = "INTEGER PRIMARY KEY AUTOINCREMENT"

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    async def alone(self) -> None:
        """Every transaction that writes is alone here."""

    async def all(self, sql: str, **parameters: Any) -> list[Row]:
        rows: list[Row] = await self._turn(lambda connection: connection.execute(sql, parameters).fetchall())
        return rows

    async def run(self, sql: str, **parameters: Any) -> int:
        count: int = await self._turn(lambda connection: connection.execute(sql, parameters).rowcount)
        return count

    async def many(self, sql: str, rows: Iterable[Mapping[str, Any]]) -> int:
        coming = iter(rows)
        first = next(coming, None)
        if first is None:
            return 0
        # One by one: a start has 50,000 lines to write, and as a list their rows would be 60 MB.
        one_by_one = chain((first,), coming)
        count: int = await self._turn(lambda connection: connection.executemany(sql, one_by_one).rowcount)
        return count


def at_once(connection: sqlite3.Connection) -> Turn:
    async def turn(act: Callable[[sqlite3.Connection], Any]) -> Any:
        return act(connection)

    return turn


def finished(awaitable: Awaitable[T]) -> T:
    """What comes of an awaitable that never waits. RuntimeError if it does: no loop would go on with it here."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError("a transaction waited for something else: that takes `hold`")


def roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
