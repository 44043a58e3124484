"""The shared ledger's engine: PostgreSQL through asyncpg, for several processes on one database.

One connection writes and one reads, as with SQLite; each transaction runs in a task of its own that its caller's
cancellation does not reach. A connection that broke is made anew by the next that needs it. What the server or the
driver says is never repeated: their texts hold rows and URLs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

from vmwatch.errors import LedgerError
from vmwatch.ledger.engine import Row, Transaction, UnreadableStoreError

T = TypeVar("T")

CONNECT_S = 5.0
LIMIT_S = 8.0
"""How long a transaction may take: less than a claim's margin (10 s), so that an attempt ends within its claim."""
ALONE_LIMIT_S = 120.0
"""How long one that concerns the whole store may take: a migration, the hourly chores."""
HURRY_S = 0.5
TRIES = 5
"""How often a transaction is begun anew that the server ended because it and another waited for each other."""

_SETTINGS = {
    "application_name": "vmwatch",
    "lock_timeout": "5s",
    "plan_cache_mode": "force_generic_plan",  # else each look for due lines is planned anew, at first without the index
    "jit": "off",
    "idle_in_transaction_session_timeout": "15s",  # what a process that was cut off had locked
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
# A commit is on the disk when it is said to be, as with SQLite; whoever asks for more than that gets it.
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
_NAME = "SELECT set_config('application_name', $1, false)"
_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname = current_schema()
"""
_ALONE = "SELECT pg_advisory_xact_lock(1986884980, hashtext(current_schema()))"  # 'vmwt'
_DAEMONS = """
SELECT 1 FROM daemon d JOIN pg_stat_activity s ON s.application_name = d.id AND s.datname = current_database() LIMIT 1
"""


class PostgresEngine:
    shared = True

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self.place = place_of(url)
        self._writer = _Connection(url, self.place, read_only=read_only)
        self._reader = _Connection(url, self.place, read_only=True)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._in_a_hurry = False
        self.trouble: LedgerError | None = None
        self.on_commit: Callable[[float], None] = lambda _: None

    @classmethod
    async def open(cls, url: str, *, create: bool) -> PostgresEngine:
        """Open the ledger's database, which is there already; its tables are made if `create`.

        Raises LedgerError with a sentence.
        """
        return await cls(url)._looked_over(create=create)

    @classmethod
    async def look(cls, url: str) -> PostgresEngine:
        """Open a ledger that is there only to be read: the server refuses any write."""
        return await cls(url, read_only=True)._looked_over(create=False)

    async def _looked_over(self, *, create: bool) -> PostgresEngine:
        """Another program's tables are left alone. Raises LedgerError."""
        try:
            self._refuse_foreign({name for (name,) in await self.read(_TABLES)}, create=create)
        except BaseException:
            await self.close()
            raise
        return self

    def _refuse_foreign(self, tables: set[str], *, create: bool) -> None:
        if not tables and not create:
            raise LedgerError(f"{self.place}: there is no store here yet; `vmwatch run` makes one")
        if tables and "schema_version" not in tables:
            raise LedgerError(
                f"{self.place}: the database has another program's tables; they were left as they are: "
                "name an empty database in store.url"
            )

    async def read(self, sql: str, **parameters: Any) -> list[Row]:
        return await self._uncut(self._read(sql, parameters))

    async def _read(self, sql: str, parameters: Mapping[str, Any]) -> list[Row]:
        async with self._reader.held(self._limit) as connection:
            return await _PostgresTransaction(connection).all(sql, **parameters)

    async def write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._uncut(self._noted(work))

    async def hold(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self.write(work)

    async def _uncut(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """In a task that goes on when the caller is cancelled."""
        task = asyncio.ensure_future(coroutine)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # A caller that was cancelled does not ask for it.

    async def _noted(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        try:
            result = await self._committed(work)
        except LedgerError as error:
            self.trouble = error
            raise
        self.trouble = None
        return result

    async def _committed(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        for _ in range(TRIES - 1):
            try:
                return await self._transaction(work)
            except _TangledError:
                continue
        return await self._transaction(work)

    async def _transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        if self._in_a_hurry and self.trouble is not None:
            raise self.trouble
        began = time.monotonic()
        async with self._writer.held(self._limit) as connection:
            await connection.execute("BEGIN")
            try:
                result = await work(_PostgresTransaction(connection, self._writer.allow_longer))
            except asyncio.CancelledError:  # It took too long: a server that does not answer takes no ROLLBACK either.
                raise
            except BaseException:
                await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")
        self.on_commit((time.monotonic() - began) * 1000)
        return result

    @property
    def _limit(self) -> float:
        return HURRY_S if self._in_a_hurry else LIMIT_S

    def hurry(self) -> None:
        """Wait no longer for a database that does not answer; what still waits its turn is not tried."""
        self._in_a_hurry = True
        self.trouble = None

    async def become_daemon(self, me: str) -> None:
        """Be seen as one of the store's daemons."""
        await self._writer.rename(me)

    async def daemon_runs(self) -> bool:
        return bool(await self.read(_DAEMONS))

    async def close(self) -> None:
        """All of it, also where the wait for what is under way is cut short."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._reader.close)
            stack.push_async_callback(self._writer.close)
            await asyncio.gather(*self._under_way, return_exceptions=True)


class _TangledError(LedgerError):
    """Two transactions waited for each other, and the server ended this one; nothing of it was kept."""


class _Connection:
    """One connection, used by one at a time, made when it is first needed and anew after it broke."""

    def __init__(self, url: str, place: str, *, read_only: bool) -> None:
        self._url = url
        self._place = place
        self._settings = {**_SETTINGS, "default_transaction_read_only": "on" if read_only else "off"}
        self._one_at_a_time = asyncio.Lock()
        self._connection: asyncpg.Connection[Any] | None = None
        self._limit: asyncio.Timeout | None = None

    @asynccontextmanager
    async def held(self, limit_s: float) -> AsyncIterator[asyncpg.Connection[Any]]:
        """The connection, for so long at most. Raises LedgerError, whatever of the database's fails within."""
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(limit_s) as self._limit:
                    yield await self._connected()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                self._drop_if_broken(error)
                raise self._told(error) from None
            except BaseException:
                self._drop_if_in_transaction()
                raise

    def allow_longer(self, limit_s: float) -> None:
        """Whoever holds the connection may hold it for so long from now on."""
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + limit_s)

    async def _connected(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await _connect(self._url, self._settings)
            await self._connection.execute(_DURABLE)
        return self._connection

    async def rename(self, name: str) -> None:
        """What the server's list of sessions calls this one, from now on and when it is made anew."""
        self._settings["application_name"] = name
        async with self.held(LIMIT_S) as connection:
            await connection.execute(_NAME, name)

    def _drop_if_broken(self, error: Exception) -> None:
        """After a time-out nobody knows where the conversation stands; a server that takes no writes was replaced."""
        if not isinstance(error, asyncpg.PostgresError) or isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            self._drop()
        else:
            self._drop_if_in_transaction()

    def _drop_if_in_transaction(self) -> None:
        if self._connection is not None and (self._connection.is_closed() or self._connection.is_in_transaction()):
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None

    async def close(self) -> None:
        async with self._one_at_a_time:
            connection, self._connection = self._connection, None
            if connection is not None and not connection.is_closed():
                try:
                    await connection.close(timeout=HURRY_S)  # one that is cut short breaks it off by itself
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    connection.terminate()

    def _told(self, error: Exception) -> LedgerError:
        if isinstance(error, (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)):
            return _TangledError(f"{self._place}: {_HELD}", passing=True)
        return _told(self._place, error)


class _PostgresTransaction:
    serial = "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"

    def __init__(
        self, connection: asyncpg.Connection[Any], allow_longer: Callable[[float], None] = lambda _: None
    ) -> None:
        self._connection = connection
        self._allow_longer = allow_longer

    async def alone(self) -> None:
        self._allow_longer(ALONE_LIMIT_S)
        await self._connection.execute(_ALONE)

    async def all(self, sql: str, **parameters: Any) -> list[Row]:
        text, names = spoken(sql)
        return [tuple(row) for row in await self._connection.fetch(text, *(parameters[name] for name in names))]

    async def run(self, sql: str, **parameters: Any) -> int:
        text, names = spoken(sql)
        return _changed(await self._connection.execute(text, *(parameters[name] for name in names)))

    async def many(self, sql: str, rows: Iterable[Mapping[str, Any]]) -> int:
        at_once = spoken_at_once(sql)
        text, names = at_once or spoken(sql)
        wanted = [[row[name] for name in names] for row in rows]
        if not wanted:
            return 0
        # All rows travel at once; what comes back is how many were changed.
        if at_once is not None:
            return _changed(await self._connection.execute(text, *zip(*wanted, strict=True)))
        return len(await self._connection.fetchmany(f"{text} RETURNING 1", wanted))


def _changed(status: str) -> int:
    """How many rows: `UPDATE 3`."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdigit() else -1


_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")
_REMARK = re.compile(r"--[^\n]*")
_OURS = re.compile(r"/\*\+(.*?)\*/", re.DOTALL)
_GIVEN = re.compile(r"FROM given \(([^)]*)\)")
_TYPES = {
    r"\bINTEGER\b": "BIGINT",  # SQLite's have 64 bits
    r"\bTEXT\b": 'TEXT COLLATE "C"',  # SQLite compares bytes; and no upgrade of the system changes an index's order
}


@cache
def spoken(sql: str) -> tuple[str, tuple[str, ...]]:
    """A statement as PostgreSQL has it, with $1, $2…, and the names of its parameters in that order."""
    text = _bared(sql)
    if text.lstrip().startswith("CREATE TABLE"):
        for ours, theirs in _TYPES.items():
            text = re.sub(ours, theirs, text)
    names = tuple(dict.fromkeys(_PARAMETER.findall(text)))
    return _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text), names


@cache
def spoken_at_once(sql: str) -> tuple[str, tuple[str, ...]] | None:
    """A statement that changes many rows in one go, `FROM given (column TYPE, …)`: each column travels as an array.

    None for one that does not say so: it is run once a row.
    """
    text = _bared(sql)
    given = _GIVEN.search(text)
    if given is None:
        return None
    columns = [column.split() for column in given[1].split(",")]
    arrays = ", ".join(f"CAST(${place} AS {kind}[])" for place, (_, kind) in enumerate(columns, 1))
    names = tuple(name for name, _ in columns)
    text = text.replace(given[0], f"FROM unnest({arrays}) AS given ({', '.join(f'given_{name}' for name in names)})")
    return _PARAMETER.sub(r"given.given_\1", text), names


def _bared(sql: str) -> str:
    return _REMARK.sub("", _OURS.sub(r"\1", sql))


async def _connect(url: str, settings: dict[str, str]) -> asyncpg.Connection[Any]:
    try:
        return await asyncpg.connect(url, timeout=CONNECT_S, server_settings=settings)
    except (ValueError, asyncpg.ClientConfigurationError):
        raise LedgerError("store.url: is no URL that PostgreSQL's driver can use; check its options") from None


def place_of(url: str) -> str:
    """Host and database, and nothing else of the URL: not even a user's name, for a bad URL may mix it up."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.netloc.count("@") <= 1 and "@" not in parts.path + parts.query else None
    except ValueError:
        host = None
    return f"postgresql://{host}{parts.path}" if host else "the PostgreSQL database"


_HELD = "the store is held by another process; it is tried again"
_AWAY = "the database can't be reached; it is tried again"
_STARTING = "the database is being stopped or started; it is tried again"
_LOGIN = "the database refuses the login: check the user and the password in store.url"
_FULL = "the database's disk is full: make room, nothing is lost"
_RIGHTS = "the database's user may not do this: give it the right to make and change tables"
_DAMAGED = "the database says that it is damaged; look at its log"

# By PostgreSQL's codes, https://www.postgresql.org/docs/current/errcodes-appendix.html, or by their first two letters.
_PASSING = {
    "08": _AWAY,
    "25006": "the database takes no writes, as a standby does; it is tried again",
    "53300": "the database has no connection left for vmwatch; it is tried again",
    "55P03": _HELD,
    "57P": _STARTING,
    "57014": _HELD,
    "25P03": _AWAY,
}
_LASTING = {
    "28": _LOGIN,
    "3F000": "there is no schema to keep the store in: create the one that search_path names",
    "3D000": "there is no such database: create it, or correct store.url",
    "42501": _RIGHTS,
    "53100": _FULL,
    "58": "the database's disk reports an error; look at its log",
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}


def _told(place: str, error: Exception) -> LedgerError:
    """Only the kind of error is told: the server's texts hold rows, and the driver's the URL."""
    if not isinstance(error, asyncpg.PostgresError):
        return LedgerError(f"{place}: {_AWAY}", passing=True)
    code = error.sqlstate or ""
    for passing, sentences in ((True, _PASSING), (False, _LASTING)):
        for beginning, sentence in sentences.items():
            if code.startswith(beginning):
                kind = UnreadableStoreError if sentence is _DAMAGED else LedgerError
                return kind(f"{place}: {sentence}", passing=passing)
    return LedgerError(f"{place}: the store can't be used (PostgreSQL's error {code} {type(error).__name__})")
