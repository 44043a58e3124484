"""The embedded ledger's engine: SQLite through aiosqlite, WAL, synchronous=FULL.

A SQLite transaction belongs to the connection, not to the task that began it: so one connection writes, one
lock is held around each whole transaction, and each runs in a task of its own that its caller's cancellation
does not reach. A second connection reads.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from vmwatch.errors import LedgerError
from vmwatch.ledger.engine import Row, Transaction

T = TypeVar("T")

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process's short transaction."""
LOCK_TRIES = 10
"""A verb that looks whether a daemon runs holds the lock for an instant; a starting daemon asks again."""


class SqliteEngine:
    def __init__(self, path: Path, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._one_at_a_time = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._daemon_lock: int | None = None
        self.trouble: LedgerError | None = None

    @classmethod
    async def open(cls, path: Path, *, create: bool) -> SqliteEngine:
        """Open the ledger's file, made with mode 0600 if `create`: to be written, so it is looked over first.

        Raises LedgerError with a sentence.
        """
        with _told(path):
            _make_private(path, create=create)
            writer = await _connect(path)
            try:
                if create:
                    await _look_over(path, writer)
                await _refuse_foreign(path, writer)
                await writer.execute("PRAGMA journal_mode=WAL")
                await writer.execute("PRAGMA synchronous=FULL")
                reader = await _connect(path)
            except BaseException:
                await writer.close()
                raise
        return cls(path, writer, reader)

    async def read(self, sql: str, **parameters: Any) -> list[Row]:
        with _told(self._path):
            return list(await self._reader.execute_fetchall(sql, parameters))  # type: ignore[arg-type]

    async def write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        task = asyncio.ensure_future(self._transaction(work))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        try:
            async with self._one_at_a_time, _committed(self._path, self._writer):
                result = await work(_SqliteTransaction(self._writer))
        except LedgerError as error:
            self.trouble = error
            raise
        self.trouble = None
        return result

    async def close(self) -> None:
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._writer.close()
        await self._reader.close()
        if self._daemon_lock is not None:
            os.close(self._daemon_lock)
            self._daemon_lock = None

    async def become_daemon(self) -> None:
        """Hold the store as its only daemon until `close`. Raises LedgerError if another one does."""
        for attempt in range(LOCK_TRIES):
            self._daemon_lock = _try_lock(self._lock_path)
            if self._daemon_lock is not None:
                return
            await asyncio.sleep(0.01 * attempt)
        raise LedgerError(f"{self._path}: the store is in use by another vmwatch daemon; stop that one first")

    def daemon_runs(self) -> bool:
        """Whether some process holds the store as its daemon."""
        if self._daemon_lock is not None:
            return True
        if not self._lock_path.exists():
            return False  # Not made here: a lock file that root's `status` left behind would keep the daemon out.
        held = _try_lock(self._lock_path)
        if held is None:
            return True
        os.close(held)
        return False

    @property
    def _lock_path(self) -> Path:
        # A file of its own: closing any descriptor of the database itself would drop SQLite's own locks on it.
        return self._path.with_name(self._path.name + ".lock")


class _SqliteTransaction:
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def all(self, sql: str, **parameters: Any) -> list[Row]:
        return list(await self._connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]

    async def run(self, sql: str, **parameters: Any) -> int:
        async with self._connection.execute(sql, parameters) as cursor:
            return cursor.rowcount

    async def many(self, sql: str, rows: Iterable[Mapping[str, Any]]) -> int:
        async with self._connection.executemany(sql, rows) as cursor:
            return cursor.rowcount


@asynccontextmanager
async def _committed(path: Path, connection: aiosqlite.Connection) -> AsyncIterator[None]:
    with _told(path):
        # IMMEDIATE: a deferred transaction that reads first and then writes fails at once when another writes.
        await connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            await connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                await connection.execute("ROLLBACK")
            raise


async def _connect(path: Path) -> aiosqlite.Connection:
    return await aiosqlite.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)


async def _look_over(path: Path, connection: aiosqlite.Connection) -> None:
    """Damage that is met only while polling would be told late and be made worse; 20 MB take some 50 ms."""
    found = list(await connection.execute_fetchall("PRAGMA quick_check(1)"))
    if found != [("ok",)]:
        raise LedgerError(f"{path}: {_SENTENCES['SQLITE_CORRUPT']}")


async def _refuse_foreign(path: Path, connection: aiosqlite.Connection) -> None:
    """Another program's database is left alone."""
    names = {name for (name,) in await connection.execute_fetchall("SELECT name FROM sqlite_master")}
    if names and "schema_version" not in names:
        raise LedgerError(f"{path}: {_SENTENCES['SQLITE_NOTADB']}")


def _make_private(path: Path, *, create: bool) -> None:
    """SQLite gives its -wal and -shm files the mode of the database, so this one file decides for all three."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    os.close(os.open(path, flags, 0o600))


def _try_lock(path: Path) -> int | None:
    with _told(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def _told(path: Path) -> Any:
    """Turn what the system or SQLite says into a sentence with the place; their texts hold no row's content."""
    try:
        yield
    except FileNotFoundError:
        missing = "there is no store here yet; `vmwatch run` makes one"
        raise LedgerError(f"{path}: {missing if path.parent.is_dir() else 'its folder does not exist'}") from None
    except OSError as error:
        raise LedgerError(f"{path}: the store can't be opened: {error.strerror}") from None
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"{path}: {_sentence(error)}", passing=_primary(error) in _PASSING) from None


_SENTENCES = {
    "SQLITE_FULL": "the disk is full: make room, nothing is lost",
    "SQLITE_BUSY": "the store is held by another process; it is tried again",
    "SQLITE_LOCKED": "the store is held by another process; it is tried again",
    "SQLITE_READONLY": "the store can't be written: check the owner and the mode of the file and of its folder",
    "SQLITE_CANTOPEN": "the store can't be opened: check its folder's owner and mode",
    "SQLITE_PERM": "the store can't be opened: check its owner and mode",
    "SQLITE_CORRUPT": "the store is damaged; it was left as it is: restore a backup or move it away",
    "SQLITE_NOTADB": "is not a vmwatch store; it was left as it is: name another file in store.url",
    "SQLITE_IOERR": "the disk reports an error; look at the system's log",
}


_PASSING = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})


def _sentence(error: sqlite3.DatabaseError) -> str:
    unknown = f"the store can't be used ({_code(error) or type(error).__name__}: {error})"
    return _SENTENCES.get(_primary(error), unknown)


def _primary(error: sqlite3.DatabaseError) -> str:
    """SQLite's name for the kind of error, `SQLITE_BUSY` for `SQLITE_BUSY_SNAPSHOT`."""
    return "_".join(_code(error).split("_")[:2])


def _code(error: sqlite3.DatabaseError) -> str:
    return getattr(error, "sqlite_errorname", "") or ""
