"""The embedded ledger's engine: SQLite through aiosqlite, WAL, synchronous=FULL.

A SQLite transaction belongs to the connection, not to the task that began it: so one connection writes, one
lock is held around each whole transaction, and each runs in a task of its own that its caller's cancellation
does not reach. A second connection reads.

Each connection has a thread, and each turn of it costs two changes of threads, which a busy loop makes it wait
for. So a whole transaction is one turn: its work, a coroutine that waits for nothing else, is carried out there.
What waits for the lock meanwhile is committed together: each piece whole or not at all, all with one fsync.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiosqlite

from vmwatch.errors import LedgerError
from vmwatch.ledger import place
from vmwatch.ledger.engine import Row, UnreadableStoreError
from vmwatch.ledger.turns import Piece, SqliteTransaction, Work, at_once, finished, roll_back

T = TypeVar("T")

BUSY_TIMEOUT_S = 5.0
"""How long a transaction waits for another process's short one."""
_TURN_MS = 250
"""It waits in turns of this length, for SQLite can't be told to wait no longer."""
_PAGE = 1024
"""Bytes: each commit writes whole pages, and of SQLite's usual 4 kB ones a claim uses a few rows. SD cards wear out."""
LOCK_TRIES = 10
"""A verb that looks whether a daemon runs holds the lock for an instant; a starting daemon asks again."""


