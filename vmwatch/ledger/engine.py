"""What the ledger asks of a database: one read, and one transaction that nothing cuts in two.

The statements stand once, in the files beside this one, and are shared by every engine: instants are whole
milliseconds, JSON is text, flags are 0 and 1, parameters are `:named`. An engine is a thin file with its
connection and its parameter style. What only a database of several processes needs stands in a statement between
`/*+` and `*/`: a remark to SQLite, part of the statement to PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from vmwatch.errors import LedgerError

Row = tuple[Any, ...]
T = TypeVar("T")


class UnreadableStoreError(LedgerError):
    """What is there is damaged, or a newer vmwatch's: neither waiting nor more rights would help to read it."""


class Transaction(Protocol):
    serial: str
    """How a table's rows are numbered by the database."""

    async def alone(self) -> None:
        """Until the end no other process is in a transaction that called this too; it may take longer than others."""

    async def all(self, sql: str, **parameters: Any) -> list[Row]:
        """Every row of a statement, a RETURNING clause included."""

    async def run(self, sql: str, **parameters: Any) -> int:
        """Run a statement; how many rows it changed."""

    async def many(self, sql: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Run a statement once a row; how many rows they changed in all."""


class Engine(Protocol):
    """Reads and writes raise LedgerError, and let through whatever `work` raises after rolling back."""

    trouble: LedgerError | None
    """What the last transaction failed with; None once another one was committed."""
    place: str
    """Where the store is, for sentences: without a secret."""
    shared: bool
    """Whether several daemons may have the store."""
    on_commit: Callable[[float], None]
    """Told how many ms each committed transaction took, what it waited for another process included."""

    async def read(self, sql: str, **parameters: Any) -> list[Row]:
        """Rows as they were last committed; never waits behind a write."""

    async def write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Commit all that `work` does, or nothing. A cancelled caller does not cut it short.

        `work` waits for nothing but its transaction, and may run in another thread: it changes nothing of ours.
        """

    async def hold(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """The same for work that waits for something else meanwhile."""

    def hurry(self) -> None:
        """The process is about to end: wait for nobody any more, and fail at once where that would be needed."""

    async def become_daemon(self, me: str) -> None:
        """Be seen as a daemon until `close`. Raises LedgerError, also if another one is and the store is not shared."""

    async def daemon_runs(self) -> bool:
        """Whether some process is seen as the store's daemon. Raises LedgerError."""

    async def close(self) -> None:
        """Let a transaction under way end, and let go of the database."""