class SqliteEngine:
    shared = False

    def __init__(self, path: Path, writer: _Connection, reader: _Connection) -> None:
        self._path = path
        self.place = str(path)
        self._writer = writer
        self._reader = reader
        self._one_at_a_time = asyncio.Lock()
        self._waiting: list[Piece] = []
        self._under_way: set[asyncio.Task[Any]] = set()
        self._daemon_lock: int | None = None
        self._in_a_hurry = False
        self.trouble: LedgerError | None = None
        self.on_commit: Callable[[float], None] = lambda _: None

    @classmethod
    async def open(cls, path: Path, *, create: bool) -> SqliteEngine:
        """Open the ledger's file, made with mode 0600 if `create`: to be written, so it is looked over first.

        Raises LedgerError with a sentence.
        """
        with _told(path):
            place.make_private(path, create=create)
            writer = await _connect(path)
            try:
                if create:
                    await _look_over(path, writer)
                await _refuse_foreign(path, writer)
                await writer.execute(f"PRAGMA page_size={_PAGE}")  # heeded where there is nothing in the file yet
                await writer.execute("PRAGMA journal_mode=WAL")
                await writer.execute("PRAGMA synchronous=FULL")
                await writer.execute(f"PRAGMA busy_timeout={_TURN_MS}")
                reader = await _connect(path)
            except BaseException:
                await writer.close()
                raise
        return cls(path, writer, reader)

    @classmethod
    async def look(cls, path: Path) -> SqliteEngine:
        """Open a ledger that is there only to be read: nothing of it is written, not even by accident."""
        with _told(path):
            os.stat(path)
            reader = await _connect(path, "ro")
            try:
                await _refuse_foreign(path, reader)
            except BaseException:
                await reader.close()
                raise
        return cls(path, reader, reader)

    async def read(self, sql: str, **parameters: Any) -> list[Row]:
        with _told(self._path):
            return await self._reader.turn(lambda connection: connection.execute(sql, parameters).fetchall())

    async def write(self, work: Work[T]) -> T:
        piece = Piece(work)
        self._waiting.append(piece)
        await self._uncut(self._with_all_that_wait(piece))
        if piece.failure is not None:
            raise piece.failure
        result: T = piece.result
        return result

    async def hold(self, work: Work[T]) -> T:
        return await self._uncut(self._alone(work))

    async def _uncut(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(coroutine)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _with_all_that_wait(self, piece: Piece) -> None:
        async with self._one_at_a_time:
            if piece in self._waiting:  # else whoever had the lock before took it along
                pieces, self._waiting = self._waiting, []
                await self._commit(pieces)

    async def _commit(self, pieces: list[Piece]) -> None:
        try:
            await self._measured(lambda: self._writer.turn(lambda connection: self._carry_out(connection, pieces)))
        except BaseException as error:
            for piece in pieces:
                piece.failure = error
            if not isinstance(error, LedgerError):
                raise
        failures = [piece.failure for piece in pieces if isinstance(piece.failure, LedgerError)]
        self.trouble = failures[-1] if failures else None

    def _carry_out(self, connection: sqlite3.Connection, pieces: list[Piece]) -> None:
        self._begin(connection)
        try:
            for piece in pieces:
                self._carry_out_one(connection, piece)
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise

    def _carry_out_one(self, connection: sqlite3.Connection, piece: Piece) -> None:
        """What it did is undone where it fails, and that alone. Raises where no transaction is left to go on with."""
        connection.execute("SAVEPOINT piece")
        try:
            with _told(self._path):
                piece.result = finished(piece.work(SqliteTransaction(at_once(connection))))
        except BaseException as failure:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO piece")
            piece.failure = failure
        connection.execute("RELEASE piece")

    async def _alone(self, work: Work[T]) -> T:
        async with self._one_at_a_time:
            try:
                result = await self._measured(lambda: self._in_turns(work))
            except LedgerError as error:
                self.trouble = error
                raise
        self.trouble = None
        return result

    async def _in_turns(self, work: Work[T]) -> T:
        turn = self._writer.turn
        await turn(self._begin)
        try:
            result = await work(SqliteTransaction(turn))
            await turn(lambda connection: connection.execute("COMMIT"))
        except BaseException:
            await turn(roll_back)
            raise
        return result

    async def _measured(self, transaction: Callable[[], Awaitable[T]]) -> T:
        if self._in_a_hurry and self.trouble is not None:
            raise self.trouble
        began = time.monotonic()
        with _told(self._path):
            result = await transaction()
        self.on_commit((time.monotonic() - began) * 1000)
        return result

    def _begin(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                # IMMEDIATE: a deferred transaction that reads first and then writes fails at once when another writes.
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if _primary(error) not in _PASSING or self._in_a_hurry or time.monotonic() >= deadline:
                    raise
            else:
                return

    def hurry(self) -> None:
        """Wait no longer for other processes; what still waits its turn behind one that failed is not tried."""
        self._in_a_hurry = True
        self.trouble = None

    async def close(self) -> None:
        """All of it, also where the wait for what is under way is cut short."""
        async with AsyncExitStack() as stack:
            stack.callback(self._let_go)
            stack.push_async_callback(self._reader.close)
            stack.push_async_callback(self._writer.close)
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _let_go(self) -> None:
        if self._daemon_lock is not None:
            os.close(self._daemon_lock)
            self._daemon_lock = None

    async def become_daemon(self, me: str) -> None:
        """Hold the store as its only daemon until `close`. Raises LedgerError if another one does."""
        for attempt in range(LOCK_TRIES):
            with _told(self._path):
                self._daemon_lock = place.try_lock(place.lock_of(self._path))
            if self._daemon_lock is not None:
                return
            await asyncio.sleep(0.01 * attempt)
        raise LedgerError(f"{self._path}: the store is in use by another vmwatch daemon; stop that one first")

    async def daemon_runs(self) -> bool:
        """Whether some process holds the store as its daemon."""
        if self._daemon_lock is not None:
            return True
        return lock_is_held(self._path)

    async def copy(self, target: Path, changes: Sequence[str]) -> None:
        """Write the store as it is now, with these changes, to a new file of mode 0600: whole, or not at all.

        Nobody waits meanwhile, not the daemon either. Raises LedgerError.
        """
        memory = await aiosqlite.connect(":memory:", isolation_level=None)
        try:
            with _told(self._path):
                await self._reader.backup(memory)
                for change in changes:
                    await memory.execute(change)
            with told_of_file(target), place.new_file(target) as part:
                # Made anew from the rows: what was changed is not even left in the file's unused bytes.
                await memory.execute("VACUUM INTO ?", (str(part),))
        finally:
            await memory.close()


class _Connection(aiosqlite.Connection):
    """aiosqlite's connection, which has no public way to have its thread do more than one thing in a turn."""

    async def turn(self, act: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await self._execute(act, self._conn)  # type: ignore[no-untyped-call]
        return result


def lock_is_held(path: Path) -> bool:
    """Whether some process holds the store as its daemon. Raises LedgerError."""
    with _told(path):
        return place.is_locked(place.lock_of(path))


async def copy_of(file: Path, target: Path) -> None:
    """Copy a ledger's file, which is only read and looked over, into a new one. Raises LedgerError."""
    place.make_private(target, create=True)
    with told_of_file(file):
        source = await _connect(file, "ro")
    try:
        with told_of_file(file):
            await _look_over(file, source)
            await _refuse_stranger(file, source)
        await _fill(target, source)
    finally:
        await source.close()


async def _fill(target: Path, source: aiosqlite.Connection) -> None:
    copy = await _connect(target)
    try:
        with _told(target):
            await source.backup(copy)
    finally:
        await copy.close()


async def fold(path: Path) -> None:
    """Make the ledger's one file whole, without -wal and -shm. Raises LedgerError, also if anybody has it open."""
    with _told(path):
        connection = await _connect(path)
        try:
            await connection.execute("PRAGMA journal_mode=DELETE")
        finally:
            await connection.close()


async def _connect(path: Path, mode: str = "rw") -> _Connection:
    uri = f"file:{quote(str(path))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)

    connection = _Connection(connect, 64)
    await connection
    return connection


async def _look_over(path: Path, connection: aiosqlite.Connection) -> None:
    """Damage that is met only while polling would be told late and be made worse; 20 MB take some 50 ms."""
    found = list(await connection.execute_fetchall("PRAGMA quick_check(1)"))
    if found != [("ok",)]:
        raise UnreadableStoreError(f"{path}: {_SENTENCES['SQLITE_CORRUPT']}")


async def _refuse_foreign(path: Path, connection: aiosqlite.Connection) -> None:
    """Another program's database is left alone."""
    names = await _tables(connection)
    if names and "schema_version" not in names:
        raise LedgerError(f"{path}: {_SENTENCES['SQLITE_NOTADB']}")


async def _refuse_stranger(file: Path, connection: aiosqlite.Connection) -> None:
    if "schema_version" not in await _tables(connection):
        raise LedgerError(f"{file}: {NO_BACKUP}")


async def _tables(connection: aiosqlite.Connection) -> set[str]:
    return {name for (name,) in await connection.execute_fetchall("SELECT name FROM sqlite_master")}


@contextmanager
def told_of_file(file: Path) -> Any:
    """The same for a file that is not the store."""
    try:
        yield
    except OSError as error:
        raise LedgerError(f"{file}: {error.strerror}") from None
    except sqlite3.DatabaseError as error:
        words = _WORDS_OF_FILE.get(_primary(error)) or _sentence(error)
        raise LedgerError(f"{file}: {words}") from None


NO_BACKUP = "is no backup of vmwatch's store"
_WORDS_OF_FILE = {
    "SQLITE_NOTADB": NO_BACKUP,
    "SQLITE_CORRUPT": "is damaged: take another backup",
    "SQLITE_FULL": "the disk is full: make room",
    "SQLITE_CANTOPEN": "can't be opened: check its owner and mode",
}


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
        kind = UnreadableStoreError if _primary(error) in _UNREADABLE else LedgerError
        raise kind(f"{path}: {_sentence(error)}", passing=_primary(error) in _PASSING) from None


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


_UNREADABLE = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})
_PASSING = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})


def _sentence(error: sqlite3.DatabaseError) -> str:
    unknown = f"the store can't be used ({_code(error) or type(error).__name__}: {error})"
    return _SENTENCES.get(_primary(error), unknown)


def _primary(error: sqlite3.DatabaseError) -> str:
    """SQLite's name for the kind of error, `SQLITE_BUSY` for `SQLITE_BUSY_SNAPSHOT`."""
    return "_".join(_code(error).split("_")[:2])


def _code(error: sqlite3.DatabaseError) -> str:
    return getattr(error, "sqlite_errorname", "") or ""
